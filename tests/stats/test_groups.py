"""Groups in the order in which they appear, each tested and corrected; the same for a user's own table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import itlens
from itlens.errors import ResultError
from itlens.stats.groups import groups_of, paired, paired_groups
from itlens.stats.paired import PAIRED_COLUMNS, adjust, is_tested, paired_row

rng = np.random.default_rng(0)
TABLE = pd.DataFrame({"group": ["b", "a"] * 8 + ["", "c"], "base": rng.normal(size=18)})
TABLE["tuned"] = TABLE["base"] + rng.normal(0.5, size=18)


def three_groups(items: int = 24) -> pd.DataFrame:
    """Items in turn of a group each, with ids; the tuned model is higher by about a half."""
    noise = np.random.default_rng(0)
    base = noise.standard_normal(items)
    ids = [f"p{number}" for number in range(items)]
    tuned = base + 0.5 + 0.2 * noise.standard_normal(items)
    return pd.DataFrame({"id": ids, "group": ["a", "b", "c"] * (items // 3), "base": base, "tuned": tuned})


def test_groups_are_all_and_then_in_order_and_an_empty_name_is_none() -> None:
    groups = groups_of(TABLE["group"])
    assert list(groups) == ["all", "b", "a", "c"]
    assert groups["all"].sum() == 18
    assert groups["a"].nonzero()[0].tolist() == list(range(1, 16, 2))


def test_every_group_is_a_paired_row_and_holm_runs_over_the_groups() -> None:
    table = itlens.diff.paired(TABLE, by="group", resamples=200)
    assert table["group"].tolist() == ["all", "b", "a", "c"]
    for _, row in table.iterrows():
        own = TABLE if row["group"] == "all" else TABLE[TABLE["group"] == row["group"]]
        expected = paired_row(own["base"], own["tuned"], resamples=200)
        assert [row[name] for name in PAIRED_COLUMNS] == pytest.approx(
            [expected[name] for name in PAIRED_COLUMNS], nan_ok=True
        )
    assert np.isnan(table["p_holm"][0])
    np.testing.assert_array_equal(table["p_holm"][1:], adjust(table["p_paired"][1:]))
    assert [is_tested(row) for _, row in table.iterrows()] == [True, True, True, False]
    assert table["note"][3] == "too few prompts for a test (n=1, at least 5 needed)"
    assert table.attrs["probe"] == "diff.paired"
    plain = paired_groups(groups_of(TABLE["group"]), TABLE["base"], TABLE["tuned"], resamples=200)
    pd.testing.assert_frame_equal(plain, table)


def test_every_test_is_that_of_scipy() -> None:
    numbers = three_groups()
    tested = paired(numbers, resamples=200)
    assert tested["group"].tolist() == ["all", "a", "b", "c"]
    assert tested["n"].tolist() == [24, 8, 8, 8]
    assert [name for name in tested.columns if name != "p_holm"] == ["group", *PAIRED_COLUMNS]
    for name, items in (("all", numbers), ("b", numbers[numbers["group"] == "b"])):
        row = tested[tested["group"] == name].iloc[0]
        expected = stats.ttest_rel(items["tuned"], items["base"])
        assert row["t_paired"] == pytest.approx(expected.statistic)
        assert row["p_paired"] == pytest.approx(expected.pvalue)
        assert row["p_wilcoxon"] == pytest.approx(stats.wilcoxon(items["tuned"] - items["base"]).pvalue)
        difference = items["tuned"] - items["base"]
        assert row["difference"] == pytest.approx(difference.mean())
        assert row["effect_size"] == pytest.approx(difference.mean() / difference.std())
        assert row["ci_low"] < row["difference"] < row["ci_high"]
        assert row["note"] == ""


def test_a_group_that_is_too_small_is_no_member_of_the_family() -> None:
    numbers = three_groups()
    numbers.loc[numbers["group"] == "c", "base"] = np.nan
    numbers.loc[2, "base"] = 0.0
    tested = paired(numbers, resamples=200).set_index("group")
    assert tested.loc["all", "n"] == 17
    assert tested.loc["c", "note"] == "too few prompts for a test (n=1, at least 5 needed)"
    assert np.isnan(tested.loc["c", "p_paired"])
    assert tested["p_holm"][["a", "b"]].min() == pytest.approx(2 * tested["p_paired"][["a", "b"]].min())


def test_groups_by_another_column_or_none() -> None:
    numbers = three_groups().assign(layer=[0, 1] * 12)
    assert paired(numbers, "layer", resamples=200)["group"].tolist() == ["all", "0", "1"]
    assert paired(numbers.drop(columns=["group", "id"]), resamples=200)["group"].tolist() == ["all"]
    unnamed = numbers.assign(group=[None, "", "a"] * 8)
    assert paired(unnamed, resamples=200)["group"].tolist() == ["all", "a"]


def test_the_seed_is_that_of_paired_row_and_the_table_stays() -> None:
    numbers = three_groups()
    before = numbers.copy()
    row = paired(numbers, seed=3, resamples=200).iloc[0]
    expected = paired_row(numbers["base"], numbers["tuned"], seed=3, resamples=200)
    assert {name: row[name] for name in PAIRED_COLUMNS} == expected
    pd.testing.assert_frame_equal(numbers, before)
    assert itlens.diff.paired is paired


def test_items_without_a_number_do_not_count() -> None:
    holes = TABLE.assign(tuned=TABLE["tuned"].where(TABLE.index > 1), group=TABLE["group"].where(TABLE.index != 2))
    table = itlens.diff.paired(holes, by="group", resamples=200)
    assert table["n"].tolist() == [16, 8 - 1, 8 - 2, 1]
    assert itlens.diff.paired(TABLE, by=None, resamples=200)["group"].tolist() == ["all"]
    pd.testing.assert_frame_equal(itlens.diff.paired(holes, resamples=200), table)
    alone = itlens.diff.paired(TABLE.drop(columns="group"), resamples=200)
    assert alone["group"].tolist() == ["all"]


def test_other_things_than_such_a_table_are_one_sentence() -> None:
    with pytest.raises(ResultError, match=r"paired got a list; expected a DataFrame"):
        itlens.diff.paired([1.0, 2.0])  # type: ignore[arg-type]
    with pytest.raises(ResultError, match=r"without the column 'family'; its columns are group, base, tuned"):
        itlens.diff.paired(TABLE, by="family")
    with pytest.raises(ResultError, match=r"The column 'tuned' holds .* values; expected numbers"):
        itlens.diff.paired(TABLE.assign(tuned="high"))
    with pytest.raises(ResultError, match=r"paired got the id .3. twice; keep one row per item"):
        itlens.diff.paired(TABLE.assign(id=[3, 3, *range(4, 20)]))
    with pytest.raises(ResultError, match=r"without the column 'tuned'; its columns are id, group, base"):
        paired(three_groups().drop(columns="tuned"))
    with pytest.raises(ResultError, match=r"The column 'base' holds .* values; expected numbers"):
        paired(three_groups().assign(base="x"))
    with pytest.raises(ResultError, match=r"paired got the id 'p0' twice"):
        paired(pd.concat([three_groups()] * 2))
