"""The comparison of two models' recorded activations, layer by layer, with neither model in memory.

One layer's activations of one prompt are read at a time; what stays are numbers by prompt, and for the kernel alignment
the sums of one layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from itlens.models.memory import trim
from itlens.probes.shifting.cache import ActivationCache
from itlens.probes.shifting.kernel_alignment import KernelAlignment
from itlens.probes.shifting.record import Plan
from itlens.probes.shifting.tokens import (
    STATISTICS,
    by_class,
    class_columns,
    output_factor,
    pattern_divergence,
    written,
)

Tables = dict[str, tuple[tuple[str, ...], np.ndarray]]  # name -> dims, values
CKA_TOKENS = ("rest", "all")
_STREAM, _HEAD = ("prompt", "layer", "token_class"), ("prompt", "layer", "head", "token_class")


class Recordings:
    """What both models wrote, read on one device."""

    def __init__(self, cache: ActivationCache, plan: Plan, device: Any) -> None:
        self._cache, self._device, self.plan = cache, device, plan
        self.columns = [
            class_columns(one.classes[kept]) for one, kept in zip(plan.prompts, plan.positions, strict=True)
        ]

    def both(self, number: int, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(base, tuned) of an activation of a prompt."""
        base, tuned = (self._cache.get(f"{side}-{number}", name).to(self._device) for side in ("base", "tuned"))
        return base, tuned

    def out(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(base, tuned) W_O of a layer."""
        base, tuned = (
            self._cache.get(f"{side}-weights", f"W_O {layer}").to(self._device) for side in ("base", "tuned")
        )
        return base, tuned

    def prompts(self) -> range:
        """The numbers of the prompts."""
        return range(len(self.plan.prompts))


def compare(found: Recordings, layers: int, tell: Callable[[], None]) -> Tables:
    """Everything but the lens. `tell` is called after each kind and layer."""
    compared: dict[str, Callable[[Recordings, int], dict[str, np.ndarray]]] = {
        "resid": lambda it, layer: _stream(it, "resid", layer),
        "mlp": lambda it, layer: _stream(it, "mlp", layer),
        "head": _heads,
        "pattern": _patterns,
    }
    parts: dict[str, list[np.ndarray]] = {}
    for layer in range(layers):
        trim()  # else the heap grows in steps with prompts and layers, though all of it is free
        for kind, function in compared.items():
            if kind in found.plan.kinds:
                for name, values in function(found, layer).items():
                    parts.setdefault(name, []).append(values)
                tell()
    return {name: (_dims(name), np.stack(values, axis=_dims(name).index("layer"))) for name, values in parts.items()}


def _dims(name: str) -> tuple[str, ...]:
    if name == "pattern_jsd":
        return _HEAD[:3]
    of_head = name.startswith(("z_", "result_"))
    if name.endswith("_cka"):
        return ("cka_tokens", "layer", "head") if of_head else ("cka_tokens", "layer")
    return _HEAD if of_head else _STREAM


def _stream(found: Recordings, kind: str, layer: int) -> dict[str, np.ndarray]:
    rows, alignment = [], KernelAlignment()
    for number in found.prompts():
        base, tuned = found.both(number, f"{kind} {layer}")
        rows.append(by_class(base, tuned - base, found.columns[number]))
        _align(alignment, base[None], tuned[None], found.plan.positions[number])
    return _stacked(rows, kind) | {f"{kind}_cka": _alignments(alignment, 1)[:, 0]}


def _heads(found: Recordings, layer: int) -> dict[str, np.ndarray]:
    base_out, tuned_out = found.out(layer)
    base_factor, tuned_factor = output_factor(base_out), output_factor(tuned_out)
    values, results = [], []
    of_values, of_results = KernelAlignment(), KernelAlignment()
    for number in found.prompts():
        base, tuned = found.both(number, f"head {layer}")
        columns, places = found.columns[number], found.plan.positions[number]
        values.append(by_class(base, tuned - base, columns))
        results.append(_written(base, tuned, base_out, tuned_out, columns))
        x, y = base.transpose(0, 1), tuned.transpose(0, 1)
        _align(of_values, x, y, places)
        _align(of_results, x @ base_factor, y @ tuned_factor, places)
    heads = base_out.shape[0]
    return (
        _stacked(values, "z")
        | _stacked(results, "result")
        | {"z_cka": _alignments(of_values, heads), "result_cka": _alignments(of_results, heads)}
    )


def _written(
    base: torch.Tensor, tuned: torch.Tensor, base_out: torch.Tensor, tuned_out: torch.Tensor, columns: np.ndarray
) -> dict[str, np.ndarray]:
    parts = [by_class(mine, moved, columns) for _, mine, moved in written(base, tuned, base_out, tuned_out)]
    return {name: np.concatenate([part[name] for part in parts]) for name in STATISTICS}


def _patterns(found: Recordings, layer: int) -> dict[str, np.ndarray]:
    rows = []
    for number in found.prompts():
        base, tuned = (value.transpose(0, 1) for value in found.both(number, f"pattern {layer}"))
        heads, targets = base.shape[:2]
        mean = pattern_divergence(base, tuned).mean(1) if targets else base.new_full((heads,), torch.nan)
        rows.append(mean.double().cpu().numpy())
    return {"pattern_jsd": np.stack(rows)}


def _stacked(rows: list[dict[str, np.ndarray]], kind: str) -> dict[str, np.ndarray]:
    return {f"{kind}_{name}": np.stack([row[name] for row in rows]) for name in STATISTICS}


def _align(alignment: KernelAlignment, x: torch.Tensor, y: torch.Tensor, positions: np.ndarray) -> None:
    """Positions ascend, so that a first token is the first row."""
    firsts = int(positions[0] == 0)
    alignment.add(x[:, firsts:], y[:, firsts:])
    alignment.add(x[:, :firsts], y[:, :firsts], first=True)


def _alignments(alignment: KernelAlignment, groups: int) -> np.ndarray:
    """(cka_tokens, group), in the order of CKA_TOKENS."""
    found = alignment.alignments()
    return np.stack([np.broadcast_to(found[name].cpu().numpy(), (groups,)) for name in CKA_TOKENS])
