from __future__ import annotations

import io
import re
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console

from itlens.report.blocks import Column, Table
from itlens.report.terminal import print_page, print_table
from tests.report.pages import GROUPS, groups, page, row, section
from tests.views.factory import HOSTILE

NUMBERS = [f"{1000 * i + 0.123:.3f}" for i in range(1, 13)]
WIDE = Table(
    pd.DataFrame({"group": ["all", "a name that is far too long to be printed on one line of a terminal"]}
                 | {f"x{i}": [float(n), float(n)] for i, n in enumerate(NUMBERS)}),
    [Column("group", "group"), *(Column(f"x{i}", f"x{i}", "number") for i in range(12))], "Wide",
)  # fmt: skip


def printed(content: object, width: int = 80, encoding: str = "utf-8", **options: object) -> str:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding=encoding), width=width, force_terminal=False)
    (print_table if isinstance(content, Table) else print_page)(content, console, **options)  # type: ignore[arg-type]
    console.file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [80, 160])
def test_a_page_is_printed_in_order(width: int) -> None:
    out = printed(page(), width, report_path="/runs/a/report.html")
    marks = [
        "Does tuning change score?",
        "Scores per group",
        "Not tested: few (too few prompts (n = 4))",
        "One response was empty.",
        "Does tuning change heads?",
        "Two prompts.",
        "question",
        "▲ higher",
        "+0.070 [+0.031, +0.110], p = 0.002",
        "Tuning changed one thing.",
        "Report: /runs/a/report.html",
    ]
    places = [out.index(mark) for mark in marks]
    assert places == sorted(places)
    assert max(map(len, out.splitlines())) <= width


@pytest.mark.parametrize("width", [50, 80, 110, 160])
def test_numbers_are_never_cut_and_names_fold(width: int) -> None:
    out = printed(WIDE, width)
    for shown in NUMBERS:
        assert out.split().count(shown) == 2
    assert max(map(len, out.splitlines())) <= width
    assert "…" not in out
    joined = re.sub(r"\s+", " ", out)
    assert all(word in joined for word in ["a", "name", "that", "is", "far", "too", "long"])


def test_columns_and_rows_that_are_for_the_page_only_are_left_out() -> None:
    out = printed(groups(terminal_rows=2))
    assert "< 0.001" not in out
    assert "few" not in out
    assert "1 more rows: in the report." in out


def test_what_columns_mean_is_said_once_for_tables_alike() -> None:
    content = page(section("x", groups(), groups(title="Again")))
    assert printed(content, 160).count("difference: tuned − base") == 1
    assert "difference: tuned − base" in printed(groups(), 160)


def test_tables_that_are_for_the_page_only_are_left_out() -> None:
    assert "Scores per group" not in printed(page(section("x", groups(terminal=False))))


def test_an_empty_table_says_so() -> None:
    assert "the table has no rows" in printed(groups(data=GROUPS.iloc[:0]))


def test_text_is_no_markup_and_steers_no_terminal() -> None:
    evil = "[bold]x[/bold] \x1b[31mred\x1b[0m \u202e"
    table = replace(groups(data=GROUPS.assign(group=evil)), title=evil)
    content = page(
        section("x", table, question=evil, verdict_sentence=evil, notes=[evil], caveat=evil), title=evil, answer=evil,
        rows=[row(evil, number=evil)], notes=[evil],
    )  # fmt: skip
    out = printed(content, 160)
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[bold]x[/bold]" in out
    for words in HOSTILE:
        printed(page(section("x", question=words, notes=[words])))


def test_a_terminal_without_these_signs_gets_others() -> None:
    out = printed(page(), encoding="ascii")
    assert "higher" in out
    assert "[+0.031, +0.110]" in out
    assert "-0.020" in out
