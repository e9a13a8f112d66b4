"""Figures of the diff's Datasets: along the response (`profile`), and over the method's two knobs (`sensitivity`)."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.views import text, theme
from itlens.views.head_grid import faded
from itlens.views.numbers import number, p_value, stars

_PAIR = {"base": theme.BASE, "tuned": theme.TUNED}
_QUANTITIES = {
    "difference": "difference (tuned − base)",
    "t_paired": "paired t",
    "effect_size": "effect size d_z",
    "t_welch": "Welch t",
}


def profile(profile: xr.Dataset) -> go.Figure:
    """Share of the levelled importance that lies on the instruction, along the response, with 95 % bands.

    `profile` is `AttributionDiff.profile`: share, ci_low, ci_high on (model, position), position from 0 (first
    response token) to 1 (last). Both axes are drawn in per cent. Any number of models, in order: profiles of several
    comparisons joined on their axis model.
    """
    _require(profile, ("share",), ("model", "position"), "views.profile", "AttributionDiff.profile")
    fig = theme.figure(
        "Does the response stay on the instruction?",
        subtitle="share of importance on the instruction at each part of the response; bands: 95 % interval",
        xaxis={"title": {"text": "position in the response (% of its length)"}, "range": [0, 100]},
        yaxis={"title": {"text": "importance on the instruction (%)"}, "rangemode": "tozero"},
        hovermode="x unified",
    )
    labels = [str(name) for name in profile["model"].values]
    of_pair = set(labels) <= set(_PAIR)
    colors = [_PAIR[name] for name in labels] if of_pair else theme.model_colors(len(labels))
    for name, color in zip(labels, colors, strict=True):
        fig.add_traces(_curve(profile.sel(model=name), text.plotly(name), color, faded(color)))
    return fig


def _curve(one: xr.Dataset, name: str, color: str, band: str) -> list[go.Scatter]:
    x, y = 100 * _floats(one["position"]), 100 * _floats(one["share"])
    traces = []
    if "ci_low" in one and "ci_high" in one:
        low, high = 100 * _floats(one["ci_low"]), 100 * _floats(one["ci_high"])
        ok = np.isfinite(low) & np.isfinite(high)
        traces.append(
            go.Scatter(
                x=np.concatenate([x[ok], x[ok][::-1]]), y=np.concatenate([high[ok], low[ok][::-1]]), fill="toself",
                fillcolor=band, line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False,
                name=f"{name} band",
            )
        )  # fmt: skip
    traces.append(
        go.Scatter(
            x=x, y=y, mode="lines+markers", name=name, line={"color": color, "width": 2.5}, marker={"size": 5},
            hovertemplate="%{y:.1f} %",
        )
    )  # fmt: skip
    return traces


def sensitivity(sens: xr.Dataset, *, value: str = "difference", threshold: int = 7, p: int | float = 4) -> go.Figure:
    """Heat map of `value` over the cut-off b and the power p, with marks of significance and the default outlined.

    `sens` is `AttributionDiff.sensitivity` on (threshold, power). `value`: "difference", "t_paired", "effect_size"
    or "t_welch". Marks belong to the paired test, or to Welch's when `value` is "t_welch" (not corrected for the
    number of cells): * p < 0.05, ** p < 0.01, *** p < 0.001. `threshold` and `p`: the setting the report's tables use.
    """
    if value not in _QUANTITIES:
        raise ResultError(f"views.sensitivity cannot draw {value!r}: choose one of {', '.join(_QUANTITIES)}.")
    _require(sens, (value,), ("threshold", "power"), "views.sensitivity", "AttributionDiff.sensitivity")
    z = _floats(sens[value].transpose("power", "threshold"))
    p_name = "p_welch" if value == "t_welch" else "p_paired"
    tests = _floats(sens[p_name].transpose("power", "threshold")) if p_name in sens else np.full_like(z, np.nan)
    thresholds, powers = _floats(sens["threshold"]), _floats(sens["power"])
    limit = float(np.nanmax(np.abs(z))) if np.isfinite(z).any() else 1.0
    fig = theme.figure(
        "Does it depend on the method's two knobs?",
        subtitle="blue: tuned higher, orange: base higher; * p < 0.05, ** p < 0.01, *** p < 0.001; outlined: used here",
        height=300,
        xaxis={"title": {"text": "cut-off b (levels ≤ b count as 0)"}, "tickvals": _places(thresholds),
               "ticktext": [f"{t:g}" for t in thresholds], "showgrid": False, "zeroline": False},
        yaxis={"title": {"text": "power p"}, "tickvals": _places(powers), "ticktext": [f"{q:g}" for q in powers],
               "showgrid": False, "zeroline": False},
    )  # fmt: skip
    fig.add_heatmap(
        z=z, x=_places(thresholds), y=_places(powers), zmin=-(limit or 1.0), zmax=limit or 1.0, xgap=2, ygap=2,
        colorscale=theme.DIVERGING, customdata=_hover(z, tests, thresholds, powers, _QUANTITIES[value]),
        hovertemplate="%{customdata}<extra></extra>", colorbar={"thickness": 12, "outlinewidth": 0},
    )  # fmt: skip
    for row, column in np.ndindex(z.shape):
        _mark_cell(fig, row, column, float(z[row, column]), float(tests[row, column]), limit)
    _outline(fig, np.flatnonzero(thresholds == threshold), np.flatnonzero(powers == p))
    return fig


def _mark_cell(fig: go.Figure, row: int, column: int, z: float, p: float, limit: float) -> None:
    if not np.isfinite(z):
        return
    color = "#ffffff" if abs(z) > 0.6 * limit else "#1f2328"
    fig.add_annotation(
        x=column, y=row, text=f"{number(round(z, 2) + 0.0, 2)}<br>{stars(p) or ' '}", showarrow=False,
        font={"size": 11, "color": color}, yshift=-3,
    )  # fmt: skip


def _outline(fig: go.Figure, columns: np.ndarray, rows: np.ndarray) -> None:
    if len(columns) and len(rows):
        x, y = float(columns[0]), float(rows[0])
        fig.add_shape(
            type="rect", x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5, line={"color": theme.TEXT, "width": 3},
            name="default",
        )  # fmt: skip


def _hover(z: np.ndarray, tests: np.ndarray, thresholds: np.ndarray, powers: np.ndarray, words: str) -> list[list[str]]:
    return [
        [
            f"b = {thresholds[j]:g}, p = {powers[i]:g}<br>{words}: {number(z[i, j], sign=True)}"
            f"<br>p-value: {p_value(tests[i, j])}"
            for j in range(z.shape[1])
        ]
        for i in range(z.shape[0])
    ]


def _places(values: np.ndarray) -> list[int]:
    return list(range(len(values)))


def _floats(values: xr.DataArray) -> np.ndarray:
    return np.asarray(values.values, dtype=float)


def _require(ds: xr.Dataset, names: tuple[str, ...], dims: tuple[str, ...], call: str, source: str) -> None:
    if not isinstance(ds, xr.Dataset) or any(n not in ds for n in names) or any(d not in ds.dims for d in dims):
        got = f"variables {', '.join(map(str, ds.data_vars))}" if isinstance(ds, xr.Dataset) else type(ds).__name__
        raise ResultError(f"{call} needs {', '.join(names)} on ({', '.join(dims)}), got {got}: pass {source}.")
