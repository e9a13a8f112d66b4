"""Gains of tasks: a map of tasks x layers, and each task's mean gain next to its control sets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from itlens.report import theme
from itlens.report.explorer_places import Place, PlaceNumber
from itlens.report.head_grid import chosen_label, floats, head_map, panels, require_result, ticks
from itlens.report.numbers import number, p_value

_CALL = "views.task_gains"
_WHAT = {
    "value": "Task words in what the layer writes (values)",
    "key": "Task words in what the layer reads (keys)",
}
_SIGNIFICANT = 0.05


def task_gain_map(energy: xr.Dataset, gains: pd.DataFrame, vectors: str = "value") -> go.Figure:
    """Draw the gain of each task less that of its matched controls, in points: layer by layer, and the mean.

    energy: of `itlens.task_energy`. gains: of `itlens.diff.task_gains`. vectors: "value" or "key". On the right, bars
    are 95 % intervals over layers, grey bands where 95 % of the topics lie. Raises ResultError for another result.
    """
    require_result(energy, "task_energy", _CALL, "itlens.task_energy")
    vectors = chosen_label(energy, "vectors", vectors, _CALL)
    theme.require(gains, ("vectors", "task", "excess", "topic_low"), _CALL, "itlens.diff.task_gains")
    rows = gains[gains["vectors"] == vectors]
    tasks = rows["task"].tolist()
    own = energy.sel(vectors=vectors, k=energy.attrs["quoted_k"]).sel(set=tasks)
    layers = own["layer"].values
    excess = 100 * floats(own["gain"] - own["null_layers"], "set", "layer")
    hover = [
        [f"{task}<br>layer {layer}<br>{number(excess[i, j], 2)} points" for j, layer in enumerate(layers)]
        for i, task in enumerate(tasks)
    ]
    subtitle = f"gain of the energy in the first {energy.attrs['quoted_k']} directions, less matched controls"
    fig = theme.figure(_WHAT[vectors], subtitle=subtitle, height=230 + 34 * len(tasks))
    panels(fig, [0.55, 0.45], ["by layer (points)", "mean over layers (points)"], shared=True)
    drawn = head_map(fig, excess, hover, "points", signed=True)
    fig.add_trace(drawn, row=1, col=1)
    _add_means(fig, rows)
    fig.update_xaxes(**ticks(layers), title={"text": "layer"}, range=[-0.5, len(layers) - 0.5], row=1, col=1)
    fig.update_xaxes(title={"text": "points"}, row=1, col=2)
    fig.update_yaxes(**ticks(tasks, len(tasks)), range=[len(tasks) - 0.5, -0.5], row=1, col=1)
    return fig


def _add_means(fig: go.Figure, rows: pd.DataFrame) -> None:
    at = np.arange(len(rows))
    # the topics' range is of gains; the excess is measured from the matched controls' mean
    mean_null = (rows["gain"] - rows["excess"]).to_numpy(float)
    low, high = (100 * (rows[name].to_numpy(float) - mean_null) for name in ("topic_low", "topic_high"))
    fig.add_bar(
        x=high - low, y=at, base=low, orientation="h", width=0.55, name="95 % of topics", hoverinfo="skip",
        marker={"color": "rgba(138,144,153,0.35)"}, row=1, col=2,
    )  # fmt: skip
    value, start, end = (100 * rows[name].to_numpy(float) for name in ("excess", "ci_low", "ci_high"))
    significant = rows["p_holm"].to_numpy(float) < _SIGNIFICANT
    hover = [
        f"{row['task']}: {number(value[place], 2)} points<br>p Holm {p_value(row['p_holm'])}"
        for place, (_, row) in enumerate(rows.iterrows())
    ]
    fig.add_scatter(
        x=value, y=at, mode="markers", name="task, 95 % interval over layers", customdata=hover,
        error_x={"type": "data", "symmetric": False, "array": end - value, "arrayminus": value - start,
                 "color": theme.NEUTRAL},
        marker={"color": np.where(significant, theme.TUNED, theme.NEUTRAL), "size": 9},
        hovertemplate="%{customdata}<extra></extra>", row=1, col=2,
    )  # fmt: skip
    fig.add_vline(x=0, line={"width": 1, "color": theme.GRID}, row=1, col=2)


def task_places(energy: xr.Dataset) -> Iterator[Place]:
    """Yield a place for each layer and kind of vectors: the energy of every task in both models, per cent."""
    at = energy.sel(k=energy.attrs["quoted_k"])
    for kind in at["vectors"].values.tolist():
        for layer in at["layer"].values.tolist():
            own = at.sel(vectors=kind, layer=layer)
            numbers = [_line(own.sel(set=task), str(task)) for task in own["set"].values]
            yield Place(int(layer), what=_WHAT[kind], numbers=[line for line in numbers if line.base is not None])


def _line(own: xr.Dataset, task: str) -> PlaceNumber:
    base, tuned = (float(own["energy"].sel(side=side)) for side in ("base", "tuned"))
    if not np.isfinite(base + tuned):
        return PlaceNumber(task)
    return PlaceNumber(task, 100 * (tuned - base), 100 * base, 100 * tuned, unit="%")
