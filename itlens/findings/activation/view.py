"""A model's run, layer by layer and head by head: what tuning changed, and what one or several models are like.

Whatever the axes of a statistic are, a figure has rows and columns of cells (`CellGrid`). Rows are layers, or hook
points, or the first axis that there is; columns are heads, or the one axis that is left. An axis with a single label
needs no choice.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.activation.columns import effect_text
from itlens.report import text, theme
from itlens.report.head_grid import (
    LEVEL,
    MOST_ACROSS,
    cells_of,
    chosen_label,
    floats,
    head_map,
    head_name,
    layer_height,
    layer_lines,
    panels,
    star_marks,
    ticks,
)
from itlens.report.numbers import interval, number, p_value, whole
from itlens.stats.groups import groups_of

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
    fig.add_trace(head_map(fig, z, hover, "tuned − base", signed=True, meta=grid.meta), row=1, col=1)
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
        for trace in layer_lines(places, means, nothing, nothing, side, color, hover, grid.meta):
            fig.add_trace(trace, row=1, col=column)
    fig.update_xaxes(title={"text": _axis(grid.words)}, row=1, col=column)


def _add_difference(fig: go.Figure, grid: CellGrid) -> None:
    places = np.arange(len(grid.row_labels))
    middle, low, high, p = (grid.floats(measure=name) for name in ("difference", "ci_low", "ci_high", "p_bh"))
    cells, measures = grid.floats(), grid.values["measure"].values.tolist()
    hover = [_hover(dict(zip(measures, cells[:, row], strict=True)), grid.row_name(row)) for row in range(len(places))]
    for trace in layer_lines(places, middle, low, high, "difference", theme.NEUTRAL, hover, grid.meta):
        fig.add_trace(trace, row=1, col=2)
    if (p < LEVEL).any():
        marker = {"symbol": "star", "size": 12, "color": theme.TEXT}
        stars = {"x": middle[p < LEVEL], "y": places[p < LEVEL], "marker": marker, "hoverinfo": "skip"}
        fig.add_scatter(**stars, mode="markers", name=f"p BH < {LEVEL:g}", row=1, col=2)
    fig.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.2, "dash": "dot"}, row=1, col=2)
    fig.update_xaxes(title={"text": text.plotly(f"tuned − base{_unit(grid.words)}")}, row=1, col=2)


def _hover(at: Mapping[str, float], name: str) -> str:
    return (
        f"<b>{name}</b><br>base {number(at['base_mean'])} → tuned {number(at['tuned_mean'])}<br>difference "
        f"{number(at['difference'], sign=True)} {interval(at['ci_low'], at['ci_high'])}<br>"
        f"d_z {effect_text(at['effect_size'])}, p {p_value(at['p_paired'])}, Benjamini-Hochberg {p_value(at['p_bh'])}"
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


# ---- one model


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
        _add_mean_map(fig, grid)
    else:
        panels(fig, [1.0], ["mean over prompts"], shared=True)
    line, column = grid.over_columns().floats(), 2 if grid.columns else 1
    hover = [f"<b>{grid.row_name(row)}</b><br>{number(value)}" for row, value in enumerate(line)]
    nothing = np.full(len(line), np.nan)
    for trace in layer_lines(np.arange(len(line)), line, nothing, nothing, "mean", theme.TUNED, hover):
        fig.add_trace(trace.update(showlegend=False), row=1, col=column)
    fig.update_xaxes(title={"text": _axis(grid.words)}, row=1, col=column)
    fig.update_yaxes(**ticks(grid.row_labels), range=[len(grid.row_labels) - 0.5, -0.5])
    fig.update_yaxes(title={"text": text.plotly(grid.rows)}, row=1, col=1)
    return fig


def _prompts_of(ds: xr.Dataset, group: str, call: str) -> np.ndarray:
    """Return which prompts belong to a group: "all", or one of those that prompts name."""
    known = groups_of(ds["group"].values)
    if group not in known:
        raise ResultError(f"{call} got group={group!r}; there are {', '.join(known)}.")
    return known[group]


def _add_mean_map(fig: go.Figure, grid: CellGrid) -> None:
    z, columns = grid.floats(), grid.column_labels
    hover = [
        [f"<b>{grid.cell_name(row, column)}</b><br>{number(z[row, column])}" for column in range(z.shape[1])]
        for row in range(z.shape[0])
    ]
    signed = bool((z < 0).any())
    fig.add_trace(head_map(fig, z, hover, "mean", signed=signed, meta=grid.meta), row=1, col=1)
    axis = ticks(columns, MOST_ACROSS) | {"range": [-0.5, len(columns) - 0.5]}
    fig.update_xaxes(**axis, title={"text": text.plotly(grid.columns)}, row=1, col=1)


# ---- any number of models


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
        xaxis={"title": {"text": _axis(grid.words)}},
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


def _axis(words: str) -> str:
    """What an axis of means shows; where its words are wider than a panel, the unit: the title above says the rest."""
    return text.plotly(f"mean {words}" if len(words) <= _WIDE else f"mean over prompts{_unit(words)}")


def _unit(words: str) -> str:
    """The unit at the end of a statistic's words, in brackets: " (nats)"; "" without one."""
    found = re.search(r" \([^()]+\)$", words)
    return found[0] if found else ""


