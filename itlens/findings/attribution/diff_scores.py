"""Instruction scores of attributions, for any cut-off, power and length, and along the response.

1. The importance density only asks how often a token has which level: with c[n, l] = how many targets give token n the
level l,  ||S[n]||_1 = sum_{l > b} l c[n, l]  and  ||S[n]||_p^p = sum_{l > b} l^p c[n, l].  The counts are taken once
per map; thirty settings of (b, p) then cost as much as one. (`itlens.results.density` computes it directly; a test
compares the two.)
2. Sensitivity: does the difference depend on the cut-off b and the power p? The same tests over b = 0..L-1 and p in
{2, 4, 8}.
3. Profile: is the model "constantly conditioned" on the instruction? Its share of the importance along the response.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from itlens.results.density import span_profile
from itlens.stats.paired import bootstrap_interval, cohen_dz, mean, paired_t, welch

_GRID = ("difference", "base_mean", "tuned_mean", "t_paired", "p_paired", "effect_size", "t_welch", "p_welch")


class Scored(NamedTuple):
    """One attribution map, ready to be scored: whole levels (source, target), and the instruction's tokens."""

    levels: np.ndarray
    mask: np.ndarray
    highest: int
    result: xr.Dataset

    @property
    def targets(self) -> int:
        return int(self.levels.shape[1])

    def scores(self, thresholds: Iterable[int], powers: Iterable[float], targets: int | None = None) -> np.ndarray:
        """Return instruction scores on (threshold, power), of the first `targets` targets (default: all)."""
        counts = level_counts(self.levels[:, :targets], self.highest)
        return np.array([[count_score(counts, self.mask, b, p) for p in powers] for b in thresholds])


def level_counts(levels: np.ndarray, highest: int) -> np.ndarray:
    """Count how many targets give each source token each level: counts (source, highest + 1)."""
    rows = levels.shape[0]
    index = levels.astype(np.intp) + np.arange(rows)[:, None] * (highest + 1)
    return np.bincount(index.ravel(), minlength=rows * (highest + 1)).reshape(rows, highest + 1)


def count_score(counts: np.ndarray, mask: np.ndarray, threshold: int, p: float) -> float:
    """Return the span score (`itlens.span_score`) from counts of levels."""
    value = np.arange(threshold + 1, counts.shape[1], dtype=float)
    kept = counts[:, threshold + 1 :]
    density = kept @ value / ((kept @ value**p) ** (1 / p) + 1e-9)
    highest = density.max(initial=0.0)
    return float((density[mask] / highest).sum() / np.log2(2 + mask.sum())) if highest > 0 else 0.0


def response_profile(
    base: Sequence[Scored],
    tuned: Sequence[Scored],
    levels: int,
    threshold: int,
    *,
    bins: int = 20,
    seed: int = 0,
    resamples: int = 2_000,
) -> xr.Dataset:
    """Average `itlens.span_profile` over prompts: share, ci_low, ci_high and n on (model, position).

    The interval is a 95 % percentile bootstrap over prompts; n counts the prompts that have a share there.
    `uniform_share` is what evenly spread importance would give: the mean share of instruction tokens in the prompts.
    """
    sides = {"base": base, "tuned": tuned}
    profiles = [np.array([_profile(s, levels, threshold, bins) for s in side]) for side in sides.values()]
    shape = (len(sides), bins)
    share, low, high, n = (np.full(shape, np.nan) for _ in range(4))
    for k, at in np.ndindex(shape):
        known = profiles[k][:, at][np.isfinite(profiles[k][:, at])]
        share[k, at], n[k, at] = mean(known), known.size
        low[k, at], high[k, at] = bootstrap_interval(known, seed=seed, resamples=resamples, method="percentile")
    axes = ("model", "position")
    variables = {"share": (axes, share), "ci_low": (axes, low), "ci_high": (axes, high), "n": (axes, n.astype(int))}
    uniform = float(np.mean([s.mask.mean() for s in base]))
    coords = {"model": list(sides), "position": (np.arange(bins) + 0.5) / bins}
    return xr.Dataset({**variables, "uniform_share": uniform}, coords)


def _profile(scored: Scored, levels: int, threshold: int, bins: int) -> np.ndarray:
    score = xr.DataArray(scored.levels, dims=("source", "target"), attrs={"levels": levels})
    return span_profile(score, xr.DataArray(scored.mask, dims="source"), levels, threshold, bins).values


def sensitivity_grid(
    base: Sequence[Scored],
    tuned: Sequence[Scored],
    levels: int,
    powers: Sequence[float] = (2, 4, 8),
    *,
    minimum: int = 5,
) -> xr.Dataset:
    """Return means and tests on (threshold, power): two-sided paired t, and one-sided Welch t (tuned > base).

    Tests are NaN for fewer than `minimum` prompts, and not corrected for the number of settings, which are not
    independent.
    """
    thresholds = range(levels)
    small = len(base) < minimum
    before, after = (np.array([scored.scores(thresholds, powers) for scored in side]) for side in (base, tuned))
    cells = [
        [_cell(before[:, b, k], after[:, b, k], small) for k in range(len(powers))] for b in range(len(thresholds))
    ]
    values = np.array(cells)
    variables = {name: (("threshold", "power"), values[..., i]) for i, name in enumerate(_GRID)}
    return xr.Dataset(variables, {"threshold": list(thresholds), "power": list(powers)}, {"n": len(base)})


def _cell(base: np.ndarray, tuned: np.ndarray, small: bool) -> list[float]:
    means = [float((tuned - base).mean()), float(base.mean()), float(tuned.mean())]
    if small:
        return [*means, *[np.nan] * 5]
    return [*means, *paired_t(base, tuned), cohen_dz(tuned - base), *welch(tuned, base, alternative="greater")]
