"""Pieces of figures over layers: a map of layers and heads, its marks, lines with bands beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.report import theme

LEVEL = 0.05  # of corrected p-values
_MOST_LABELS = 40
MOST_ACROSS = 20  # labels side by side in a panel
_BELOW, _AROUND = 52, 166  # pixels: the legend under the axis, and the margins above and below the panels


def head_name(layer: object, head: object) -> str:
    """L5H3: head 3 of layer 5, both counted from 0."""
    return f"L{int(layer)}H{int(head)}"  # type: ignore[call-overload]


def head_map(
    fig: go.Figure,
    z: np.ndarray,
    hover: list[list[str]],
    words: str,
    *,
    signed: bool,
    meta: Mapping[str, list[int]] | None = None,
) -> go.Heatmap:
    """Cells (layer, head); `signed` numbers are coloured alike on both sides of zero, others from zero up.

    The colour bar stands at the right of the first panel of `fig`. A cell without a number stays empty. meta: of
    `cells_of`, so that a click in a page opens what is known of a head.
    """
    limit = float(np.abs(z[np.isfinite(z)]).max(initial=0.0)) or 1.0
    title = {"text": words, "side": "right", "font": {"size": 12}}
    beside = fig.layout.xaxis.domain[1] + 0.01
    return go.Heatmap(
        z=z, x=list(range(z.shape[1])), y=list(range(z.shape[0])), zmin=-limit if signed else 0.0, zmax=limit,
        colorscale=theme.DIVERGING if signed else theme.SEQUENTIAL, xgap=1, ygap=1, customdata=hover,
        hovertemplate="%{customdata}<extra></extra>", meta=meta,
        colorbar={"title": title, "thickness": 11, "outlinewidth": 0, "x": beside, "xanchor": "left",
                  "tickfont": {"size": 11}},
    )  # fmt: skip


def cells_of(layers: Iterable[object], heads: Iterable[object] | None = None) -> dict[str, list[int]]:
    """Return the numbers of the rows (layers) and columns (heads) of a map, as `meta` of its trace.

    A page opens the panel of a head or layer by them: at a click on row y and column x, that of layers[y], heads[x].
    """
    axes = {"layers": layers, "heads": heads}
    return {name: [int(str(number)) for number in axis] for name, axis in axes.items() if axis is not None}


def star_marks(chosen: np.ndarray, name: str) -> go.Scatter | None:
    """A star on each chosen cell of a map (layer, head); None when there is none."""
    rows, columns = np.nonzero(chosen)
    if not len(rows):
        return None
    return go.Scatter(
        x=columns, y=rows, mode="markers", hoverinfo="skip", showlegend=True, name=name,
        marker={"symbol": "star", "size": 10, "color": "#ffffff", "line": {"color": "#1f2328", "width": 1.2}},
    )  # fmt: skip


def layer_lines(
    places: np.ndarray,
    value: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    name: str,
    color: str,
    hover: list[str],
    meta: Mapping[str, list[int]] | None = None,
) -> list[go.Scatter]:
    """A line down the layers (layers are rows, as in the map beside it), with its interval as a band behind.

    meta: as in `head_map`.
    """
    traces = []
    there = np.isfinite(low) & np.isfinite(high)
    if there.any():
        traces.append(
            go.Scatter(
                x=np.concatenate([high[there], low[there][::-1]]),
                y=np.concatenate([places[there], places[there][::-1]]), fill="toself", fillcolor=faded(color),
                line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False, name=f"{name}, 95 %",
                legendgroup=name,
            )
        )  # fmt: skip
    traces.append(
        go.Scatter(
            x=value, y=places, mode="lines+markers", name=name, legendgroup=name, customdata=hover, meta=meta,
            line={"color": color, "width": 2.2}, marker={"size": 6}, hovertemplate="%{customdata}<extra></extra>",
        )
    )  # fmt: skip
    return traces


def faded(color: str, opacity: float = 0.18) -> str:
    """The colour of the band behind a line of `color` ("#rrggbb")."""
    rgb = ",".join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))
    return f"rgba({rgb},{opacity:g})"


def ticks(values: Iterable[object], most: int = _MOST_LABELS) -> dict[str, object]:
    """Axis settings that write the labels of cells 0, 1, 2 ..., at most so many of them."""
    labels = [str(value) for value in values]
    every = max(1, -(-len(labels) // most))
    places = list(range(0, len(labels), every))
    return {"tickvals": places, "ticktext": [labels[i] for i in places], "tickfont": {"size": 11},
            "tickangle": 0, "showgrid": False, "zeroline": False}  # fmt: skip


def panels(fig: go.Figure, widths: list[float], titles: list[str], *, shared: bool) -> None:
    """Panels side by side, with titles. shared: all have the layers down."""
    space = 0.16 if len(widths) == 2 else 0.12
    fig.set_subplots(
        1, len(widths), column_widths=widths, subplot_titles=titles, horizontal_spacing=space, shared_yaxes=shared
    )
    # plotly would centre the title in the margin, over the panels' own
    top = {"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 18}}
    fig.update_annotations(font={"size": 13, "color": theme.TEXT})
    below = -_BELOW / (fig.layout.height - _AROUND)
    fig.update_layout(title=top, margin={"t": 110}, legend={"y": below, "yanchor": "top"})


def layer_height(layers: int) -> int:
    """How high a figure of so many rows is, in pixels."""
    return int(np.clip(260 + 18 * layers, 420, 1100))


def floats(values: xr.DataArray, *dims: str) -> np.ndarray:
    """The numbers on these axes, in this order."""
    return np.asarray((values.transpose(*dims) if dims else values).values, dtype=float)


def require_result(ds: object, probe: str, call: str, source: str) -> None:
    """Raise ResultError unless `ds` is a Dataset that this probe or diff made."""
    if not isinstance(ds, xr.Dataset) or ds.attrs.get("probe") != probe:
        got = f"a result of {ds.attrs.get('probe') or 'something else'}" if isinstance(ds, xr.Dataset) else None
        raise ResultError(f"{call} got {got or f'a {type(ds).__name__}'}; pass what {source} returns.")


def chosen_label(ds: xr.Dataset, axis: str, asked: str, call: str) -> str:
    """`asked` if it is one of the labels on the axis. Raises ResultError that lists them."""
    known = [str(name) for name in ds[axis].values] if axis in ds.coords else []
    if asked not in known:
        raise ResultError(f"{call} got {axis}={asked!r}; there are {', '.join(known) or 'none'}.")
    return asked
