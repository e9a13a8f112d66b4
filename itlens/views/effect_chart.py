"""Weights and template as causes: main effects and interaction with their intervals (`effects`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from itlens.errors import ResultError
from itlens.views import text, theme
from itlens.views.numbers import interval, is_number, number, p_value, whole
from itlens.views.prompt_charts import require

_NEEDED = ("group", "effect", "n", "mean", "ci_low", "ci_high", "p_holm")
_EFFECTS = {
    "total": ("total", theme.NEUTRAL, "diamond"),
    "weights": ("weights", "#0f9d7a", "circle"),
    "template": ("template", "#9b59b6", "circle"),
    "interaction": ("interaction", "#b8860b", "circle"),
}
_TITLES = {"response_tokens": "response (tokens)"}
_MOST = 6


def effects(table: pd.DataFrame, *, group: str = "all") -> go.Figure:
    """Dots with 95 % intervals: what weights, template and both together do to each statistic.

    table: `TemplateEffects.effects` or what `itlens.diff.two_by_two` returns. A panel per statistic, in its own unit
    (at most six). total = weights + template: tuned with its template less base without. Filled dots hold after Holm
    over the three effects (p below 0.05). Raises ResultError for another table and for a group that there is not.
    """
    require(table, _NEEDED, "views.effects", "the effects of itlens.diff.template_effects")
    rows = table[(table["group"] == group) & table["effect"].isin(list(_EFFECTS))]
    if rows.empty:
        known = ", ".join(dict.fromkeys(map(str, table["group"])))
        raise ResultError(f"views.effects got group={group!r}; there are {known or 'none'}.")
    parts = list(rows.groupby("statistic", sort=False)) if "statistic" in rows else [("", rows)]
    parts = parts[:_MOST]
    fig = theme.figure("Weights or template?", subtitle=_subtitle(rows), height=300 * -(-len(parts) // 3) + 90)
    columns = min(3, len(parts))
    fig.set_subplots(
        -(-len(parts) // 3), columns, subplot_titles=[_title(name) for name, _ in parts], shared_yaxes=True,
        horizontal_spacing=0.06, vertical_spacing=0.24,
    )  # fmt: skip
    fig.update_annotations(font={"size": 13, "color": theme.TEXT})
    for place, (_, part) in enumerate(parts):
        where = {"row": place // 3 + 1, "col": place % 3 + 1}
        for number_of, (effect, style) in enumerate(_EFFECTS.items()):
            row = part[part["effect"] == effect]
            if len(row):
                fig.add_trace(_dot(row.iloc[0], number_of, style), **where)
        fig.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.5, "dash": "dot"}, **where)
    places = list(range(len(_EFFECTS)))
    fig.update_yaxes(
        tickvals=places, ticktext=[style[0] for style in _EFFECTS.values()], range=[len(places) - 0.5, -0.5],
        showgrid=False, zeroline=False,
    )  # fmt: skip
    fig.update_layout(showlegend=False, margin={"t": 110}, title={"y": 1, "yref": "container", "yanchor": "top",
                                                                  "pad": {"t": 18}})  # fmt: skip
    return fig


def _dot(row: pd.Series, place: int, style: tuple[str, str, str]) -> go.Scatter:
    name, color, symbol = style
    holds = is_number(row["p_holm"]) and float(row["p_holm"]) < 0.05
    label = (
        f"<b>{name}</b> (n = {whole(row['n'])})<br>{number(row['mean'], sign=True)}"
        f" {interval(row['ci_low'], row['ci_high'])}<br>Holm p {p_value(row['p_holm'])}"
    )
    ends: dict[str, Any] = {
        "array": [float(row["ci_high"] - row["mean"])], "arrayminus": [float(row["mean"] - row["ci_low"])],
    }  # fmt: skip
    filled = symbol if holds or name == "total" else f"{symbol}-open"
    return go.Scatter(
        x=[float(row["mean"])], y=[place], mode="markers", name=name, customdata=[label],
        marker={"size": 12, "color": color, "symbol": filled, "line": {"width": 2, "color": color}},
        error_x={"type": "data", "symmetric": False, **ends, "thickness": 2, "width": 5, "color": color},
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _title(name: object) -> str:
    return text.plotly(_TITLES.get(str(name), str(name).replace("_", " ")))


def _subtitle(rows: pd.DataFrame) -> str:
    n = int(np.nanmax(rows["n"].to_numpy(float)))
    return (
        f"mean over {whole(n)} prompts with 95 % interval; filled: holds after Holm (p < 0.05); total = weights + "
        "template"
    )
