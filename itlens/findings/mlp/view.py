"""How far tuning rotated the concepts of each layer, between the noise of rows and random subspaces (`angles`).

A line per k compares the spans of the first k components of base and tuned, between two nulls: the noise floor (how far
resampled rows of the same matrix rotate that span, in either model) and subspaces drawn at random. An overlap goes from
0 (nothing shared) to 1 (the same space); an angle from 0 (the same) to 90 degrees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.report import text, theme
from itlens.report.numbers import NOTHING, is_number, number

# distinguished by shape too; none is a colour of the models
_STYLES = tuple(zip(theme.SIZES, ("circle", "square", "diamond", "triangle-up"), strict=True))
_MOST_LABELS = 40
_DEGREES = 180 / np.pi


@dataclass(frozen=True)
class _Quantity:
    """A quantity to draw: its variables in the diff, the unit's factor, the end of its axis, and words for it."""

    curve: str
    floors: tuple[str, str]
    random: tuple[str, str, str]
    scale: float
    end: float
    step: float
    axis: str
    short: str
    title: str
    unit: str
    decimals: int


_QUANTITIES = {
    "overlap": _Quantity(
        "overlap", ("floor_base", "floor_tuned"), ("random_overlap", "random_low", "random_high"), 1.0, 1.0, 0.2,
        "overlap (1 = the same space)", "overlap", "How much of each layer's concept space tuning kept", "", 3,
    ),
    "angle": _Quantity(
        "mean_angle", ("floor_angle_base", "floor_angle_tuned"),
        ("random_mean_angle", "random_mean_angle_low", "random_mean_angle_high"), _DEGREES, 90.0, 15.0,
        "mean principal angle (degrees)", "mean angle", "How far tuning rotated each layer's concept space", "°", 1,
    ),
}  # fmt: skip


