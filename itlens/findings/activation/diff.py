"""The difference of two models' activation summaries, statistic by statistic and head by head; means of any number.

1. Align by label: prompts by id; layers, heads, classes and hook points exactly. 2. For each statistic and cell (layer,
head, class of token), over all prompts and per group: means, the mean paired difference with its bootstrap interval,
d_z and a paired t-test (`paired_cells`). 3. Correct the p-values of one statistic and class over its heads or layers
(Benjamini-Hochberg). `activation_scores` reduces the summaries of one model to a few numbers per prompt;
`activation_means` averages those of several models over prompts, with intervals (a trend along them:
`itlens.diff.series`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError, first_few
from itlens.findings.shared import attrs_of_sides
from itlens.results.provenance import provenance
from itlens.stats.groups import groups_of
from itlens.stats.paired import MEASURES, adjust, cell_interval, paired_cells, too_few

# settings that both results must share: statistics of differently framed texts are not comparable
_SAME = ("hooks", "reduce", "format", "lens_positions")
_FAMILIES = ("token_class",)  # each class is a question of its own; heads and layers are its many answers
# column of `activation_scores` -> statistic of `itlens.activations`, and the class of tokens where it has one
_SCORES = {
    "attention_to_instruction": ("attention_mass", "instruction"),
    "attention_entropy": ("attention_entropy_share", None),
    "active_neurons": ("mlp_participation", None),
    "commitment_layer": ("lens_commitment_stays", None),
}


def compare_activations(
    base: xr.Dataset, tuned: xr.Dataset, *, seed: int = 0, resamples: int = 2000, minimum: int = 5
) -> xr.Dataset:
    """Compare two models' activation summaries, paired over prompts.

    base, tuned: results of `itlens.activations` on the same prompts with the same settings, prompts in any order. A
    prompt that one side left out for its empty response (attrs) is left out. seed, resamples: of the bootstrap.
    minimum: groups and cells of fewer prompts get means and differences only.

    Returns a Dataset with the statistics of the input on (group, measure, layer, head, token_class, ...), prompts
    replaced by group ("all", then each group of prompts) and measure: n (prompts that count), base_mean, tuned_mean,
    difference (tuned - base), ci_low, ci_high (95 % percentile bootstrap over prompts), effect_size (Cohen's d_z),
    p_paired (two-sided paired t), p_bh (Benjamini-Hochberg over the heads, layers or hook points of one statistic and
    class, within a group). Units are the statistic's own; n, d_z and p have none. Coordinates on (group): prompts,
    same_tokens (how many prompts both models read with the same response), note ("" or why there is no test).

    Raises ResultError for other results, and where prompts, shapes or settings differ: the message names them.
    """
    left, right = _aligned(base, tuned)
    groups = groups_of(left["group"].values)
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    ds = xr.Dataset(
        {name: tested_over_prompts(left[name], right[name], groups, _FAMILIES, **options) for name in left.data_vars}
    )
    same = left["tokens_digest"].values == right["tokens_digest"].values
    attrs = _attrs(base, tuned, prompt_count=left.sizes["prompt"], same_tokens=int(same.sum()))
    coords = {
        "same_tokens": ("group", np.array([int(same[chosen].sum()) for chosen in groups.values()])),
        **group_coordinates(groups, minimum),
    }
    ds = ds.assign_coords(coords).assign_attrs(attrs | options)
    return ds


def _aligned(base: xr.Dataset, tuned: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Return both sides with the prompts in the base's order."""
    for name, ds in (("base", base), ("tuned", tuned)):
        if not isinstance(ds, xr.Dataset) or ds.attrs.get("probe") != "activations":
            raise ResultError(f"The {name} side is not a Dataset of itlens.activations; compute it, or load it.")
    for name in _SAME:
        values = [ds.attrs[name] for ds in (base, tuned) if name in ds.attrs]  # given tokens have no format
        if len(set(values)) > 1:
            raise ResultError(
                f"The results differ in {name} ({' and '.join(map(repr, values))}); compute both with the same {name}."
            )
    lone = [str(name) for name in dict.fromkeys([*base, *tuned]) if name not in base or name not in tuned]
    if lone:
        raise ResultError(f"Only one side has {first_few(lone)}; compute both with the same hooks= and reduce=.")
    for dim in dict.fromkeys([*base.dims, *tuned.dims]):
        if dim != "prompt" and not _labels(base, dim) == _labels(tuned, dim):
            raise ResultError(
                f"The results have different labels on {dim!r} ({len(_labels(base, dim))} and "
                f"{len(_labels(tuned, dim))}); the two models must have the same shape."
            )
    sides = {"base": base, "tuned": tuned}
    ids = {name: ds["prompt"].values.tolist() for name, ds in sides.items()}
    for name, other in (("base", "tuned"), ("tuned", "base")):
        absent = {*ids[other], *_left_out(sides[other])}
        missing = [prompt for prompt in ids[name] if prompt not in absent]
        if missing:
            raise ResultError(f"{len(missing)} prompts have {name} results but no {other} ones: {first_few(missing)}.")
    both = [prompt for prompt in ids["base"] if prompt in set(ids["tuned"])]
    if not both:
        raise ResultError("Every prompt was left out on one of the two sides; see attrs['note'] of both results.")
    left, right = xr.align(base.sel(prompt=both), tuned.sel(prompt=both), join="exact")
    return left, right


def _left_out(ds: xr.Dataset) -> list[str]:
    """Return the ids of prompts that the model had an empty response to."""
    return [prompt for prompt in str(ds.attrs.get("left_out", "")).split(", ") if prompt]


def _labels(ds: xr.Dataset, dim: Hashable) -> list[object]:
    return ds[dim].values.tolist() if dim in ds.dims else []


def tested_over_prompts(
    base: xr.DataArray,
    tuned: xr.DataArray,
    groups: Mapping[str, np.ndarray],
    families: Sequence[Hashable] = (),
    **options: int,
) -> xr.DataArray:
    """Return MEASURES of one statistic on (group, measure, ...), p_bh corrected over the cells of each family.

    groups: which prompts, by name. families: axes whose labels are questions of their own. options: of `paired_cells`.
    """
    base, tuned = base.transpose("prompt", ...), tuned.transpose("prompt", ...)
    shape, dims = base.shape[1:], base.dims[1:]
    left, right = (side.values.reshape(len(side), -1) for side in (base, tuned))
    rows = []
    for chosen in groups.values():
        measures = paired_cells(left[chosen], right[chosen], **options)
        measures["p_bh"] = _corrected(measures["p_paired"].reshape(shape), dims, families).ravel()
        rows.append([measures[name] for name in MEASURES])
    return _stacked_like(base, {"group": list(groups), "measure": MEASURES}, rows)


def _corrected(p: np.ndarray, dims: tuple[Hashable, ...], families: Sequence[Hashable]) -> np.ndarray:
    """Correct within each family of cells (Benjamini-Hochberg)."""
    axes = [place for place, name in enumerate(dims) if name in families]
    in_front = np.moveaxis(p, axes, range(len(axes)))
    each = in_front.reshape(int(np.prod(in_front.shape[: len(axes)])), -1)
    corrected = np.array([adjust(family, "fdr_bh") for family in each]).reshape(in_front.shape)
    return np.moveaxis(corrected, range(len(axes)), axes)


def _attrs(base: xr.Dataset, tuned: xr.Dataset, **more: object) -> dict[str, object]:
    notes = [f"{name}: {ds.attrs['note']}" for name, ds in (("base", base), ("tuned", tuned)) if ds.attrs.get("note")]
    same = {name: base.attrs.get(name, "") for name in _SAME}
    sides = attrs_of_sides(base.attrs, tuned.attrs, ("model", "revision", "adapter", "dtype"))
    return provenance("diff.activations", **sides, **same, **more, note="; ".join(notes))


def activation_scores(activations: xr.Dataset) -> pd.DataFrame:
    """Return a model's activation summaries prompt by prompt: means over layers and heads of `itlens.activations`.

    Columns: id, group; attention_to_instruction (share of attention from where the response is predicted),
    attention_entropy (relative to uniform attention), active_neurons (participation ratio), commitment_layer (the first
    layer from which the final top token stays on top); those of them that were measured.

    Raises ResultError for another kind of result, or one with none of these.
    """
    if not isinstance(activations, xr.Dataset) or activations.attrs.get("probe") != "activations":
        raise ResultError("activation_scores takes a Dataset of itlens.activations; got something else.")
    scores = {}
    for column, (name, token_class) in _SCORES.items():
        if name in activations:
            value = activations[name] if token_class is None else activations[name].sel(token_class=token_class)
            scores[column] = value.mean([dim for dim in value.dims if dim != "prompt"]).values
    if not scores:
        raise ResultError(f"This result has none of {', '.join(name for name, _ in _SCORES.values())}; see hooks=.")
    ids, groups = activations["prompt"].values.astype(str), activations["group"].values.astype(str)
    return pd.DataFrame({"id": ids, "group": groups, **scores})


# ---- means of any number of models

SUMMARIES = ("n", "mean", "ci_low", "ci_high")
_SAME_OF_MODELS = ("hooks", "format", "lens_positions")


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
    models = _aligned_models(labels, list(results.values()))
    groups = groups_of(models[0]["group"].values)
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    means = [
        xr.Dataset({name: means_over_prompts(values, groups, **options) for name, values in ds.data_vars.items()})
        for ds in models
    ]
    same = {name: models[0].attrs.get(name, "") for name in _SAME_OF_MODELS}
    ds: xr.Dataset = (
        xr.concat(means, dim="model")
        .assign_coords({"model": labels} | group_coordinates(groups, minimum))
        .assign_attrs(provenance("diff.activation_means", **same, **options))
    )
    return ds


def _aligned_models(labels: Sequence[str], results: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """Return all with the prompts in the first one's order."""
    for label, ds in zip(labels, results, strict=True):
        if not isinstance(ds, xr.Dataset) or ds.attrs.get("probe") != "activations":
            raise ResultError(f"{label!r} is not a Dataset of itlens.activations; compute it, or load it.")
    first = results[0]
    for label, ds in zip(labels[1:], results[1:], strict=True):
        for name in _SAME_OF_MODELS:
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


def means_over_prompts(
    values: xr.DataArray, groups: Mapping[str, np.ndarray], *, seed: int, resamples: int, minimum: int
) -> xr.DataArray:
    """Return SUMMARIES of one statistic, on (group, summary, ...). groups: which prompts, by name."""
    values = values.transpose("prompt", ...)
    every = values.values.reshape(len(values), -1).astype(float)
    rows = []
    for chosen in groups.values():
        cells = every[chosen]
        known = np.isfinite(cells)
        n = known.sum(axis=0)
        mean = np.divide(np.where(known, cells, 0.0).sum(axis=0), n, out=np.full(n.shape, np.nan), where=n > 0)
        low, high, enough = *np.full((2, n.size), np.nan), n >= max(minimum, 2)
        low[enough], high[enough] = cell_interval(cells[:, enough], seed=seed, resamples=resamples)
        rows.append([n.astype(float), mean, low, high])
    return _stacked_like(values, {"group": list(groups), "summary": SUMMARIES}, rows)


def _stacked_like(
    values: xr.DataArray, axes: Mapping[str, Sequence[str]], rows: Sequence[Sequence[np.ndarray]]
) -> xr.DataArray:
    """Return rows of cells on (*axes, ...), with the axes, coordinates and attrs of `values` but for prompts."""
    shape, dims = values.shape[1:], values.dims[1:]
    coords = {name: values[name] for name in dims if name in values.coords}
    labels = {name: list(of_axis) for name, of_axis in axes.items()}
    stacked = np.array(rows).reshape(*(len(of_axis) for of_axis in labels.values()), *shape)
    return xr.DataArray(stacked, dims=(*axes, *dims), coords=coords | labels, attrs=values.attrs)


def group_coordinates(groups: Mapping[str, np.ndarray], minimum: int) -> dict[str, object]:
    """Return coordinates on (group): its name, how many prompts it has, and why there is no test or interval."""
    counts = [int(chosen.sum()) for chosen in groups.values()]
    return {
        "group": list(groups),
        "prompts": ("group", np.array(counts)),
        "note": ("group", np.array([too_few(count, minimum) for count in counts], dtype=np.str_)),
    }
