"""Stacked bars of linguistic levels: two for each group of layers, base above tuned, and below them what was tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from itlens.views import text, theme
from itlens.views.numbers import is_number, percent, whole
from itlens.views.share_table import ALPHA, KNOWN, NONE, STAR, Group, found, labelled, stands_out, tested

_CANNOT_TELL, _NO_LEVEL = "cannot tell", "no level"
_SIDES = (("base", theme.BASE), ("tuned", theme.TUNED))
_LIGHT, _DARK = "#ffffff", "#1f2328"
_ROOM = (4.0, 7.0)  # per cent that a number takes, and one with a star
_LINE, _GAP, _UNIT = 0.72, 0.55, 25  # height of a line of text, between groups; pixels for one bar
_MARGINS = 185


class _Bar(NamedTuple):
    """The segments of one category, one for each row of bars: their sizes out of all and out of labelled (0 to 100)."""

    of_all: list[float]
    of_known: list[float]
    text: list[tuple[str, str]]
    hover: list[str]


def level_bars(groups: Sequence[Group], side: str) -> go.Figure:
    """The figure. groups: of share_table.read_groups; side: of neuron vectors, "" when not known."""
    lines = [_lines(group) for group in groups]
    places, notes, end = _places(lines)
    categories = [str(category) for category in groups[0].rows if category != NONE]
    segments = {name: _segments(groups, name) for name in [*categories, NONE, KNOWN]}
    height = round(_MARGINS + _UNIT * end)
    fig = theme.figure(
        "On which linguistic level are the concepts?", subtitle=_subtitle(groups, side), height=height, barmode="stack",
        xaxis={"title": {"text": "concepts (%)"}, "range": [0, 100], "tickvals": [0, 25, 50, 75, 100]},
        yaxis={"tickvals": places, "ticktext": [_row(group, *side) for group in groups for side in _SIDES],
               "range": [end, -0.7], "showgrid": False, "zeroline": False},
    )  # fmt: skip
    fig.add_traces([_bar(name, one, places) for name, one in segments.items()])
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
    """What stands below a group's bars: how many were labelled, each level that changed, or why nothing was tested."""
    out_of = "of the labelled" if group.out_of_known else ""
    rows = [
        found(_NO_LEVEL if name == NONE else name, row, out_of) for name, row in group.rows.items() if stands_out(row)
    ]
    rows += [found(_CANNOT_TELL, group.known, sign=-1)] if stands_out(group.known) else []
    return [labelled(group), *([f"<i>{text.plotly(group.note)}</i>"] if group.note else []), *rows]


def _places(lines: Sequence[Sequence[str]]) -> tuple[list[float], list[tuple[float, str]], float]:
    """Where the bars stand, where each line of text does, and where the last group ends."""
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
            star = f" {STAR}" if side == "tuned" and stands_out(row) else ""
            bar.of_all.append(of_all)
            bar.of_known.append(of_known)
            bar.text.append((_inside(of_all, star), _inside(of_known, star)))
            bar.hover.append(_hover(group, name, row, side, (of_all, of_known)))
    return bar


def _sizes(group: Group, row: Mapping[str, Any], side: str, *, unlabelled: bool) -> tuple[float, float]:
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


def _hover(group: Group, name: str, row: Mapping[str, Any], side: str, sizes: tuple[float, float]) -> str:
    total, known = float(group.known[f"{side}_concepts"]), group.labelled(side)
    count = whole(sizes[0] * total / 100)
    lines = [f"<b>{group.title}, {side}</b>"]
    if name == KNOWN:
        lines += [f"{_CANNOT_TELL}: {count} of {whole(total)} concepts ({percent(1 - known)} %)"]
        return "<br>".join([*lines, tested(row, sign=-1)])
    lines += [
        f"{_NO_LEVEL if name == NONE else text.plotly(name)}: {count} of {whole(known * total)} labelled concepts "
        f"({percent(sizes[1] / 100)} %), {percent(sizes[0] / 100)} % of all"
    ]
    out_of = "of the labelled" if group.out_of_known else "of all"
    return "<br>".join([*lines, f"{out_of}: {tested(row)}"])


def _bar(name: str, bar: _Bar, places: list[float]) -> go.Bar:
    color = theme.LEVELS.get(name, theme.NO_LEVEL)
    marker: dict[str, Any] = {"color": color, "line": {"width": 0}}
    if name == KNOWN:
        pattern = {"shape": "/", "fgcolor": "rgba(138,144,153,0.35)", "size": 8, "solidity": 0.15}
        marker = {"color": "rgba(138,144,153,0.10)", "line": {"width": 1, "color": theme.GRID}, "pattern": pattern}
    shown = {KNOWN: _CANNOT_TELL, NONE: _NO_LEVEL}.get(name, text.plotly(name))
    inside = theme.TEXT if name == KNOWN else _LIGHT if name in ("phonology", "syntax") else _DARK
    return go.Bar(
        x=bar.of_all, y=places, orientation="h", width=0.86, name=shown, marker=marker, customdata=bar.hover,
        text=[one for one, _ in bar.text], textposition="inside", insidetextanchor="middle", textangle=0,
        constraintext="none",
        insidetextfont={"color": inside, "size": 12}, hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _menu(segments: Mapping[str, _Bar]) -> dict[str, Any]:
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
    name = f'<span style="color:{color}">{side}</span>'
    return f"<b>{group.title}</b>  {name}" if side == "base" else name


def _subtitle(groups: Sequence[Group], side: str) -> str:
    which = f"{text.plotly(side)} vectors; " if side else ""
    tests = [row for group in groups for row in (*group.rows.values(), group.known)]
    any_ = "" if any(map(stands_out, tests)) else ": none"
    return f"{which}{STAR} changed by more than chance (p < {ALPHA:g} by Holm over the levels of a group){any_}"
