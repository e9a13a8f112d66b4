"""Shares of linguistic levels as stacked bars, two for each group of layers: base above tuned, and tests below them.

Also what every figure of shares reads from the table of itlens.diff.concept_shares: groups of layers, what shares are
out of, and tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from itlens.errors import ResultError
from itlens.report import text, theme
from itlens.report.blocks import Row, rows_of
from itlens.report.numbers import is_number, p_value, percent, percent_range, rounded, whole
from itlens.report.theme import require

NEEDED = (
    "group", "kind", "category", "base", "tuned", "difference", "ci_low", "ci_high", "p", "p_holm", "base_concepts",
    "tuned_concepts", "note",
)  # fmt: skip
ALPHA = 0.05  # of Holm's correction over the categories of a group
NONE, ANY, KNOWN = "none", "any", "known"
STAR = "★"
SOURCE = "the table of itlens.diff.concept_shares"

_CANNOT_TELL, _NO_LEVEL = "cannot tell", "no level"
_SIDES = (("base", theme.BASE), ("tuned", theme.TUNED))
_LIGHT, _DARK = "#ffffff", "#1f2328"
_ROOM = (4.0, 7.0)  # per cent that a number takes, and one with a star
_LINE, _GAP, _UNIT = 0.72, 0.55, 25  # height of a line of text, between groups; pixels for one bar
_MARGINS = 185


@dataclass(frozen=True)
class Group:
    """A group of layers. rows: of the requested kind by category, in the table's order; known: the row of that kind."""

    name: str
    rows: Mapping[str, Row]
    known: Row

    @property
    def title(self) -> str:
        """As a figure writes it."""
        return "all layers" if self.name == "all" else text.plotly(text.short(self.name, 24))

    @property
    def note(self) -> str:
        """Why there is no test, or nothing."""
        return next((str(row["note"]) for row in self.rows.values() if row["note"]), "")

    @property
    def out_of_known(self) -> bool:
        """Whether shares are out of the concepts that could be labelled, and not out of all."""
        return any(
            row[f"{side}_concepts"] != self.known[f"{side}_concepts"]
            for row in self.rows.values()
            for side in ("base", "tuned")
        )

    def labelled(self, side: str) -> float:
        """The share of one model's concepts that could be labelled; 0 where there are none."""
        value = self.known[side]
        return float(value) if is_number(value) else 0.0


def read_groups(table: pd.DataFrame, kind: str, call: str) -> Iterator[Group]:
    """Yield the groups of a table in its order. Raises ResultError for another table."""
    require(table, NEEDED, call, SOURCE)
    for name, shares in table.groupby("group", sort=False):
        known = rows_of(shares[shares["kind"] == KNOWN])
        rows = rows_of(shares[shares["kind"] == kind])
        if len(known) != 1 or not rows:
            raise ResultError(f"{call} found no {kind} or known shares of the group {name!r}: pass {SOURCE}.")
        yield Group(str(name), {str(row["category"]): row for row in rows}, known[0])


def is_significant(row: Row) -> bool:
    """Return whether a share changed significantly, after Holm's correction."""
    return is_number(row["p_holm"]) and float(row["p_holm"]) < ALPHA


def test_text(row: Row, *, sign: int = 1) -> str:
    """Return the difference of a share with its interval and p-values; `sign` -1 for the share of the others."""
    difference = sign * float(row["difference"]) if is_number(row["difference"]) else None
    if not is_number(row["p"]):
        return f"tuned − base {_points(difference)}; {row['note'] or 'no test'}"
    ends = (row["ci_low"], row["ci_high"]) if sign > 0 else (-row["ci_high"], -row["ci_low"])
    corrected = "" if _alone(row) else f", Holm p {p_value(row['p_holm'])}"
    return (
        f"tuned − base {_points(difference)} points, 95 % {percent_range(*ends)}<br>permutation p {p_value(row['p'])}"
        f"{corrected}{_seeds(row)}"
    )


def _seeds(row: Row) -> str:
    return f"; over seeds p {p_value(row['p_seeds'])}" if is_number(row.get("p_seeds")) else ""


