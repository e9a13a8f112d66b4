"""Fractions of a gap, tests over prompts, and the curve: against numbers by hand, scipy and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from itlens.findings.patching.diff import gap_of, paired_tests, recovered
from itlens.findings.patching.probe_parts import Part
from itlens.findings.patching.probe_result import counts_of, halves, joint_curve, needed, order_of, sets_of

DONOR, RECEIVER = np.array([-1.0, -2.0, -1.0, -0.5]), np.array([-3.0, -2.5, -4.0, -2.0])


def test_recovered_is_a_ratio_of_sums() -> None:
    gap = gap_of(DONOR, RECEIVER)
    effect = np.array([[1.0, 2.0], [0.5, 0.5], [0.0, 3.0], [0.5, 1.5]])
    value, low, high = recovered(effect, gap)
    np.testing.assert_allclose(value, [2 / 7, 1])
    assert (low[0] < value[0] < high[0]) and low[1] == pytest.approx(1) == high[1], "the ratio of every resample is 1"
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 4, (20_000, 4))
    ratios = effect[drawn, 0].sum(1) / gap.values[drawn].sum(1)
    np.testing.assert_allclose([low[0], high[0]], np.quantile(ratios, [0.025, 0.975]), atol=0.03)


def test_a_gap_within_chance_gives_no_fraction() -> None:
    for donor in (RECEIVER, RECEIVER + np.array([1.0, -1.0, 1.0, -0.9])):
        gap = gap_of(donor, RECEIVER)
        assert "nothing to recover" in gap.note and np.isnan(recovered(np.ones((4, 2)), gap)[0]).all()
    single = gap_of(DONOR[:1], RECEIVER[:1])
    value, low, _ = recovered(np.ones((1, 2)), single)
    assert value.tolist() == [0.5, 0.5] and np.isnan(low).all() and np.isnan(single.low) and not single.note


def test_the_interval_of_the_gap_is_student_s() -> None:
    gap = gap_of(DONOR, RECEIVER)
    expected = stats.ttest_1samp(DONOR - RECEIVER, 0).confidence_interval(0.95)
    assert (gap.low, gap.high) == pytest.approx((expected.low, expected.high))
    same = gap_of(RECEIVER + 1, RECEIVER)
    assert (same.low, same.high, same.note) == (1, 1, "")
    assert "too few prompts for an interval" in gap_of(RECEIVER[:1], RECEIVER[:1]).note


@pytest.mark.parametrize("prompts", [5, 8, 16])
def test_gaps_of_nothing_are_rarely_taken_for_real(prompts: int) -> None:
    drawn = np.random.default_rng(0).normal(size=(400, prompts))
    assert np.mean([not gap_of(values, np.zeros(prompts)).note for values in drawn]) <= 0.07


def test_tests_are_paired_and_corrected() -> None:
    effect = np.random.default_rng(0).normal(0.3, 1, (12, 6))
    effect[:, 4], effect[:, 5] = 0, 2
    t, p, corrected = paired_tests(effect)
    expected = stats.ttest_1samp(effect[:, :4], 0)
    np.testing.assert_allclose(t[:4], expected.statistic)
    np.testing.assert_allclose(p[:4], expected.pvalue)
    assert p[4] == 1 and np.isnan(t[4:]).all() and np.isnan(p[5]) and np.isnan(corrected[5])
    np.testing.assert_allclose(corrected[:5], multipletests(p[:5], method="fdr_bh")[1])
    assert all(np.isnan(values).all() for values in paired_tests(effect[:4])), "too few prompts"


def test_under_the_null_five_percent_are_found() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([paired_tests(rng.normal(size=(8, 10)))[1] for _ in range(200)])
    assert 0.035 < (p < 0.05).mean() < 0.065


def test_halves_are_disjoint_and_seeded() -> None:
    first, second = halves(9, 0)
    assert sorted([*first, *second]) == list(range(9)) and abs(first.size - second.size) <= 1
    assert halves(9, 0)[0].tolist() == first.tolist() != halves(9, 1)[0].tolist()
    assert all(half.tolist() == [0, 1, 2] for half in halves(3, 0))


def test_counts_grow_and_end_at_all() -> None:
    assert counts_of(1) == [1] and counts_of(2) == [1, 2] and counts_of(3) == [1, 2, 3]
    assert counts_of(24) == [1, 2, 3, 5, 8, 13, 21, 24] and counts_of(8) == [1, 2, 3, 5, 8]


def test_the_order_closes_the_gap_first() -> None:
    effect = np.array([[0.1, -3.0, 2.0], [0.1, 1.0, 1.0]])
    assert order_of(effect, np.array([1.0, 2.0])).tolist() == [2, 0, 1]
    assert order_of(effect, np.array([-1.0, -2.0])).tolist() == [1, 0, 2]


def test_the_curve_of_parts_that_add_up() -> None:
    """Four parts that carry 0.5, 0.3, 0.2 and -0.1 of a gap of 1, and nothing together but their sum."""
    share, parts = np.array([0.2, 0.5, -0.1, 0.3]), [Part(0, head) for head in range(4)]
    gap = gap_of(np.ones(3), np.zeros(3))
    order = order_of(np.tile(share, (3, 1)), gap.values)
    sets = sets_of(parts, order, controls=300, seed=0)
    effect = np.array([[sum(share[part.head] for part in asked) for asked in sets]] * 3)
    ds = joint_curve(effect, gap, 4, 300)
    np.testing.assert_allclose(ds.joint, [0.5, 0.8, 1.0, 0.9])
    assert ds["count"].values.tolist() == [1, 2, 3, 4] and (float(ds.needed_80), float(ds.needed_80_of_all)) == (2, 2)
    np.testing.assert_allclose(ds.joint_random, 0.9 * np.arange(1, 5) / 4, atol=0.04)
    assert float(ds.joint_random_low[0]) == pytest.approx(-0.1) and float(ds.joint_random_high[0]) == pytest.approx(0.5)
    assert float(ds.joint_random_low[-1]) == pytest.approx(0.9) == float(ds.joint_random_high[-1])


def test_without_controls_or_enough_there_is_nan() -> None:
    gap = gap_of(np.ones(2), np.zeros(2))
    ds = joint_curve(np.full((2, 3), 0.1), gap, 3, 0)
    assert ds.joint_random.isnull().all() and np.isnan(float(ds.needed_80)) and float(ds.needed_80_of_all) == 1
    assert np.isnan(needed(np.array([1, 2]), np.array([-0.1, -0.2]), -0.16))
