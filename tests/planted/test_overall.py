"""Recall and false discoveries of all probes together, on hand-made pairs."""

from __future__ import annotations

import numpy as np
import pytest

from itlens.planted.result import StrongestTrial, overall
from itlens.planted.scoring import Trial
from itlens.stats.p_values import binomial_interval


def counted(probe: str, repeat: int, excess: list[float], judged: bool = True) -> StrongestTrial:
    values = np.array(excess)
    there = np.arange(len(values)) > 0 if judged else np.zeros(len(values), dtype=bool)
    return StrongestTrial(probe, repeat, Trial(values, values, 0, there), 5.0)


def test_pooled_by_hand() -> None:
    pairs = [
        counted("a", 0, [9, 8, 1]),  # found, and another: half of what was found is false
        counted("a", 1, [9, 1, 1]),
        counted("b", 0, [1, 1, 1]),  # not found
        counted("b", 1, [9, 9, 9], judged=False),  # found; nothing may be judged
    ]
    found = overall(pairs, ["a", "b"])
    rows = {name: dict(zip(["all", "a", "b"], values, strict=True)) for name, (_, values) in found.items()}
    assert rows["overall_recall"] == {"all": 0.75, "a": 1.0, "b": 0.5}
    assert rows["overall_trials"] == {"all": 4, "a": 2, "b": 2}
    assert (rows["overall_recall_low"]["all"], rows["overall_recall_high"]["all"]) == binomial_interval(3, 4)
    assert rows["overall_false"] == {"all": pytest.approx(0.5 / 3), "a": 0.25, "b": 0.0}
    assert rows["overall_false_high"]["b"] == binomial_interval(0, 1)[1]  # one repeat that could be judged


def test_pairs_of_one_repeat_share_their_noise() -> None:
    """Ten repeats of twenty pairs each, all false or none in a repeat: the interval is that of ten, not of 200."""
    pairs = [counted("a", repeat, [9, 9 if repeat < 3 else 1]) for repeat in range(10) for _ in range(20)]
    found = overall(pairs, ["a"])
    low, high = (found[f"overall_false_{end}"][1][0] for end in ("low", "high"))
    assert found["overall_false"][1][0] == pytest.approx(0.15) and low <= 0.05 and high >= 0.25


def test_nothing_to_count() -> None:
    found = overall([], ["a"])
    assert np.isnan(found["overall_recall"][1]).all() and np.isnan(found["overall_false"][1]).all()
