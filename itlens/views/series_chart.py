"""Any number of models along one axis: each statistic's means, and which of them differ (`series`)."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from itlens.errors import ResultError
from itlens.views import text, theme
from itlens.views.numbers import interval, number, p_value, whole
from itlens.views.prompt_charts import require

_MODELS = ("statistic", "group", "model", "n", "mean", "ci_low", "ci_high")
_COLUMNS = 3
_MOST = 12


def series(result: Any, *, statistics: list[str] | None = None, group: str = "all") -> go.Figure:
    """Small charts, one per statistic: the models in order across, each with its mean and 95 % interval over prompts.

    result: a `ModelSeries` of `itlens.diff.series`. statistics: which ones (default: the first twelve). Stars: the
    model differs from its reference (the first model, or its neighbour before) after Holm over the pairs, p below 0.05.
    The title of each names the trend's slope per step where that holds. Units: each statistic's own.
    Raises ResultError for another result, and for a statistic or group that there is not.
    """
    models, differences, trend = _tables(result)
    models, differences, trend = (table[table["group"] == group] for table in (models, differences, trend))
    if models.empty:
        known = ", ".join(dict.fromkeys(map(str, result.models["group"])))
        raise ResultError(f"views.series got group={group!r}; there are {known}.")
    names = _chosen(list(dict.fromkeys(models["statistic"])), statistics)
    labels = list(dict.fromkeys(models["model"]))
    rows, columns = -(-len(names) // _COLUMNS), min(_COLUMNS, len(names))
    fig = theme.figure("From model to model", subtitle=_subtitle(models, result), height=110 + 260 * rows)
    titles = [_title(name, trend[trend["statistic"] == name]) for name in names]
    fig.set_subplots(
        rows, columns, subplot_titles=titles, horizontal_spacing=0.09, vertical_spacing=0.32 / max(rows, 2),
    )  # fmt: skip
    fig.update_annotations(font={"size": 12.5, "color": theme.TEXT})
    for place, name in enumerate(names):
        where = {"row": place // _COLUMNS + 1, "col": place % _COLUMNS + 1}
        part, pairs = (table[table["statistic"] == name] for table in (models, differences))
        for trace in _traces(part, pairs, labels):
            fig.add_trace(trace, **where)
    shown = [_in_lines(label, max(6, 44 // len(labels))) for label in labels]
    fig.update_xaxes(
        tickvals=list(range(len(labels))), ticktext=shown, range=[-0.4, len(labels) - 0.6], showgrid=False,
        zeroline=False,
    )  # fmt: skip
    fig.update_layout(showlegend=False, margin={"t": 110}, title={"y": 1, "yref": "container", "yanchor": "top",
                                                                  "pad": {"t": 18}})  # fmt: skip
    return fig


def _in_lines(label: str, width: int) -> str:
    """A label below the axis: two lines at most."""
    lines = textwrap.wrap(label, width, break_long_words=False) or [label]
    return "<br>".join(text.plotly(text.short(line, width + 2)) for line in [lines[0], *[" ".join(lines[1:])]] if line)


def _tables(result: Any) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    source = "what itlens.diff.series returns"
    models, differences, trend = (getattr(result, name, None) for name in ("models", "differences", "trend"))
    if models is None or differences is None or trend is None:
        raise ResultError(f"views.series needs models, differences and trend: pass {source}.")
    require(models, _MODELS, "views.series", source)
    require(differences, ("statistic", "group", "reference", "model", "difference", "p_holm"), "views.series", source)
    require(trend, ("statistic", "group", "slope", "p_slope_holm"), "views.series", source)
    return models, differences, trend


def _chosen(known: list[str], asked: list[str] | None) -> list[str]:
    missing = [name for name in asked or [] if name not in known]
    if missing:
        raise ResultError(f"views.series got the statistic {missing[0]!r}; there are {', '.join(known[:20])}.")
    return list(asked) if asked else known[:_MOST]


def _traces(part: pd.DataFrame, pairs: pd.DataFrame, labels: list[str]) -> list[go.Scatter]:
    part = part.set_index("model").loc[labels]
    middle, low, high = (part[name].to_numpy(float) for name in ("mean", "ci_low", "ci_high"))
    x = np.arange(len(labels))
    colors = theme.model_colors(len(labels))
    tested = {str(row.model): row for row in pairs.itertuples()}
    hover = [_words(label, row, tested.get(label)) for label, row in zip(labels, part.itertuples(), strict=True)]
    traces = [
        go.Scatter(x=x, y=middle, mode="lines", line={"color": theme.NEUTRAL, "width": 1.5}, hoverinfo="skip"),
        go.Scatter(
            x=x, y=middle, mode="markers", marker={"size": 10, "color": colors}, customdata=hover,
            error_y={"type": "data", "symmetric": False, "array": high - middle, "arrayminus": middle - low,
                     "thickness": 1.6, "width": 4, "color": theme.NEUTRAL},
            hovertemplate="%{customdata}<extra></extra>",
        ),
    ]  # fmt: skip
    p = {str(row["model"]): float(row["p_holm"]) for _, row in pairs.iterrows()}
    sure = [place for place, label in enumerate(labels) if p.get(label, np.nan) < 0.05]
    if sure:
        top = np.where(np.isfinite(high), high, middle)[sure]
        traces.append(
            go.Scatter(
                x=x[sure], y=top, mode="text", text=["★"] * len(sure), textposition="top center", hoverinfo="skip",
                textfont={"size": 13, "color": theme.TEXT}, cliponaxis=False,
            )
        )  # fmt: skip
    return traces


def _words(label: str, row: Any, pair: Any) -> str:
    words = f"<b>{text.plotly(label)}</b><br>mean {number(row.mean)} {interval(row.ci_low, row.ci_high, sign=False)}"
    if pair is None:
        return words
    return (
        f"{words}<br>against {text.plotly(pair.reference)}: {number(pair.difference, sign=True)}, Holm p"
        f" {p_value(pair.p_holm)}"
    )


def _title(name: str, trend: pd.DataFrame) -> str:
    shown = text.plotly(text.short(name.replace("_", " "), 40))
    row = trend.iloc[0] if len(trend) else None
    if row is None or not float(row["p_slope_holm"]) < 0.05:
        return shown
    return (
        f"{shown}<br><span style='font-size:11px'>trend {number(row['slope'], sign=True)} a step, Holm p "
        f"{p_value(row['p_slope_holm'])}</span>"
    )


def _subtitle(models: pd.DataFrame, result: Any) -> str:
    against = "the first model" if result.differences.attrs.get("against", "first") == "first" else "the model before"
    n = int(models["n"].max())
    return f"means over {whole(n)} prompts with 95 % interval; ★ differs from {against} (Holm p < 0.05)"
