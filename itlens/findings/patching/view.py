"""Which parts carry what tuning did (`patching`), and whether estimates find the same parts (`estimates`)."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.report import text, theme
from itlens.report.head_grid import (
    LEVEL,
    MOST_ACROSS,
    cells_of,
    floats,
    head_map,
    head_name,
    layer_height,
    layer_lines,
    panels,
    require_result,
    star_marks,
    ticks,
)
from itlens.report.numbers import interval, is_number, number, p_value, rounded, whole

_PATCHING, _ESTIMATES = "views.patching", "views.estimates"
_BLUE, _GREY = theme.TUNED, theme.NEUTRAL
_TICK_APART = 0.1  # of the axis
_NAMED, _CLOSE = 3, 0.08  # points that a figure names, and how far apart names must be, of the axis
_UNITS = {
    "head": ("head", "heads"),
    "group": ("group of heads", "groups of heads"),
    "mlp": ("MLP", "MLPs"),
    "resid": ("residual stream", "residual streams"),
    "layer": ("layer", "layers"),
}


def patching(ds: xr.Dataset) -> go.Figure:
    """Draw a map of the recovered fraction of every part, and how it grows when the best parts are patched together.

    ds: of `itlens.patch`. Recovered: 0, the receiver as it is; 1, as if all of it were the donor's; blue above and
    orange below zero, stars where the effect holds over prompts (Benjamini-Hochberg below 0.05). For layers (MLPs,
    residual streams) a line with its 95 % interval. The curve takes the parts best first, chosen on other prompts than
    it is judged on; grey: as many random parts (mean and 95 %). Without exact effects the estimates are drawn.
    Raises ResultError for another result.
    """
    require_result(ds, "patch", _PATCHING, "itlens.patch")
    name = next((name for name in ("recovered", "estimated") if name in ds), None)
    if name is None:
        raise ResultError(f"{_PATCHING} got a result without recovered fractions; pass what itlens.patch returns.")
    axis = next((axis for axis in ("head", "key_value_head") if axis in ds[name].dims), None)
    curve = "joint" in ds
    fig = theme.figure(_title(ds), subtitle=_subtitle(ds, name), height=layer_height(ds.sizes["layer"]))
    part, parts = units(ds)
    title = f"recovered by each {part}{', estimated' if name == 'estimated' else ''}"
    titles = [title, *([f"best {parts} together"] if curve else [])]
    panels(fig, [0.6, 0.4] if curve else [1.0], titles, shared=False)
    if axis is not None:
        _add_map(fig, ds, name, axis)
    else:
        _add_layers(fig, ds, name)
    layers = ds["layer"].values
    fig.update_yaxes(**ticks(layers), title={"text": "layer"}, range=[len(layers) - 0.5, -0.5], row=1, col=1)
    if curve:
        _add_curve(fig, ds)
    return fig


def units(ds: xr.Dataset) -> tuple[str, str]:
    """Return what one part is called, and several: of weights, those of the unit."""
    what = str(ds.attrs.get("what", ""))
    return _UNITS.get(str(ds.attrs.get("unit", "")) if what == "weights" else what, ("part", "parts"))


def _add_map(fig: go.Figure, ds: xr.Dataset, name: str, axis: str) -> None:
    layers, heads = ds["layer"].values, ds[axis].values
    hover = [
        [_words(ds.sel({"layer": layer, axis: head}), head_name(layer, head)) for head in heads] for layer in layers
    ]
    meta = cells_of(layers, heads if axis == "head" else None)
    drawn = head_map(fig, floats(ds[name], "layer", axis), hover, "recovered", signed=True, meta=meta)
    fig.add_trace(drawn, row=1, col=1)
    stars = star_marks(floats(ds["p_bh"], "layer", axis) < LEVEL, f"p BH < {LEVEL:g}") if "p_bh" in ds else None
    if stars is not None:
        fig.add_trace(stars, row=1, col=1)
    title = {"text": axis.replace("_", "-").replace("-head", " head")}
    fig.update_xaxes(**ticks(heads, MOST_ACROSS), title=title, range=[-0.5, len(heads) - 0.5], row=1, col=1)


def _add_layers(fig: go.Figure, ds: xr.Dataset, name: str) -> None:
    value = floats(ds[name], "layer")
    low, high = (
        floats(ds[f"{name}_{end}"], "layer") if f"{name}_{end}" in ds else np.full(value.shape, np.nan)
        for end in ("low", "high")
    )
    hover = [_words(ds.sel(layer=layer), f"layer {layer}") for layer in ds["layer"].values]
    cells = cells_of(ds["layer"].values)
    for trace in layer_lines(np.arange(len(value)), value, low, high, "recovered", _BLUE, hover, cells):
        fig.add_trace(trace, row=1, col=1)
    fig.add_vline(x=0, line={"color": _GREY, "width": 1.2, "dash": "dot"}, row=1, col=1)
    fig.update_xaxes(title={"text": "recovered fraction"}, row=1, col=1)


def _add_curve(fig: go.Figure, ds: xr.Dataset) -> None:
    counts, parts = floats(ds["count"]), units(ds)[1]
    for name, kind, words, color, band in (
        ("joint_random", "random", f"as many random {parts} (band: 95 % of draws)", _GREY, "rgba(138,144,153,0.22)"),
        ("joint", "best", f"best {parts} (band: 95 % interval)", _BLUE, theme.TUNED_BAND),
    ):
        value, low, high = (floats(ds[f"{name}{end}"]) for end in ("", "_low", "_high"))
        there = np.isfinite(low) & np.isfinite(high)
        if there.any():
            fig.add_scatter(
                x=np.concatenate([counts[there], counts[there][::-1]]),
                y=np.concatenate([high[there], low[there][::-1]]), fill="toself", fillcolor=band, line={"width": 0},
                mode="lines", hoverinfo="skip", showlegend=False, name=f"{words}, 95 %", row=1, col=2,
            )  # fmt: skip
        if np.isfinite(value).any():
            fig.add_scatter(
                x=counts, y=value, mode="lines+markers", name=words, line={"color": color, "width": 2.2},
                marker={"size": 6}, row=1, col=2,
                hovertemplate=f"%{{x}} {kind} {parts}: %{{y:.2f}}<extra></extra>",
            )  # fmt: skip
    for y in (0, 1):
        fig.add_hline(y=y, line={"color": _GREY, "width": 1.2, "dash": "dot"}, row=1, col=2)
    written = _ticks_apart(counts)
    axis = {"type": "log", "tickvals": written, "ticktext": [f"{int(c)}" for c in written], "tickangle": 0}
    fig.update_xaxes(**axis, title={"text": f"{parts} patched together"}, row=1, col=2)
    fig.update_yaxes(title={"text": "recovered fraction"}, row=1, col=2)


def _ticks_apart(counts: np.ndarray) -> list[float]:
    """Return the counts whose labels do not overlap below a logarithmic axis; the last one always."""
    kept: list[float] = []
    for count in counts[::-1]:
        if not kept or kept[-1] / count >= counts[-1] ** _TICK_APART:
            kept.append(float(count))
    return kept[::-1]


def _words(part: xr.Dataset, name: str) -> str:
    lines = [f"<b>{name}</b>"]
    if "recovered" in part:
        low, high = part["recovered_low"].item(), part["recovered_high"].item()
        lines.append(f"recovered {number(part['recovered'].item(), 2)} {interval(low, high, 2)}")
        lines.append(f"p {p_value(part['p'].item())}, Benjamini-Hochberg {p_value(part['p_bh'].item())}")
    if "estimated" in part:
        lines.append(f"first-order estimate {number(part['estimated'].item(), 2)}")
    return "<br>".join(lines)


def _title(ds: xr.Dataset) -> str:
    donor, _, receiver = str(ds.attrs.get("direction", "")).partition("->")
    parts = units(ds)[1]
    if ds.attrs.get("what") == "weights":
        parts = f"weights of {parts}"
    return f"What the {text.plotly(donor)} model's {parts} do in the {text.plotly(receiver)} model"


def _subtitle(ds: xr.Dataset, name: str) -> str:
    parts = [f"{whole(ds.sizes['prompt'])} prompts"]
    if is_number(ds.attrs.get("gap")):
        unit = text.plotly(ds.attrs.get("unit_of_effect", ""))
        parts.append(f"gap between the models {number(ds.attrs['gap'], 2, sign=True)} {unit}".rstrip())
    if is_number(ds.attrs.get("rank_correlation")) and name == "recovered":
        low, high = ds.attrs.get("rank_correlation_low"), ds.attrs.get("rank_correlation_high")
        span = f" {interval(low, high, 2)}" if is_number(low) and is_number(high) else ""
        parts.append(f"rank correlation of estimate and exact {rounded(ds.attrs['rank_correlation'], 2)}{span}")
    if "needed_80" in ds and is_number(ds["needed_80"].item()):
        count = int(ds["needed_80"].item())
        parts.append(f"80 % of the gap with {whole(count)} {units(ds)[count != 1]}")
    note = str(ds.attrs.get("note", ""))
    if not np.isfinite(floats(ds[name])).any() and note:
        parts.append(text.plotly(text.short(note, 90)))
    return "; ".join(parts)


def estimates(ds: xr.Dataset) -> go.Figure:
    """Draw estimated against exact recovered fraction of each part, with the line on which they agree.

    ds: of `itlens.patch` with exact effects and estimates. The subtitle has their rank correlation with its interval
    (Spearman, bootstrap over parts); the parts that carry most are named. Units: recovered fractions. Raises
    ResultError for another result, or one without both.
    """
    require_result(ds, "patch", _ESTIMATES, "itlens.patch")
    if missing := [name for name in ("recovered", "estimated") if name not in ds]:
        raise ResultError(
            f"{_ESTIMATES} needs {' and '.join(missing)}: pass what itlens.patch returns with exact=True."
        )
    rows = ds[["recovered", "estimated"]].to_dataframe().reset_index()
    rows = rows[np.isfinite(rows["recovered"]) & np.isfinite(rows["estimated"])]
    fig = theme.figure(
        f"Does the estimate find the same {units(ds)[1]}?",
        subtitle=_correlation(ds, len(rows)),
        height=430,
        xaxis={"title": {"text": "exact: recovered fraction"}},
        yaxis={"title": {"text": "estimate, first order"}},
    )
    if not len(rows):
        return fig
    exact, estimated = rows["recovered"].to_numpy(float), rows["estimated"].to_numpy(float)
    ends = [min(exact.min(), estimated.min(), 0.0), max(exact.max(), estimated.max(), 0.0)]
    fig.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": theme.NEUTRAL, "dash": "dot", "width": 1.5}, name="equal",
        hoverinfo="skip",
    )  # fmt: skip
    names = [_name(row) for row in rows.to_dict("records")]
    best = _nameable(exact, estimated, ends[1] - ends[0])
    fig.add_scatter(
        x=exact, y=estimated, mode="markers+text", name="parts", showlegend=False, customdata=names,
        text=[name if place in best else "" for place, name in enumerate(names)], textposition="top left",
        marker={"color": theme.TUNED, "size": 8, "opacity": 0.75},
        hovertemplate="<b>%{customdata}</b><br>exact %{x:.3f}<br>estimate %{y:.3f}<extra></extra>",
    )  # fmt: skip
    return fig


def _nameable(exact: np.ndarray, estimated: np.ndarray, size: float) -> list[int]:
    """Return the parts that carry most, without those whose names would overlap."""
    kept: list[int] = []
    for place in np.argsort(-exact, kind="stable")[:_NAMED].tolist():
        near = [max(abs(exact[place] - exact[i]), abs(estimated[place] - estimated[i])) for i in kept]
        if min(near, default=np.inf) > _CLOSE * size:
            kept.append(place)
    return kept


def _name(row: dict[str, float]) -> str:
    head = row.get("head", row.get("key_value_head"))
    return f"layer {int(row['layer'])}" if head is None else head_name(int(row["layer"]), int(head))


def _correlation(ds: xr.Dataset, count: int) -> str:
    rho = ds.attrs.get("rank_correlation")
    if not is_number(rho):
        return f"{whole(count)} {units(ds)[1]}, a point each"
    low, high = ds.attrs.get("rank_correlation_low"), ds.attrs.get("rank_correlation_high")
    span = f" {interval(low, high, 2)}" if is_number(low) and is_number(high) else ""
    shown = rounded(rho, 2) if abs(float(rho)) < 1 else number(rho, 0)  # type: ignore[arg-type]
    return f"{whole(count)} {units(ds)[1]}, a point each; rank correlation {shown}{span}"
