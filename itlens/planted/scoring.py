"""How often the planted unit is found, and how often something else is.

1. EXCESS of a unit: its value / the median of its values over the calibration pairs (noise alone). (At least a tenth of
   the units' mean median divides, so that a unit that noise hardly moves is not found by nearly nothing.) For the
   calibration pairs themselves the median is that of the other pairs.
2. THRESHOLD (conformal): of the largest excess of each of the C calibration pairs, the ceil((C + 1)(1 - level))-th
   smallest.
   A new noise-only pair is exchangeable with these, so the chance that ANY of its units is above the threshold is at
   most `level` (over calibrations and pairs). C >= 1 / level - 1 is needed.
3. On pairs that calibration has not seen: FOUND are the units above the threshold. RECALL is the share of pairs whose
   planted unit is found, with the exact binomial (Clopper-Pearson) interval; FALSE DISCOVERIES the mean over pairs of
   (found units that were not planted) / (all found units), 0 where nothing is found.
4. Beside them, without any threshold and of the plain values: AUROC of planted against other units, pooled over pairs,
   and the median RANK of the planted unit among the units of its pair (1 = first).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

_LEAST = 0.1  # of the mean median
_RESAMPLES = 2000
_COUNTS = 0.2  # a p-value beyond which nobody asks how far


class Scale(NamedTuple):
    """What the calibration pairs say: the divisor of each unit, and the threshold of the excess."""

    unit: np.ndarray
    threshold: float

    def excess(self, values: np.ndarray) -> np.ndarray:
        """Values in units of what noise does; 0 where nothing was read."""
        return np.nan_to_num(_ratio(values, self.unit), nan=0.0, posinf=np.inf)


def calibrate(values: np.ndarray, level: float) -> Scale:
    """The scale of values (calibration pair, unit) of noise-only pairs; see the module."""
    pairs = len(values)
    largest = np.empty(pairs)
    for number in range(pairs):
        others = np.delete(values, number, axis=0)
        largest[number] = np.nan_to_num(_ratio(values[number], _divisor(others)), nan=0.0).max()
    rank = math.ceil((pairs + 1) * (1 - level) - 1e-9)
    if rank > pairs:
        raise ValueError(f"{pairs} calibration pairs cannot hold a level of {level}")
    return Scale(_divisor(values), float(np.sort(largest)[rank - 1]))


def pairs_needed(level: float) -> int:
    """The fewest calibration pairs for a level: ceil(1 / level) - 1."""
    return math.ceil(1 / level - 1e-9) - 1


class Trial(NamedTuple):
    """One planted pair: values and excess of its units, the planted unit (-1: none of these), what may be judged."""

    values: np.ndarray
    excess: np.ndarray
    planted: int
    judged: np.ndarray


def score(trials: list[Trial], threshold: float) -> dict[str, float]:
    """recall, recall_low, recall_high, false_discoveries, false_pairs (share of pairs with any), auroc, rank; NaN
    where there is nothing to count."""
    out = dict.fromkeys(
        ("recall", "recall_low", "recall_high", "false_discoveries", "false_pairs", "auroc", "rank"), math.nan
    )
    planted = [trial for trial in trials if trial.planted >= 0]
    if planted:
        found = sum(bool(trial.excess[trial.planted] > threshold) for trial in planted)
        low, high = binomial_interval(found, len(planted))
        out |= {"recall": found / len(planted), "recall_low": low, "recall_high": high}
        out["rank"] = float(np.median([_rank(trial) for trial in planted]))
        out["auroc"] = auroc(
            np.array([trial.values[trial.planted] for trial in planted]),
            np.concatenate([trial.values[trial.judged] for trial in planted]),
        )
    judged = [trial for trial in trials if trial.judged.any()]
    if judged:
        out["false_discoveries"] = float(np.mean([false_share(trial, threshold) for trial in judged]))
        out["false_pairs"] = float(np.mean([false_share(trial, threshold) > 0 for trial in judged]))
    return out


def false_share(trial: Trial, threshold: float) -> float:
    """The share of false ones among what was found in a pair; 0 where nothing was."""
    false = int((trial.excess[trial.judged] > threshold).sum())
    true = int(trial.planted >= 0 and trial.excess[trial.planted] > threshold)
    return false / max(1, false + true)


def binomial_interval(found: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's exact interval of a share; (NaN, NaN) of nothing."""
    if of == 0:
        return math.nan, math.nan
    interval = stats.binomtest(found, of).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)


