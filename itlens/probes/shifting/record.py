"""One model of a pair reads all prompts; what is compared later goes to disk, in float32 or float64.

Files of the cache: "{side}-{prompt number}" holds the activations of the kept positions, "{side}-weights" each layer's
W_O, "{side}-readout" the unembedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from itlens.errors import ProbeError
from itlens.models import source_attrs, source_of
from itlens.probes.running.forced import Forced
from itlens.probes.running.hooking import run_hooked
from itlens.probes.running.readout import Readout, refuse_other_readout, save_readout
from itlens.probes.shifting.cache import ActivationCache
from itlens.probes.summaries.summary import at_layers
from itlens.weights import weights_of

KINDS = ("resid", "head", "mlp", "pattern", "lens")
_POINTS = {
    "resid": "hook_resid_post",
    "head": "attn.hook_z",
    "mlp": "hook_mlp_out",
    "pattern": "attn.hook_pattern",
}


@dataclass(frozen=True)
class Plan:
    """prompts; positions: the kept ones of each; kinds: of KINDS; size: ids that both vocabularies have."""

    prompts: list[Forced]
    positions: list[np.ndarray]
    kinds: tuple[str, ...]
    size: int

    def points(self) -> dict[str, str]:
        """Hook points by kind; the lens reads the residual stream."""
        wanted = {"resid" if kind == "lens" else kind for kind in self.kinds}
        return {kind: name for kind, name in _POINTS.items() if kind in wanted}

    def targets(self, number: int) -> np.ndarray:
        """The kept positions of a prompt that predict a response token."""
        return np.intersect1d(self.positions[number], self.prompts[number].positions)


@dataclass(frozen=True)
class Recorded:
    """What stays of a model. attrs: for the result; readout: with "lens" only; block_parameters: of all layers."""

    attrs: dict[str, Any]
    readout: Readout | None
    block_parameters: int


def position_bytes(facts: dict[str, Any], kinds: Sequence[str], wide: bool) -> tuple[int, int]:
    """Bytes of a position in both models, and of each key in the patterns of one that predicts."""
    item = 2 * (8 if wide else 4) * facts["layers"]
    streams = ("resid" in kinds or "lens" in kinds) + ("mlp" in kinds)
    numbers = streams * facts["d_model"] + ("head" in kinds) * facts["heads"] * facts["d_head"]
    return item * numbers, item * ("pattern" in kinds) * facts["heads"]


def record(model: Any, side: str, plan: Plan, cache: ActivationCache, tell: Callable[[], None]) -> Recorded:
    """Run the model over the prompts; `tell` is called after each. Raises ProbeError for activations that are not
    finite (names the layer) and a last step that the lens does not reproduce."""
    if "head" in plan.kinds:
        for layer in range(model.cfg.n_layers):
            cache.put(f"{side}-weights", f"W_O {layer}", weights_of(model).attention(layer).W_O)
    readout = save_readout(model, cache, side, plan.size) if "lens" in plan.kinds else None
    for number in range(len(plan.prompts)):
        last, logits = _run(model, side, number, plan, cache)
        if readout is not None and number == 0:
            refuse_other_readout(readout, model, last, logits)
        tell()
    parameters = sum(parameter.numel() for parameter in model.blocks.parameters())
    return Recorded(source_attrs(model), readout, parameters)


def _run(model: Any, side: str, number: int, plan: Plan, cache: ActivationCache) -> tuple[torch.Tensor, torch.Tensor]:
    """One forward pass; the last residual stream and the logits where the first target is predicted."""
    one, kept = plan.prompts[number], plan.positions[number]
    where = one.positions[0]
    final: dict[str, torch.Tensor] = {}

    def keeper(kind: str) -> Callable[[int, torch.Tensor], None]:
        places = plan.targets(number) if kind == "pattern" else kept

        def keep(layer: int, value: torch.Tensor) -> None:
            there = value[0].transpose(0, 1) if kind == "pattern" else value[0]  # positions in front
            rows = there if len(places) == len(there) else there[torch.as_tensor(places, device=there.device)]
            _refuse_non_finite(rows, model, layer, one)
            cache.put(f"{side}-{number}", f"{kind} {layer}", rows)
            if kind == "resid" and layer == model.cfg.n_layers - 1:
                final["resid"] = value[0, where : where + 1]

        return keep

    hooks = [hook for kind, point in plan.points().items() for hook in at_layers(model, point, keeper(kind))]
    tokens = torch.tensor([one.read], device=next(model.parameters()).device)
    with torch.no_grad():
        logits = run_hooked(model, tokens, hooks, positions=[where])[0]
    return final.get("resid", logits), logits


def _refuse_non_finite(rows: torch.Tensor, model: Any, layer: int, one: Forced) -> None:
    if not bool(torch.isfinite(rows).all()):
        raise ProbeError(
            f"Activations of layer {layer} of {source_of(model).name} are not finite on prompt {one.id!r}; load the "
            'model with dtype="float32" or check its weights.'
        )
