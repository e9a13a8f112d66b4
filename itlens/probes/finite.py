"""Where numbers stopped being finite: an error that names the layer, instead of NaN in a result."""

from __future__ import annotations

from typing import Any

import torch

from itlens.errors import ProbeError
from itlens.probes.gradient.jacobian import Task, before_unembed


def refuse_non_finite(task: Task, block: torch.Tensor, name: str) -> None:
    """Raise ProbeError naming the first layer whose residual stream, or else gradient, is not finite."""
    if bool(torch.isfinite(block).all()):
        return
    layer = _first_bad_layer(task)
    remedy = 'load the model with dtype="float32"'
    if layer is not None:
        raise ProbeError(f"Activations of layer {layer} are not finite on {name}; {remedy} or check its weights.")
    layer = _last_bad_gradient(task)
    where = "at the unembedding" if layer is None else f"of layer {layer}"
    raise ProbeError(f"The gradient {where} is not finite on {name} although all activations are; {remedy}.")


def _residuals(task: Task) -> list[torch.Tensor]:
    """The residual stream after each layer, recorded so that gradients can be taken with respect to each."""
    kept: list[torch.Tensor] = []

    def start(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return value.detach().requires_grad_(True)

    def keep(value: torch.Tensor, hook: Any) -> torch.Tensor:
        kept.append(value)
        return value

    def cut(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return value[:, task.positions]

    names = [f"blocks.{layer}.hook_resid_post" for layer in range(task.model.cfg.n_layers)]
    with torch.enable_grad():
        logits = task.model.run_with_hooks(
            task.tokens[None],
            fwd_hooks=[("hook_embed", start), *((name, keep) for name in names), (before_unembed(task.model), cut)],
        )[0]
        kept.append(task.at_targets(logits, slice(0, len(task.positions))))
    return kept


def _first_bad_layer(task: Task) -> int | None:
    for layer, value in enumerate(_residuals(task)[:-1]):
        if not bool(torch.isfinite(value).all()):
            return layer
    return None


def _last_bad_gradient(task: Task) -> int | None:
    """The layer nearest to the output whose gradient is not finite, since gradients run from there to the input."""
    *residuals, objectives = _residuals(task)
    gradients = torch.autograd.grad(objectives.sum(), residuals)
    for layer in reversed(range(len(gradients))):
        if not bool(torch.isfinite(gradients[layer]).all()):
            return layer + 1 if layer + 1 < len(gradients) else None
    return 0
