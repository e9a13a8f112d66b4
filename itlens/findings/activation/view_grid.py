"""Which cells of an activation statistic a figure shows: rows down the figure, columns across, whatever its axes are.

Rows are layers, or hook points, or the first axis that there is; columns are heads, or the one axis that is left. An
axis with a single label needs no choice.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from itlens.errors import ResultError
from itlens.report import text
from itlens.report.head_grid import chosen_label, head_name

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
