"""One answer for all probes and one for each: recall and false discoveries at the strongest plants, pooled.

1. Pooled are the pairs of every plant that a probe is meant to see, at the strongest of the asked strengths.
2. RECALL with the exact binomial interval of the pooled pairs.
3. FALSE DISCOVERIES as the mean over pairs (`scoring`). Pairs of one repeat share their draw of noise, so that the 95 %
   interval is a bootstrap over repeats (percentile); where no pair has any, the exact one of so many repeats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from itlens.planted.scoring import Trial, binomial_interval, false_share, share_interval

ALL = "all"


class Counted(NamedTuple):
    """A strongest plant that a probe is meant to see: the probe, the repeat, the trial and the probe's threshold."""

    probe: str
    repeat: int
    trial: Trial
    threshold: float


def overall(counted: Sequence[Counted], probes: Sequence[str]) -> dict[str, Any]:
    """overall_recall, overall_false, each with _low and _high, and overall_trials: on scope, "all" or a probe."""
    rows = [_row([one for one in counted if scope in (ALL, one.probe)]) for scope in (ALL, *probes)]
    return {f"overall_{name}": ("scope", np.array([row[name] for row in rows])) for name in rows[0]}


def _row(counted: list[Counted]) -> dict[str, float]:
    planted = [one for one in counted if one.trial.planted >= 0]
    found = sum(bool(one.trial.excess[one.trial.planted] > one.threshold) for one in planted)
    low, high = binomial_interval(found, len(planted))
    share = found / len(planted) if planted else np.nan
    row = {"recall": share, "recall_low": low, "recall_high": high, "trials": float(len(planted))}
    judged = [one for one in counted if one.trial.judged.any()]
    repeats = sorted({one.repeat for one in judged})
    false, pairs = np.zeros(len(repeats)), np.zeros(len(repeats))
    for one in judged:
        false[repeats.index(one.repeat)] += false_share(one.trial, one.threshold)
        pairs[repeats.index(one.repeat)] += 1
    low, high = share_interval(false, pairs)
    return row | {"false": false.sum() / pairs.sum() if judged else np.nan, "false_low": low, "false_high": high}
