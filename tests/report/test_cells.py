from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from itlens.report.blocks import Column, Table, guessed_columns
from itlens.report.cells import Grid, cell_text, lay_out
from tests.report.pages import COLUMNS, GROUPS, groups


def texts(grid: Grid) -> list[list[str]]:
    return [[cell.text for cell in row.cells] for row in grid.rows]


def test_numbers_are_written_by_their_columns_and_a_reason_covers_the_test() -> None:
    grid = lay_out(groups())
    assert [head.heading for head in grid.heads] == [column.heading for column in COLUMNS]
    assert texts(grid) == [
        ["all", "24", "0.312 ± 0.100", "50.0", "+0.070", "[+0.031, +0.110]", "+3.21", "< 0.001"],
        ["many", "20", "0.401 ± 0.110", "25.0", "−0.020", "[−0.050, +0.010]", "−1.00", "0.21"],
        ["few", "4", "0.200 ± 0.120", "100.0", "+0.300", "–", "too few prompts (n = 4)"],
    ]
    reason = grid.rows[2].cells[-1]
    assert (reason.span, reason.reason) == (2, True)
    assert [row.total for row in grid.rows] == [True, False, False]


def test_a_table_of_one_group_sets_no_row_apart() -> None:
    grid = lay_out(groups(data=GROUPS.assign(group="all")))
    assert [row.total for row in grid.rows] == [False, False, False]


def test_columns_sort_by_their_numbers() -> None:
    grid = lay_out(groups())
    assert [cell.sort for cell in grid.rows[0].cells] == [None, 24, 0.312, 0.5, 0.0701, 0.031, 3.21, 0.0004]
    assert [head.numeric for head in grid.heads] == [False, *[True] * 7]


def test_a_remark_on_a_tested_row_has_a_column_of_its_own() -> None:
    grid = lay_out(groups(data=GROUPS.assign(note=["no difference in any prompt", "", "too few"])))
    assert grid.heads[-1].heading == "note"
    assert [row[-1] for row in texts(grid)] == ["no difference in any prompt", "", ""]
    assert sum(cell.span for cell in grid.rows[2].cells) == len(grid.heads)


def test_the_reason_is_read_from_the_column_that_the_table_names() -> None:
    data = GROUPS.rename(columns={"note": "why"})
    assert texts(lay_out(groups(data=data, reason="why")))[2][-1] == "too few prompts (n = 4)"
    assert texts(lay_out(groups(data=data)))[2][-1] == "–"


def test_a_reason_covers_only_columns_that_are_side_by_side() -> None:
    columns = [COLUMNS[0], COLUMNS[6], COLUMNS[1], COLUMNS[7]]
    row = lay_out(groups(columns=columns)).rows[2]
    assert [cell.text for cell in row.cells] == ["few", "too few prompts (n = 4)", "4", "–"]


def test_columns_that_the_data_do_not_have_are_left_out() -> None:
    columns = [*COLUMNS[:1], Column("missing", "missing", "number"), Column("said", "said", lambda row: "")]
    assert [head.heading for head in lay_out(groups(columns=columns)).heads] == ["group", "note"]


def test_a_function_gives_the_text_and_the_name_the_order() -> None:
    column = Column("n", "prompts", lambda row: f"{row['n']} of 30")
    grid = lay_out(groups(columns=[column], data=GROUPS.drop(columns="note")))
    assert texts(grid)[0] == ["24 of 30"]
    assert grid.rows[0].cells[0].sort == 24
    named = lay_out(groups(columns=[Column("who", "who", lambda row: f"group {row['group']}")]))
    assert named.heads[0].numeric is False


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        (Column("x", "x"), None, ""),
        (Column("x", "x"), np.nan, ""),
        (Column("x", "x"), np.bool_(True), "yes"),
        (Column("x", "x"), False, "no"),
        (Column("x", "x"), 3, "3"),
        (Column("x", "x", "number", decimals=2), 1.239, "1.24"),
        (Column("x", "x", "number"), np.nan, "–"),
        (Column("x", "x", "signed"), 0.5, "+0.500"),
        (Column("x", "x", "count"), 12345, "12\u202f345"),
        (Column("x", "x", "p"), 0.0123, "0.012"),
        (Column("x", "x", "percent"), 0.1234, "12.3"),
        (Column("x", "x", "points"), 0.1234, "+12.3"),
    ],
)
def test_every_format(column: Column, value: object, text: str) -> None:
    assert cell_text(column, {"x": value}) == text


def test_intervals_and_means_read_several_variables() -> None:
    assert cell_text(Column("x", "", "interval"), {"x_low": -0.1, "x_high": 0.2}) == "[−0.100, +0.200]"
    assert cell_text(Column("x", "", "mean"), {"x_mean": 0.5}) == "0.500"
    assert cell_text(Column("x", "", "mean", decimals=1), {"x_mean": 0.5, "x_std": 0.25}) == "0.5 ± 0.2"


def test_any_table_can_be_shown() -> None:
    data = pd.DataFrame({"name": ["a"], "n": [3], "ci_low": [0.1], "ci_high": [0.2], "p_holm": [0.5], "note": [""]})
    grid = lay_out(Table(data, guessed_columns(data)))
    assert texts(grid) == [["a", "3", "[+0.100, +0.200]", "0.50"]]
    empty = lay_out(replace(groups(), data=GROUPS.iloc[:0]))
    assert empty.rows == ()
