"""What concepts are about, base and tuned per group of layers (the paper's figure 3; `shares`); user tasks as dots.

A concept may serve several tasks, so tasks are not stacked: both models are dots on one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from itlens.errors import ResultError
from itlens.findings.mlp.view_shares import (
    ALPHA,
    ANY,
    NONE,
    STAR,
    Group,
    is_significant,
    labelled_text,
    level_bars,
    read_groups,
    test_text,
)
from itlens.report import text, theme
from itlens.report.blocks import Row
from itlens.report.numbers import is_number, percent, whole

_ROW = tuple[float, Group, str, Row]  # place, group, category, its row
_MARGINS, _UNIT, _HEAD = 185, 21, 1.15
_ANY = "any of them"
_CALL, _KINDS = "views.shares", ("level", "task")


def shares(table: pd.DataFrame, *, kind: Literal["level", "task"] = "level") -> go.Figure:
    """Draw shares of linguistic levels or of user tasks among the concepts of both models: all layers, then by depth.

    table: of itlens.diff.concept_shares. kind: "level" draws stacked bars: a concept has one level at most, so
    levels, "no level" and "cannot tell" make 100 % of all concepts; a button shows the labelled ones only. "task" draws
    a dot for each model instead: a concept may serve several tasks or none, so their shares do not sum to a whole.
    A star marks shares that changed significantly (Holm p < 0.05, over the levels or tasks of a group); pointing
    at a share gives its counts, difference, 95 % interval and tests. Axis: per cent.
    Raises ResultError for another table and an unknown kind.
    """
    if kind not in _KINDS:
        raise ResultError(f"{_CALL} cannot draw kind={kind!r}: choose one of {', '.join(_KINDS)}.")
    groups = list(read_groups(table, kind, _CALL))
    if not groups:
        raise ResultError(f"{_CALL} got a table without rows: label at least one concept of each model.")
    draw = level_bars if kind == "level" else task_dots
    return draw(groups, str(table.attrs.get("vectors", "")))


def task_dots(groups: Sequence[Group], vectors: str) -> go.Figure:
    """Return the figure. groups: of `read_groups`; vectors: their kind, "" when not known."""
    shown = [name for name in groups[0].rows if name not in (ANY, NONE) and _occurs(groups, name)]
    rows, heads, end = _places(groups, [*shown, ANY])
    right = max(4.0, *(_end(row) for *_, row in rows)) * 1.06
    height = round(_MARGINS + _UNIT * end)
    fig = theme.figure(
        "Which user tasks do the concepts serve?", subtitle=_subtitle(groups, shown, vectors), height=height,
        xaxis={"title": {"text": f"{_out_of(groups)} that serve the task (%){_absent(groups, shown)}"},
               "range": [-0.02 * right, right]},
        yaxis={"tickvals": [y for y, *_ in rows], "ticktext": [_name(name) for _, _, name, _ in rows],
               "range": [end, -1.2], "showgrid": False, "zeroline": False, "tickfont": {"size": 12}},
    )  # fmt: skip
    for y, group in heads:
        words = f"<b>{group.title}</b>  {f'<i>{text.plotly(group.note)}</i>' if group.note else labelled_text(group)}"
        fig.add_annotation(
            x=0, xref="paper", y=y, text=words, showarrow=False, xanchor="left", align="left", font={"size": 11.5}
        )
    fig.add_annotation(
        x=1, xref="paper", y=heads[0][0], text="points", showarrow=False, xanchor="left", font={"size": 11.5}
    )
    fig.add_traces([_whiskers(rows), _lines(rows), *(_dots(rows, *model) for model in _MODELS), _said(rows, right)])
    fig.update_layout(margin={"r": 76}, legend={"y": -72 / (height - _MARGINS), "yanchor": "top"})
    return fig


_MODELS = (("base", theme.BASE, "circle"), ("tuned", theme.TUNED, "diamond"))


def _occurs(groups: Sequence[Group], name: str) -> bool:
    values = [group.rows[name][side] for group in groups for side in ("base", "tuned")]
    return any(is_number(value) and value > 0 for value in values)


def _places(groups: Sequence[Group], shown: Sequence[str]) -> tuple[list[_ROW], list[tuple[float, Group]], float]:
    rows: list[_ROW] = []
    heads: list[tuple[float, Group]] = []
    y = -0.4
    for group in groups:
        heads.append((y, group))
        rows += [(y + _HEAD + i, group, name, group.rows[name]) for i, name in enumerate(shown)]
        y += _HEAD + len(shown) + 0.4
    return rows, heads, y - 0.6


def _end(row: Row) -> float:
    values = [row["base"], row["tuned"], row["base"] + row["ci_high"]]
    return 100 * max((float(value) for value in values if is_number(value)), default=0.0)


def _whiskers(rows: Sequence[_ROW]) -> go.Scatter:
    """Where the tuned model's share lies within 95 %: the interval of the difference, laid at the base's share."""
    there = [(y, row) for y, _, _, row in rows if is_number(row["ci_low"]) and is_number(row["base"])]
    error = {"type": "data", "symmetric": False, "array": [100 * row["ci_high"] for _, row in there],
             "arrayminus": [-100 * row["ci_low"] for _, row in there], "color": theme.TEXT, "thickness": 1.2,
             "width": 4}  # fmt: skip
    return go.Scatter(
        x=[100 * row["base"] for _, row in there], y=[y for y, _ in there], mode="markers", error_x=error,
        marker={"symbol": "line-ew", "size": 9, "color": theme.NEUTRAL, "line": {"width": 1.3, "color": theme.NEUTRAL}},
        name="95 % interval of the difference, from base", hoverinfo="skip",
    )  # fmt: skip


def _lines(rows: Sequence[_ROW]) -> go.Scatter:
    x, y = [], []
    for place, _, _, row in rows:
        x += [100 * row["base"], 100 * row["tuned"], None]
        y += [place, place, None]
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": theme.NEUTRAL, "width": 7}, hoverinfo="skip", showlegend=False,
        name="change", opacity=0.3,
    )  # fmt: skip


def _dots(rows: Sequence[_ROW], model: str, color: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        x=[100 * row[model] for *_, row in rows], y=[y for y, *_ in rows], mode="markers", name=model,
        marker={"size": 10, "color": color, "symbol": symbol}, cliponaxis=False,
        customdata=[_hover(*row[1:], model) for row in rows], hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _hover(group: Group, name: str, row: Row, model: str) -> str:
    total = float(row[f"{model}_concepts"])
    count = whole(row[model] * total) if is_number(row[model]) else whole(0)
    which = "labelled concepts" if group.out_of_known else "concepts"
    task = "any user task" if name == ANY else text.plotly(name)
    return (
        f"<b>{group.title}, {model}</b><br>{task}: {count} of {whole(total)} {which} ({percent(row[model])} %)<br>"
        f"{test_text(row)}"
    )


def _said(rows: Sequence[_ROW], right: float) -> go.Scatter:
    """The difference in points at the right of each line, with a star where it is significant."""
    words = [
        f"{percent(row['difference'], sign=True)}{f' <b>{STAR}</b>' if is_significant(row) else ''}" for *_, row in rows
    ]
    return go.Scatter(
        x=[right] * len(rows), y=[y for y, *_ in rows], mode="text", text=words, textposition="middle right",
        hoverinfo="skip", cliponaxis=False, textfont={"size": 12, "color": theme.TEXT}, showlegend=False,
        name="difference",
    )  # fmt: skip


def _name(task: str) -> str:
    return f"<b>{_ANY}</b>" if task == ANY else text.plotly(task)


def _out_of(groups: Sequence[Group]) -> str:
    return "labelled concepts" if any(group.out_of_known for group in groups) else "concepts"


def _absent(groups: Sequence[Group], shown: Sequence[str]) -> str:
    """A second line below the axis with the tasks that have no line of their own."""
    names = [text.plotly(name) for name in groups[0].rows if name not in (ANY, NONE, *shown)]
    return f"<br>in no concept of either model: {', '.join(names)}" if names else ""


def _subtitle(groups: Sequence[Group], shown: Sequence[str], vectors: str) -> str:
    which = f"{text.plotly(vectors)} vectors; " if vectors else ""
    if not shown:
        return f"{which}no labelled concept of either model serves a user task"
    starred = any(is_significant(row) for group in groups for row in (group.rows[name] for name in (*shown, ANY)))
    return (
        f"{which}a concept can count for several tasks; {STAR} changed significantly (p < {ALPHA:g} by Holm over "
        f"the tasks){'' if starred else ': none'}"
    )
