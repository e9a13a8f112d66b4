"""Activation summaries of any number of models, layer by layer (part of `activations`)."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.views import text, theme
from itlens.views.head_grid import chosen_label, floats, layer_height, layer_lines, ticks
from itlens.views.numbers import interval, number, whole


def model_lines(ds: xr.Dataset, statistic: str, token_class: str, group: str, call: str) -> go.Figure:
    """A line per model down the layers, of `itlens.diff.activation_means`, with 95 % intervals over prompts.

    A statistic on heads is drawn as its mean over the heads of a layer, without intervals.
    """
    known = [str(name) for name in ds.data_vars if "layer" in ds[name].dims]
    if statistic not in known:
        raise ResultError(f"{call} cannot draw statistic={statistic!r}; on layers there are {', '.join(known)}.")
    part = ds[statistic].sel(group=chosen_label(ds, "group", group, call))
    about = str(part.attrs.get("long_name", statistic))
    if "token_class" in part.dims:
        part = part.sel(token_class=chosen_label(ds, "token_class", token_class, call))
        about += f" on {token_class} tokens"
    on_heads = "head" in part.dims
    said = "mean over the heads of each layer" if on_heads else "bands: 95 % interval"
    layers, labels = ds["layer"].values, [str(name) for name in ds["model"].values]
    fig = theme.figure(
        f"{text.plotly(about[:1].upper() + about[1:])}, model by model",
        subtitle=f"means over {whole(ds['prompts'].sel(group=group).item())} prompts; {said}",
        height=layer_height(len(layers)),
        xaxis={"title": {"text": "mean"}},
        yaxis={"title": {"text": "layer"}, "range": [len(layers) - 0.5, -0.5], **ticks(layers)},
    )
    for label, color in zip(labels, theme.model_colors(len(labels)), strict=True):
        fig.add_traces(_line(part.sel(model=label), text.plotly(label), color, on_heads))
    return fig


def _line(part: xr.DataArray, name: str, color: str, on_heads: bool) -> list[go.Scatter]:
    value, low, high = (part.sel(summary=end) for end in ("mean", "ci_low", "ci_high"))
    if on_heads:
        value, low = value.mean("head"), xr.full_like(value.mean("head"), np.nan)
        high = low
    middle, below, above = (floats(one, "layer") for one in (value, low, high))
    hover = [
        f"<b>layer {layer}</b><br>{name} {number(at)} {interval(start, end, sign=False)}"
        for layer, at, start, end in zip(part["layer"].values, middle, below, above, strict=True)
    ]
    return layer_lines(np.arange(len(middle)), middle, below, above, name, color, hover)