def _change(name: str, row: Row, out_of: str = "", *, sign: int = 1) -> str:
    """A line that says what changed: ★ syntax +12.1 points of the labelled [+3.0, +20.4], Holm p 0.012."""
    ends = (row["ci_low"], row["ci_high"]) if sign > 0 else (-row["ci_high"], -row["ci_low"])
    return (
        f"<b>{STAR} {text.plotly(name)}</b> {_points(sign * row['difference'])} points{f' {out_of}' if out_of else ''} "
        f"{percent_range(*ends)}, "
        f"{'' if _alone(row) else 'Holm '}p {p_value(row['p_holm'])}"
    )


def _alone(row: Row) -> bool:
    """Whether a share is a question of its own, which Holm's correction leaves as it is."""
    return row["category"] in (NONE, ANY, KNOWN)


def labelled_text(group: Group) -> str:
    """Return how many concepts could be labelled: labelled: 76 (base) and 67 (tuned) of 300."""
    counts = [
        f"{whole(group.labelled(side) * float(group.known[f'{side}_concepts']))} ({side})" for side in ("base", "tuned")
    ]
    totals = {whole(group.known[f"{side}_concepts"]) for side in ("base", "tuned")}
    return f"labelled: {' and '.join(counts)} of {' and '.join(sorted(totals))}"


def _points(value: object) -> str:
    return percent(value, sign=True) if is_number(value) else rounded(value)


class _Bar(NamedTuple):
    """The segments of one category, one for each row of bars: their sizes out of all and out of labelled (0 to 100)."""

    of_all: list[float]
    of_known: list[float]
    text: list[tuple[str, str]]
    hover: list[str]


