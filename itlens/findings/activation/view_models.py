"""Activation statistics of one model, or of any number of models, layer by layer (part of `activations`)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.activation.view_grid import CellGrid, chosen_statistic, grid_of
from itlens.report import text, theme
from itlens.report.head_grid import MOST_ACROSS, chosen_label, head_map, layer_height, layer_lines, panels, ticks
from itlens.report.numbers import interval, number, whole


def one_model(
    ds: xr.Dataset, statistic: str | None, token_class: str, group: str, at: Mapping[str, Hashable] | None, call: str
) -> go.Figure:
    """Draw one model's means over prompts, of `itlens.activations`: a map with means over heads, or a line."""
    values = chosen_statistic(ds, statistic, call)
    chosen = _prompts_of(ds, group, call)
    means = values.isel(prompt=chosen).mean("prompt").assign_attrs(values.attrs)
    grid = grid_of(ds, means, inner=(), token_class=token_class, at=at, call=call)
    model = text.plotly(ds.attrs.get("model", "one model"))
    fig = theme.figure(
        _title(grid.words), subtitle=f"{model}; means over {whole(chosen.sum())} prompts",
        height=layer_height(len(grid.row_labels)),
    )  # fmt: skip
    if grid.columns:
        over = "heads" if grid.columns == "head" else text.plotly(grid.columns)
        panels(fig, [0.62, 0.38], ["mean over prompts", f"mean over {over}"], shared=True)
        _add_map(fig, grid)
    else:
        panels(fig, [1.0], ["mean over prompts"], shared=True)
    line, column = grid.over_columns().floats(), 2 if grid.columns else 1
    hover = [f"<b>{grid.row_name(row)}</b><br>{number(value)}" for row, value in enumerate(line)]
    nothing = np.full(len(line), np.nan)
    for trace in layer_lines(np.arange(len(line)), line, nothing, nothing, "mean", theme.TUNED, hover):
        fig.add_trace(trace.update(showlegend=False), row=1, col=column)
    fig.update_xaxes(title={"text": "mean"}, row=1, col=column)
    fig.update_yaxes(**ticks(grid.row_labels), range=[len(grid.row_labels) - 0.5, -0.5])
    fig.update_yaxes(title={"text": text.plotly(grid.rows)}, row=1, col=1)
    return fig


def _prompts_of(ds: xr.Dataset, group: str, call: str) -> np.ndarray:
    """Return which prompts belong to a group: "all", or one of those that prompts name."""
    named = ds["group"].values.astype(str)
    known = ["all", *(name for name in dict.fromkeys(named.tolist()) if name)]
    if group not in known:
        raise ResultError(f"{call} got group={group!r}; there are {', '.join(known)}.")
    return np.ones(named.size, dtype=bool) if group == "all" else named == group


def _add_map(fig: go.Figure, grid: CellGrid) -> None:
    z, columns = grid.floats(), grid.column_labels
    hover = [
        [f"<b>{grid.cell_name(row, column)}</b><br>{number(z[row, column])}" for column in range(z.shape[1])]
        for row in range(z.shape[0])
    ]
    fig.add_trace(head_map(fig, z, hover, "mean", signed=bool((z < 0).any())), row=1, col=1)
    axis = ticks(columns, MOST_ACROSS) | {"range": [-0.5, len(columns) - 0.5]}
    fig.update_xaxes(**axis, title={"text": text.plotly(grid.columns)}, row=1, col=1)


def model_lines(
    ds: xr.Dataset, statistic: str | None, token_class: str, group: str, at: Mapping[str, Hashable] | None, call: str
) -> go.Figure:
    """Draw a line per model down the layers, of `itlens.diff.activation_means`, with 95 % intervals over prompts.

    A statistic on heads is drawn as its mean over the heads of a layer, without intervals.
    """
    values = chosen_statistic(ds, statistic, call).sel(group=chosen_label(ds, "group", group, call))
    grid = grid_of(ds, values, inner=("model", "summary"), token_class=token_class, at=at, call=call)
    over = "the heads of each layer" if grid.kind == "heads" else text.plotly(grid.columns)
    about = f"mean over {over}" if grid.columns else "bands: 95 % interval"
    labels = [str(name) for name in ds["model"].values]
    fig = theme.figure(
        f"{_title(grid.words)}, model by model",
        subtitle=f"means over {whole(ds['prompts'].sel(group=group).item())} prompts; {about}",
        height=layer_height(len(grid.row_labels)),
        xaxis={"title": {"text": "mean"}},
        yaxis={
            "title": {"text": text.plotly(grid.rows)},
            "range": [len(grid.row_labels) - 0.5, -0.5],
            **ticks(grid.row_labels),
        },
    )
    for label, color in zip(labels, theme.model_colors(len(labels)), strict=True):
        fig.add_traces(_line(grid, label, color))
    return fig


def _line(grid: CellGrid, label: str, color: str) -> list[go.Scatter]:
    means, name = grid.over_columns(), text.plotly(label)
    middle = means.floats(model=label, summary="mean")
    low, high = (
        np.full(middle.shape, np.nan) if grid.columns else means.floats(model=label, summary=end)
        for end in ("ci_low", "ci_high")
    )
    hover = [
        f"<b>{grid.row_name(row)}</b><br>{name} {number(mean)} {interval(start, end, sign=False)}"
        for row, (mean, start, end) in enumerate(zip(middle, low, high, strict=True))
    ]
    return layer_lines(np.arange(len(middle)), middle, low, high, name, color, hover)


def _title(words: str) -> str:
    return text.plotly(words[:1].upper() + words[1:])
