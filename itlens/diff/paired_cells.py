"""Paired tests of many cells at once: tuned against base over the same prompts, one row a prompt, one column a cell.

The formulas are those of `itlens.diff.statistics.paired_row`, computed for all cells together. A prompt that is NaN in
a cell on either side does not count there. Differences of a cell d_1 .. d_n:
1. mean difference, and its 95 % percentile bootstrap interval: prompts are drawn with replacement once and the same
   draws serve all cells. (Percentile, not BCa: its one table of draws is what makes thousands of cells cheap; with few
   prompts it is somewhat too narrow.)
2. effect_size: Cohen's d_z = mean / sd (n - 1). 3. p_paired: two-sided paired t-test.
No prompt differs: effect 0, p = 1, interval [0, 0]. All differ by the same: no test (NaN). Fewer than `minimum`
prompts: no interval, effect or test (NaN).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import stats

MEASURES = (*("n", "base_mean", "tuned_mean", "difference", "ci_low", "ci_high", "effect_size", "p_paired", "p_bh"),)
_CELLS = 512  # at a time, in the bootstrap: 2,000 draws of them take 8 MB


def paired_cells(
    base: np.ndarray, tuned: np.ndarray, *, seed: int = 0, resamples: int = 2000, minimum: int = 5
) -> dict[str, np.ndarray]:
    """MEASURES but p_bh, each on (cell), of base and tuned on (prompt, cell); see the module."""
    both = np.isfinite(base) & np.isfinite(tuned)
    x, y = np.where(both, base, np.nan), np.where(both, tuned, np.nan)
    d, n = y - x, both.sum(axis=0)
    found = {"n": n.astype(float), "base_mean": _mean(x, n), "tuned_mean": _mean(y, n), "difference": _mean(d, n)}
    enough = n >= max(minimum, 2)
    low, high = np.full((2, n.size), np.nan)
    low[enough], high[enough] = interval(d[:, enough], seed=seed, resamples=resamples)
    effect, p = _t_test(d, n, found["difference"])
    found |= {"ci_low": low, "ci_high": high, "effect_size": effect, "p_paired": p}
    for name in ("effect_size", "p_paired"):
        found[name] = np.where(enough, found[name], np.nan)
    return found


def interval(
    d: np.ndarray, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of the mean over prompts of d (prompt, cell), per cell; NaN values do not count."""
    prompts, cells = d.shape
    drawn = _drawn(prompts, seed, resamples)
    out = np.full((2, cells), np.nan)
    tails = [(1 - level) / 2, (1 + level) / 2]
    for start in range(0, cells, _CELLS):
        part = d[:, start : start + _CELLS]
        known = np.isfinite(part)
        counts = drawn @ known.astype(float)
        sums = drawn @ np.where(known, part, 0.0)
        means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
        ok = known.any(axis=0)  # a draw may miss all prompts of a cell; it is left out there
        if ok.any():
            by_all = np.quantile if np.isfinite(means[:, ok]).all() else np.nanquantile
            out[:, start : start + _CELLS][:, ok] = by_all(means[:, ok], tails, axis=0)
    same = _constant(d)[0]
    value = _mean(d, np.isfinite(d).sum(axis=0))
    return np.where(same, value, out[0]), np.where(same, value, out[1])


@lru_cache(maxsize=4)
def _drawn(prompts: int, seed: int, resamples: int) -> np.ndarray:
    """How often each prompt is drawn (resample, prompt); floats, which matrix products are fast with."""
    drawn = np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1 / max(prompts, 1)), size=resamples)
    counts = drawn.astype(float)
    counts.setflags(write=False)
    return counts


def _mean(x: np.ndarray, n: np.ndarray) -> np.ndarray:
    return np.divide(np.nansum(x, axis=0), n, out=np.full(n.shape, np.nan), where=n > 0)


def _constant(d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where all differences of a cell are the same but for rounding, and where they are all 0."""
    known = np.isfinite(d)
    high, low = (function(np.where(known, d, fill), axis=0) for function, fill in ((np.max, -np.inf), (np.min, np.inf)))
    some = known.any(axis=0)
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(high), np.abs(low))
        same = some & (high - low <= 1e-12 * np.maximum(1.0, size))
    return same, same & (size < 1e-12)


def _t_test(d: np.ndarray, n: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """d_z and the two-sided p of the paired t-test."""
    same, zero = _constant(d)
    testable = (n > 1) & ~same
    spread = np.sqrt(np.nansum((d - mean) ** 2, axis=0) / np.maximum(n - 1, 1))
    effect = np.divide(mean, spread, out=np.full(n.shape, np.nan), where=testable)
    p = np.full(n.shape, np.nan)
    p[testable] = 2 * stats.t.sf(np.abs(effect[testable]) * np.sqrt(n[testable]), n[testable] - 1)
    return np.where(zero, 0.0, effect), np.where(zero, 1.0, p)
