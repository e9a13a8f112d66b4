"""Recording: one model of a pair reads all prompts; what is compared later goes to disk, in float32 or float64.

Files of the cache: "{side}-{prompt number}" holds the activations of the kept positions, "{side}-weights" each layer's
W_O, "{side}-readout" the unembedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from einops import rearrange

from itlens.errors import ProbeError
from itlens.hooked.cache import ActivationCache
from itlens.hooked.hooks import at_layers, run_hooked
from itlens.hooked.readout import Readout, refuse_other_readout, save_readout
from itlens.hooked.tokens import Forced
from itlens.models import HookedModel, source_attrs, source_of
from itlens.models.memory import room_for
from itlens.models.running import undisturbed
from itlens.weights import weights_of

SideName: TypeAlias = Literal["base", "tuned"]
Kind: TypeAlias = Literal["resid", "head", "mlp", "pattern", "lens"]
SIDES: tuple[SideName, SideName] = ("base", "tuned")
KINDS: tuple[Kind, ...] = ("resid", "head", "mlp", "pattern", "lens")
_POINTS = {
    "resid": "hook_resid_post",
    "head": "attn.hook_z",
    "mlp": "hook_mlp_out",
    "pattern": "attn.hook_pattern",
}


@dataclass(frozen=True)
class ShiftPlan:
    """What is recorded. positions: the kept ones of each prompt; kinds: of KINDS; size: ids that both models have."""

    prompts: list[Forced]
    positions: list[np.ndarray]
    kinds: tuple[Kind, ...]
    size: int

    def points(self) -> dict[str, str]:
        """Return hook points by kind; the lens reads the residual stream."""
        wanted = {"resid" if kind == "lens" else kind for kind in self.kinds}
        return {kind: name for kind, name in _POINTS.items() if kind in wanted}

    def targets(self, number: int) -> np.ndarray:
        """Return the kept positions of a prompt that predict a response token."""
        return np.intersect1d(self.positions[number], self.prompts[number].positions)


@dataclass(frozen=True)
class Recorded:
    """What is kept of a model. attrs: for the result; readout: with "lens" only; block_parameters: of all layers."""

    attrs: dict[str, str]
    readout: Readout | None
    block_parameters: int


def position_bytes(facts: dict[str, Any], kinds: Sequence[str], wide: bool) -> tuple[int, int]:
    """Return the bytes of a position in both models, and of each key in the patterns of one that predicts."""
    item = 2 * (8 if wide else 4) * facts["layers"]
    streams = ("resid" in kinds or "lens" in kinds) + ("mlp" in kinds)
    numbers = streams * facts["d_model"] + ("head" in kinds) * facts["heads"] * facts["d_head"]
    return item * numbers, item * ("pattern" in kinds) * facts["heads"]


def record(
    model: HookedModel, side: SideName, plan: ShiftPlan, cache: ActivationCache, tell: Callable[[], None]
) -> Recorded:
    """Run the model over the prompts; `tell` is called after each.

    Raises ProbeError for activations that are not finite (names the layer), and where the lens does not reproduce the
    model's own logits.
    """
    if "head" in plan.kinds:
        for layer in range(model.cfg.n_layers):
            cache.put(f"{side}-weights", f"W_O {layer}", weights_of(model).attention(layer).W_O)
    readout = save_readout(model, cache, side, plan.size) if "lens" in plan.kinds else None
    with undisturbed(model):
        for number, prompt in enumerate(plan.prompts):
            with room_for(model, f"prompt {prompt.id!r}", len(prompt.read)):
                last, logits = _run(model, side, number, plan, cache)
            if readout is not None and number == 0:
                refuse_other_readout(readout, model, last, logits)
            tell()
    parameters = sum(parameter.numel() for parameter in model.blocks.parameters())
    return Recorded(source_attrs(model), readout, parameters)


def _run(
    model: HookedModel, side: SideName, number: int, plan: ShiftPlan, cache: ActivationCache
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run one prompt; return the last residual stream and the logits where the first target is predicted."""
    prompt, kept = plan.prompts[number], plan.positions[number]
    where = prompt.positions[0]
    final: dict[str, torch.Tensor] = {}

    def keeper(kind: str) -> Callable[[int, torch.Tensor], None]:
        places = plan.targets(number) if kind == "pattern" else kept

        def keep(layer: int, value: torch.Tensor) -> None:
            positions = rearrange(value[0], "head query key -> query head key") if kind == "pattern" else value[0]
            kept_all = len(places) == len(positions)
            rows = positions if kept_all else positions[torch.as_tensor(places, device=positions.device)]
            _refuse_non_finite(rows, model, layer, prompt)
            cache.put(f"{side}-{number}", f"{kind} {layer}", rows)
            if kind == "resid" and layer == model.cfg.n_layers - 1:
                final["resid"] = value[0, where : where + 1]

        return keep

    hooks = [hook for kind, point in plan.points().items() for hook in at_layers(model, point, keeper(kind))]
    tokens = torch.tensor([prompt.read], device=next(model.parameters()).device)
    with torch.no_grad():
        logits = run_hooked(model, tokens, hooks, positions=[where])[0]
    return final.get("resid", logits), logits


def _refuse_non_finite(rows: torch.Tensor, model: HookedModel, layer: int, prompt: Forced) -> None:
    if not bool(torch.isfinite(rows).all()):
        raise ProbeError(
            f"Activations of layer {layer} of {source_of(model).name} are not finite on prompt {prompt.id!r}; load the "
            'model with dtype="float32" or check its weights.'
        )
