"""Tests and intervals against textbook formulas; nothing undecidable gets a p-value, and no warning leaks."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from itlens.stats.paired import (
    PAIRED_COLUMNS,
    adjust,
    bootstrap_interval,
    cohen_dz,
    interval_beside_p,
    paired_cells,
    paired_row,
    paired_t,
    welch,
    wilcoxon,
)

pytestmark = pytest.mark.filterwarnings("error")

BASE = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
TUNED = np.array([2.0, 2.0, 5.0, 7.0, 6.0])  # differences 1, 0, 2, 3, 1: mean 1.4, variance 1.3


def test_paired_row_by_hand():
    row = paired_row(BASE, TUNED, resamples=2000)
    assert tuple(row) == PAIRED_COLUMNS
    assert (row["n"], row["note"]) == (5, "")
    assert row["base_mean"] == 3 and row["base_std"] == pytest.approx(np.sqrt(2.5))
    assert row["difference"] == pytest.approx(1.4)
    assert row["effect_size"] == pytest.approx(1.4 / np.sqrt(1.3))
    assert row["t_paired"] == pytest.approx(1.4 / np.sqrt(1.3 / 5))
    assert row["p_paired"] == pytest.approx(2 * stats.t.sf(row["t_paired"], 4))
    assert row["t_welch"] == pytest.approx(1.4 / np.sqrt(2.5 / 5 + 5.3 / 5))
    assert row["p_welch"] < 0.5  # one-sided, tuned > base
    assert paired_row(TUNED, BASE)["p_welch"] > 0.5
    assert 0.4 < row["ci_low"] < 1.4 < row["ci_high"] < 2.6


def test_wilcoxon_by_hand():
    # ranks 1, 2, 3, 4, 5 with one negative of rank 2: the smaller sum is 2, and 3 of 32 sign patterns get 0 to 2
    assert wilcoxon(np.array([1.0, -2, 3, 4, 5])) == (2.0, pytest.approx(2 * 3 / 32))


def test_identical_models():
    row = paired_row(BASE, BASE)
    assert (row["difference"], row["ci_low"], row["ci_high"], row["effect_size"]) == (0, 0, 0, 0)
    assert np.isnan(row["t_paired"]) and row["p_paired"] == row["p_wilcoxon"] == 1
    assert row["note"] == "no difference in any prompt" and row["p_welch"] == 0.5
    constant = paired_row(np.ones(6), np.ones(6))
    assert np.isnan(constant["t_welch"]) and constant["note"] == "no difference in any prompt"


def test_the_same_difference_everywhere():
    row = paired_row(BASE, BASE + 0.1)
    assert np.isnan([row["t_paired"], row["p_paired"], row["effect_size"]]).all()
    assert row["note"] == "the same difference in every prompt: no t-test" and row["p_wilcoxon"] == pytest.approx(
        2 / 32
    )
    assert row["ci_low"] == pytest.approx(0.1) and row["ci_high"] == pytest.approx(0.1)


@pytest.mark.parametrize("n", [0, 1, 4])
def test_too_few(n):
    row = paired_row(BASE[:n], TUNED[:n])
    assert row["note"] == f"too few prompts for a test (n={n}, at least 5 needed)"
    tests = [row[name] for name in PAIRED_COLUMNS[6:-1]]
    assert np.isnan(tests).all()
    assert (row["base_mean"] == BASE[:n].mean()) if n else np.isnan(row["base_mean"])
    assert paired_row(BASE[:4], TUNED[:4], minimum=4)["note"] == ""


def test_bootstrap_interval():
    x = np.random.default_rng(1).normal(1, 2, 200)
    low, high = bootstrap_interval(x, seed=3)
    assert (low, high) == bootstrap_interval(x, seed=3) != bootstrap_interval(x, seed=4)
    half = stats.norm.ppf(0.975) * x.std(ddof=1) / np.sqrt(200)
    assert (low, high) == (pytest.approx(x.mean() - half, abs=0.03), pytest.approx(x.mean() + half, abs=0.03))
    assert np.isnan(bootstrap_interval(np.array([1.0]))).all() and bootstrap_interval(np.ones(3)) == (1, 1)


def test_bootstrap_interval_covers_the_truth():
    rng = np.random.default_rng(0)
    hits = sum(
        low <= 0 <= high for low, high in (bootstrap_interval(rng.normal(size=30), resamples=499) for _ in range(200))
    )
    assert 0.88 <= hits / 200 <= 0.98


def test_corrections_skip_what_is_undecided():
    # Holm: sorted .01, .02, .04 -> .01 * 3, .02 * 2, .04 * 1, made monotone
    np.testing.assert_allclose(adjust([0.04, np.nan, 0.01, 0.02]), [0.04, np.nan, 0.03, 0.04])
    np.testing.assert_allclose(adjust([0.04, 0.01, 0.03], "fdr_bh"), [0.04, 0.03, 0.04])
    assert np.isnan(adjust([np.nan])).all() and adjust([]).shape == (0,)


@pytest.mark.parametrize("method", ["holm", "fdr_bh"])
def test_corrections_are_those_of_statsmodels(method):
    rng = np.random.default_rng(3)
    for size in (1, 2, 7, 40):
        p = np.round(rng.uniform(0, 1, size) ** 3, 2)  # with ties, zeros and ones
        np.testing.assert_allclose(adjust(p, method), multipletests(p, method=method)[1], atol=1e-15)


def test_degenerate_samples():
    assert np.isnan(welch(np.ones(3), np.zeros(3))).all() and np.isnan(welch(np.ones(1), BASE)).all()
    assert np.isfinite(welch(np.ones(3), BASE)).all()
    assert np.isnan(cohen_dz(np.ones(3))) and cohen_dz(np.zeros(3)) == 0 and np.isnan(cohen_dz(np.zeros(0)))
    assert np.isnan(paired_t(np.zeros(0), np.zeros(0))).all()


@pytest.mark.parametrize("n", [1, 2, 5, 9, 13, 14])
def test_wilcoxon_with_ties_and_zeros_is_scipys(n: int) -> None:
    rng = np.random.default_rng(n)
    d = rng.integers(-2, 3, n).astype(float)
    d[0] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = stats.wilcoxon(d)
    assert wilcoxon(d) == (expected.statistic, expected.pvalue)


def test_cells_of_no_prompt_are_not_numbers() -> None:
    rows = paired_cells(np.empty((0, 3)), np.empty((0, 3)))
    assert rows["n"].tolist() == [0, 0, 0]
    assert all(np.isnan(values).all() for name, values in rows.items() if name != "n")


def test_an_interval_beside_a_p_is_that_of_the_same_test() -> None:
    """Eleven items: the bootstrap's interval leaves zero out, and the t-test's p is above 0.05."""
    x = np.array([-6.1, -4.2, 0.9, -0.4, 1.2, -3.9, -0.2, 0.6, -5.0, -0.1, -0.2])
    row = paired_row(np.zeros(11), x)
    test = stats.ttest_1samp(x, 0)
    expected = test.confidence_interval()
    found = interval_beside_p(11, row["p_paired"], row["difference"], row["ci_low"], row["ci_high"])
    assert found == pytest.approx((expected.low, expected.high))
    assert interval_beside_p(30, 0.01, 1.0, 0.2, 1.8) == (0.2, 1.8)
    low, high = interval_beside_p(30, 0.06, 1.0, 0.2, 1.8)
    assert low < 0 < high, "they disagree on zero"
