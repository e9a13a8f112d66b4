"""Series: a pair is the series of two, planted trends come out, and labels align, never places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from itlens import ResultError
from itlens.diff import series
from itlens.stats.paired import PAIRED_COLUMNS, adjust, paired_row
from itlens.stats.series import rank_trends, slopes

QUICK: dict[str, Any] = {"resamples": 100}


def tables(steps: Any, prompts: int = 24, seed: int = 0) -> dict[str, pd.DataFrame]:
    """A table per model; each prompt's `score` moves by the model's step, `noise` does not."""
    rng = np.random.default_rng(seed)
    own = rng.standard_normal(prompts) * 3
    return {
        f"m{place}": pd.DataFrame(
            {
                "id": [f"p{number}" for number in range(prompts)],
                "group": ["a", "b"] * (prompts // 2),
                "score": own + step + 0.3 * rng.standard_normal(prompts),
                "noise": own + 0.3 * rng.standard_normal(prompts),
                "words": "not a number",
            }
        )
        for place, step in enumerate(steps)
    }


def test_a_pair_is_the_series_of_two() -> None:
    both = tables([0, 0.4])
    found = series(both, **QUICK)
    pd.testing.assert_frame_equal(series(both, "neighbour", **QUICK).differences, found.differences)
    rows = found.differences.set_index(["group", "statistic"])
    for statistic in ("score", "noise"):
        expected = paired_row(both["m0"][statistic], both["m1"][statistic], **QUICK)
        row = rows.loc[("all", statistic)]
        assert (row["reference"], row["model"]) == ("m0", "m1")
        for name in PAIRED_COLUMNS:
            assert row[name] == expected[name] or (pd.isna(row[name]) and pd.isna(expected[name])), name
        assert row["p_holm"] == row["p_paired"], "one pair, nothing to correct"
        trend = found.trend.set_index(["group", "statistic"]).loc[("all", statistic)]
        assert trend["slope"] == pytest.approx(expected["difference"])
        assert trend["p_slope"] == pytest.approx(expected["p_paired"])


def test_against_the_first_and_between_neighbours() -> None:
    four = tables([0, 0.4, 0.4, 1.0])
    first = series(four, **QUICK).differences.query("group == 'all' and statistic == 'score'")
    assert list(zip(first["reference"], first["model"], strict=True)) == [("m0", "m1"), ("m0", "m2"), ("m0", "m3")]
    np.testing.assert_allclose(first["p_holm"], adjust(first["p_paired"]))
    between = series(four, "neighbour", **QUICK).differences.query("group == 'all' and statistic == 'score'")
    assert list(zip(between["reference"], between["model"], strict=True)) == [("m0", "m1"), ("m1", "m2"), ("m2", "m3")]
    assert between["difference"].sum() == pytest.approx(first["difference"].iloc[-1])
    assert (first["p_holm"] < 0.05).all()
    assert (between["p_holm"] < 0.05).tolist() == [True, False, True]


def test_a_planted_trend_is_found_and_noise_is_not() -> None:
    found = series(tables([0, 0.2, 0.4, 0.6]), **QUICK).trend.query("group == 'all'").set_index("statistic")
    assert found.loc["score", "slope"] == pytest.approx(0.2, abs=0.06)
    assert found.loc["score", "ci_low"] < 0.2 < found.loc["score", "ci_high"]
    assert found.loc["score", ["p_slope_holm", "p_rank_holm"]].max() < 0.01
    assert found.loc["noise", ["p_slope_holm", "p_rank_holm"]].min() > 0.05
    assert found.loc["score", "rank_correlation"] > 0.4


def test_slopes_and_rank_trends_are_those_of_numpy_and_scipy() -> None:
    values = np.random.default_rng(1).standard_normal((6, 5))
    values[0] = 2.0  # no trend at all
    values[1, 1] = values[1, 3]  # a tie
    expected = [np.polyfit(np.arange(5), row, 1)[0] for row in values]
    np.testing.assert_allclose(slopes(values), expected, atol=1e-12)
    ranks = [0.0, *(stats.spearmanr(np.arange(5), row).statistic for row in values[1:])]
    np.testing.assert_allclose(rank_trends(values), ranks, atol=1e-12)


def test_under_the_null_trends_are_found_in_5_per_cent() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((400 * 12, 1)) * 3 + 0.3 * rng.standard_normal((400 * 12, 4))
    p = stats.ttest_1samp(slopes(values).reshape(400, 12), 0.0, axis=1).pvalue
    assert 0.02 < (p < 0.05).mean() < 0.085
    assert np.sign(rank_trends(values)).mean() == pytest.approx(0, abs=0.05), "up as often as down"


def test_models_in_order_with_their_means_and_groups() -> None:
    three = tables([0, 1, 2])
    found = series(three, **QUICK).models
    assert found["model"].tolist()[:3] == ["m0", "m1", "m2"] and found["group"].unique().tolist() == ["all", "a", "b"]
    row = found.query("statistic == 'score' and group == 'b' and model == 'm1'").iloc[0]
    values = three["m1"].query("group == 'b'")["score"]
    assert (
        row["n"] == 12 and row["mean"] == pytest.approx(values.mean()) and row["ci_low"] < row["mean"] < row["ci_high"]
    )


def test_prompts_align_by_id_and_one_without_a_number_counts_nowhere() -> None:
    both = tables([0, 0.4])
    expected = series(both, **QUICK).differences
    shuffled = both | {"m1": both["m1"].sample(frac=1, random_state=1)}
    pd.testing.assert_frame_equal(series(shuffled, **QUICK).differences, expected)
    both["m1"].loc[3, "score"] = np.nan
    found = series(both, **QUICK)
    assert found.models.query("group == 'all'").groupby("statistic")["n"].agg(list).to_dict() == {
        "noise": [24, 24], "score": [23, 23],
    }  # fmt: skip


def test_a_dataset_is_unrolled_to_named_statistics() -> None:
    rng = np.random.default_rng(0)

    def one(shift: float) -> xr.Dataset:
        return xr.Dataset(
            {
                "mass": (("layer", "prompt"), rng.standard_normal((2, 8)) + np.array([[0.0], [shift]])),
                "commitment": ("prompt", rng.standard_normal(8)),
                "other": ("layer", [1.0, 2.0]),
            },
            coords={"layer": [3, 5], "prompt": [f"p{n}" for n in range(8)], "group": ("prompt", ["g"] * 8)},
        )

    found = (
        series({"base": one(0), "tuned": one(9)}, **QUICK).differences.query("group == 'all'").set_index("statistic")
    )
    assert found.index.tolist() == ["mass[layer=3]", "mass[layer=5]", "commitment"]
    assert found.loc["mass[layer=5]", "difference"] == pytest.approx(9, abs=2)
    wide = xr.Dataset({"x": (("prompt", "unit"), np.zeros((4, 501)))}, coords={"prompt": list("abcd")})
    with pytest.raises(
        ResultError, match=r"'a' holds 501 numbers per prompt, at most 500.*select some or average first"
    ):
        series({"a": wide, "b": wide})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda both: {"m0": both["m0"]}, "A series needs two or more models by label, in order.*got 'm0'"),
        (lambda both: {}, "got none"),
        (lambda both: both["m0"], "got a DataFrame"),
        (lambda both: both | {"m1": both["m1"].drop(index=2)}, "1 prompts are in 'm0' or in 'm1' only: p2"),
        (
            lambda both: both | {"m1": both["m1"].drop(columns="noise")},
            "1 statistics are in 'm0' or in 'm1' only: noise",
        ),
        (lambda both: both | {"m1": both["m1"][["id", "words"]]}, "'m1' has no numbers by prompt"),
        (lambda both: both | {"m1": pd.concat([both["m1"]] * 2)}, "'m1' holds the prompt 'p0' twice"),
        (lambda both: both | {"m1": [1.0]}, "'m1' is a list; expected a table by prompt, or a Dataset"),
        (lambda both: both | {"m1": xr.Dataset({"x": ("layer", [1.0])})}, "The Dataset 'm1' has no axis prompt"),
    ],
)
def test_what_is_no_series_gets_one_sentence(change: Any, message: str) -> None:
    with pytest.raises(ResultError, match=message):
        series(change(tables([0, 1])))


def test_an_unknown_reference_is_refused() -> None:
    with pytest.raises(ResultError, match="against='last' is unknown; expected one of 'first', 'neighbour'"):
        series(tables([0, 1]), "last")


def test_the_given_tables_stay_as_they_are() -> None:
    both = {name: table.drop(columns="id") for name, table in tables([0, 0.4]).items()}
    series(both, **QUICK)
    assert all(table.index.equals(pd.RangeIndex(24)) for table in both.values())
