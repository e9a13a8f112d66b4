"""What a patch is judged by: a number per prompt, the same for the receiver, the donor and the patched receiver.

logprob     mean log-probability (nats) of the response's tokens, each given the text before it
importance  the instruction's importance score (`density`) of input x gradient attributions under the patch;
            every patch then costs a whole attribution, tens of passes. A patched activation is a constant: no gradient
            flows through it
a function  f(logits (batch, target, vocabulary), prompt: Forced) -> (batch,) tensor

First-order estimates of all parts come from one pass forward and one backward (attribution patching):
effect of a part ~ sum over positions of < donor's activation - receiver's, d m / d activation of the receiver >
(Nanda 2023, "Attribution patching"). Exact where the metric is linear in the activation; attention that saturates and
norms that rescale make it wrong, most for large changes in early layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from itlens.errors import ProbeError
from itlens.findings.patching.probe_parts import Parts
from itlens.hooked.hooks import hook_points, run_hooked, token_logprobs
from itlens.hooked.tokens import Forced
from itlens.models.hooked_model import HookedModel

METRICS = ("logprob", "importance")
OfLogits: TypeAlias = Callable[..., Any]
MetricLike: TypeAlias = Literal["logprob", "importance"] | OfLogits


@dataclass(frozen=True)
class Metric:
    """name: for attrs; unit: of its effects; of_logits: None for "importance", which needs gradients of its own."""

    name: str
    unit: str
    of_logits: OfLogits | None


def metric_of(metric: MetricLike) -> Metric:
    """Return the `Metric` of a name or function. Raises ProbeError for anything else."""
    if metric == "logprob":
        return Metric("logprob", "nats", _logprob)
    if metric == "importance":
        return Metric("importance", "importance score", None)
    if callable(metric):
        name = getattr(metric, "__name__", type(metric).__name__)
        return Metric(name, f"of {name}", lambda logits, prompt: _checked(metric(logits, prompt), logits, name))
    raise ProbeError(
        f"metric={metric!r} is unknown; expected {', '.join(map(repr, METRICS))} or a function of (logits, prompt)."
    )


def _logprob(logits: torch.Tensor, prompt: Forced) -> torch.Tensor:
    return token_logprobs(logits, torch.tensor(prompt.targets, device=logits.device)).mean(dim=-1)


def _checked(value: object, logits: torch.Tensor, name: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.shape != logits.shape[:1]:
        got = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
        raise ProbeError(
            f"The metric {name} gave {got} for logits of shape {tuple(logits.shape)}; expected a tensor of shape "
            f"({logits.shape[0]},), a number per row."
        )
    return value


def refuse_no_instruction(prompts: Sequence[Forced]) -> None:
    """Raise ProbeError for prompts whose instruction has no token: their importance score is 0 whatever happens."""
    for prompt in prompts:
        if not prompt.of_class("instruction").size:
            raise ProbeError(
                f'Prompt {prompt.id!r} has no instruction span, which metric="importance" scores; mark one '
                "(itlens.Prompt(..., instruction=...)) or use another metric."
            )


# ---- first-order estimates


def estimated_effects(
    model: HookedModel, prompt: Forced, metric: Metric, parts: Parts, places: np.ndarray, donor: torch.Tensor
) -> tuple[np.ndarray, float]:
    """Estimate the effects of all parts on one prompt, in the order of `parts.listed()`; and the receiver's own metric.

    donor: (layer, place, ...). The gradient is that of zeros which are added at each hook point, so that one pass
    serves all layers on both model classes. Raises ProbeError for a metric without a gradient.
    """
    device = next(model.parameters()).device
    tokens = torch.tensor([prompt.read], device=device)
    added: list[torch.Tensor] = []
    own: list[torch.Tensor] = []

    def add(value: torch.Tensor, hook: object) -> torch.Tensor:
        own.append(value.detach()[0])
        added.append(torch.zeros_like(value, requires_grad=True))
        return value + added[-1]

    names = hook_points(model, [parts.point(layer) for layer in parts.layers])
    with torch.enable_grad():
        logits = run_hooked(model, tokens, [(name, add) for name in names], positions=prompt.positions)
        assert metric.of_logits is not None  # importance has no estimate
        value = metric.of_logits(logits, prompt).sum()
        if not value.requires_grad:
            raise ProbeError(
                f"The metric {metric.name} has no gradient, so it cannot be estimated: use estimate=False."
            )
        gradients = torch.autograd.grad(value, added)
    by_layer = [
        _effects(donor[number].to(device), own[number][places], gradients[number][0, places], parts)
        for number in range(len(parts.layers))
    ]
    return np.concatenate(by_layer), float(value.detach())


def _effects(donor: torch.Tensor, own: torch.Tensor, gradient: torch.Tensor, parts: Parts) -> np.ndarray:
    """Return the estimates of one layer: by head, or one number."""
    wide = torch.promote_types(own.dtype, torch.float32)
    product = (donor.to(wide) - own.to(wide)) * gradient.to(wide)
    if parts.axis:
        return product.sum(dim=(0, 2))[parts.heads].cpu().numpy()
    return product.sum()[None].cpu().numpy()
