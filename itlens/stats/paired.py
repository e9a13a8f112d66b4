"""Test paired and unpaired samples, and correct for many tests: one sample at a time, or thousands of cells at once.

Every function says "undecidable" with NaN and leaks no warning: a test of fewer values than `minimum`, or of values
without any spread, has no p-value here. Standard deviations are those of a sample (n - 1). Tests are two-sided unless
they say otherwise. scipy computes the tests and intervals of `paired_row`.

`paired_cells` computes the same formulas for all cells of a table (prompt, cell) together. A prompt that is NaN in a
cell on either side does not count there. Differences of a cell d_1 .. d_n:
1. mean difference, and its 95 % percentile bootstrap interval: prompts are drawn with replacement once and the same
   draws serve all cells. (Percentile, not BCa: its one table of draws is what makes thousands of cells cheap; with few
   prompts it is somewhat too narrow.)
2. effect_size: Cohen's d_z = mean / sd (n - 1). 3. p_paired: two-sided paired t-test.
No prompt differs: effect 0, p = 1, interval [0, 0]. All differ by the same: no test (NaN). Fewer than `minimum`
prompts: no interval, effect or test (NaN).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from itlens.errors import ResultError

if TYPE_CHECKING:
    import pandas as pd

PAIRED_COLUMNS = (
    *("n", "base_mean", "base_std", "tuned_mean", "tuned_std", "difference", "ci_low", "ci_high", "effect_size"),
    *("t_paired", "p_paired", "w_wilcoxon", "p_wilcoxon", "t_welch", "p_welch", "note"),
)
MEASURES = ("n", "base_mean", "tuned_mean", "difference", "ci_low", "ci_high", "effect_size", "p_paired", "p_bh")
_SMALL = 30  # items; below, an interval is that of the t-test
_SIGNS = 13  # differences, up to which all choices of their signs are counted: 8,192
_CELLS = 512  # at a time, in the bootstrap: 2,000 draws of them take 8 MB


def paired_row(
    base: ArrayLike,
    tuned: ArrayLike,
    item: str = "prompt",
    /,
    *,
    seed: int = 0,
    resamples: int = 10_000,
    minimum: int = 5,
) -> dict[str, Any]:
    """Compare tuned with base, item by item: one row of a table of paired comparisons (PAIRED_COLUMNS).

    item: what one is, for the note.

    Paired t and Wilcoxon (two-sided), Cohen's d_z with the mean's 95 % BCa bootstrap interval, and the paper's Welch t
    (one-sided, tuned > base). When no item differs, p = 1 and the interval is [0, 0]; `note` says so. `is_tested` says
    whether there were enough items.
    """
    x, y = np.asarray(base, dtype=float), np.asarray(tuned, dtype=float)
    d = y - x
    row: dict[str, Any] = dict.fromkeys(PAIRED_COLUMNS, np.nan)
    row |= {"n": d.size, "base_mean": mean(x), "base_std": std(x), "tuned_mean": mean(y), "tuned_std": std(y)}
    row |= {"difference": mean(d), "note": too_few(d.size, minimum, item)}
    if row["note"]:
        return row
    row["ci_low"], row["ci_high"] = bootstrap_interval(d, seed=seed, resamples=resamples)
    row["t_paired"], row["p_paired"] = paired_t(x, y)
    row["w_wilcoxon"], row["p_wilcoxon"] = wilcoxon(d)
    row["t_welch"], row["p_welch"] = welch(y, x, alternative="greater")
    row["effect_size"] = cohen_dz(d)
    if is_constant(d):
        row["note"] = no_spread(d[0], item)
    return row


def is_tested(row: Mapping[Any, Any] | pd.Series[Any]) -> bool:
    """Return whether a row of `paired_row` had as many items as a test needs: only then it has an interval."""
    return bool(np.isfinite(row["ci_low"]))


def too_few(n: int, minimum: int, item: str = "prompt") -> str:
    """Say that a sample is too small for a test; "" when it is not. item: what one of it is."""
    return "" if n >= minimum else f"too few {item}s for a test (n={n}, at least {minimum} needed)"


def no_spread(difference: float, item: str = "prompt") -> str:
    """Say that all differences are the same: none, or this one."""
    if abs(difference) < 1e-12:
        return f"no difference in any {item}"
    return f"the same difference in every {item}: no t-test"


def interval_beside_p(n: int, p: float, difference: float, low: float, high: float) -> tuple[float, float]:
    """Return the 95 % interval that a sentence says next to the p of a t-test of n items: the bootstrap's (low, high),
    or, with fewer than 30 items and where the two disagree on zero, that of the t-test."""
    agree = (low > 0 or high < 0) == (p < 0.05)
    if not np.isfinite(p) or low == high or (n >= _SMALL and agree):
        return low, high
    of_t = t_interval(difference, p, n)
    return of_t if np.isfinite(of_t[0]) else (low, high)


def as_said(
    row: pd.Series[Any],
    *,
    p: str = "p_paired",
    difference: str = "difference",
    low: str = "ci_low",
    high: str = "ci_high",
) -> pd.Series[Any]:
    """Return a row of a table of paired tests for a sentence: its interval is the one that goes with its p.

    p, difference, low, high: the names of these columns.
    """
    said = row.copy()
    said[low], said[high] = interval_beside_p(*(row[name] for name in ("n", p, difference, low, high)))
    return said


def interval_words(items: str = "prompts") -> str:
    """Which interval `as_said` gives, for the help of a column."""
    return f"the t-test's where {items} are few, else a bootstrap over {items}"


def t_interval(mean: float, p: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a mean from the two-sided p of its t-test against 0: it excludes 0 where p < 0.05.

    (0, 0) for a mean of 0 with p = 1; NaN without a test.
    """
    if not np.isfinite(p) or n < 2:
        return np.nan, np.nan
    if p >= 1:
        return (0.0, 0.0) if mean == 0 else (np.nan, np.nan)
    half = _half_width(mean, float(stats.t.isf(p / 2, n - 1)), n) if p > 0 else 0.0
    return mean - half, mean + half


