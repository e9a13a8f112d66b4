"""The statistics that the diffs share: tests of paired and of unpaired samples, intervals, corrections.

Every function says "undecidable" with NaN and leaks no warning: a test of fewer values than `minimum`, or of values
without any spread, has no p-value here. Standard deviations are those of a sample (n - 1). Tests are two-sided unless
they say otherwise. scipy computes the tests and intervals.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

PAIRED_COLUMNS = (
    *("n", "base_mean", "base_std", "tuned_mean", "tuned_std", "difference", "ci_low", "ci_high", "effect_size"),
    *("t_paired", "p_paired", "w_wilcoxon", "p_wilcoxon", "t_welch", "p_welch", "note"),
)
NO_DIFFERENCE = "no difference in any prompt"
SAME_DIFFERENCE = "the same difference in every prompt: no t-test"


def paired_row(
    base: ArrayLike, tuned: ArrayLike, *, seed: int = 0, resamples: int = 10_000, minimum: int = 5
) -> dict[str, Any]:
    """One row of a table of paired comparisons (PAIRED_COLUMNS): tuned against base, item by item.

    Paired t and Wilcoxon (two-sided), Cohen's d_z with the mean's 95 % BCa bootstrap interval, and the paper's Welch t
    (one-sided, tuned > base). When no item differs, p = 1 and the interval is [0, 0]; `note` says so.
    """
    x, y = np.asarray(base, dtype=float), np.asarray(tuned, dtype=float)
    d = y - x
    row: dict[str, Any] = dict.fromkeys(PAIRED_COLUMNS, np.nan)
    row |= {"n": d.size, "base_mean": mean(x), "base_std": std(x), "tuned_mean": mean(y), "tuned_std": std(y)}
    row |= {"difference": mean(d), "note": too_few(d.size, minimum)}
    if row["note"]:
        return row
    row["ci_low"], row["ci_high"] = bootstrap_interval(d, seed=seed, resamples=resamples)
    row["t_paired"], row["p_paired"] = paired_t(x, y)
    row["w_wilcoxon"], row["p_wilcoxon"] = wilcoxon(d)
    row["t_welch"], row["p_welch"] = welch(y, x, alternative="greater")
    row["effect_size"] = cohen_dz(d)
    if is_constant(d):
        row["note"] = NO_DIFFERENCE if abs(d[0]) < 1e-12 else SAME_DIFFERENCE
    return row


def too_few(n: int, minimum: int) -> str:
    """What to say of a sample that is too small for a test; "" when it is not."""
    return "" if n >= minimum else f"too few prompts for a test (n={n}, at least {minimum} needed)"


def mean(x: np.ndarray) -> float:
    """Mean; NaN of nothing."""
    return float(x.mean()) if x.size else np.nan


def std(x: np.ndarray) -> float:
    """Standard deviation of a sample (n - 1); NaN of fewer than two values."""
    return float(x.std(ddof=1)) if x.size > 1 else np.nan


def is_constant(x: np.ndarray) -> bool:
    """Whether values do not differ by more than rounding: a test of them would divide by zero."""
    return bool(np.ptp(x) <= 1e-12 * max(1.0, float(np.abs(x).max()))) if x.size else True


def cohen_dz(d: np.ndarray) -> float:
    """Cohen's d_z of paired differences, mean / standard deviation; 0 when all are 0, NaN when all are the same."""
    if is_constant(d):
        return 0.0 if d.size and abs(d[0]) < 1e-12 else np.nan
    return mean(d) / std(d)


def cohen_d(x: np.ndarray, y: np.ndarray) -> float:
    """Cohen's d of two unpaired samples, difference of means (x - y) / pooled sd; 0 when all values are the same."""
    if min(x.size, y.size) < 2:
        return np.nan
    pooled = np.sqrt(((x.size - 1) * x.var(ddof=1) + (y.size - 1) * y.var(ddof=1)) / (x.size + y.size - 2))
    difference = mean(x) - mean(y)
    if is_constant(x) and is_constant(y):
        return 0.0 if abs(difference) < 1e-12 else np.nan
    return float(difference / pooled)


def paired_t(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Paired t of y - x and its two-sided p; (NaN, 1) when no item differs, (NaN, NaN) without spread."""
    d = y - x
    if is_constant(d):
        return np.nan, (1.0 if d.size and abs(d[0]) < 1e-12 else np.nan)
    return _pair(stats.ttest_1samp(d, 0.0))


def wilcoxon(d: np.ndarray) -> tuple[float, float]:
    """Wilcoxon's signed-rank statistic of differences and its two-sided p; (NaN, 1) when all are 0."""
    if not np.any(np.abs(d) > 1e-12):
        return np.nan, 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _pair(stats.wilcoxon(d))


def welch(
    x: np.ndarray, y: np.ndarray, *, alternative: Literal["two-sided", "less", "greater"] = "two-sided"
) -> tuple[float, float]:
    """Welch's t of two unpaired samples and its p; NaN when neither has any spread, or one has under two values."""
    if min(x.size, y.size) < 2 or (is_constant(x) and is_constant(y)):
        return np.nan, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one sample without spread is fine for Welch
        return _pair(stats.ttest_ind(x, y, equal_var=False, alternative=alternative))


def bootstrap_interval(
    x: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
    method: Literal["percentile", "basic", "BCa"] = "BCa",
) -> tuple[float, float]:
    """Bootstrap interval of the mean, seeded; the value itself when all are the same, NaN for under two values."""
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
    """BCa bootstrap interval of mean(x) - mean(y), unpaired and seeded; NaN for samples of under two values."""
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
    """p-values (one axis) corrected by Holm, or by Benjamini and Hochberg; NaN stays and does not count.

    Holm: sorted ascending, p_(i) becomes the largest of (n - j) p_(j) for j = 0 .. i, at most 1. (statsmodels has both,
    and collects garbage at each call: a fifth of a second in a large process.)
    """
    values = np.asarray(p, dtype=float)
    known = np.flatnonzero(np.isfinite(values))
    out = np.full(values.shape, np.nan)
    if method not in ("holm", "fdr_bh"):
        raise ValueError(f"method={method!r}; expected 'holm' or 'fdr_bh'.")
    if method == "fdr_bh":
        out[known] = stats.false_discovery_control(values[known]) if known.size else values[known]
        return out
    order = known[np.argsort(values[known], kind="stable")]
    out[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(order.size, 0, -1)), 1.0)
    return out


def p_text(p: float) -> str:
    """A p-value as a sentence says it: "p = 0.012", "p < 0.0001", "no p-value" for NaN."""
    if not np.isfinite(p):
        return "no p-value"
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def _pair(result: Any) -> tuple[float, float]:
    return float(result.statistic), float(result.pvalue)
