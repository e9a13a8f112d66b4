"""Pages in the shape that a study hands over, made up: the renderer is tested without any finding."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import plotly.graph_objects as go

from itlens.report import theme
from itlens.report.blocks import Card, Column, Figure, Panel, Table, Text
from itlens.report.page_data import Page, Row, Section

LETTERS = bytes.maketrans(b".:,", b"<&>")  # base 85 of a page, as base64.b85decode reads it


def unpacked_text(packed: str) -> str:
    """Text that a page holds packed."""
    return unpacked_bytes(packed).decode()


def unpacked_bytes(packed: str) -> bytes:
    """Bytes that a page holds packed."""
    return gzip.decompress(base64.b85decode(packed.encode().translate(LETTERS)))


GROUPS = pd.DataFrame(
    {
        "group": ["all", "many", "few"],
        "n": [24, 20, 4],
        "base_mean": [0.312, 0.401, 0.2],
        "base_std": [0.1, 0.11, 0.12],
        "share": [0.5, 0.25, 1.0],
        "difference": [0.0701, -0.02, 0.3],
        "ci_low": [0.031, -0.05, float("nan")],
        "ci_high": [0.11, 0.01, float("nan")],
        "t": [3.21, -1.0, float("nan")],
        "p": [0.0004, 0.21, float("nan")],
        "note": ["", "", "too few prompts (n = 4)"],
    }
)
COLUMNS = (
    Column("group", "group"),
    Column("n", "n", "count"),
    Column("base", "base", "mean", help="mean ± standard deviation"),
    Column("share", "share (%)", "percent"),
    Column("difference", "difference", "signed", help="tuned − base"),
    Column("ci", "95 % interval", "interval"),
    Column("t", "t", "signed", decimals=2, test=True),
    Column("p", "p", "p", test=True, terminal=False),
)


@dataclass(frozen=True, repr=False)
class DummyPanel(Panel):
    """A panel in the template of word tables, without rows."""

    template: ClassVar[str] = "word_table.html"
    styles: ClassVar[tuple[str, ...]] = ("pairs.css",)

    sides: tuple[Any, ...] = ()


def groups(**changes: Any) -> Table:
    fields: dict[str, Any] = {"data": GROUPS, "columns": COLUMNS, "title": "Scores per group", "text": "Paired tests."}
    return Table(**(fields | changes))


def figure(title: str = "A figure", wide: bool = False, **options: Any) -> Figure:
    fig = theme.figure(title, subtitle="a line", height=300)
    fig.add_trace(go.Scatter(x=[1, 2], y=[3, 4]))
    return Figure(fig, wide=wide, **options)


def row(name: str, direction: str = "none", *, tested: bool = True, **changes: Any) -> Row:
    fields: dict[str, Any] = {
        "name": name, "question": f"Does tuning change {name}?", "topic": f"the {name}", "direction": direction,
        "tested": tested, "number": "+0.070 [+0.031, +0.110], p = 0.002", "sentence": f"The {name} rose.",
        "short": f"the {name} rose by 0.07",
    }  # fmt: skip
    return Row(**(fields | changes))


def section(name: str = "score", *blocks: Any, **changes: Any) -> Section:
    fields: dict[str, Any] = {
        "name": name, "question": f"Does tuning change {name}?", "verdict_sentence": f"The {name} rose by 0.07.",
        "caveat": "Only 24 prompts.", "blocks": blocks, "notes": ["One response was empty."],
        "terms": {"Level": "A whole number."}, "facts": {"levels": 10},
    }  # fmt: skip
    return Section(**(fields | changes))


def page(*sections: Section, **changes: Any) -> Page:
    cards = [Card("base: a", "0.312", "± 0.1", "base"), Card("tuned: b", "0.382", "± 0.1", "tuned")]
    whole = section("score", *cards, Text("In words.", "A part"), figure(), figure(), groups(sortable=True))
    fields: dict[str, Any] = {
        "title": "a and b", "answer": "Tuning changed one thing.", "rows": [row("score", "higher"), row("heads")],
        "sections": sections or (whole, section("heads", groups(), DummyPanel("Pairs"))), "notes": ["Two prompts."],
        "facts": {"precision": "float32"}, "parameters": {"seed": 0}, "versions": {"itlens": "0.2"},
        "created": "2026-01-31", "base": "a", "tuned": "b", "prompts_table": groups(title="All 3 prompts"),
        "links": [("a to b", "one two/report.html")], "source": "After Wu et al.",
    }  # fmt: skip
    return Page(**(fields | changes))