def auroc(positive: ArrayLike, negative: ArrayLike) -> float:
    """The chance that a positive is above a negative, ties count half (Mann-Whitney U / n m); NaN without either."""
    up, down = (np.asarray(values, dtype=float) for values in (positive, negative))
    up, down = up[np.isfinite(up)], down[np.isfinite(down)]
    if not up.size or not down.size:
        return math.nan
    return float(stats.mannwhitneyu(up, down).statistic / (up.size * down.size))


def uniformity(p: Sequence[ArrayLike], level: float = 0.05, seed: int = 0) -> dict[str, float]:
    """p-values of independent pairs under a null, an array each: count, pairs, share <= level, and their uniformity.

    Values of one pair depend on one another. So the share's 95 % interval is a bootstrap over pairs (percentile; the
    exact one of so many pairs where no p-value, or every one, is small), and the Kolmogorov-Smirnov test is of one
    p-value of each pair, drawn at random: one-sided, whether there are too many of any size that counts, ks = the
    largest F(p) - p at the values that occur up to 0.2. (Beyond, tests of few prompts are discrete: where one prompt of
    five differs, every paired t-test gives 0.37.) ks_p is that of the largest over all p, and so never too small.
    """
    known = [values[np.isfinite(values)] for values in (np.ravel(np.asarray(one, dtype=float)) for one in p)]
    pairs = [values for values in known if values.size]
    if not pairs:
        names = ("share", "share_low", "share_high", "ks", "ks_p")
        return {"count": 0.0, "pairs": 0.0} | dict.fromkeys(names, math.nan)
    rng = np.random.default_rng(seed)
    small = np.array([(values <= level).sum() for values in pairs])
    sizes = np.array([values.size for values in pairs])
    low, high = share_interval(small, sizes, seed)
    drawn = np.sort([rng.choice(values) for values in pairs])
    too_many = np.arange(1, len(pairs) + 1) / len(pairs) - drawn
    ks = float(np.max(too_many[drawn <= _COUNTS], initial=0.0))
    return {
        "count": float(sizes.sum()), "pairs": float(len(pairs)), "share": float(small.sum() / sizes.sum()),
        "share_low": low, "share_high": high, "ks": ks, "ks_p": float(stats.ksone.sf(ks, len(pairs))),
    }  # fmt: skip


def share_interval(small: np.ndarray, sizes: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of sum(small) / sum(sizes) over independent pairs, by a bootstrap over the pairs (percentile).

    Where the share is 0 or 1 there is nothing to draw: then the exact binomial interval of so many pairs.
    """
    pairs, total = len(sizes), float(np.sum(small))
    if pairs < 2 or total in (0, float(np.sum(sizes))):
        return binomial_interval(pairs if total else 0, pairs)
    drawn = np.random.default_rng(seed).integers(0, pairs, (_RESAMPLES, pairs))
    low, high = np.quantile(small[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _rank(trial: Trial) -> float:
    """The planted unit's place among itself and the units that may be judged, by the plain values."""
    own = trial.values[trial.planted]
    return 1.0 + float((np.nan_to_num(trial.values[trial.judged]) > np.nan_to_num(own)).sum())


def _divisor(values: np.ndarray) -> np.ndarray:
    middle = np.nan_to_num(np.median(np.nan_to_num(values), axis=0))
    return np.maximum(middle, _LEAST * middle.mean())


def _ratio(values: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """values / divisor; 0 / 0 = 0, and anything else over 0 is infinite."""
    none = np.where(np.nan_to_num(values) > 0, np.inf, 0.0)
    return np.divide(values, divisor, out=none, where=divisor > 0)
