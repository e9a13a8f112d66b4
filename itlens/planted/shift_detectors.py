"""Detectors that compare activations on the same tokens: what each head, and what each feed-forward layer, writes.

A change moves everything behind it as well, and truly so. Units behind the plant are therefore neither right nor wrong:
false discoveries are counted among the units that the plant cannot have reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from itlens.diff.paired_cells import paired_cells
from itlens.planted.detectors import Detector, Setup, heads_of
from itlens.planted.nulls import p_under_exchange
from itlens.planted.plants import Place
from itlens.probes.activation import activations
from itlens.probes.running.forced import forced
from itlens.probes.shift import activation_shift

_PROMPTS = 3  # a mean over their tokens; more only take longer
_TESTABLE = 5  # prompts that a paired test needs
_TOKENS = "rest"  # all but the first, whose norm hides the others'


class HeadShift(Detector):
    """How far what a head writes moved, relative to its size."""

    name, kind = "shift of heads", "head"
    sees: tuple[str, ...] = ("scaled_head",)
    about = "relative change of what a head writes, mean over prompts"
    local, slow = False, True
    hook, variable, summary = "head", "result_relative_change", "attention"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.units = self._units()
        self._all = forced(setup.model, setup.prompts)
        self._read = self._all[:_PROMPTS]

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`."""
        with self.setup.altered.pair() as pair:
            found = activation_shift(pair, self._read, hooks=(self.hook,), seed=self.setup.seed, progress=False)
        kept = found[self.variable].sel(layer=self.setup.layers)
        values = (kept.sel(token_class=_TOKENS) if "token_class" in kept.dims else kept).values
        return values.mean(axis=0).ravel()

    def copy(self) -> xr.Dataset | None:
        """See `Detector.copy`: summaries of activations, since a distance has no sign to test."""
        if len(self.setup.prompts) < _TESTABLE:
            return None
        return activations(self.setup.model, self._all, hooks=(self.summary,), progress=False)

    def p_values(self, one: Any, other: Any, *, exchanged: bool) -> dict[str, np.ndarray]:
        """Of the activation diff: every statistic of every head or layer, paired over prompts."""
        base, tuned = (
            np.concatenate([ds[name].values.reshape(ds.sizes["prompt"], -1) for name in sorted(ds.data_vars)], axis=1)
            for ds in (one, other)
        )
        p = p_under_exchange(base, tuned, lambda x, y: paired_cells(x, y, resamples=1)["p_paired"], exchanged=exchanged)
        return {f"activations, {self.summary}": p}

    def judged(self, place: Place) -> np.ndarray:
        """Heads up to the planted layer: all of them read what the unchanged model would have written."""
        return np.array([unit.layer <= place.layer and unit != place for unit in self.units])

    def _units(self) -> list[Place]:
        return heads_of(self.setup.layers, int(self.setup.model.cfg.n_heads))


class PatternShift(HeadShift):
    """How far where each head looks moved; what it writes need not follow, if it finds the same elsewhere."""

    name, sees = "shift of patterns", ("rank_one_qk",)
    about = "Jensen-Shannon divergence of a head's attention patterns, mean over prompts"
    hook, variable = "pattern", "pattern_jsd"

    def copy(self) -> None:
        """None: the shift of heads tests the summaries of attention already."""


class LayerShift(HeadShift):
    """How far what a feed-forward layer writes moved, relative to its size."""

    name, kind = "shift of layers", "layer"
    sees: tuple[str, ...] = ("rotated_values", "rotated_keys", "residual_direction")
    about = "relative change of what a feed-forward layer writes, mean over prompts"
    hook, variable, summary = "mlp", "mlp_relative_change", "mlp"

    def judged(self, place: Place) -> np.ndarray:
        """Layers before the planted one."""
        return np.array([unit.layer < place.layer for unit in self.units])

    def _units(self) -> list[Place]:
        return [Place(layer, -1) for layer in self.setup.layers]
