"""Whether attributions are faithful (`faithfulness`): curves of one prompt, mean curves, or the advantage by method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.report import text, theme
from itlens.report.head_grid import faded, floats, panels, require_result
from itlens.report.numbers import interval, number, p_value, whole

_CALL = "views.faithfulness"
_NEEDED = ("method", "by", "direction", "n", "base_advantage", "tuned_advantage", "base_low", "tuned_low")
_OFFSET = {"base": -0.13, "tuned": 0.13}
_TITLES = ["deletion: the most important removed", "insertion: only the most important kept"]
_DIRECTIONS = {"deletion": "removed", "insertion": "kept"}


def faithfulness_figure(result: xr.Dataset | pd.DataFrame) -> go.Figure:
    """Draw whether the tokens that an attribution calls important are those that the response hangs on.

    result: a Dataset of `itlens.faithfulness`: the mean log-probability of the response (nats) when the most important
    share of the prompt's tokens is removed, or when only it is kept; grey: random orders, mean and 95 %. Faithful
    orders fall fast and rise fast. Or of `itlens.diff.faithfulness_curves`: the same as shares, means over prompts with
    95 % intervals, of any number of models. Or the table of `itlens.diff.faithfulness`: the advantage over random
    orders, per method and direction, base and tuned, with 95 % intervals over prompts. Raises ResultError for anything
    else.
    """
    if isinstance(result, pd.DataFrame):
        return _table(result)
    if isinstance(result, xr.Dataset) and result.attrs.get("probe") == "diff.faithfulness_curves":
        return _many_prompts(result)
    source = "itlens.faithfulness, itlens.diff.faithfulness or itlens.diff.faithfulness_curves"
    require_result(result, "faithfulness", _CALL, source)
    return _one_prompt(result)


def _table(table: pd.DataFrame) -> go.Figure:
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        raise ResultError(
            f"{_CALL} needs the columns {', '.join(missing)}: pass what itlens.diff.faithfulness returns."
        )
    rows = np.arange(len(table))
    unit = "nats" if table.attrs.get("unit") == "nats" else "share of what the whole prompt does"
    fig = theme.figure(
        "Are attributions better than random orders?",
        subtitle="mean over prompts with 95 % interval; right of zero: better",
        height=max(280, 170 + 46 * len(table)),
        xaxis={"title": {"text": f"advantage over random orders ({unit})"}},
        yaxis={"tickvals": rows, "ticktext": [_label(row) for row in table.itertuples()], "showgrid": False},
    )
    fig.update_yaxes(range=[len(table) - 0.5, -0.5], zeroline=False)
    top = {"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 18}}
    fig.update_layout(title=top, legend={"y": -0.1 - 0.5 / len(table), "yanchor": "top"})
    fig.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.5, "dash": "dot"})
    for name, color in (("base", theme.BASE), ("tuned", theme.TUNED)):
        fig.add_trace(_dots(table, name, color, rows + _OFFSET[name]))
    return fig


def _dots(table: pd.DataFrame, name: str, color: str, y: np.ndarray) -> go.Scatter:
    middle, low, high = (table[f"{name}_{end}"].to_numpy(float) for end in ("advantage", "low", "high"))
    labels = [
        f"<b>{name}</b>, {_label(row)}<br>advantage {number(getattr(row, f'{name}_advantage'), sign=True)}"
        f" {interval(getattr(row, f'{name}_low'), getattr(row, f'{name}_high'))}"
        f"<br>p {p_value(getattr(row, f'{name}_p'))}"
        f"<br>tuned − base {number(row.difference, sign=True)}, p {p_value(row.p_paired)}"
        for row in table.itertuples()
    ]
    return go.Scatter(
        x=middle, y=y, mode="markers", name=name, marker={"color": color, "size": 10}, customdata=labels,
        error_x={"type": "data", "symmetric": False, "array": high - middle, "arrayminus": middle - low,
                 "thickness": 1.8, "width": 4, "color": color},
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _label(row: Any) -> str:
    by = f" by {row.by}" if row.by else ""
    return f"{text.plotly(str(row.method).replace('_', ' '))}{text.plotly(by)}, {row.direction} (n={whole(row.n)})"


def _one_prompt(ds: xr.Dataset) -> go.Figure:
    """Draw the curves of `itlens.faithfulness`, in nats, with the range of 95 % of the random orders."""
    fig = _figure("Is the attribution faithful?", _of_prompt(ds), "log-probability of the response (nats per token)")
    for column, direction in enumerate(_DIRECTIONS, 1):
        curve = ds.sel(direction=direction)
        x = 100 * floats(curve["fraction"])
        traces = [_band(x, floats(curve["curve_low"]), floats(curve["curve_high"]), theme.NEUTRAL, "random orders")]
        for order, color in (("random", theme.NEUTRAL), ("attribution", theme.TUNED)):
            name = "random orders (band: 95 % of them)" if order == "random" else order
            traces.append(_line(x, floats(curve["curve"].sel(order=order)), name, color, dashed=order == "random"))
        _add(fig, traces, column)
    return fig


def _many_prompts(ds: xr.Dataset) -> go.Figure:
    """Draw the mean curves of `itlens.diff.faithfulness_curves`: solid the attribution's, dashed random orders'.

    Shares: 1 is the prompt as it is, 0 all of it removed. Bands: 95 % interval over prompts.
    """
    labels = [str(name) for name in ds["model"].values]
    fig = _figure(
        "From the whole prompt to none of it, and back", _of_models(ds), "share of what the whole prompt does (%)"
    )
    for column, direction in enumerate(_DIRECTIONS, 1):
        x = 100 * floats(ds["fraction"])
        for label, color in zip(labels, theme.model_colors(len(labels)), strict=True):
            curve = ds.sel(model=label, direction=direction)
            for order in ("random", "attribution"):
                low, high, value = (
                    100 * floats(curve[f"share{end}"].sel(order=order)) for end in ("_low", "_high", "")
                )
                name = label if order == "attribution" else f"{label}, random orders"
                _add(fig, [_band(x, low, high, color, name, faint=order == "random")], column)
                _add(fig, [_line(x, value, name, color, dashed=order == "random")], column)
    for y in (0, 100):
        fig.add_hline(y=y, line={"color": theme.NEUTRAL, "width": 1.2, "dash": "dot"})
    return fig


def _figure(title: str, subtitle: str, unit: str) -> go.Figure:
    fig = theme.figure(title, subtitle=subtitle, height=430)
    panels(fig, [0.5, 0.5], _TITLES, shared=True)
    for column, word in enumerate(_DIRECTIONS.values(), 1):
        fig.update_xaxes(title={"text": f"prompt tokens {word} (%)"}, range=[-2, 102], row=1, col=column)
    fig.update_yaxes(title={"text": unit}, row=1, col=1)
    return fig


def _band(
    x: np.ndarray, low: np.ndarray, high: np.ndarray, color: str, name: str, *, faint: bool = False
) -> go.Scatter:
    there = np.isfinite(low) & np.isfinite(high)
    return go.Scatter(
        x=np.concatenate([x[there], x[there][::-1]]), y=np.concatenate([high[there], low[there][::-1]]), fill="toself",
        fillcolor=faded(color, 0.08 if faint else 0.18), line={"width": 0}, mode="lines", hoverinfo="skip",
        showlegend=False, legendgroup=name, name=f"{name}, 95 %",
    )  # fmt: skip


def _line(x: np.ndarray, y: np.ndarray, name: str, color: str, *, dashed: bool) -> go.Scatter:
    shown = text.plotly(name)
    return go.Scatter(
        x=x, y=y, mode="lines" if dashed else "lines+markers", name=shown, legendgroup=name,
        line={"color": color, "width": 1.6 if dashed else 2.4, "dash": "dash" if dashed else "solid"},
        hovertemplate=f"{shown}, %{{x:.0f}} %: %{{y:.3g}}<extra></extra>",
    )  # fmt: skip


def _add(fig: go.Figure, traces: list[go.Scatter], column: int) -> None:
    """Add traces to a panel; the legend names each once, in the first panel."""
    for trace in traces:
        trace.showlegend = column == 1 and trace.fill is None
        fig.add_trace(trace, row=1, col=column)


def _of_prompt(ds: xr.Dataset) -> str:
    parts = [text.plotly(str(ds.attrs.get("method", "")).replace("_", " "))]
    for direction in _DIRECTIONS:
        curve = ds.sel(direction=direction)
        parts.append(
            f"{direction}: advantage over random {number(curve['advantage'].item(), 2, sign=True)}, p"
            f" {p_value(curve['p'].item())}"
        )
    return "; ".join(filter(None, parts))


def _of_models(ds: xr.Dataset) -> str:
    method = text.plotly(str(ds.attrs.get("method", "")).replace("_", " "))
    counts = sorted({int(count) for count in np.atleast_1d(ds["prompts"].values)}) if "prompts" in ds else []
    prompts = f"means over {' to '.join(whole(count) for count in dict.fromkeys((counts[0], counts[-1])))} prompts" \
        if counts else "means over prompts"  # fmt: skip
    bare = [str(name) for name in ds["model"].values if not np.isfinite(ds["share"].sel(model=name)).any()]
    missing = f"without a share: {text.plotly(', '.join(bare))}" if bare else ""
    return "; ".join(filter(None, (method, prompts, missing, "bands: 95 % interval; dashed: random orders")))
