"""How often the planted unit is found, and how often something else is.

1. EXCESS of a unit: its value / the median of its values over the calibration pairs (noise alone). (The divisor is at
   least a tenth of the units' mean median, so that a tiny change is not enough in a unit that noise hardly moves.) For
   the calibration pairs themselves the median is that of the other pairs.
2. THRESHOLD (conformal): of the largest excess of each of the C calibration pairs, the ceil((C + 1)(1 - level))-th
   smallest.
   A new noise-only pair is exchangeable with these, so the chance that ANY of its units is above the threshold is at
   most `level` (over calibrations and pairs). C >= 1 / level - 1 is needed.
3. On other pairs than these: FOUND are the units above the threshold. RECALL is the share of pairs whose
   planted unit is found, with the exact binomial (Clopper-Pearson) interval; FALSE DISCOVERIES the mean over pairs of
   (found units that were not planted) / (all found units), 0 where nothing is found.
4. Also, without any threshold and from the plain values: AUROC of planted against other units, pooled over pairs,
   and the median RANK of the planted unit among the units of its pair (1 = first).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from itlens.stats.p_values import binomial_interval

_LEAST = 0.1  # of the mean median, as a divisor


class Scale(NamedTuple):
    """What calibration gives: the divisor of each unit, and the threshold of the excess."""

    unit: np.ndarray
    threshold: float

    def excess(self, values: np.ndarray) -> np.ndarray:
        """Return values in units of what noise does; 0 where nothing was read."""
        return np.nan_to_num(_ratio(values, self.unit), nan=0.0, posinf=np.inf)


def calibrate(values: np.ndarray, level: float) -> Scale:
    """Return the scale of values (calibration pair, unit) of noise-only pairs; see the module."""
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
    """Return the fewest calibration pairs for a level: ceil(1 / level) - 1."""
    return math.ceil(1 / level - 1e-9) - 1


class Trial(NamedTuple):
    """One planted pair: values and excess of its units, the planted unit (-1: none of these), which may be judged."""

    values: np.ndarray
    excess: np.ndarray
    planted: int
    judged: np.ndarray


def score(trials: list[Trial], threshold: float) -> dict[str, float]:
    """Return recall, recall_low, recall_high, false_discoveries, false_pairs (share of pairs with any), auroc, rank.

    NaN where there is nothing to count.
    """
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
    """Return the share of false units among those found in a pair; 0 where none was found."""
    false = int((trial.excess[trial.judged] > threshold).sum())
    true = int(trial.planted >= 0 and trial.excess[trial.planted] > threshold)
    return false / max(1, false + true)


def auroc(positive: ArrayLike, negative: ArrayLike) -> float:
    """Return the probability that a positive exceeds a negative, ties half (Mann-Whitney U / n m); NaN for none."""
    up, down = (np.asarray(values, dtype=float) for values in (positive, negative))
    up, down = up[np.isfinite(up)], down[np.isfinite(down)]
    if not up.size or not down.size:
        return math.nan
    return float(stats.mannwhitneyu(up, down).statistic / (up.size * down.size))


def _rank(trial: Trial) -> float:
    """Return the planted unit's rank among itself and the units that may be judged, by the plain values."""
    own = trial.values[trial.planted]
    return 1.0 + float((np.nan_to_num(trial.values[trial.judged]) > np.nan_to_num(own)).sum())


def _divisor(values: np.ndarray) -> np.ndarray:
    middle = np.nan_to_num(np.median(np.nan_to_num(values), axis=0))
    return np.maximum(middle, _LEAST * middle.mean())


def _ratio(values: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """Return values / divisor; 0 / 0 = 0, and anything else over 0 is infinite."""
    without = np.where(np.nan_to_num(values) > 0, np.inf, 0.0)
    return np.divide(values, divisor, out=without, where=divisor > 0)
