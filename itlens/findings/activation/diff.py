"""The difference of two models' activation summaries, statistic by statistic and head by head.

1. Align by label: prompts by id; layers, heads, classes and hook points exactly. 2. For each statistic and cell (layer,
head, class of token), over all prompts and per group: means, the mean paired difference with its bootstrap interval,
d_z and a paired t-test (`paired_cells`). 3. Correct the p-values of one statistic and class over its heads or layers
(Benjamini-Hochberg). `activation_scores` reduces the summaries of one model to a few numbers per prompt.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.activation.diff_means import group_coordinates, stacked_like
from itlens.results.provenance import provenance
from itlens.stats.groups import groups_of
from itlens.stats.paired import MEASURES, adjust, paired_cells

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
    tested = [
        _group(left, right, chosen, seed=seed, resamples=resamples, minimum=minimum) for chosen in groups.values()
    ]
    ds: xr.Dataset = xr.concat(tested, dim="group", coords="minimal", compat="override")
    same = left["tokens_digest"].values == right["tokens_digest"].values
    attrs = _attrs(base, tuned, prompt_count=left.sizes["prompt"], same_tokens=int(same.sum()))
    coords = {
        "measure": np.array(MEASURES, dtype=np.str_),
        "same_tokens": ("group", np.array([int(same[chosen].sum()) for chosen in groups.values()])),
        **group_coordinates(groups, minimum),
    }
    ds = ds.assign_coords(coords).assign_attrs(attrs | {"seed": seed, "resamples": resamples, "minimum": minimum})
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
        more = f" and {len(lone) - 5} more" if len(lone) > 5 else ""
        raise ResultError(
            f"Only one side has {', '.join(lone[:5])}{more}; compute both with the same hooks= and reduce=."
        )
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
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise ResultError(
                f"{len(missing)} prompts have {name} results but no {other} ones: {', '.join(missing[:5])}{more}."
            )
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


def _group(left: xr.Dataset, right: xr.Dataset, chosen: np.ndarray, **options: int) -> xr.Dataset:
    return xr.Dataset({name: _statistic(left[name][chosen], right[name][chosen], **options) for name in left.data_vars})


def _statistic(left: xr.DataArray, right: xr.DataArray, **options: int) -> xr.DataArray:
    """Return one statistic's measures on (measure, ...) over these prompts."""
    left, right = left.transpose("prompt", ...), right.transpose("prompt", ...)
    shape, dims = left.shape[1:], left.dims[1:]
    base, tuned = (side.values.reshape(len(side), -1) for side in (left, right))
    measures = paired_cells(base, tuned, **options)
    measures["p_bh"] = _corrected(measures["p_paired"].reshape(shape), dims).ravel()
    return stacked_like(left, "measure", MEASURES, [measures[name] for name in MEASURES])


def _corrected(p: np.ndarray, dims: tuple[Hashable, ...]) -> np.ndarray:
    """Correct within each family of cells (Benjamini-Hochberg)."""
    axes = [place for place, name in enumerate(dims) if name in _FAMILIES]
    in_front = np.moveaxis(p, axes, range(len(axes)))
    families = in_front.reshape(int(np.prod(in_front.shape[: len(axes)])), -1)
    corrected = np.array([adjust(family, "fdr_bh") for family in families]).reshape(in_front.shape)
    return np.moveaxis(corrected, range(len(axes)), axes)


def _attrs(base: xr.Dataset, tuned: xr.Dataset, **more: object) -> dict[str, object]:
    sides = {
        f"{name}_{key}": ds.attrs.get(key, "")
        for key in ("model", "revision", "adapter", "dtype")
        for name, ds in (("base", base), ("tuned", tuned))
    }
    notes = [f"{name}: {ds.attrs['note']}" for name, ds in (("base", base), ("tuned", tuned)) if ds.attrs.get("note")]
    same = {name: base.attrs.get(name, "") for name in _SAME}
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
    table: pd.DataFrame = pd.DataFrame({"id": ids, "group": groups, **scores})
    return table
