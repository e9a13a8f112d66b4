"""What the donor gives: its metric on every prompt, and its activations or weights on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from itlens.findings.patching.probe_metrics import Metric
from itlens.findings.patching.probe_parts import Parts, parts_of
from itlens.findings.patching.probe_runs import Donor, finite_values
from itlens.findings.patching.probe_weights import save_weights
from itlens.hooked.cache import DiskArrays
from itlens.hooked.hooks import hook_points, run_hooked
from itlens.hooked.instruction_score import instruction_score
from itlens.hooked.pair_inputs import refuse_foreign_tokens
from itlens.hooked.tokens import Forced
from itlens.models import source_attrs
from itlens.models.hooked_model import HookedModel
from itlens.models.memory import room_for
from itlens.models.running import undisturbed
from itlens.selection import Numbers


@dataclass(frozen=True)
class Donated:
    """parts: of the shape that both models have; values: the donor's metric by prompt; attrs: what is said of it."""

    parts: Parts
    values: np.ndarray
    attrs: dict[str, str]


def donor_side(
    model: HookedModel,
    prompts: list[Forced],
    places: Sequence[np.ndarray],
    metric: Metric,
    folder: DiskArrays,
    what: str,
    unit: str,
    layers: Numbers,
    heads: Numbers,
) -> Donated:
    """Run the donor over the prompts: its metric, and its activations at the patched places (or all weights)."""
    refuse_foreign_tokens(prompts, model)
    parts = parts_of(model.cfg, what, unit, layers, heads)
    if what == "weights":
        save_weights(model, parts, folder)
    values = []
    with undisturbed(model, derivatives=metric.of_logits is None):
        for number, prompt in enumerate(prompts):
            with room_for(model, f"prompt {prompt.id!r}", len(prompt.read), targets=len(prompt.targets)):
                own = None if what == "weights" else parts
                values.append(_of_prompt(model, prompt, number, own, places[number], metric, folder))
    return Donated(parts, np.array(values), source_attrs(model))


def _of_prompt(
    model: HookedModel,
    prompt: Forced,
    number: int,
    parts: Parts | None,
    places: np.ndarray,
    metric: Metric,
    folder: DiskArrays,
) -> float:
    kept: list[torch.Tensor] = []

    def keep(value: torch.Tensor, hook: object) -> None:
        kept.append(value.detach()[0, places])

    names = [] if parts is None else hook_points(model, [parts.point(layer) for layer in parts.layers])
    tokens = torch.tensor([prompt.read], device=next(model.parameters()).device)
    with torch.no_grad():
        logits = run_hooked(model, tokens, [(name, keep) for name in names], positions=prompt.positions)
        if kept:
            folder.put(_name(number), torch.stack(kept))
        if metric.of_logits is not None:
            return float(finite_values(metric.of_logits(logits, prompt), prompt)[0])
    return instruction_score(model, prompt, [])


def _name(number: int) -> str:
    return f"prompt {number}"


def saved_activations(folder: DiskArrays) -> Donor:
    """Return the donor's activations of a prompt, (layer, place, ...)."""
    return lambda number: folder.get(_name(number))
