"""Activation summaries of any number of models beside one another: means over prompts with their intervals.

What differs between two of them is `itlens.diff.activations`; what rises or falls along all is `itlens.diff.series`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from itlens.diff.paired_cells import interval
from itlens.diff.statistics import too_few
from itlens.errors import ResultError
from itlens.provenance import provenance

SUMMARIES = ("n", "mean", "ci_low", "ci_high")
_SAME = ("hooks", "format", "lens_positions")


def activation_means(
    results: Mapping[str, xr.Dataset], *, seed: int = 0, resamples: int = 2000, minimum: int = 5
) -> xr.Dataset:
    """Means over prompts of each model's activation summaries, over all prompts and per group.

    results: by the models' labels, in order, Datasets of `itlens.activations` of the same prompts and settings.
    seed, resamples: of the bootstrap. minimum: fewer prompts get no interval.

    Returns the statistics of the input on (model, group, summary, ...), prompts replaced by group ("all", then each
    group of prompts) and summary: n (prompts that count), mean, ci_low, ci_high (95 % percentile bootstrap over
    prompts). Units are the statistic's own. On (group): prompts, note. Raises ResultError for other results, and for
    models whose prompts, shapes or settings differ.
    """
    if not isinstance(results, Mapping) or isinstance(results, xr.Dataset) or not results:
        raise ResultError("activation_means takes results by model, such as {'base': ..., 'sft': ..., 'dpo': ...}.")
    labels = [str(label) for label in results]
    sides = _aligned(labels, list(results.values()))
    named = sides[0]["group"].values
    groups = {"all": np.ones(named.size, dtype=bool)}
    groups |= {str(name): named == name for name in dict.fromkeys(named.tolist()) if name}
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    parts = [
        xr.concat([_means(side.isel(prompt=chosen), **options) for chosen in groups.values()], dim="group")
        for side in sides
    ]
    counts = [int(chosen.sum()) for chosen in groups.values()]
    same = {name: sides[0].attrs.get(name, "") for name in _SAME}
    return (
        xr.concat(parts, dim="model")
        .assign_coords(
            model=labels,
            group=list(groups),
            prompts=("group", np.array(counts)),
            note=("group", np.array([too_few(count, minimum) for count in counts], dtype=np.str_)),
        )
        .assign_attrs(provenance("diff.activation_means", **same, **options))
    )


def _aligned(labels: list[str], sides: list[Any]) -> list[xr.Dataset]:
    """All with the prompts in the first one's order."""
    for label, ds in zip(labels, sides, strict=True):
        if not isinstance(ds, xr.Dataset) or ds.attrs.get("probe") != "activations":
            raise ResultError(f"{label!r} is no Dataset of itlens.activations; compute it, or load it.")
    first = sides[0]
    for label, ds in zip(labels[1:], sides[1:], strict=True):
        for name in _SAME:
            if first.attrs.get(name) != ds.attrs.get(name):
                raise ResultError(f"{labels[0]!r} and {label!r} differ in {name}; compare like with like.")
        if set(first.data_vars) != set(ds.data_vars):
            raise ResultError(
                f"{labels[0]!r} and {label!r} have different statistics; compute both with the same hooks."
            )
        for dim in first.dims:
            ours, theirs = (one[dim].values.tolist() if dim in one.dims else [] for one in (first, ds))
            if (sorted(ours) != sorted(theirs)) if dim == "prompt" else (ours != theirs):
                raise ResultError(
                    f"{labels[0]!r} and {label!r} have other labels on {dim!r} ({len(ours)} and {len(theirs)}); give "
                    "results of the same prompts and of models of one shape."
                )
    return [first, *(ds.sel(prompt=first["prompt"].values) for ds in sides[1:])]


def _means(side: xr.Dataset, *, seed: int, resamples: int, minimum: int) -> xr.Dataset:
    """SUMMARIES of every statistic, on (summary, ...)."""
    found = {}
    for name, value in side.data_vars.items():
        value = value.transpose("prompt", ...)
        cells = value.values.reshape(len(value), -1).astype(float)
        known = np.isfinite(cells)
        n = known.sum(axis=0)
        mean = np.divide(np.where(known, cells, 0.0).sum(axis=0), n, out=np.full(n.shape, np.nan), where=n > 0)
        ends = interval(cells, seed=seed, resamples=resamples)
        low, high = (np.where(n >= max(minimum, 2), end, np.nan) for end in ends)
        rows = np.stack([n.astype(float), mean, low, high]).reshape(len(SUMMARIES), *value.shape[1:])
        found[name] = (("summary", *value.dims[1:]), rows, value.attrs)
    coords = {dim: side[dim] for dim in side.dims if dim != "prompt" and dim in side.coords}
    return xr.Dataset(found, coords=coords | {"summary": list(SUMMARIES)})
