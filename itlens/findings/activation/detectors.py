"""Detectors of a selftest that compare activations on the same tokens: what each head and feed-forward layer writes.

A change also alters everything downstream, and truly so. Units downstream of the plant therefore count neither as
found nor as false: false discoveries are counted among the units that the plant cannot reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import xarray as xr

from itlens.findings.activation.probe import activations
from itlens.findings.activation.probe_shift import activation_shift
from itlens.findings.detector import Detector, Setup, Unit, UnitKind, heads_of
from itlens.hooked.tokens import forced
from itlens.stats.p_values import p_under_exchange
from itlens.stats.paired import paired_cells

_PROMPTS = 3  # a mean over their tokens; more only take longer
_TESTABLE = 5  # prompts that a paired test needs
_TOKENS = "rest"  # all but the first, whose norm hides the others'


class HeadShift(Detector):
    """How far what a head writes changed, relative to its size."""

    name = "shift of heads"
    kind: ClassVar[UnitKind] = "head"
    sees: ClassVar[tuple[str, ...]] = ("scaled_head",)
    about = "relative change of what a head writes, mean over prompts"
    local, slow = False, True
    hook, variable, summary = "head", "result_relative_change", "attention"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.units = self._units()
        self._all = forced(setup.model, setup.prompts)
        self._shifted = self._all[:_PROMPTS]

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`."""
        with self.setup.altered.pair() as pair:
            shift = activation_shift(pair, self._shifted, hooks=(self.hook,), seed=self.setup.seed, progress=False)
        change = shift[self.variable].sel(layer=self.setup.layers)
        values = (change.sel(token_class=_TOKENS) if "token_class" in change.dims else change).values
        return np.asarray(values.mean(axis=0).ravel())

    def copy(self) -> xr.Dataset | None:
        """See `Detector.copy`: summaries of activations, since a distance has no sign to test."""
        if len(self.setup.prompts) < _TESTABLE:
            return None
        return activations(self.setup.model, self._all, hooks=(self.summary,), progress=False)

    def p_values(self, one: xr.Dataset, other: xr.Dataset, *, exchanged: bool) -> dict[str, np.ndarray]:
        """Return those of the activation diff: every statistic of every head or layer, paired over prompts."""
        base, tuned = (
            np.concatenate(
                [ds[name].values.reshape(ds.sizes["prompt"], -1) for name in sorted(ds.data_vars, key=str)], axis=1
            )
            for ds in (one, other)
        )
        p = p_under_exchange(base, tuned, lambda x, y: paired_cells(x, y, resamples=1)["p_paired"], exchanged=exchanged)
        return {f"activations, {self.summary}": p}

    def judged(self, planted: Unit) -> np.ndarray:
        """Return the heads up to the planted layer: they all read what the unchanged model writes."""
        return np.array([unit.layer <= planted.layer and unit != planted for unit in self.units])

    def _units(self) -> list[Unit]:
        return heads_of(self.setup.layers, int(self.setup.model.cfg.n_heads))


class PatternShift(HeadShift):
    """How far a head's attention pattern changed; its output may stay the same if it finds the same elsewhere."""

    name, sees = "shift of patterns", ("rank_one_qk",)
    about = "Jensen-Shannon divergence of a head's attention patterns, mean over prompts"
    hook, variable = "pattern", "pattern_jsd"

    def copy(self) -> None:
        """None: the shift of heads tests the summaries of attention already."""


class LayerShift(HeadShift):
    """How far what a feed-forward layer writes changed, relative to its size."""

    name = "shift of layers"
    kind: ClassVar[UnitKind] = "layer"
    sees = ("rotated_values", "rotated_keys", "residual_direction")
    about = "relative change of what a feed-forward layer writes, mean over prompts"
    hook, variable, summary = "mlp", "mlp_relative_change", "mlp"

    def judged(self, planted: Unit) -> np.ndarray:
        """Return the layers before the planted one."""
        return np.array([unit.layer < planted.layer for unit in self.units])

    def _units(self) -> list[Unit]:
        return [Unit(layer, -1) for layer in self.setup.layers]
