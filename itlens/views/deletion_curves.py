"""Deletion and insertion curves beside random orders: of one prompt, and of any number of models over many prompts."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.views import text, theme
from itlens.views.head_grid import faded, floats, panels
from itlens.views.numbers import number, p_value, whole

_TITLES = ["deletion: the most important removed", "insertion: only the most important kept"]
_DIRECTIONS = {"deletion": "removed", "insertion": "kept"}


def one_prompt(ds: xr.Dataset) -> go.Figure:
    """The curves of `itlens.faithfulness`, in nats, with the range of 95 % of the random orders."""
    fig = _figure("Is the attribution faithful?", _of_prompt(ds), "log-probability of the response (nats per token)")
    for column, direction in enumerate(_DIRECTIONS, 1):
        one = ds.sel(direction=direction)
        x = 100 * floats(one["fraction"])
        traces = [_band(x, floats(one["curve_low"]), floats(one["curve_high"]), theme.NEUTRAL, "random orders")]
        for order, color in (("random", theme.NEUTRAL), ("attribution", theme.TUNED)):
            name = "random orders (band: 95 % of them)" if order == "random" else order
            traces.append(_line(x, floats(one["curve"].sel(order=order)), name, color, dashed=order == "random"))
        _add(fig, traces, column)
    return fig


def many_prompts(ds: xr.Dataset) -> go.Figure:
    """The mean curves of `itlens.diff.faithfulness_curves`: solid the attribution's, dashed random orders'.

    Shares: 1 is the prompt as it is, 0 all of it removed. Bands: 95 % interval over prompts.
    """
    labels = [str(name) for name in ds["model"].values]
    fig = _figure(
        "From the whole prompt to none of it, and back", _of_models(ds), "share of what the whole prompt does (%)"
    )
    for column, direction in enumerate(_DIRECTIONS, 1):
        x = 100 * floats(ds["fraction"])
        for label, color in zip(labels, theme.model_colors(len(labels)), strict=True):
            one = ds.sel(model=label, direction=direction)
            for order in ("random", "attribution"):
                low, high, value = (100 * floats(one[f"share{end}"].sel(order=order)) for end in ("_low", "_high", ""))
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
    """Each name stands in the legend once: in the first panel."""
    for trace in traces:
        trace.showlegend = column == 1 and trace.fill is None
        fig.add_trace(trace, row=1, col=column)


def _of_prompt(ds: xr.Dataset) -> str:
    said = [text.plotly(str(ds.attrs.get("method", "")).replace("_", " "))]
    for direction in _DIRECTIONS:
        one = ds.sel(direction=direction)
        said.append(
            f"{direction}: advantage over random {number(one['advantage'].item(), 2, sign=True)}, p"
            f" {p_value(one['p'].item())}"
        )
    return "; ".join(part for part in said if part)


def _of_models(ds: xr.Dataset) -> str:
    method = text.plotly(str(ds.attrs.get("method", "")).replace("_", " "))
    counts = sorted({int(count) for count in np.atleast_1d(ds["prompts"].values)}) if "prompts" in ds else []
    prompts = f"means over {' to '.join(whole(count) for count in dict.fromkeys((counts[0], counts[-1])))} prompts" \
        if counts else "means over prompts"  # fmt: skip
    return "; ".join(part for part in (method, prompts, "bands: 95 % interval; dashed: random orders") if part)
