"""What tuning changed in a model's run, layer by layer and head by head (`activations`)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.activation.view_grid import CellGrid, chosen_statistic, grid_of
from itlens.findings.activation.view_models import model_lines, one_model
from itlens.report import text, theme
from itlens.report.head_grid import (
    LEVEL,
    MOST_ACROSS,
    chosen_label,
    floats,
    head_map,
    layer_height,
    layer_lines,
    panels,
    star_marks,
    ticks,
)
from itlens.report.numbers import interval, number, p_value, whole

_CALL = "views.activations"


def activations_figure(
    ds: xr.Dataset,
    *,
    statistic: str | None = None,
    token_class: str = "instruction",
    group: str = "all",
    at: Mapping[str, Hashable] | None = None,
) -> go.Figure:
    """Draw one activation statistic: what changed, and where; or what one model or several look like.

    ds: of `itlens.diff.activations`: a statistic on heads is a map, layers down and heads across, of the mean
    difference (tuned - base), blue where the tuned model has more, with stars where it is significant after
    Benjamini-Hochberg (below 0.05), and next to it both models' means over the heads of each layer. A statistic on
    layers is drawn as both models' means, and the difference with its 95 % interval, with stars where it is
    significant. Of `itlens.activations`: one model's means over prompts. Of `itlens.diff.activation_means`: each model
    is a line down the layers.

    statistic: any of the result, also of your own hook points; default: attention_mass, or the first. token_class: for
    statistics that have classes. at: labels of further axes, such as {"hook": "hook_embed"}; without layers, hook
    points (or the first axis) are the rows. Units: the statistic's own.

    Raises ResultError for another result, and for a statistic, class, group or label that there is not.
    """
    probe = ds.attrs.get("probe") if isinstance(ds, xr.Dataset) else None
    draw = {"diff.activations": _difference, "activations": one_model, "diff.activation_means": model_lines}.get(
        str(probe)
    )
    if draw is None:
        got = f"a result of {probe or 'something else'}" if isinstance(ds, xr.Dataset) else f"a {type(ds).__name__}"
        raise ResultError(
            f"{_CALL} got {got}; pass what itlens.diff.activations, itlens.activations or "
            "itlens.diff.activation_means returns."
        )
    return draw(ds, statistic, token_class, group, at, _CALL)


def _difference(
    ds: xr.Dataset, statistic: str | None, token_class: str, group: str, at: Mapping[str, Hashable] | None, call: str
) -> go.Figure:
    values = chosen_statistic(ds, statistic, call)
    chosen = ds.sel(group=chosen_label(ds, "group", group, call))
    grid = grid_of(ds, values.sel(group=group), inner=("measure",), token_class=token_class, at=at, call=call)
    fig = theme.figure(
        f"What changed: {text.plotly(grid.words)}",
        subtitle=_subtitle(grid, chosen),
        height=layer_height(len(grid.row_labels)),
    )
    if grid.columns:
        over = "heads" if grid.columns == "head" else text.plotly(grid.columns)
        panels(fig, [0.62, 0.38], ["difference (tuned − base)", f"mean over {over}"], shared=True)
        _add_map(fig, grid)
    else:
        panels(fig, [0.5, 0.5], ["base and tuned", "difference (tuned − base), 95 %"], shared=True)
        _add_difference(fig, grid)
    _add_models(fig, grid.over_columns(), 2 if grid.columns else 1)
    fig.update_yaxes(**ticks(grid.row_labels), range=[len(grid.row_labels) - 0.5, -0.5])
    fig.update_yaxes(title={"text": text.plotly(grid.rows)}, row=1, col=1)
    return fig


def _add_map(fig: go.Figure, grid: CellGrid) -> None:
    columns = grid.column_labels
    cells = grid.floats()
    measures = grid.values["measure"].values.tolist()
    hover = [
        [_hover(dict(zip(measures, cells[:, i, j], strict=True)), grid.cell_name(i, j)) for j in range(cells.shape[2])]
        for i in range(cells.shape[1])
    ]
    z = grid.floats(measure="difference")
    fig.add_trace(head_map(fig, z, hover, "tuned − base", signed=True), row=1, col=1)
    stars = star_marks(grid.floats(measure="p_bh") < LEVEL, f"p BH < {LEVEL:g}")
    if stars is not None:
        fig.add_trace(stars, row=1, col=1)
    fig.update_xaxes(
        **ticks(columns, MOST_ACROSS),
        title={"text": text.plotly(grid.columns)},
        range=[-0.5, len(columns) - 0.5],
        row=1,
        col=1,
    )


def _add_models(fig: go.Figure, grid: CellGrid, column: int) -> None:
    places, nothing = np.arange(len(grid.row_labels)), np.full(len(grid.row_labels), np.nan)
    for side, color in (("base", theme.BASE), ("tuned", theme.TUNED)):
        means = grid.floats(measure=f"{side}_mean")
        hover = [f"<b>{grid.row_name(row)}</b><br>{side} {number(mean)}" for row, mean in enumerate(means)]
        for trace in layer_lines(places, means, nothing, nothing, side, color, hover):
            fig.add_trace(trace, row=1, col=column)
    fig.update_xaxes(title={"text": "mean"}, row=1, col=column)


def _add_difference(fig: go.Figure, grid: CellGrid) -> None:
    places = np.arange(len(grid.row_labels))
    middle, low, high, p = (grid.floats(measure=name) for name in ("difference", "ci_low", "ci_high", "p_bh"))
    cells, measures = grid.floats(), grid.values["measure"].values.tolist()
    hover = [_hover(dict(zip(measures, cells[:, row], strict=True)), grid.row_name(row)) for row in range(len(places))]
    for trace in layer_lines(places, middle, low, high, "difference", theme.NEUTRAL, hover):
        fig.add_trace(trace, row=1, col=2)
    if (p < LEVEL).any():
        marker = {"symbol": "star", "size": 12, "color": theme.TEXT}
        stars = {"x": middle[p < LEVEL], "y": places[p < LEVEL], "marker": marker, "hoverinfo": "skip"}
        fig.add_scatter(**stars, mode="markers", name=f"p BH < {LEVEL:g}", row=1, col=2)
    fig.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.2, "dash": "dot"}, row=1, col=2)
    fig.update_xaxes(title={"text": "tuned − base"}, row=1, col=2)


def _hover(at: Mapping[str, float], name: str) -> str:
    return (
        f"<b>{name}</b><br>base {number(at['base_mean'])} → tuned {number(at['tuned_mean'])}<br>difference "
        f"{number(at['difference'], sign=True)} {interval(at['ci_low'], at['ci_high'])}<br>"
        f"d_z {number(at['effect_size'], 2)}, p {p_value(at['p_paired'])}, Benjamini-Hochberg {p_value(at['p_bh'])}"
    )


def _subtitle(grid: CellGrid, chosen: xr.Dataset) -> str:
    note = str(chosen["note"].item()) if "note" in chosen.coords else ""
    if note:
        return text.plotly(note)
    p = floats(grid.values.sel(measure="p_bh"))
    prompts = f"{whole(chosen['prompts'].item())} prompts" if "prompts" in chosen.coords else "prompts"
    below = int((p < LEVEL).sum())
    count = f"{whole(below) if below else 'none'} of {whole(p.size)} {grid.kind}"
    return f"paired over {prompts}; {count} below {LEVEL:g} (Benjamini-Hochberg)"