def _half_width(mean: float, t: float, n: int) -> float:
    """Return half the width of the 95 % interval of a mean of n items; its standard error is |mean| / |t|."""
    return float(stats.t.ppf(0.975, n - 1) * abs(mean) / abs(t))


def mean(x: np.ndarray) -> float:
    """Return the mean; NaN of nothing."""
    return float(x.mean()) if x.size else np.nan


def std(x: np.ndarray) -> float:
    """Return the standard deviation of a sample (n - 1); NaN of fewer than two values."""
    return float(x.std(ddof=1)) if x.size > 1 else np.nan


def is_constant(x: np.ndarray) -> bool:
    """Return whether values do not differ by more than rounding: a test of them would divide by zero."""
    return bool(np.ptp(x) <= 1e-12 * max(1.0, float(np.abs(x).max()))) if x.size else True


def cohen_dz(d: np.ndarray) -> float:
    """Return Cohen's d_z of paired differences, mean / standard deviation; 0 when all are 0, NaN when all are the
    same."""
    if is_constant(d):
        return 0.0 if d.size and abs(d[0]) < 1e-12 else np.nan
    return mean(d) / std(d)


def cohen_d(x: np.ndarray, y: np.ndarray) -> float:
    """Return Cohen's d of two unpaired samples, difference of means (x - y) / pooled sd; 0 when all values are the
    same."""
    if min(x.size, y.size) < 2:
        return np.nan
    pooled = np.sqrt(((x.size - 1) * x.var(ddof=1) + (y.size - 1) * y.var(ddof=1)) / (x.size + y.size - 2))
    difference = mean(x) - mean(y)
    if is_constant(x) and is_constant(y):
        return 0.0 if abs(difference) < 1e-12 else np.nan
    return float(difference / pooled)