def _title(words: str) -> str:
    return text.plotly(words[:1].upper() + words[1:])


# ---- which cells a figure shows

_WIDE = 40  # characters of an axis title
_FIRST = "attention_mass"  # drawn where no statistic is named
_WHOLE = "whole model"


@dataclass(frozen=True)
class CellGrid:
    """Values on (*inner, row[, column]). words: what they are; rows, columns: names of these axes, "" for none."""

    values: xr.DataArray
    words: str
    rows: str
    columns: str

    @property
    def row_labels(self) -> list[Hashable]:
        """Labels down the figure."""
        return _labels(self.values, self.rows) if self.rows else [_WHOLE]

    @property
    def column_labels(self) -> list[Hashable]:
        """Labels across the figure; none without columns."""
        return _labels(self.values, self.columns) if self.columns else []

    @property
    def kind(self) -> str:
        """What a cell is, in the plural."""
        if self.columns:
            return "heads" if (self.rows, self.columns) == ("layer", "head") else "cells"
        return {"layer": "layers", "hook": "hook points", "": "numbers"}.get(self.rows, "cells")

    @property
    def meta(self) -> dict[str, list[int]] | None:
        """Which layers (and heads) the cells are of; None where they are of something else."""
        if self.kind not in ("heads", "layers"):
            return None
        return cells_of(self.row_labels, self.column_labels or None)

    def row_name(self, row: int) -> str:
        """A row in a hover text (plotly mark-up)."""
        label = self.row_labels[row]
        return text.plotly(label if self.rows in ("hook", "") else f"{self.rows} {label}")

    def cell_name(self, row: int, column: int) -> str:
        """A cell in a hover text (plotly mark-up)."""
        labels = self.row_labels[row], self.column_labels[column]
        if self.kind == "heads":
            return head_name(*labels)
        return f"{self.row_name(row)}, {text.plotly(f'{self.columns} {labels[1]}')}"

    def floats(self, **inner: Hashable) -> np.ndarray:
        """Numbers on (row, column), or (row), at labels of the inner axes."""
        values = self.values.sel(inner) if inner else self.values
        axes = [axis for axis in (self.rows, self.columns) if axis]
        numbers = np.asarray(values.transpose(..., *axes).values, dtype=float)
        return numbers if self.rows else numbers[..., None]

    def over_columns(self) -> CellGrid:
        """The means over columns."""
        return CellGrid(self.values.mean(self.columns), self.words, self.rows, "") if self.columns else self


def grid_of(
    ds: xr.Dataset,
    values: xr.DataArray,
    *,
    inner: tuple[str, ...],
    token_class: str,
    at: Mapping[str, Hashable] | None,
    call: str,
) -> CellGrid:
    """Return the grid of one statistic, whose `inner` axes (measures, models) stay in front.

    at: labels of further axes. Raises ResultError for a label or axis that there is not, and where axes are left over.
    """
    words = str(values.attrs.get("long_name", values.name))
    if "token_class" in values.dims:
        values = values.sel(token_class=chosen_label(ds, "token_class", token_class, call))
        words += f" on {token_class} tokens"
    for axis, label in dict(at or {}).items():
        if axis in inner or axis not in values.dims:
            known = [str(dim) for dim in values.dims if dim not in inner]
            raise ResultError(f"{call} got at={{{axis!r}: ...}}; {values.name!r} has {', '.join(known) or 'no axes'}.")
        labels = _labels(values, axis)
        if label not in labels:
            shown = ", ".join(map(repr, labels[:8])) + (" ..." if len(labels) > 8 else "")
            raise ResultError(f"{call} got at={{{axis!r}: {label!r}}}; there are {shown}.")
        values = values.isel({axis: labels.index(label)})
        words += f", {axis} {label}"
    for axis in [str(dim) for dim in values.dims if dim not in (*inner, "layer", "head") and values.sizes[dim] == 1]:
        words += f", {axis} {_labels(values, axis)[0]}" if axis in values.coords else ""
        values = values.isel({axis: 0})
    axes = [str(dim) for dim in values.dims if dim not in inner]
    rows = next((axis for axis in ("layer", "hook") if axis in axes), axes[0] if axes else "")
    rest = [axis for axis in axes if axis != rows]
    rest.sort(key=lambda axis: (axis != "head", axis == "hook"))  # heads across where there are any, hook points last
    columns = rest[0] if rest else ""
    left = rest[1:]
    if left:
        raise ResultError(
            f"{call} draws two axes; {values.name!r} has {', '.join([rows, columns, *left])}: choose a label with "
            f"at={{{left[0]!r}: ...}}."
        )
    return CellGrid(values.transpose(*inner, ...), words, rows, columns)


def chosen_statistic(ds: xr.Dataset, statistic: str | None, call: str) -> xr.DataArray:
    """Return the statistic of this name, or the first. Raises ResultError that lists what there is."""
    known = [str(name) for name in ds.data_vars]
    if statistic is None and known:
        return ds[_FIRST if _FIRST in known else known[0]]
    if statistic not in known:
        raise ResultError(f"{call} cannot draw statistic={statistic!r}; there are {', '.join(known) or 'none'}.")
    return ds[statistic]


def _labels(values: xr.DataArray, axis: str) -> list[Hashable]:
    return list(values[axis].values.tolist()) if axis in values.coords else list(range(values.sizes[axis]))
