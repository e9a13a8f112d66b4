"""What the finding knows of each head and layer, for the panels of the page: statistics of both models, and the shift.

Every statistic on (layer, head) or (layer), and on classes of tokens besides, of `itlens.diff.activations`; every mean
of `itlens.diff.shift_summary` without first tokens, with the lens read by each model's own readout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from itlens.findings.activation.view_shift import WORDS
from itlens.report.explorer_places import Place, PlaceNumber

_STATISTICS = "Activations on the same tokens (p: Benjamini-Hochberg)"
_SHIFT = "How far tuning changed its activations"
_PATTERNS = "Where it looks, base | tuned | difference"
_SHOWN = {
    "difference": "value",
    "base_mean": "base",
    "tuned_mean": "tuned",
    "ci_low": "low",
    "ci_high": "high",
    "p_bh": "p",
}
_AXES = {"head": ("layer", "head"), "layer": ("layer",)}
_CLASS = "rest"  # all tokens but the first
_CHOSEN = {"token_class": _CLASS, "reading": "own"}


def activation_places(diff: xr.Dataset, shift: xr.Dataset, tests: xr.Dataset, group: str = "all") -> Iterator[Place]:
    """Yield the places of all heads, then those of all layers.

    diff: of `itlens.diff.activations`. shift: of `itlens.diff.shift_summary`. tests: of `itlens.diff.shift_tests`.
    group: of prompts.
    """
    diff, shift, tests = diff.sel(group=group), shift.sel(group=group), tests.sel(group=group)
    for axes in _AXES.values():
        compared = [row for name in diff.data_vars for row in _statistic(diff[name], axes)]
        changed = [row for name in shift.data_vars for row in _summary(shift[name], tests, axes)]
        sizes = [shift.sizes[axis] for axis in axes]
        for cell in np.ndindex(*sizes):
            layer, *head = (int(shift[axis].values[place]) for axis, place in zip(axes, cell, strict=True))
            for what, rows in ((_STATISTICS, compared), (_SHIFT, changed)):
                numbers = [_number(name, values, cell) for name, values in rows]
                if numbers:
                    yield Place(layer, head[0] if head else None, what, numbers=numbers)


def pattern_places(patterns: xr.Dataset | None) -> Iterator[Place]:
    """Yield the heads of which the study kept attention patterns, with the prompts that show them."""
    if patterns is None:
        return
    ids = [str(id) for id in patterns["prompt"].values]
    for layer, head in zip(patterns["layer"].values.tolist(), patterns["head"].values.tolist(), strict=True):
        yield Place(int(layer), int(head), _PATTERNS, shown_on=ids)


Row = tuple[str, Mapping[str, np.ndarray]]  # its name; the numbers of all places, by field of `PlaceNumber`


def _statistic(values: xr.DataArray, axes: tuple[str, ...]) -> Iterator[Row]:
    """A statistic that is on these axes, once for each class of tokens."""
    words = str(values.attrs.get("long_name", values.name))
    classes = [str(name) for name in values["token_class"].values] if "token_class" in values.dims else [""]
    for token_class in classes:
        of_class = values.sel(token_class=token_class) if token_class else values
        if set(of_class.dims) == {"measure", *axes}:
            on_axes = of_class.transpose("measure", *axes)
            name = f"{words}, {token_class} tokens" if token_class else words
            yield name, {field: np.asarray(on_axes.sel(measure=measure)) for measure, field in _SHOWN.items()}


def _summary(values: xr.DataArray, tests: xr.Dataset, axes: tuple[str, ...]) -> Iterator[Row]:
    """A mean over prompts that is on these axes, of all tokens but the first; of norms with the test of their logs."""
    chosen = values.sel({axis: label for axis, label in _CHOSEN.items() if axis in values.dims})
    if set(chosen.dims) != {"summary", *axes}:
        return
    name = str(values.name)
    on_axes = chosen.transpose("summary", *axes)
    fields = {"value": "mean", "low": "ci_low", "high": "ci_high"}
    numbers = {field: np.asarray(on_axes.sel(summary=each)) for field, each in fields.items()}
    if (test := name.replace("_norm_ratio", "_log_norm_ratio")) != name and test in tests:
        numbers["p"] = np.asarray(tests[test].sel(token_class=_CLASS, measure="p_bh").transpose(*axes))
    yield WORDS.get(name, name.replace("_", " ")), numbers


def _number(name: str, values: Mapping[str, np.ndarray], cell: tuple[int, ...]) -> PlaceNumber:
    fields: dict[str, Any] = {field: float(of_all[cell]) for field, of_all in values.items()}
    return PlaceNumber(name, **fields)
