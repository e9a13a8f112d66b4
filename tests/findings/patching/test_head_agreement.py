"""Rankings of heads side by side: against scipy, by hand, and under the null."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import itlens
from itlens.errors import ResultError
from itlens.stats.ranks import rank_correlation, rank_correlation_interval, rank_correlation_p

RNG = np.random.default_rng(0)
SIGNAL = RNG.normal(size=(6, 8))


def on_heads(values: Any) -> xr.DataArray:
    values = np.asarray(values, dtype=float)
    return xr.DataArray(
        values, dims=("layer", "head"), coords={"layer": range(len(values)), "head": range(values.shape[1])}
    )


def test_correlations_are_those_of_scipy_and_alike_results_agree() -> None:
    noise = RNG.normal(size=(3, 6, 8))
    given = {"a": on_heads(SIGNAL), "b": on_heads(SIGNAL + 0.5 * noise[0]), "c": on_heads(noise[1])}
    ds = itlens.diff.head_agreement(given, top=5)
    for one, other in (("a", "b"), ("a", "c"), ("b", "c")):
        expected = stats.spearmanr(given[one].values.ravel(), given[other].values.ravel())
        at = ds.sel(result=one, other=other)
        assert float(at.spearman) == pytest.approx(expected.statistic)
        assert float(at.spearman_low) < float(at.spearman) < float(at.spearman_high)
        assert float(at.p) == pytest.approx(expected.pvalue, abs=0.02)
        assert float(at.p_holm) >= float(at.p) and float(at.spearman) == float(ds.spearman.sel(result=other, other=one))
    assert float(ds.p_holm.sel(result="a", other="b")) < 0.01 < 0.05 < float(ds.p_holm.sel(result="a", other="c"))
    assert np.isnan(float(ds.spearman.sel(result="a", other="a")))


def test_shared_top_heads_against_chance() -> None:
    values = np.arange(20.0).reshape(4, 5)
    other = values.copy()
    other[3, 4], other[0, 0] = -1, 30  # of the top four (3,1)..(3,4) the last one leaves and (0,0) comes
    ds = itlens.diff.head_agreement({"x": on_heads(values), "y": on_heads(other)}, top=4)
    at = ds.sel(result="x", other="y")
    assert float(at.shared) == 3 and float(at.shared_expected) == pytest.approx(16 / 20)
    assert float(at.shared_p) == pytest.approx((4 * 16 + 1) / 4845), "of C(20, 4) = 4845 draws"


def test_a_top_that_ends_in_a_tie_is_no_number() -> None:
    """Two rankings with one head each that is not zero; in the order of heads nine of ten would be shared."""
    one, other = np.zeros((5, 6)), np.zeros((5, 6))
    one[0, 0], other[4, 5] = 1, 1
    given = {"one": on_heads(one), "other": on_heads(other), "clear": on_heads(np.arange(30.0).reshape(5, 6))}
    shared = ["shared", "shared_expected", "shared_p"]
    ds = itlens.diff.head_agreement(given)
    assert np.isnan(ds[shared].to_array()).all()
    first = itlens.diff.head_agreement(given, top=1).sel(result="one", other="other")
    assert [float(first[name]) for name in shared] == pytest.approx([0, 1 / 30, 1])
    everything = itlens.diff.head_agreement(given, top=40).sel(result="one", other="clear")
    assert [float(everything[name]) for name in shared] == pytest.approx([30, 30, 1])


def test_top_heads_stand_side_by_side() -> None:
    one, other = on_heads([[3.0, 1.0], [2.0, np.nan]]), on_heads([[1.0, 2.0], [2.0, 5.0]])
    ds = itlens.diff.head_agreement({"one": one, "other": other}, top=3)
    table = itlens.diff.top_heads(ds)
    assert table.columns.tolist() == ["result", "place", "layer", "head", "value", "one", "other"]
    first = table[table.result == "one"]
    assert first[["layer", "head"]].values.tolist() == [[0, 0], [1, 0], [0, 1]]
    assert first.one.tolist() == [1, 2, 3] and first.other.tolist() == [4, 2.5, 2.5]
    second = table[table.result == "other"].iloc[0]
    assert (second["layer"], second["head"], second.value) == (1, 1, 5.0) and np.isnan(second.one)
    assert len(itlens.diff.top_heads(ds, 1)) == 2


def test_datasets_give_their_own_numbers() -> None:
    words = xr.Dataset({"overlap": on_heads(1 - SIGNAL), "instruction_change": on_heads(SIGNAL)})
    patched = xr.Dataset({"recovered": on_heads(SIGNAL)}, attrs={"note": ""})
    changes = np.stack([SIGNAL - 1, SIGNAL + 1])[..., None]
    moved = xr.Dataset(
        {"result_relative_change": (("prompt", "layer", "head", "token_class"), changes)},
        coords={"token_class": ["rest"], "layer": range(6), "head": range(8)},
    )  # fmt: skip
    ds = itlens.diff.head_agreement({"words": words, "patching": patched, "shift": moved})
    for name, expected in (("words", SIGNAL), ("patching", abs(SIGNAL)), ("shift", SIGNAL)):
        np.testing.assert_allclose(ds.value.sel(result=name), expected)
    assert float(ds.spearman.sel(result="words", other="shift")) == pytest.approx(1)
    assert itlens.diff.head_agreement({"a": patched, "b": words.overlap.transpose("head", "layer")}).sizes["layer"] == 6


def test_ranks_know_what_cannot_be_decided() -> None:
    same = np.ones(5)
    assert np.isnan(rank_correlation(same, np.arange(5))) and np.isnan(rank_correlation_p(same, np.arange(5)))
    assert np.isnan(rank_correlation_interval(same, np.arange(5))).all() and np.isnan(rank_correlation([1, 2], [1, 2]))
    assert rank_correlation([1, 2, np.nan, 3], [1, 2, 9, 3]) == pytest.approx(1)


def test_the_p_value_and_the_interval_hold_under_the_null() -> None:
    p, covered = [], []
    for seed in range(200):
        a, b = np.random.default_rng(seed).normal(size=(2, 30))
        p.append(rank_correlation_p(a, b, draws=400))
        low, high = rank_correlation_interval(a, b, resamples=400)
        covered.append(low <= 0 <= high)
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09 and np.mean(covered) > 0.9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": on_heads(SIGNAL)}, "needs two or more results"),
        ({"a": on_heads(SIGNAL), "b": on_heads(SIGNAL[:3])}, r"'a' and 'b' have other layers \(0, .* 5 and 0, 1, 2\)"),
        ({"a": on_heads(SIGNAL), "b": SIGNAL}, "'b' has a ndarray; expected a DataArray on"),
        ({"a": on_heads(SIGNAL), "b": on_heads(SIGNAL)[0]}, r"'b' has axes \('head',\)"),
        ({"a": on_heads(SIGNAL), "b": on_heads(SIGNAL * np.nan)}, "'b' has no finite number for any head"),
        ({"a": on_heads(SIGNAL), "b": xr.Dataset({"score": 1})}, "'b' is a Dataset with 'score'"),
    ],
)  # fmt: skip
def test_wrong_results_are_one_sentence(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ResultError, match=message):
        itlens.diff.head_agreement(given)
    with pytest.raises(ResultError, match="top=0"):
        itlens.diff.head_agreement({"a": on_heads(SIGNAL), "b": on_heads(SIGNAL)}, top=0)


def test_top_heads_of_something_else_gets_a_sentence() -> None:
    patched = xr.Dataset({"recovered": on_heads(SIGNAL)}, attrs={"probe": "patch"})
    with pytest.raises(ResultError, match=r"top_heads got a result of patch; expected what .*head_agreement returns"):
        itlens.diff.top_heads(patched)
