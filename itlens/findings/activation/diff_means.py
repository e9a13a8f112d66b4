"""Means over prompts with their intervals: of activation summaries of any number of models (`activation_means`).

The difference between two of them is `itlens.diff.activations`; a trend along all is `itlens.diff.series`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from itlens.errors import ResultError
from itlens.results.provenance import provenance
from itlens.stats.groups import groups_of
from itlens.stats.paired import cell_interval, too_few

SUMMARIES = ("n", "mean", "ci_low", "ci_high")
_SAME = ("hooks", "format", "lens_positions")


def activation_means(
    results: Mapping[str, xr.Dataset], *, seed: int = 0, resamples: int = 2000, minimum: int = 5
) -> xr.Dataset:
    """Average each model's activation summaries over prompts: over all prompts and per group.

    results: by the models' labels, in order, Datasets of `itlens.activations` on the same prompts with the same
    settings. seed, resamples: of the bootstrap. minimum: fewer prompts get no interval.

    Returns the statistics of the input on (model, group, summary, ...), prompts replaced by group ("all", then each
    group of prompts) and summary: n (prompts that count), mean, ci_low, ci_high (95 % percentile bootstrap over
    prompts). Units are the statistic's own. On (group): prompts, note. Raises ResultError for other results, and for
    models whose prompts, shapes or settings differ.
    """
    if not isinstance(results, Mapping) or isinstance(results, xr.Dataset) or not results:
        raise ResultError("activation_means takes results by model, such as {'base': ..., 'sft': ..., 'dpo': ...}.")
    labels = [str(label) for label in results]
    models = _aligned(labels, list(results.values()))
    groups = groups_of(models[0]["group"].values)
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    means = [
        xr.concat([_means(ds.isel(prompt=chosen), **options) for chosen in groups.values()], dim="group")
        for ds in models
    ]
    same = {name: models[0].attrs.get(name, "") for name in _SAME}
    ds: xr.Dataset = (
        xr.concat(means, dim="model")
        .assign_coords({"model": labels} | group_coordinates(groups, minimum))
        .assign_attrs(provenance("diff.activation_means", **same, **options))
    )
    return ds


def _aligned(labels: Sequence[str], results: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """Return all with the prompts in the first one's order."""
    for label, ds in zip(labels, results, strict=True):
        if not isinstance(ds, xr.Dataset) or ds.attrs.get("probe") != "activations":
            raise ResultError(f"{label!r} is not a Dataset of itlens.activations; compute it, or load it.")
    first = results[0]
    for label, ds in zip(labels[1:], results[1:], strict=True):
        for name in _SAME:
            if first.attrs.get(name) != ds.attrs.get(name):
                raise ResultError(f"{labels[0]!r} and {label!r} differ in {name}; compute both with the same {name}.")
        if set(first.data_vars) != set(ds.data_vars):
            raise ResultError(
                f"{labels[0]!r} and {label!r} have different statistics; compute both with the same hooks."
            )
        for dim in first.dims:
            ours, theirs = (each[dim].values.tolist() if dim in each.dims else [] for each in (first, ds))
            if (sorted(ours) != sorted(theirs)) if dim == "prompt" else (ours != theirs):
                raise ResultError(
                    f"{labels[0]!r} and {label!r} have other labels on {dim!r} ({len(ours)} and {len(theirs)}); give "
                    "results of the same prompts and of models of one shape."
                )
    return [first, *(ds.sel(prompt=first["prompt"].values) for ds in results[1:])]


def _means(ds: xr.Dataset, **options: int) -> xr.Dataset:
    return xr.Dataset({name: means_over_prompts(values, **options) for name, values in ds.data_vars.items()})


def means_over_prompts(values: xr.DataArray, *, seed: int, resamples: int, minimum: int) -> xr.DataArray:
    """Return SUMMARIES of one statistic, on (summary, ...)."""
    values = values.transpose("prompt", ...)
    cells = values.values.reshape(len(values), -1).astype(float)
    known = np.isfinite(cells)
    n = known.sum(axis=0)
    mean = np.divide(np.where(known, cells, 0.0).sum(axis=0), n, out=np.full(n.shape, np.nan), where=n > 0)
    low, high, enough = *np.full((2, n.size), np.nan), n >= max(minimum, 2)
    low[enough], high[enough] = cell_interval(cells[:, enough], seed=seed, resamples=resamples)
    return stacked_like(values, "summary", SUMMARIES, [n.astype(float), mean, low, high])


def stacked_like(values: xr.DataArray, axis: str, labels: Sequence[str], rows: Sequence[np.ndarray]) -> xr.DataArray:
    """Return rows of cells on (axis, ...), with the axes, coordinates and attrs of `values` but for prompts."""
    shape, dims = values.shape[1:], values.dims[1:]
    coords = {name: values[name] for name in dims if name in values.coords}
    stacked = np.stack(rows).reshape(len(labels), *shape)
    return xr.DataArray(stacked, dims=(axis, *dims), coords=coords | {axis: list(labels)}, attrs=values.attrs)


def group_coordinates(groups: Mapping[str, np.ndarray], minimum: int) -> dict[str, object]:
    """Return coordinates on (group): its name, how many prompts it has, and why there is no test or interval."""
    counts = [int(chosen.sum()) for chosen in groups.values()]
    return {
        "group": list(groups),
        "prompts": ("group", np.array(counts)),
        "note": ("group", np.array([too_few(count, minimum) for count in counts], dtype=np.str_)),
    }
