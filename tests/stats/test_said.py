"""A table of paired tests as a reader sees it: one interval per estimate, in sentences and in tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from itlens.stats.groups import paired, rows_as_said
from itlens.stats.paired import as_said

FEW = np.array([0.9, 0.05, 0.1, 0.6, 0.02, -0.05])


def two_groups() -> pd.DataFrame:
    """Sixty items in two groups: one of six, and the others."""
    many = np.random.default_rng(0).normal(0.5, 1.0, 54)
    difference = np.concatenate([FEW, many])
    table = pd.DataFrame({"base": 0.0, "tuned": difference, "group": ["few"] * 6 + ["many"] * 54})
    return paired(table, resamples=500)


def test_few_items_have_the_interval_of_their_t_test_and_many_the_bootstrap() -> None:
    table = two_groups().set_index("group", drop=False)
    said = rows_as_said(table)
    expected = stats.ttest_1samp(FEW, 0).confidence_interval(0.95)
    assert said.loc["few", ["ci_low", "ci_high"]].tolist() == pytest.approx([expected.low, expected.high])
    assert table.loc["few", "ci_low"] > 0 > said.loc["few", "ci_low"], "the bootstrap contradicts p = 0.12"
    for name in ("many", "all"):
        assert said.loc[name, ["ci_low", "ci_high"]].equals(table.loc[name, ["ci_low", "ci_high"]])


def test_a_table_says_what_its_rows_say_and_nothing_else_changes() -> None:
    table = two_groups()
    said = rows_as_said(table)
    for place in range(len(table)):
        pd.testing.assert_series_equal(said.iloc[place], as_said(table.iloc[place]))
    rest = [name for name in table if name not in ("ci_low", "ci_high")]
    pd.testing.assert_frame_equal(said[rest], table[rest])
    assert said.attrs == table.attrs


def test_columns_have_other_names_and_there_may_be_no_rows() -> None:
    names = {"p_paired": "p", "difference": "step", "ci_low": "step_low", "ci_high": "step_high"}
    renamed = two_groups().rename(columns=names)
    said = rows_as_said(renamed, p="p", difference="step", low="step_low", high="step_high")
    assert said["step_low"].tolist() == rows_as_said(two_groups())["ci_low"].tolist()
    assert list(rows_as_said(two_groups().iloc[:0]).columns) == list(two_groups().columns)
