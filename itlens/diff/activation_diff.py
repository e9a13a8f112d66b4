"""What tuning changed in a model's run: two results of `itlens.activations`, statistic by statistic and head by head.

1. Align by label: prompts by id; layers, heads, classes and hook points exactly. 2. For each statistic and cell (layer,
head, class of token), over all prompts and per group: means, the mean paired difference with its bootstrap interval,
d_z and a paired t-test (`paired_cells`). 3. Correct the p-values of one statistic and class over its heads or layers
(Benjamini-Hochberg).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from itlens.diff.paired_cells import MEASURES, paired_cells
from itlens.diff.statistics import adjust, too_few
from itlens.errors import ResultError
from itlens.provenance import provenance

_SAME = (
    "hooks",
    "reduce",
    "format",
    "lens_positions",
)  # statistics of differently framed texts are no statistics of one thing
_FAMILIES = ("token_class",)  # each class is a question of its own; heads and layers are its many answers


def activations(
    base: xr.Dataset, tuned: xr.Dataset, *, seed: int = 0, resamples: int = 2000, minimum: int = 5
) -> xr.Dataset:
    """Compare two models' activation summaries, paired over prompts.

    base, tuned: of `itlens.activations` (or `itlens.load`), of the same prompts and settings; the order of prompts does
    not matter, and one that a side left out for an empty response (attrs) is left out here. seed, resamples: of the
    bootstrap. minimum: groups (and cells) of fewer prompts get means and differences only.

    Returns a Dataset with the statistics of the input on (group, measure, layer, head, token_class, ...), prompts
    replaced by group ("all", then each group of prompts) and measure: n (prompts that count), base_mean, tuned_mean,
    difference (tuned - base), ci_low, ci_high (95 % percentile bootstrap over prompts), effect_size (Cohen's d_z),
    p_paired (two-sided paired t), p_bh (Benjamini-Hochberg over the heads, layers or hook points of one statistic and
    class, within a group). Units are the statistic's own; n, d_z and p have none. Coordinates on (group): prompts,
    same_tokens (how many prompts both models read with the same response), note ("" or why there is no test).

    Raises ResultError for other results, and where prompts, shapes or settings differ: the message names them.
    """
    left, right = _aligned(base, tuned)
    groups = _groups(left)
    parts = [_group(left, right, chosen, seed=seed, resamples=resamples, minimum=minimum) for chosen in groups.values()]
    ds = xr.concat(parts, dim="group", coords="minimal", compat="override")
    counts = [int(chosen.sum()) for chosen in groups.values()]
    same = left["tokens_digest"].values == right["tokens_digest"].values
    attrs = _attrs(base, tuned, prompt_count=left.sizes["prompt"], same_tokens=int(same.sum()))
    return ds.assign_coords(
        group=np.array(list(groups), dtype=np.str_),
        measure=np.array(MEASURES, dtype=np.str_),
        prompts=("group", np.array(counts)),
        same_tokens=("group", np.array([int(same[chosen].sum()) for chosen in groups.values()])),
        note=("group", np.array([too_few(count, minimum) for count in counts], dtype=np.str_)),
    ).assign_attrs(attrs | {"seed": seed, "resamples": resamples, "minimum": minimum})


def _aligned(base: Any, tuned: Any) -> tuple[xr.Dataset, xr.Dataset]:
    """Both sides with the prompts in the base's order."""
    for name, ds in (("base", base), ("tuned", tuned)):
        if not isinstance(ds, xr.Dataset) or ds.attrs.get("probe") != "activations":
            raise ResultError(f"The {name} side is no Dataset of itlens.activations; compute it, or load it.")
    for name in _SAME:
        values = [ds.attrs[name] for ds in (base, tuned) if name in ds.attrs]  # made tokens do not tell their format
        if len(set(values)) > 1:
            raise ResultError(
                f"The results differ in {name} ({' against '.join(map(repr, values))}): compare like with like."
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
                f"The results have different labels on {dim!r} ({len(_labels(base, dim))} against "
                f"{len(_labels(tuned, dim))}); the two models must have the same shape."
            )
    sides = {"base": base, "tuned": tuned}
    ids = {name: ds["prompt"].values.tolist() for name, ds in sides.items()}
    for name, other in (("base", "tuned"), ("tuned", "base")):
        absent = {*ids[other], *_left_out(sides[other])}
        missing = [one for one in ids[name] if one not in absent]
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise ResultError(
                f"{len(missing)} prompts have {name} results but no {other} ones: {', '.join(missing[:5])}{more}."
            )
    both = [one for one in ids["base"] if one in set(ids["tuned"])]
    if not both:
        raise ResultError("Every prompt was left out on one of the two sides; see attrs['note'] of both results.")
    left, right = xr.align(base.sel(prompt=both), tuned.sel(prompt=both), join="exact")
    return left, right


def _left_out(ds: xr.Dataset) -> list[str]:
    """Ids of prompts that the model had an empty response to."""
    return [one for one in str(ds.attrs.get("left_out", "")).split(", ") if one]


def _labels(ds: xr.Dataset, dim: Any) -> list[Any]:
    return ds[dim].values.tolist() if dim in ds.dims else []


def _groups(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """Which prompts each group holds: all, then the named groups in the order in which they first appear."""
    named = ds["group"].values
    return {"all": np.ones(named.size, dtype=bool)} | {
        str(name): named == name for name in dict.fromkeys(named.tolist()) if name
    }


def _group(left: xr.Dataset, right: xr.Dataset, chosen: np.ndarray, **options: Any) -> xr.Dataset:
    tested = {name: _statistic(left[name][chosen], right[name][chosen], **options) for name in left.data_vars}
    return xr.Dataset(tested)


def _statistic(left: xr.DataArray, right: xr.DataArray, **options: Any) -> xr.DataArray:
    """One statistic's measures on (measure, ...) over the prompts at hand."""
    left, right = left.transpose("prompt", ...), right.transpose("prompt", ...)
    shape, dims = left.shape[1:], left.dims[1:]
    found = paired_cells(*(side.values.reshape(len(side), -1) for side in (left, right)), **options)
    found["p_bh"] = _corrected(found["p_paired"].reshape(shape), dims).ravel()
    values = np.stack([found[name] for name in MEASURES]).reshape(len(MEASURES), *shape)
    coords = {name: left[name] for name in dims if name in left.coords}
    return xr.DataArray(values, dims=("measure", *dims), coords=coords, attrs=left.attrs)


def _corrected(p: np.ndarray, dims: tuple[Any, ...]) -> np.ndarray:
    """Benjamini-Hochberg within each family of cells."""
    axes = [place for place, name in enumerate(dims) if name in _FAMILIES]
    moved = np.moveaxis(p, axes, range(len(axes)))
    families = moved.reshape(int(np.prod(moved.shape[: len(axes)])), -1)
    done = np.array([adjust(family, "fdr_bh") for family in families]).reshape(moved.shape)
    return np.moveaxis(done, range(len(axes)), axes)


def _attrs(base: xr.Dataset, tuned: xr.Dataset, **more: Any) -> dict[str, Any]:
    sides = {
        f"{name}_{key}": ds.attrs.get(key, "")
        for key in ("model", "revision", "adapter", "dtype")
        for name, ds in (("base", base), ("tuned", tuned))
    }
    notes = [f"{name}: {ds.attrs['note']}" for name, ds in (("base", base), ("tuned", tuned)) if ds.attrs.get("note")]
    same = {name: base.attrs.get(name, "") for name in _SAME}
    return provenance("diff.activations", **sides, **same, **more, note="; ".join(notes))
