"""Compare the order of two lists of numbers: Spearman's rank correlation, its interval and its p-value by permutation.

Undecidable is NaN: fewer than three things, or one side
without any spread.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

_LEAST = 3
_BLOCK = 1 << 21  # ranks that are shuffled at a time


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Return Spearman's rho with mean ranks for ties, -1 to 1; things that are NaN on either side do not count."""
    a, b = _known(x, y)
    return float(_rho(a[None], b[None])[0]) if a.size >= _LEAST else np.nan


def rank_correlation_interval(
    x: ArrayLike, y: ArrayLike, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of rho: things drawn with replacement, ranked again each time, seeded.

    Draws in which one side has no spread have no rho and are left out.
    """
    a, b = _known(x, y)
    if a.size < _LEAST or not np.isfinite(_rho(a[None], b[None])[0]):
        return np.nan, np.nan
    drawn = np.random.default_rng(seed).integers(0, a.size, (resamples, a.size))
    rho = _rho(a[drawn], b[drawn])
    tail = (1 - level) / 2
    low, high = np.nanquantile(rho, [tail, 1 - tail])
    return float(low), float(high)


def rank_correlation_p(x: ArrayLike, y: ArrayLike, *, seed: int = 0, draws: int = 10_000) -> float:
    """Return the two-sided p of rho under random pairings: (1 + draws with |rho| at least as large) / (1 + draws),
    seeded."""
    a, b = _known(x, y)
    if a.size < _LEAST:
        return np.nan
    observed = abs(float(_rho(a[None], b[None])[0]))
    if not np.isfinite(observed):
        return np.nan
    rng, ranks = np.random.default_rng(seed), rankdata(b)
    extreme, step = 0, max(1, _BLOCK // a.size)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        shuffled = rng.permuted(np.broadcast_to(ranks, (rows, ranks.size)), axis=1)  # as `permutation`, row by row
        extreme += int((np.abs(_rho(a[None], shuffled)) >= observed - 1e-12).sum())
    return (1 + extreme) / (1 + draws)


def _known(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(x, dtype=float).ravel(), np.asarray(y, dtype=float).ravel()
    both = np.isfinite(a) & np.isfinite(b)
    return a[both], b[both]


def _rho(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return rho row by row."""
    x, y = (rankdata(side, axis=1) for side in (a, b))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    size = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    top = (x * y).sum(axis=1)
    rho: np.ndarray = np.divide(top, size, out=np.full(top.shape, np.nan), where=size > 1e-9)
    return rho
