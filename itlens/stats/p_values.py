"""Are p-values right where the null hypothesis is true? Random exchange makes it true; uniformity says what they do.

A paired test over prompts asks whether two sides differ alike on all prompts. Exchange the two values of a prompt, for
each prompt with probability 1/2: its difference is then as likely positive as negative, whatever the others are, so
that the null of every such test is true and its p-values can be checked.

1. EXCHANGES. Of n prompts there are 2^(n-1) exchanges that differ in more than the names of the two sides. All of them
   are used up to `_MOST`, otherwise `_MOST` random ones that depend on n alone.
2. p-VALUES of the test under each exchange, concatenated: for these differences, the share of small ones has no
   sampling error where all exchanges are used.
3. UNIFORMITY over independent pairs: the share of p-values up to the level, with its interval, and a one-sided
   Kolmogorov-Smirnov test of too many small ones.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

_MOST = 32  # exchanges
_RESAMPLES = 2000
_SMALL = 0.2  # larger p-values are not tested for uniformity

PairedTest: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]


def seed_of(*parts: int | str) -> int:
    """Return a seed below 2^63 that depends on all parts, and on nothing else."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def exchanges(prompts: int) -> np.ndarray:
    """Return which prompts are exchanged, (exchange, prompt) bool: all ways that keep the last, or random ones."""
    if 2 ** (prompts - 1) <= _MOST:
        ways = list(product((False, True), repeat=prompts - 1))
        return np.array([(*way, False) for way in ways], dtype=bool)
    return np.random.default_rng(seed_of("exchanges", prompts)).random((_MOST, prompts)) < 0.5


def p_under_exchange(base: np.ndarray, tuned: np.ndarray, test: PairedTest, *, exchanged: bool) -> np.ndarray:
    """Return the p-values of `test` under each exchange of prompts, flat.

    base, tuned: (prompt, ...), paired by prompt. test: a function of (base, tuned) that returns p-values of any shape.
    exchanged: False for the two sides as they are.
    """
    ways = exchanges(len(base)) if exchanged else np.zeros((1, len(base)), dtype=bool)
    p_values = []
    for way in ways:
        swapped = way.reshape(-1, *[1] * (base.ndim - 1))
        p_values.append(np.ravel(test(np.where(swapped, tuned, base), np.where(swapped, base, tuned))))
    return np.concatenate(p_values)


def uniformity(p: Sequence[ArrayLike], level: float = 0.05, seed: int = 0) -> dict[str, float]:
    """Return count, pairs, share (<= level) with share_low and share_high, ks and ks_p of p-values under a null.

    p: an array for each independent pair; values of one pair depend on one another. The share's 95 % interval is
    therefore a bootstrap over pairs (`share_interval`), and the Kolmogorov-Smirnov test takes one p-value of each pair,
    drawn at random. It is one-sided (too many small values): ks is the largest F(p) - p at the values that occur up to
    0.2. (Above, tests of few prompts are discrete: where one prompt of five differs, every paired t-test gives 0.37.)
    ks_p is that of the largest over all p, and so never too small.
    """
    finite = [values[np.isfinite(values)] for values in (np.ravel(np.asarray(pair, dtype=float)) for pair in p)]
    pairs = [values for values in finite if values.size]
    if not pairs:
        names = ("share", "share_low", "share_high", "ks", "ks_p")
        return {"count": 0.0, "pairs": 0.0} | dict.fromkeys(names, math.nan)
    rng = np.random.default_rng(seed)
    small = np.array([(values <= level).sum() for values in pairs])
    sizes = np.array([values.size for values in pairs])
    low, high = share_interval(small, sizes, seed)
    drawn = np.sort([rng.choice(values) for values in pairs])
    excess = np.arange(1, len(pairs) + 1) / len(pairs) - drawn
    ks = float(np.max(excess[drawn <= _SMALL], initial=0.0))
    return {
        "count": float(sizes.sum()), "pairs": float(len(pairs)), "share": float(small.sum() / sizes.sum()),
        "share_low": low, "share_high": high, "ks": ks, "ks_p": float(stats.ksone.sf(ks, len(pairs))),
    }  # fmt: skip


def share_interval(small: np.ndarray, sizes: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of sum(small) / sum(sizes) over independent pairs: a percentile bootstrap over pairs.

    Where the share is 0 or 1, resampling cannot vary it: then the exact binomial interval of so many pairs.
    """
    pairs, total = len(sizes), float(np.sum(small))
    if pairs < 2 or total in (0, float(np.sum(sizes))):
        return binomial_interval(pairs if total else 0, pairs)
    drawn = np.random.default_rng(seed).integers(0, pairs, (_RESAMPLES, pairs))
    low, high = np.quantile(small[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def binomial_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return Clopper and Pearson's exact interval of a share; (NaN, NaN) of no trials."""
    if trials == 0:
        return math.nan, math.nan
    interval = stats.binomtest(successes, trials).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)