def paired_t(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the paired t of y - x and its two-sided p; (NaN, 1) when no item differs, (NaN, NaN) without spread."""
    d = y - x
    if is_constant(d):
        return np.nan, (1.0 if d.size and abs(d[0]) < 1e-12 else np.nan)
    return _statistic_and_p(stats.ttest_1samp(d, 0.0))


def wilcoxon(d: np.ndarray) -> tuple[float, float]:
    """Return Wilcoxon's signed-rank statistic of differences and its two-sided p; (NaN, 1) when all are 0."""
    if not np.any(np.abs(d) > 1e-12):
        return np.nan, 1.0
    size = np.abs(d)
    ties = np.unique(size).size < d.size or not size.all()
    if ties and d.size <= _SIGNS:
        return _signed_ranks(d)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _statistic_and_p(stats.wilcoxon(d))


def _signed_ranks(d: np.ndarray) -> tuple[float, float]:
    """Return Wilcoxon's statistic and p by all signs of few differences with ties or zeros.

    scipy does the same from within `stats.wilcoxon`, one choice of signs at a time: a hundred times slower.
    """
    ranks = np.zeros(d.size)
    ranks[d != 0] = stats.rankdata(np.abs(d[d != 0]))
    tested = stats.permutation_test(
        (d,),
        lambda x, axis: ((x > 0) * ranks).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**_SIGNS,
    )
    plus = float(tested.statistic)
    return min(plus, float(ranks.sum()) - plus), float(tested.pvalue)


def welch(
    x: np.ndarray, y: np.ndarray, *, alternative: Literal["two-sided", "less", "greater"] = "two-sided"
) -> tuple[float, float]:
    """Return Welch's t of two unpaired samples and its p; NaN when neither has any spread, or one has under two
    values."""
    if min(x.size, y.size) < 2 or (is_constant(x) and is_constant(y)):
        return np.nan, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one sample without spread is fine for Welch
        return _statistic_and_p(stats.ttest_ind(x, y, equal_var=False, alternative=alternative))


def bootstrap_interval(
    x: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
    method: Literal["percentile", "basic", "BCa"] = "BCa",
) -> tuple[float, float]:
    """Return the seeded bootstrap interval of the mean; the value itself when all are the same, NaN for under two
    values."""
    if x.size < 2:
        return np.nan, np.nan
    if is_constant(x):
        return float(x[0]), float(x[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interval = stats.bootstrap(
            (x,),
            np.mean,
            n_resamples=resamples,
            confidence_level=level,
            method=method,
            vectorized=True,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return float(interval.low), float(interval.high)


def bootstrap_difference(
    x: np.ndarray, y: np.ndarray, *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> tuple[float, float]:
    """Return the seeded BCa bootstrap interval of mean(x) - mean(y), unpaired; NaN for samples of under two values."""
    if min(x.size, y.size) < 2:
        return np.nan, np.nan
    if is_constant(x) and is_constant(y):
        return float(x[0] - y[0]), float(x[0] - y[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interval = stats.bootstrap(
            (x, y),
            lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
            n_resamples=resamples,
            batch=500,  # thousands of values times thousands of resamples would fill the memory
            confidence_level=level,
            method="BCa",
            vectorized=True,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return float(interval.low), float(interval.high)


def adjust(p: ArrayLike, method: Literal["holm", "fdr_bh"] = "holm") -> np.ndarray:
    """Correct p-values (one axis) by Holm, or by Benjamini and Hochberg; NaN stays and does not count.

    Holm: sorted ascending, p_(i) becomes the largest of (n - j) p_(j) for j = 0 .. i, at most 1. (statsmodels has both,
    and collects garbage at each call: a fifth of a second in a large process.)
    """
    values = np.asarray(p, dtype=float)
    known = np.flatnonzero(np.isfinite(values))
    out = np.full(values.shape, np.nan)
    if method not in ("holm", "fdr_bh"):
        raise ResultError(f"method={method!r}; expected 'holm' or 'fdr_bh'.")
    if method == "fdr_bh":
        out[known] = stats.false_discovery_control(values[known]) if known.size else values[known]
        return out
    order = known[np.argsort(values[known], kind="stable")]
    out[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(order.size, 0, -1)), 1.0)
    return out


def p_text(p: float) -> str:
    """Write a p-value as a sentence says it: "p = 0.012", "p < 0.001", "no p-value" for NaN.

    The digits are those of tables and figures (`itlens.report.numbers.p_value`, a floor above).
    """
    if not np.isfinite(p):
        return "no p-value"
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _statistic_and_p(result: Any) -> tuple[float, float]:
    return float(result.statistic), float(result.pvalue)


def paired_cells(
    base: np.ndarray, tuned: np.ndarray, *, seed: int = 0, resamples: int = 2000, minimum: int = 5
) -> dict[str, np.ndarray]:
    """Return MEASURES but p_bh, each on (cell), of base and tuned on (prompt, cell); see the module."""
    if not len(base):  # no prompt, so nothing to compare
        nothing = {name: np.full(base.shape[1], np.nan) for name in MEASURES if name != "p_bh"}
        return nothing | {"n": np.zeros(base.shape[1])}
    both = np.isfinite(base) & np.isfinite(tuned)
    x, y = np.where(both, base, np.nan), np.where(both, tuned, np.nan)
    d, n = y - x, both.sum(axis=0)
    difference = _mean(d, n)
    enough = n >= max(minimum, 2)
    low, high = np.full((2, n.size), np.nan)
    low[enough], high[enough] = cell_interval(d[:, enough], seed=seed, resamples=resamples)
    effect, p = _t_test(d, n, difference)
    return {
        "n": n.astype(float),
        "base_mean": _mean(x, n),
        "tuned_mean": _mean(y, n),
        "difference": difference,
        "ci_low": low,
        "ci_high": high,
        "effect_size": np.where(enough, effect, np.nan),
        "p_paired": np.where(enough, p, np.nan),
    }


def cell_interval(
    d: np.ndarray, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile bootstrap interval of the mean over prompts of d (prompt, cell), per cell; NaN values do
    not count."""
    prompts, cells = d.shape
    drawn = _drawn(prompts, seed, resamples)
    out = np.full((2, cells), np.nan)
    tails = [(1 - level) / 2, (1 + level) / 2]
    for start in range(0, cells, _CELLS):
        block = d[:, start : start + _CELLS]
        known = np.isfinite(block)
        counts = np.float64(prompts) if known.all() else drawn @ known.astype(float)
        sums = drawn @ np.where(known, block, 0.0)
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
    """Return how often each prompt is drawn (resample, prompt); floats, which matrix products are fast with."""
    drawn = np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1 / max(prompts, 1)), size=resamples)
    counts = drawn.astype(float)
    counts.setflags(write=False)
    return counts


def _mean(x: np.ndarray, n: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(np.nansum(x, axis=0), n, out=np.full(n.shape, np.nan), where=n > 0))


def _constant(d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where all differences of a cell are the same but for rounding, and where they are all 0."""
    known = np.isfinite(d)
    high, low = (function(np.where(known, d, fill), axis=0) for function, fill in ((np.max, -np.inf), (np.min, np.inf)))
    some = known.any(axis=0)
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(high), np.abs(low))
        same = some & (high - low <= 1e-12 * np.maximum(1.0, size))
    return same, same & (size < 1e-12)


def _t_test(d: np.ndarray, n: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return d_z and the two-sided p of the paired t-test."""
    same, zero = _constant(d)
    testable = (n > 1) & ~same
    spread = np.sqrt(np.nansum((d - mean) ** 2, axis=0) / np.maximum(n - 1, 1))
    effect = np.divide(mean, spread, out=np.full(n.shape, np.nan), where=testable)
    p = np.full(n.shape, np.nan)
    p[testable] = 2 * stats.t.sf(np.abs(effect[testable]) * np.sqrt(n[testable]), n[testable] - 1)
    return np.where(zero, 0.0, effect), np.where(zero, 1.0, p)
