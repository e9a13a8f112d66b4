"""Changed weights: a map of heads for each product, lines of all matrices over layers, and the panels' numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from itlens.report import theme
from itlens.report.explorer_places import Place, PlaceNumber
from itlens.report.head_grid import (
    MOST_ACROSS,
    cells_of,
    chosen_label,
    floats,
    head_map,
    head_name,
    layer_height,
    panels,
    require_result,
    ticks,
)
from itlens.report.numbers import number, percent

_SYMBOLS = {"W_Q": "circle", "W_K": "diamond", "W_V": "circle", "W_O": "diamond", "W_in": "circle",
            "W_gate": "diamond", "W_out": "square"}  # fmt: skip
_OF = {"QK": "W_QK: which words attend to which", "OV": "W_OV: what is moved"}


def weight_heads(delta: xr.Dataset, product: str = "QK") -> go.Figure:
    """Draw the relative change of every head's W_QK ("QK") or W_OV ("OV"), on layer x head.

    delta: of `itlens.weight_delta`. Raises ResultError for another result or product.
    """
    require_result(delta, "weight_delta", "views.weight_heads", "itlens.weight_delta")
    product = chosen_label(delta, "product", product, "views.weight_heads")
    own = delta.sel(product=product)
    layers, heads = own["layer"].values, own["head"].values
    relative, rank = (floats(own[name], "layer", "head") for name in ("head_relative", "head_effective_rank"))
    hover = [
        [
            f"{head_name(layer, head)}<br>change {percent(relative[i, j])} %<br>effective rank {number(rank[i, j], 1)}"
            for j, head in enumerate(heads)
        ]
        for i, layer in enumerate(layers)
    ]
    fig = theme.figure("Change of every head", subtitle=_OF[product], height=layer_height(len(layers)))
    panels(fig, [1.0], ["|tuned − base| / |base|"], shared=False)
    drawn = head_map(fig, relative, hover, "relative change", signed=False, meta=cells_of(layers, heads))
    fig.add_trace(drawn, row=1, col=1)
    fig.update_xaxes(**ticks(heads, MOST_ACROSS), title={"text": "head"}, range=[-0.5, len(heads) - 0.5], row=1, col=1)
    fig.update_yaxes(**ticks(layers), title={"text": "layer"}, range=[len(layers) - 0.5, -0.5], row=1, col=1)
    return fig


def weight_matrices(delta: xr.Dataset) -> go.Figure:
    """Draw the relative change of every matrix over layers, and the effective rank of the change as a share of that of
    noise. delta: of `itlens.weight_delta`. Raises ResultError for another result."""
    require_result(delta, "weight_delta", "views.weight_matrices", "itlens.weight_delta")
    layers = delta["layer"].values
    fig = theme.figure("Change of every matrix", subtitle="from the first layer down", height=layer_height(len(layers)))
    panels(fig, [0.5, 0.5], ["relative change (%)", "effective rank, share of noise (%)"], shared=True)
    share = delta["effective_rank"] / delta["effective_rank_random"]
    for column, values in enumerate((delta["relative"], share), start=1):
        for matrix in delta["matrix"].values:
            line = 100 * floats(values.sel(matrix=matrix), "layer")
            if np.isfinite(line).any():
                hover = [f"layer {layer}, {matrix}: {number(x, 2)} %" for layer, x in zip(layers, line, strict=True)]
                fig.add_trace(
                    go.Scatter(
                        x=line, y=np.arange(len(layers)), mode="lines+markers", name=str(matrix),
                        legendgroup=str(matrix), showlegend=column == 1, customdata=hover,
                        line={"color": theme.MATRICES[str(matrix)], "width": 2},
                        marker={"size": 7, "symbol": _SYMBOLS[str(matrix)]},
                        hovertemplate="%{customdata}<extra></extra>",
                    ),
                    row=1, col=column,
                )  # fmt: skip
        fig.update_xaxes(rangemode="tozero", title={"text": "%"}, row=1, col=column)
    fig.update_yaxes(**ticks(layers), title={"text": "layer"}, range=[len(layers) - 0.5, -0.5], row=1, col=1)
    return fig


# ---- what is known of each head and layer, for the panels of the page

_OF_HEAD = "Change of the weights (W_QK: what attends to what, W_OV: what is moved)"
_PRODUCTS = {
    "head_relative": ("relative change of W_{}", 100, "%"),
    "head_cosine": ("cosine of base and tuned, W_{}", 1, ""),
    "head_effective_rank": ("effective rank of the change of W_{}", 1, ""),
}
_MATRICES = {
    "relative": ("relative change of {}", 100, "%"),
    "cosine": ("cosine of base and tuned, {}", 1, ""),
    "unchanged": ("entries of {} that did not move", 100, "%"),
    "effective_rank": ("effective rank of the change of {}", 1, ""),
    "effective_rank_random": ("effective rank of noise of that shape, {}", 1, ""),
    "intruders": ("new directions among the first ten of {}", 1, ""),
}


def weight_places(delta: xr.Dataset, words: pd.DataFrame | None = None) -> Iterator[Place]:
    """Yield a place for every head, one for every layer, and one for every direction whose words are known.

    delta: of `itlens.weight_delta`. words: of the tables, "weight_words".
    """
    heads = delta[["head_relative"]].transpose("layer", "head", ...)
    for layer in heads["layer"].values.tolist():
        for head in heads["head"].values.tolist():
            yield Place(layer, head, _OF_HEAD, numbers=_lines(delta.sel(layer=layer, head=head), "product", _PRODUCTS))
        yield Place(layer, what="Change of the weights", numbers=_lines(delta.sel(layer=layer), "matrix", _MATRICES))
    for row in [] if words is None else words.to_dict("records"):
        numbers = [PlaceNumber("|cosine| of the first word", row["score"], p=row["p_bh"])]
        what = f"What the change of {row['matrix']} writes (p: Benjamini-Hochberg)"
        yield Place(row["layer"], what=what, part=f"direction {row['direction']}", numbers=numbers, text=row["words"])


def _lines(at: xr.Dataset, axis: str, names: Mapping[str, tuple[str, int, str]]) -> list[PlaceNumber]:
    """The numbers of each matrix or product that the model has."""
    lines = []
    for label in at[axis].values.tolist():
        values = {name: float(at[name].sel({axis: label})) for name in names if name in at}
        if np.isfinite(list(values.values())).any():
            for name, value in values.items():
                words, scale, unit = names[name]
                lines.append(PlaceNumber(words.format(label), scale * value, unit=unit))
    return lines
