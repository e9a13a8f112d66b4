"""Scores on hand-made numbers: thresholds, recall, false discoveries, AUROC, ranks, uniformity of p-values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from itlens.planted.scoring import Scale, Trial, auroc, calibrate, false_share, pairs_needed, score
from itlens.stats.p_values import binomial_interval, uniformity


def trial(values: list[float], planted: int, judged: list[int] | None = None) -> Trial:
    numbers = np.array(values)
    there = [i for i in range(len(values)) if i != planted] if judged is None else judged
    return Trial(numbers, numbers, planted, np.isin(np.arange(len(values)), there))


def test_recall_false_discoveries_and_rank_by_hand() -> None:
    trials = [
        trial([9, 1, 2], 0),  # found, nothing else: 0 of 1 false
        trial([9, 8, 1], 0),  # found, and another: 1 of 2 false
        trial([1, 8, 9], 0),  # not found, two others: all false, rank 3
        trial([1, 2, 3], 0),  # nothing found: 0
    ]
    found = score(trials, threshold=5.0)
    assert found["recall"] == 0.5
    assert found["false_discoveries"] == pytest.approx((0 + 0.5 + 1 + 0) / 4)
    assert found["false_pairs"] == 0.5
    assert found["rank"] == 2.0  # of 1, 1, 3, 3
    assert (found["recall_low"], found["recall_high"]) == pytest.approx(binomial_interval(2, 4))


def test_units_that_may_not_be_judged_do_not_count() -> None:
    one = trial([9, 8, 1], 0, judged=[2])
    assert false_share(one, 5.0) == 0
    none = score([trial([9.0, 8.0], 0, judged=[])], 5.0)
    assert none["recall"] == 1 and math.isnan(none["false_discoveries"]) and math.isnan(none["auroc"])


def test_a_plant_of_another_kind_has_no_recall_but_false_discoveries() -> None:
    found = score([trial([9, 1], -1, judged=[0, 1])], 5.0)
    assert math.isnan(found["recall"]) and found["false_discoveries"] == 1


@pytest.mark.long
def test_the_threshold_is_exceeded_at_the_stated_rate() -> None:
    """Over many calibrations, a new noise-only pair has anything above the threshold in at most 5 %, and near it."""
    rng = np.random.default_rng(0)
    for pairs in (19, 39):
        false = []
        for _ in range(400):
            draws = rng.exponential(size=(pairs + 1, 12)) * np.linspace(0.1, 5, 12)
            scale = calibrate(draws[:-1], 0.05)
            false.append((scale.excess(draws[-1]) > scale.threshold).any())
        assert 0.02 < np.mean(false) < 0.08


def test_the_threshold_by_hand() -> None:
    values = np.tile([1.0, 2.0], (19, 1))
    values[4] = [3.0, 2.0]
    scale = calibrate(values, 0.05)
    assert scale.threshold == 3.0  # the largest of 19
    assert scale.unit.tolist() == [1.0, 2.0]
    assert scale.excess(np.array([2.0, np.nan])).tolist() == [2.0, 0.0]
    values = np.tile([1.0, 2.0], (39, 1))
    values[4] = [3.0, 2.0]
    assert calibrate(values, 0.05).threshold == 1.0  # the second largest of 39


def test_a_unit_that_noise_never_moves_is_not_divided_by_zero() -> None:
    scale = calibrate(np.tile([0.0, 1.0], (19, 1)), 0.05)
    assert scale.unit.tolist() == [0.05, 1.0]  # a tenth of the mean
    assert calibrate(np.zeros((19, 2)), 0.05).excess(np.array([0.0, 0.1])).tolist() == [0.0, math.inf]


def test_too_few_calibration_pairs_are_refused() -> None:
    assert [pairs_needed(level) for level in (0.05, 0.1, 0.01, 0.03)] == [19, 9, 99, 33]
    with pytest.raises(ValueError, match="18"):
        calibrate(np.ones((18, 2)), 0.05)
    assert isinstance(calibrate(np.ones((19, 2)), 0.05), Scale)


def test_auroc() -> None:
    assert auroc([3, 4], [1, 2]) == 1
    assert auroc([1], [1, 1]) == 0.5
    assert auroc([2, 0], [1]) == 0.5
    assert math.isnan(auroc([], [1]))


def test_the_interval_is_exact() -> None:
    low, high = binomial_interval(20, 20)
    assert high == 1 and low == pytest.approx(0.025 ** (1 / 20))
    assert binomial_interval(3, 10) == pytest.approx((stats.beta.ppf(0.025, 3, 8), stats.beta.ppf(0.975, 4, 7)))


def test_uniform_p_values_pass_and_small_ones_do_not() -> None:
    rng = np.random.default_rng(1)
    fine = uniformity(rng.uniform(size=(2000, 1)))
    assert fine["share_low"] < 0.05 < fine["share_high"] and fine["ks_p"] > 0.01
    assert (fine["count"], fine["pairs"]) == (2000, 2000)
    small = uniformity(rng.uniform(size=(2000, 1)) ** 2)
    assert small["share_low"] > 0.05 and small["ks_p"] < 1e-6
    discrete = uniformity(np.ceil(rng.uniform(size=(2000, 1)) * 10) / 10)  # P(p <= x) = x at each value that occurs
    assert discrete["ks_p"] > 0.01
    none = uniformity([[np.nan]])
    assert none["count"] == 0 and math.isnan(none["share"])


def test_values_beyond_those_that_count_are_not_too_many() -> None:
    """Five prompts of which one differs give every paired t-test p = 0.37: all of them at once, but none small."""
    found = uniformity(np.full((100, 1), 0.37))
    assert (found["share"], found["ks"], found["ks_p"]) == (0, 0, 1)


def test_p_values_of_one_pair_are_no_independent_ones() -> None:
    """All heads of a pair alike: 1,000 values a pair say no more than one, and the interval must hold 5 % mostly."""
    rng, held, refused = np.random.default_rng(2), 0, 0
    for _ in range(200):
        pairs = np.repeat(rng.uniform(size=(60, 1)), 1000, axis=1)
        found = uniformity(pairs)
        held += found["share_low"] <= 0.05 <= found["share_high"]
        refused += found["ks_p"] < 0.05
    assert held >= 170 and refused <= 20  # taken as independent, hardly any would hold
    assert uniformity(np.full((20, 1000), 0.5))["share_high"] == pytest.approx(binomial_interval(0, 20)[1])


def test_shares_of_pairs_of_different_sizes() -> None:
    found = uniformity([[0.01, 0.5, 0.6, 0.7], [0.02], [np.nan, 0.9]])
    assert found["share"] == pytest.approx(2 / 6) and (found["count"], found["pairs"]) == (6, 3)
