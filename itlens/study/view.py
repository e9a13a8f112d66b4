"""Figures of more than two cells or models: effects of weights and template, and any number of models in order."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from itlens.errors import ResultError
from itlens.report import text, theme
from itlens.report.numbers import interval, is_number, number, p_value, whole
from itlens.report.theme import require
from itlens.stats.series import ModelSeries

_NEEDED = ("group", "effect", "n", "mean", "ci_low", "ci_high", "p_holm")
_EFFECTS = {
    "total": ("total", theme.NEUTRAL, "diamond"),
    "weights": ("weights", "#0f9d7a", "circle"),
    "template": ("template", "#9b59b6", "circle"),
    "interaction": ("interaction", "#b8860b", "circle"),
}
_TITLES = {"response_tokens": "response (tokens)"}
_MOST_EFFECTS, _MOST_SERIES = 6, 12  # statistics in one figure
_MODELS = ("statistic", "group", "model", "n", "mean", "ci_low", "ci_high")
_ACROSS = 3
_PAD = {
    "showlegend": False,
    "margin": {"t": 110},
    "title": {"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 18}},
}


def effects(table: pd.DataFrame, *, group: str = "all") -> go.Figure:
    """Draw what weights, template and both together do to each statistic: dots with 95 % intervals.

    table: `TemplateEffects.effects` or what `itlens.diff.two_by_two` returns. A panel per statistic, in its own unit
    (at most six). total = weights + template: tuned with its template less base without. Filled dots are significant
    after Holm over the three effects (p below 0.05). Raises ResultError for another table and for a group that there
    is not.
    """
    require(table, _NEEDED, "views.effects", "the effects of itlens.diff.template_effects")
    rows = table[(table["group"] == group) & table["effect"].isin(list(_EFFECTS))]
    if rows.empty:
        known = ", ".join(dict.fromkeys(map(str, table["group"])))
        raise ResultError(f"views.effects got group={group!r}; there are {known or 'none'}.")
    panels = list(rows.groupby("statistic", sort=False)) if "statistic" in rows else [("", rows)]
    panels = panels[:_MOST_EFFECTS]
    down = -(-len(panels) // _ACROSS)
    fig = theme.figure("Weights or template?", subtitle=_effects_subtitle(rows), height=300 * down + 90)
    fig.set_subplots(
        down, min(_ACROSS, len(panels)), subplot_titles=[_effects_title(name) for name, _ in panels],
        shared_yaxes=True, horizontal_spacing=0.06, vertical_spacing=0.24,
    )  # fmt: skip
    fig.update_annotations(font={"size": 13, "color": theme.TEXT})
    for panel, (_, effects_of) in enumerate(panels):
        where = {"row": panel // _ACROSS + 1, "col": panel % _ACROSS + 1}
        for y, (effect, style) in enumerate(_EFFECTS.items()):
            row = effects_of[effects_of["effect"] == effect]
            if len(row):
                fig.add_trace(_dot(row.iloc[0], y, style), **where)
        fig.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.5, "dash": "dot"}, **where)
    places = list(range(len(_EFFECTS)))
    fig.update_yaxes(
        tickvals=places, ticktext=[style[0] for style in _EFFECTS.values()], range=[len(places) - 0.5, -0.5],
        showgrid=False, zeroline=False,
    )  # fmt: skip
    fig.update_layout(**_PAD)
    return fig


def _dot(row: pd.Series[Any], y: int, style: tuple[str, str, str]) -> go.Scatter:
    name, color, symbol = style
    significant = is_number(row["p_holm"]) and float(row["p_holm"]) < 0.05
    label = (
        f"<b>{name}</b> (n = {whole(row['n'])})<br>{number(row['mean'], sign=True)}"
        f" {interval(row['ci_low'], row['ci_high'])}<br>Holm p {p_value(row['p_holm'])}"
    )
    ends: dict[str, Any] = {
        "array": [float(row["ci_high"] - row["mean"])], "arrayminus": [float(row["mean"] - row["ci_low"])],
    }  # fmt: skip
    filled = symbol if significant or name == "total" else f"{symbol}-open"
    return go.Scatter(
        x=[float(row["mean"])], y=[y], mode="markers", name=name, customdata=[label],
        marker={"size": 12, "color": color, "symbol": filled, "line": {"width": 2, "color": color}},
        error_x={"type": "data", "symmetric": False, **ends, "thickness": 2, "width": 5, "color": color},
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _effects_title(name: object) -> str:
    return text.plotly(_TITLES.get(str(name), str(name).replace("_", " ")))


def _effects_subtitle(rows: pd.DataFrame) -> str:
    n = int(np.nanmax(rows["n"].to_numpy(float)))
    return (
        f"mean over {whole(n)} prompts with 95 % interval; filled: significant after Holm (p < 0.05); total = weights "
        "+ template"
    )


def draw_series(result: ModelSeries, *, statistics: list[str] | None = None, group: str = "all") -> go.Figure:
    """Draw a small chart per statistic: the models in order across, each with its mean and 95 % interval over prompts.

    result: of `itlens.diff.series`. statistics: which ones (default: the first twelve). Stars: the model differs from
    its reference (the first model, or its neighbour before) after Holm over the pairs, p below 0.05. The title of each
    names the trend's slope per step where that is significant. Units: each statistic's own.
    Raises ResultError for another result, and for a statistic or group that there is not.
    """
    models, differences, trend = _tables(result)
    models, differences, trend = (table[table["group"] == group] for table in (models, differences, trend))
    if models.empty:
        known = ", ".join(dict.fromkeys(map(str, result.models["group"])))
        raise ResultError(f"views.series got group={group!r}; there are {known}.")
    names = _chosen(list(dict.fromkeys(models["statistic"])), statistics)
    labels = list(dict.fromkeys(models["model"]))
    down = -(-len(names) // _ACROSS)
    fig = theme.figure("From model to model", subtitle=_series_subtitle(models, result), height=110 + 260 * down)
    titles = [_series_title(name, trend[trend["statistic"] == name]) for name in names]
    fig.set_subplots(
        down, min(_ACROSS, len(names)), subplot_titles=titles, horizontal_spacing=0.09,
        vertical_spacing=0.32 / max(down, 2),
    )  # fmt: skip
    fig.update_annotations(font={"size": 12.5, "color": theme.TEXT})
    for panel, name in enumerate(names):
        where = {"row": panel // _ACROSS + 1, "col": panel % _ACROSS + 1}
        means, pairs = (table[table["statistic"] == name] for table in (models, differences))
        for trace in _traces(means, pairs, labels):
            fig.add_trace(trace, **where)
    shown = [_in_lines(label, max(6, 44 // len(labels))) for label in labels]
    fig.update_xaxes(
        tickvals=list(range(len(labels))), ticktext=shown, range=[-0.4, len(labels) - 0.6], showgrid=False,
        zeroline=False,
    )  # fmt: skip
    fig.update_layout(**_PAD)
    return fig


def _in_lines(label: str, width: int) -> str:
    """Return a label below the axis: two lines at most."""
    lines = textwrap.wrap(label, width, break_long_words=False) or [label]
    return "<br>".join(text.plotly(text.short(line, width + 2)) for line in [lines[0], *[" ".join(lines[1:])]] if line)


def _tables(result: ModelSeries) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    source = "what itlens.diff.series returns"
    models, differences, trend = (getattr(result, name, None) for name in ("models", "differences", "trend"))
    if models is None or differences is None or trend is None:
        raise ResultError(f"views.series needs models, differences and trend: pass {source}.")
    require(models, _MODELS, "views.series", source)
    require(differences, ("statistic", "group", "reference", "model", "difference", "p_holm"), "views.series", source)
    require(trend, ("statistic", "group", "slope", "p_slope_holm"), "views.series", source)
    return models, differences, trend


def _chosen(known: list[str], statistics: list[str] | None) -> list[str]:
    missing = [name for name in statistics or [] if name not in known]
    if missing:
        raise ResultError(f"views.series got the statistic {missing[0]!r}; there are {', '.join(known[:20])}.")
    return list(statistics) if statistics else known[:_MOST_SERIES]


def _traces(means: pd.DataFrame, pairs: pd.DataFrame, labels: list[str]) -> list[go.Scatter]:
    means = means.set_index("model").loc[labels]
    middle, low, high = (means[name].to_numpy(float) for name in ("mean", "ci_low", "ci_high"))
    x = np.arange(len(labels))
    colors = theme.model_colors(len(labels))
    tested = {str(pair["model"]): pair for pair in pairs.to_dict("records")}
    rows = means.to_dict("records")
    hover = [_words(label, row, tested.get(label)) for label, row in zip(labels, rows, strict=True)]
    traces = [
        go.Scatter(x=x, y=middle, mode="lines", line={"color": theme.NEUTRAL, "width": 1.5}, hoverinfo="skip"),
        go.Scatter(
            x=x, y=middle, mode="markers", marker={"size": 10, "color": colors}, customdata=hover,
            error_y={"type": "data", "symmetric": False, "array": high - middle, "arrayminus": middle - low,
                     "thickness": 1.6, "width": 4, "color": theme.NEUTRAL},
            hovertemplate="%{customdata}<extra></extra>",
        ),
    ]  # fmt: skip
    p = {label: float(pair["p_holm"]) for label, pair in tested.items()}
    significant = [place for place, label in enumerate(labels) if p.get(label, np.nan) < 0.05]
    if significant:
        top = np.where(np.isfinite(high), high, middle)[significant]
        traces.append(
            go.Scatter(
                x=x[significant], y=top, mode="text", text=["★"] * len(significant), textposition="top center",
                hoverinfo="skip", textfont={"size": 13, "color": theme.TEXT}, cliponaxis=False,
            )
        )  # fmt: skip
    return traces


def _words(label: str, row: Mapping[Hashable, Any], pair: Mapping[Hashable, Any] | None) -> str:
    mean = f"{number(row['mean'])} {interval(row['ci_low'], row['ci_high'], sign=False)}"
    words = f"<b>{text.plotly(label)}</b><br>mean {mean}"
    if pair is None:
        return words
    return (
        f"{words}<br>compared with {text.plotly(pair['reference'])}: {number(pair['difference'], sign=True)}, Holm p"
        f" {p_value(pair['p_holm'])}"
    )


def _series_title(name: str, trend: pd.DataFrame) -> str:
    shown = text.plotly(text.short(name.replace("_", " "), 40))
    row = trend.iloc[0] if len(trend) else None
    if row is None or not float(row["p_slope_holm"]) < 0.05:
        return shown
    return (
        f"{shown}<br><span style='font-size:11px'>trend {number(row['slope'], sign=True)} a step, Holm p "
        f"{p_value(row['p_slope_holm'])}</span>"
    )


def _series_subtitle(models: pd.DataFrame, result: ModelSeries) -> str:
    against = "the first model" if result.differences.attrs.get("against", "first") == "first" else "the model before"
    n = int(models["n"].max())
    return f"means over {whole(n)} prompts with 95 % interval; ★ differs from {against} (Holm p < 0.05)"
