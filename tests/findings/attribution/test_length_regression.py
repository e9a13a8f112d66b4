"""Planted coefficients come back; lengths that cannot be told from tuning give no effect of tuning."""

from __future__ import annotations

import numpy as np
import pytest

from itlens.findings.attribution.diff_scores import COLUMNS, length_regression

pytestmark = pytest.mark.filterwarnings("error")


def lengths(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(10, 300, n).astype(float), rng.integers(10, 300, n).astype(float), rng


def test_planted_coefficients():
    base, tuned, rng = lengths()
    ratio, mean_length = np.log(tuned / base), np.log(tuned * base) / 2
    y = 0.2 - 0.5 * ratio + 0.3 * (mean_length - mean_length.mean()) + rng.normal(0, 0.01, 60)
    table = length_regression(y, base, tuned).set_index("term")
    assert list(table.reset_index()) == list(COLUMNS) and table.attrs["note"] == ""
    np.testing.assert_allclose(table["coefficient"], [0.2, -0.5, 0.3], atol=0.01)
    assert (table["p"] < 1e-6).all() and (table["ci_low"] < table["coefficient"]).all()


def test_hc3_by_its_formula():
    base, tuned, rng = lengths(20)
    y = rng.normal(size=20)
    mean_length = np.log(tuned * base) / 2
    x = np.stack([np.ones(20), np.log(tuned / base), mean_length - mean_length.mean()], axis=1)
    inverse = np.linalg.inv(x.T @ x)
    residual = y - x @ inverse @ x.T @ y
    weight = (residual / (1 - np.einsum("ij,jk,ik->i", x, inverse, x))) ** 2
    errors = np.sqrt(np.diag(inverse @ (x.T * weight) @ x @ inverse))
    np.testing.assert_allclose(length_regression(y, base, tuned)["std_error"], errors)


def test_empty_responses_are_left_out():
    base, tuned, rng = lengths(20)
    base[0] = tuned[1] = 0
    table = length_regression(rng.normal(size=20), base, tuned)
    assert table.attrs["n"] == 18 and table["p"].notna().all()


def test_lengths_that_do_not_vary():
    base, _, rng = lengths(20)
    y = rng.normal(size=20)
    equal = length_regression(y, base, base).set_index("term")
    assert equal["coefficient"].notna().tolist() == [True, False, True]
    assert "log_length_ratio does not vary" in equal.attrs["note"]
    double = length_regression(y, base, 2 * base).set_index("term")  # tuning cannot be told from length
    assert double["coefficient"].notna().tolist() == [False, False, True]
    fixed = length_regression(y, np.full(20, 9.0), np.full(20, 9.0)).set_index("term")
    assert fixed["coefficient"].notna().tolist() == [True, False, False]
    assert fixed.loc["intercept", "coefficient"] == pytest.approx(y.mean())


def test_collinear_lengths():
    tuned = np.arange(10.0, 40.0)
    table = length_regression(np.random.default_rng(0).normal(size=30), np.full(30, 20.0), tuned)
    assert table["coefficient"].notna().tolist() == [True, True, False] and "go together" in table.attrs["note"]


def test_nothing_to_fit():
    base, tuned, rng = lengths(20)
    none = length_regression(np.zeros(20), base, tuned)
    assert none["coefficient"].tolist() == [0, 0, 0] and none["p"].isna().all()
    exact = length_regression(np.log(tuned / base), base, tuned)
    np.testing.assert_allclose(exact["coefficient"], [0, 1, 0], atol=1e-9)
    assert exact["p"].isna().all()
    few = length_regression(rng.normal(size=5), base[:5], tuned[:5])
    assert few[list(COLUMNS[1:])].isna().all().all() and "at least 6 needed" in few.attrs["note"]


def test_a_coefficient_that_one_prompt_alone_decides_has_no_test():
    """Its residual is 0 and its leverage 1, so that HC3 divides rounding by rounding."""
    base, tuned = np.full(12, 8.0), np.full(12, 8.0)
    tuned[3] = 5
    y = np.random.default_rng(1).normal(0.3, 0.2, 12)
    table = length_regression(y, base, tuned).set_index("term")
    ratio, intercept = table.loc["log_length_ratio"], table.loc["intercept"]
    others = np.delete(y, 3)
    assert ratio["coefficient"] == pytest.approx((y[3] - others.mean()) / np.log(5 / 8))
    assert ratio[["std_error", "t", "p", "ci_low", "ci_high"]].isna().all()
    assert "one prompt alone decides log_length_ratio" in table.attrs["note"]
    assert intercept["coefficient"] == pytest.approx(others.mean())
    # HC3 of a mean of 11: residuals over 1 - 1 / 11
    assert intercept["std_error"] == pytest.approx(np.sqrt(((others - others.mean()) ** 2).sum()) / 11 / (10 / 11))