def level_bars(groups: Sequence[Group], vectors: str) -> go.Figure:
    """Return the figure. groups: of `read_groups`; vectors: their kind, "" when not known."""
    lines = [_lines(group) for group in groups]
    places, notes, end = _places(lines)
    categories = [str(category) for category in groups[0].rows if category != NONE]
    segments = {name: _segments(groups, name) for name in [*categories, NONE, KNOWN]}
    height = round(_MARGINS + _UNIT * end)
    fig = theme.figure(
        "On which linguistic level are the concepts?", subtitle=_subtitle(groups, vectors), height=height,
        barmode="stack",
        xaxis={"title": {"text": "concepts (%)"}, "range": [0, 100], "tickvals": [0, 25, 50, 75, 100]},
        yaxis={"tickvals": places, "ticktext": [_row(group, *side) for group in groups for side in _SIDES],
               "range": [end, -0.7], "showgrid": False, "zeroline": False},
    )  # fmt: skip
    fig.add_traces([_bar(name, bar, places) for name, bar in segments.items()])
    for y, words in notes:
        fig.add_annotation(
            x=0, y=y, text=words, showarrow=False, xanchor="left", yanchor="middle", align="left", font={"size": 11.5}
        )
    fig.update_layout(
        legend={"y": -52 / (height - _MARGINS), "yanchor": "top", "traceorder": "normal"},
        title={"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 18}},
        updatemenus=[_menu(segments)], margin={"t": 130},
    )  # fmt: skip
    return fig


def _lines(group: Group) -> list[str]:
    """The text below a group's bars: how many were labelled, levels that changed, or why nothing was tested."""
    out_of = "of the labelled" if group.out_of_known else ""
    rows = [
        _change(_NO_LEVEL if name == NONE else name, row, out_of)
        for name, row in group.rows.items()
        if is_significant(row)
    ]
    rows += [_change(_CANNOT_TELL, group.known, sign=-1)] if is_significant(group.known) else []
    return [labelled_text(group), *([f"<i>{text.plotly(group.note)}</i>"] if group.note else []), *rows]


def _places(lines: Sequence[Sequence[str]]) -> tuple[list[float], list[tuple[float, str]], float]:
    """The places of the bars and of each line of text, and where the last group ends."""
    bars: list[float] = []
    notes: list[tuple[float, str]] = []
    y = 0.0
    for group in lines:
        bars += [y, y + 1]
        notes += [(y + 1.85 + _LINE * i, words) for i, words in enumerate(group)]
        y += 2 + _LINE * len(group) + _GAP
    return bars, notes, y - _GAP


def _segments(groups: Sequence[Group], name: str) -> _Bar:
    bar = _Bar([], [], [], [])
    for group in groups:
        row = group.known if name == KNOWN else group.rows[name]
        for side, _ in _SIDES:
            of_all, of_known = _sizes(group, row, side, unlabelled=name == KNOWN)
            star = f" {STAR}" if side == "tuned" and is_significant(row) else ""
            bar.of_all.append(of_all)
            bar.of_known.append(of_known)
            bar.text.append((_inside(of_all, star), _inside(of_known, star)))
            bar.hover.append(_hover(group, name, row, side, (of_all, of_known)))
    return bar


def _sizes(group: Group, row: Row, side: str, *, unlabelled: bool) -> tuple[float, float]:
    """Per cent of all concepts and of the labelled ones: the table has one of the two, and the labelled share."""
    labelled = group.labelled(side)
    if unlabelled:
        return 100 * (1 - labelled), 0.0
    share = 100 * float(row[side]) if is_number(row[side]) else 0.0
    if group.out_of_known:
        return share * labelled, share
    return share, share / labelled if labelled else 0.0


def _inside(size: float, star: str) -> str:
    """What a segment says, where it is wide enough on a telephone; the lines below the bars name every star."""
    return f"{size:.0f}{star}" if size >= _ROOM[bool(star)] else ""


def _hover(group: Group, name: str, row: Row, side: str, sizes: tuple[float, float]) -> str:
    total, known = float(group.known[f"{side}_concepts"]), group.labelled(side)
    count = whole(sizes[0] * total / 100)
    lines = [f"<b>{group.title}, {side}</b>"]
    if name == KNOWN:
        lines += [f"{_CANNOT_TELL}: {count} of {whole(total)} concepts ({percent(1 - known)} %)"]
        return "<br>".join([*lines, test_text(row, sign=-1)])
    lines += [
        f"{_NO_LEVEL if name == NONE else text.plotly(name)}: {count} of {whole(known * total)} labelled concepts "
        f"({percent(sizes[1] / 100)} %), {percent(sizes[0] / 100)} % of all"
    ]
    out_of = "of the labelled" if group.out_of_known else "of all"
    return "<br>".join([*lines, f"{out_of}: {test_text(row)}"])


def _bar(name: str, bar: _Bar, places: list[float]) -> go.Bar:
    color = theme.LEVELS.get(name, theme.PALE)
    marker: dict[str, object] = {"color": color, "line": {"width": 1, "color": theme.NEUTRAL}}
    if name == KNOWN:
        pattern = {"shape": "/", "fgcolor": "rgba(138,144,153,0.35)", "size": 8, "solidity": 0.15}
        marker = {"color": "rgba(138,144,153,0.10)", "line": {"width": 1, "color": theme.GRID}, "pattern": pattern}
    shown = {KNOWN: _CANNOT_TELL, NONE: _NO_LEVEL}.get(name, text.plotly(name))
    inside = theme.TEXT if name == KNOWN else _LIGHT if name in ("phonology", "syntax") else _DARK
    return go.Bar(
        x=bar.of_all, y=places, orientation="h", width=0.86, name=shown, marker=marker, customdata=bar.hover,
        showlegend=any(bar.of_all),
        text=[of_all for of_all, _ in bar.text], textposition="inside", insidetextanchor="middle", textangle=0,
        constraintext="none",
        insidetextfont={"color": inside, "size": 12}, hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _menu(segments: Mapping[str, _Bar]) -> dict[str, object]:
    sizes = (("all concepts", [bar.of_all for bar in segments.values()], 0),
             ("labelled ones only", [bar.of_known for bar in segments.values()], 1))  # fmt: skip
    buttons = [
        {"label": label, "method": "restyle",
         "args": [{"x": x, "text": [[words[place] for words in bar.text] for bar in segments.values()]}]}
        for label, x, place in sizes
    ]  # fmt: skip
    return {"type": "buttons", "direction": "right", "active": 0, "buttons": buttons, "x": 0, "xanchor": "left",
            "y": 1.0, "yanchor": "bottom", "pad": {"b": 8}, "font": {"size": 12}, "showactive": True}  # fmt: skip


def _row(group: Group, side: str, color: str) -> str:
    name = theme.coloured(side, color)
    return f"<b>{group.title}</b>  {name}" if side == "base" else name


def _subtitle(groups: Sequence[Group], vectors: str) -> str:
    which = f"{text.plotly(vectors)} vectors; " if vectors else ""
    tests = [row for group in groups for row in (*group.rows.values(), group.known)]
    any_ = "" if any(map(is_significant, tests)) else ": none"
    return f"{which}{STAR} changed significantly (p < {ALPHA:g} by Holm over the levels of a group){any_}"
