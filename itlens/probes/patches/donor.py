"""What the donor gives: its metric on every prompt, and its activations or weights on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from itlens.models import source_attrs
from itlens.probes.patches.cache import DiskArrays
from itlens.probes.patches.metrics import Metric, importance
from itlens.probes.patches.parts import Parts, parts_of
from itlens.probes.patches.runs import Donor, finite_values
from itlens.probes.patches.weights import save_weights
from itlens.probes.running.forced import Forced
from itlens.probes.running.hooking import hook_points, run_hooked
from itlens.probes.running.pair_inputs import refuse_foreign_tokens


@dataclass(frozen=True)
class Donated:
    """parts: of the shape that both models have; values: the donor's metric by prompt; attrs: what is said of it."""

    parts: Parts
    values: np.ndarray
    attrs: dict[str, Any]


def donor_side(
    model: Any,
    prompts: list[Forced],
    places: list[np.ndarray],
    metric: Metric,
    folder: DiskArrays,
    what: str,
    unit: str,
    layers: Any,
    heads: Any,
) -> Donated:
    """One pass over the prompts: the metric, and the activations at the patched places (or all asked weights)."""
    refuse_foreign_tokens(prompts, model)
    parts = parts_of(model.cfg, what, unit, layers, heads)
    if what == "weights":
        save_weights(model, parts, folder)
    values = [
        _one(model, one, number, None if what == "weights" else parts, places[number], metric, folder)
        for number, one in enumerate(prompts)
    ]
    return Donated(parts, np.array(values), source_attrs(model))


def _one(
    model: Any, one: Forced, number: int, parts: Parts | None, places: np.ndarray, metric: Metric, folder: DiskArrays
) -> float:
    kept: list[torch.Tensor] = []

    def keep(value: torch.Tensor, hook: Any) -> None:
        kept.append(value.detach()[0, places])

    names = [] if parts is None else hook_points(model, [parts.point(layer) for layer in parts.layers])
    tokens = torch.tensor([one.read], device=next(model.parameters()).device)
    with torch.no_grad():
        logits = run_hooked(model, tokens, [(name, keep) for name in names], positions=one.positions)
        if kept:
            folder.put(_name(number), torch.stack(kept))
        if metric.of_logits is not None:
            return float(finite_values(metric.of_logits(logits, one), one)[0])
    return importance(model, one, [])


def _name(number: int) -> str:
    return f"prompt {number}"


def saved_activations(folder: DiskArrays) -> Donor:
    """The donor's activations of a prompt, (layer, place, ...)."""
    return lambda number: folder.get(_name(number))