def angles(ds: xr.Dataset, *, value: Literal["overlap", "angle"] = "overlap") -> go.Figure:
    """Draw the overlap of base's and tuned's concept subspaces against the layer, a line per k, with both nulls.

    ds: of itlens.diff.concepts. value: "overlap" (projection kernel: mean squared cosine of the principal angles; axis
    0 to 1) or "angle" (mean principal angle; axis 0 to 90 degrees). In the colour of its k each line has a band between
    the mean noise floors of base and tuned (where the probe ran with `resamples`), and a dashed line for random
    subspaces (overlap k / d_model) with their 95 % range. Hollow marks: not under every resampled draw, so no more than
    the noise of rows. Crosses: degenerate spectrum, so that the first k components are a matter of chance.
    Raises ResultError for another Dataset and an unknown value.
    """
    if value not in _QUANTITIES:
        raise ResultError(f"views.angles cannot draw value={value!r}: choose one of {', '.join(_QUANTITIES)}.")
    quantity = _QUANTITIES[value]
    _require(ds, quantity)
    layers = [int(layer) for layer in ds["layer"].values]
    every = max(1, -(-len(layers) // _MOST_LABELS))
    fig = theme.figure(
        quantity.title,
        subtitle=_subtitle(ds, quantity),
        height=540,
        xaxis={"title": {"text": "layer"}, "tickvals": sorted(layers)[::every], "showgrid": False, "zeroline": False,
               "range": [min(layers) - 0.5, max(layers) + 0.5]},
        yaxis={"title": {"text": quantity.axis}, "range": [0, quantity.end], "dtick": quantity.step},
    )  # fmt: skip
    for place, style in enumerate(_styles(ds)):
        fig.add_traces(list(_traces(ds.isel(k=place).sortby("layer"), quantity, *style)))
    fig.add_traces(list(_legend(ds, quantity)))
    # below the axis, where its rows have room: a narrow figure has four of them
    fig.update_layout(legend={"y": -0.16, "yanchor": "top", "traceorder": "normal"})
    return fig


def _traces(at_k: xr.Dataset, quantity: _Quantity, color: str, symbol: str) -> Iterator[go.Scatter]:
    """Everything of one k, the line on top; its entry in the legend hides all of it."""
    layers, group = _floats(at_k["layer"], 1), f"k = {int(at_k['k'])}"
    floors = [_floats(at_k[name], quantity.scale) for name in quantity.floors]
    y, bad = _floats(at_k[quantity.curve], quantity.scale), at_k["degenerate"].values.astype(bool)
    quiet = {"legendgroup": group, "showlegend": False, "hoverinfo": "skip"}
    yield from _null(at_k, quantity, color, {**quiet, "mode": "lines"})
    if _has_floor(at_k, quantity):
        # fmin and fmax: the floor of one model where the other has none
        low, high = np.fmin(*floors), np.fmax(*floors)
        there = np.isfinite(low)
        named = {**quiet, "mode": "lines", "name": f"noise floor, {group}"}
        yield _band(layers[there], low[there], high[there], color, named, edge=1.0)
    hollow = _within_noise(at_k)
    yield go.Scatter(
        x=layers, y=y, mode="lines+markers", name=group, legendgroup=group, showlegend=False, cliponaxis=False,
        line={"color": color, "width": 2.2}, customdata=_hover(at_k, quantity, y, floors, hollow),
        marker={"size": 9, "color": color, "symbol": [f"{symbol}-open" if h else symbol for h in hollow],
                "line": {"width": [2 if h else 0 for h in hollow], "color": color}},
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    if bad.any():
        cross = {"symbol": "x-thin", "size": 13, "line": {"width": 1.8, "color": theme.TEXT}}
        crosses = {"x": layers[bad], "y": y[bad], "marker": cross, "cliponaxis": False}
        yield go.Scatter(**quiet, **crosses, mode="markers", name=f"degenerate, {group}")


def _null(at_k: xr.Dataset, quantity: _Quantity, color: str, quiet: dict[str, object]) -> Iterator[go.Scatter]:
    """Random subspaces know no layer: a band and a dashed line over all of the axis."""
    middle, low, high = (np.full(2, float(at_k[name]) * quantity.scale) for name in quantity.random)
    ends, group = np.array([int(at_k["layer"].min()) - 0.5, int(at_k["layer"].max()) + 0.5]), quiet["legendgroup"]
    yield _band(ends, low, high, color, {**quiet, "name": f"random, {group}"})
    dashed = {"color": color, "width": 1.2, "dash": "dash"}
    yield go.Scatter(**quiet, x=ends, y=middle, line=dashed, name=f"random mean, {group}")


def _band(
    x: np.ndarray, low: np.ndarray, high: np.ndarray, color: str, quiet: dict[str, object], edge: float = 0.0
) -> go.Scatter:
    """The area between two curves; with an `edge` it stays visible where they are the same."""
    rgb = ",".join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))
    if len(x) == 1:  # a curve of one point has no width
        x, low, high = x + np.array([-0.2, 0.2]), low.repeat(2), high.repeat(2)
    return go.Scatter(
        **quiet, x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself",
        fillcolor=f"rgba({rgb},0.22)", line={"width": edge, "color": f"rgba({rgb},0.55)"},
    )  # fmt: skip


def _hover(
    at_k: xr.Dataset, quantity: _Quantity, y: np.ndarray, floors: list[np.ndarray], hollow: np.ndarray
) -> list[str]:
    k = int(at_k["k"])
    random = [_said(float(at_k[name]) * quantity.scale, quantity) for name in quantity.random]
    texts = []
    for i, layer in enumerate(at_k["layer"].values):
        lines = [f"<b>layer {int(layer)}, k = {k}</b>", f"{quantity.short} {_said(y[i], quantity)}"]
        noise = [f"{name} {_said(floor[i], quantity)}" for name, floor in zip(("base", "tuned"), floors, strict=True)]
        known = any(is_number(floor[i]) for floor in floors)
        lines.append(f"noise floor: {', '.join(noise)}" if known else "noise floor: not measured")
        if known:
            lines.append("no more than the noise of rows" if hollow[i] else "more than every resampled draw")
        lines.append(f"random subspaces {random[0]}, 95 % [{random[1]}, {random[2]}]")
        if bool(at_k["degenerate"].values[i]):
            lines.append(f"degenerate: components {k} and {k + 1} explain nearly the same")
        texts.append("<br>".join(lines))
    return texts


def _legend(ds: xr.Dataset, quantity: _Quantity) -> Iterator[go.Scatter]:
    """A line per k, for the legend would take the mark of the first layer; then what is drawn besides, in grey."""
    nowhere = {"x": [None], "y": [None], "hoverinfo": "skip"}
    for k, (color, symbol) in zip(ds["k"].values, _styles(ds), strict=True):
        style = {"line": {"color": color, "width": 2.2}, "marker": {"size": 9, "color": color, "symbol": symbol}}
        yield go.Scatter(**nowhere, **style, mode="lines+markers", name=f"k = {int(k)}", legendgroup=f"k = {int(k)}")
    dashed = {"color": theme.TEXT, "width": 1.5, "dash": "dash"}
    yield go.Scatter(**nowhere, mode="lines", name="random subspaces, 95 %", line=dashed)
    marks = {
        "noise floor, base to tuned": ({"symbol": "square", "size": 12, "opacity": 0.4}, 0, _has_floor(ds, quantity)),
        "within the noise": ({"symbol": "circle-open", "size": 9}, 2, _within_noise(ds).any()),
        "degenerate": ({"symbol": "x-thin", "size": 11}, 1.8, ds["degenerate"].values.any()),
    }
    for name, (marker, width, drawn) in marks.items():
        if drawn:
            grey = {"color": theme.TEXT, **marker, "line": {"width": width, "color": theme.TEXT}}
            yield go.Scatter(**nowhere, mode="markers", name=name, marker=grey)


def _styles(ds: xr.Dataset) -> list[tuple[str, str]]:
    return [_STYLES[place % len(_STYLES)] for place in range(ds.sizes["k"])]


def _has_floor(ds: xr.Dataset, quantity: _Quantity) -> bool:
    return any(bool(np.isfinite(_floats(ds[name], 1)).any()) for name in quantity.floors)


def _within_noise(ds: xr.Dataset) -> np.ndarray:
    """Where a noise floor is known and the overlap is not below it. Overlap decides, whatever is drawn."""
    known = np.isfinite(ds["floor_base"].values) | np.isfinite(ds["floor_tuned"].values)
    return np.asarray(known & ~ds["below_floor"].values.astype(bool))


def _subtitle(ds: xr.Dataset, quantity: _Quantity) -> str:
    vectors = str(ds.attrs.get("vectors", ""))
    which = f"{text.plotly(vectors)} vectors, " if vectors else ""
    floor = "" if _has_floor(ds, quantity) else "; no noise floor: the probe ran without resamples"
    return f"{which}the first k components of base compared with those of tuned{floor}"


def _said(value: float, quantity: _Quantity) -> str:
    said = number(value, quantity.decimals)
    return said if said == NOTHING else said + quantity.unit


def _floats(values: xr.DataArray, scale: float) -> np.ndarray:
    return np.asarray(values.values, dtype=float) * scale


def _require(ds: xr.Dataset, quantity: _Quantity) -> None:
    needed = (
        quantity.curve,
        *quantity.floors,
        *quantity.random,
        "floor_base",
        "floor_tuned",
        "below_floor",
        "degenerate",
    )
    source = "pass what itlens.diff.concepts returns."
    if not isinstance(ds, xr.Dataset):
        raise ResultError(f"views.angles needs a Dataset, got a {type(ds).__name__}: {source}")
    if missing := sorted({name for name in needed if name not in ds}):
        got = ", ".join(map(str, ds.data_vars)) or "nothing"
        raise ResultError(f"views.angles needs {', '.join(missing)}, got a Dataset of {got}: {source}")
    if not all(ds.sizes.get(axis) for axis in ("layer", "k")):
        raise ResultError(f"views.angles needs the axes layer and k, each with an entry: {source}")
