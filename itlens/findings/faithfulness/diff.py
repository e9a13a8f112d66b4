"""Are attributions faithful, of both models and by which method? Deletion and insertion over many prompts.

Each result of `itlens.faithfulness` says for one prompt by how much the attribution beats random orders (`advantage`).
Per method and direction:
1. each model's mean advantage over its prompts, and a t-test against 0
2. tuned against base: a paired t-test over prompts
3. Holm over the rows, for each of the three tests by itself

The verdict rests on deletion; insertion is its check. All intervals are those of the t-tests (`t_interval`), so that
an interval that excludes 0 and a p-value below 0.05 before correction are the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError, first_few
from itlens.findings.faithfulness.diff_verdict import t_interval
from itlens.findings.shared import model_names
from itlens.results.provenance import provenance
from itlens.stats.paired import (
    NO_DIFFERENCE,
    SAME_DIFFERENCE,
    adjust,
    cell_interval,
    cohen_dz,
    is_constant,
    mean,
    paired_t,
    too_few,
)

Unit: TypeAlias = Literal["share", "nats"]
Results: TypeAlias = Iterable[xr.Dataset] | Mapping[str, xr.Dataset]

_ADVANTAGE: dict[Unit, str] = {"share": "advantage", "nats": "advantage_nats"}
_DIRECTIONS = ("deletion", "insertion")
_SAME = ("steps", "draws", "baseline")
_Side: TypeAlias = dict[tuple[str, str], dict[str, xr.Dataset]]  # (method, by) -> prompt id -> result


def compare_faithfulness(base: Results, tuned: Results, *, unit: Unit = "share", minimum: int = 5) -> pd.DataFrame:
    """Test how faithful each method's attributions are to each model, and whether tuning changed it.

    base, tuned: Datasets of `itlens.faithfulness` (or `itlens.load`), of the same prompts and of one or several
    methods: an iterable, or a mapping whose values count. unit: "share" (of what the whole prompt does to the response;
    prompts of which it does too little on either side are left out) or "nats". minimum: fewer prompts get no test.

    Returns a table, a row per method, by ("density" or "sum") and direction: n (prompts on both sides with a number),
    left_out; base_advantage, base_low, base_high (95 % interval of the t-test), base_p, base_p_holm, base_better (share
    of prompts with an advantage above 0), the same of tuned; difference (tuned - base), ci_low, ci_high, effect_size
    (d_z), p_paired, p_holm, note.

    Raises ResultError for other results, two of one prompt and method, and sides or settings that differ.
    """
    if unit not in _ADVANTAGE:
        raise ResultError(f"unit={unit!r} is unknown; expected one of {', '.join(map(repr, _ADVANTAGE))}.")
    sides = {name: _by_method(results, name) for name, results in (("base", base), ("tuned", tuned))}
    _refuse_unlike(sides["base"], sides["tuned"])
    rows = []
    for key, of_base in sides["base"].items():
        for direction in _DIRECTIONS:
            left, right = (_advantages(side[key], of_base, direction, unit) for side in sides.values())
            row = _row(left, right, minimum)
            rows.append({"method": key[0], "by": key[1], "direction": direction, **row})
    table: pd.DataFrame = pd.DataFrame(rows)
    for p, corrected in (("base_p", "base_p_holm"), ("tuned_p", "tuned_p_holm"), ("p_paired", "p_holm")):
        table.insert(list(table.columns).index(p) + 1, corrected, adjust(table[p].to_numpy(float)))
    models = {f"{name}_model": _models(side) for name, side in sides.items()}
    first = next(iter(next(iter(sides["base"].values())).values()))
    same = {name: first.attrs.get(name, "") for name in _SAME}
    table.attrs = provenance("diff.faithfulness", **models, **same, unit=unit, minimum=minimum)
    return table


def _by_method(results: Results, side: str) -> _Side:
    single = isinstance(results, xr.Dataset)  # a mapping too, of its variables
    listed = list(results.values()) if isinstance(results, Mapping) and not single else results
    if single or not isinstance(listed, Iterable) or not (listed := list(listed)):
        raise ResultError(f"The {side} side needs one or more Datasets of itlens.faithfulness in a list or mapping.")
    methods: _Side = {}
    for result in listed:
        if not isinstance(result, xr.Dataset) or result.attrs.get("probe") != "faithfulness":
            raise ResultError(f"The {side} side holds something else than results of itlens.faithfulness.")
        method, by = str(result.attrs["method"]), str(result.attrs.get("by", ""))
        id = str(result.attrs["prompt_id"])
        if not id:
            raise ResultError(f"A {side} result has no prompt_id; give its prompt an id.")
        if id in methods.setdefault((method, by), {}):
            raise ResultError(f"The {side} side holds the prompt {id!r} twice with the method {method!r}; keep one.")
        methods[method, by][id] = result
    return methods


def _refuse_unlike(base: _Side, tuned: _Side) -> None:
    if set(base) != set(tuned):
        shown = [", ".join(sorted(" by ".join(filter(None, key)) for key in side)) for side in (base, tuned)]
        raise ResultError(f"The sides have different methods (base: {shown[0]}; tuned: {shown[1]}); compare like.")
    for key in base:
        missing = sorted(set(base[key]) ^ set(tuned[key]))
        if missing:
            raise ResultError(
                f"{len(missing)} prompts have results of {key[0]} on one side only: {first_few(missing)}."
            )
    results = [result for side in (base, tuned) for of_method in side.values() for result in of_method.values()]
    for name in _SAME:
        values = {str(result.attrs.get(name, "")) for result in results}
        if len(values) > 1:
            raise ResultError(f"The results differ in {name} ({', '.join(sorted(values))}); compare like with like.")


def _advantages(results: Mapping[str, xr.Dataset], ids: Iterable[str], direction: str, unit: Unit) -> np.ndarray:
    return np.array([float(results[id][_ADVANTAGE[unit]].sel(direction=direction)) for id in ids])


def _row(base: np.ndarray, tuned: np.ndarray, minimum: int) -> dict[str, object]:
    both = np.isfinite(base) & np.isfinite(tuned)
    base, tuned = base[both], tuned[both]
    difference, note = tuned - base, too_few(base.size, minimum)
    row: dict[str, object] = {"n": int(both.sum()), "left_out": int((~both).sum())}
    for name, x in (("base", base), ("tuned", tuned)):
        p = np.nan if note else paired_t(np.zeros(x.size), x)[1]
        low, high = t_interval(mean(x), p, x.size)
        row |= {f"{name}_advantage": mean(x), f"{name}_low": low, f"{name}_high": high}
        row |= {f"{name}_p": p, f"{name}_better": mean((x > 0).astype(float))}
    p = np.nan if note else paired_t(base, tuned)[1]
    low, high = t_interval(mean(difference), p, difference.size)
    if not note and is_constant(difference):
        note = NO_DIFFERENCE if p == 1 else SAME_DIFFERENCE
    size = np.nan if too_few(base.size, minimum) else cohen_dz(difference)
    row |= {"difference": mean(difference), "ci_low": low, "ci_high": high, "effect_size": size, "p_paired": p}
    return row | {"note": note}


def _models(side: _Side) -> str:
    return model_names(result for of_method in side.values() for result in of_method.values())


def faithfulness_curves(
    results: Mapping[str, Results], *, seed: int = 0, resamples: int = 2000, minimum: int = 5
) -> xr.Dataset:
    """Average the deletion and insertion curves of several models over their prompts.

    results: by model label, Datasets of `itlens.faithfulness` of one method, prompts in any number.

    Returns on (model, order, direction, fraction) share, where 0 is everything removed and 1 the prompt as it is, with
    share_low, share_high (95 % bootstrap over prompts); prompts(model): how many have such a share. Raises ResultError
    for other results, for two methods or other fractions.
    """
    if not isinstance(results, Mapping) or not results:
        raise ResultError("faithfulness_curves takes results by model label, such as {'base': [...], 'tuned': [...]}.")
    sides = {str(label): _listed(of_model, str(label)) for label, of_model in results.items()}
    everything = [result for side in sides.values() for result in side]
    first = everything[0]
    for result in everything[1:]:
        if result.attrs["method"] != first.attrs["method"] or not np.array_equal(result["fraction"], first["fraction"]):
            raise ResultError("The results differ in method or steps; draw one method at a time, with the same steps.")
    curves = [_mean_curve(side, seed, resamples, minimum) for side in sides.values()]
    joined: xr.Dataset = xr.concat(curves, dim="model", coords="minimal", compat="override").assign_coords(
        model=list(sides)
    )
    same = {name: first.attrs.get(name, "") for name in ("method", "by", "baseline", "draws", "steps")}
    curves_attrs = provenance("diff.faithfulness_curves", **same, seed=seed, resamples=resamples)
    return joined.assign_attrs(curves_attrs)


def _listed(results: Results, label: str) -> list[xr.Dataset]:
    """Return the results of one model as a list."""
    if isinstance(results, xr.Dataset) or not isinstance(results, Iterable):
        raise ResultError(
            f"faithfulness_curves got a {type(results).__name__} as {label!r}; expected a list of results, or a "
            "mapping of them by prompt id."
        )
    listed = list(results.values()) if isinstance(results, Mapping) else list(results)
    if not listed or any(
        not isinstance(result, xr.Dataset) or result.attrs.get("probe") != "faithfulness" for result in listed
    ):
        raise ResultError(
            f"faithfulness_curves takes Datasets of itlens.faithfulness only, one or more; {label!r} has "
            f"{'something else' if listed else 'none'}."
        )
    ids = [str(result.attrs.get("prompt_id", "")) for result in listed]
    if len({*ids}) < len(ids) or "" in ids:
        raise ResultError(f"The results of {label!r} name a prompt twice or not at all; give each prompt its own id.")
    return listed


def _mean_curve(side: Sequence[xr.Dataset], seed: int, resamples: int, minimum: int) -> xr.Dataset:
    share = xr.concat(
        [result["share"].drop_attrs() for result in side], dim="prompt", coords="minimal", compat="override",
        join="exact",
    )  # fmt: skip
    known = share.isel(
        prompt=np.flatnonzero(
            np.isfinite(share.transpose("prompt", ...).values).reshape(share.sizes["prompt"], -1).all(axis=1)
        )
    )
    cells = known.values.reshape(known.sizes["prompt"], int(np.prod(known.shape[1:])))
    low = high = average = np.full(cells.shape[1], np.nan)
    if len(cells):
        average = cells.mean(axis=0)
    if len(cells) >= minimum:
        low, high = cell_interval(cells, seed=seed, resamples=resamples)
    rows = {"share": average, "share_low": low, "share_high": high}
    curve: xr.Dataset = xr.Dataset({name: (share.dims[1:], row.reshape(share.shape[1:])) for name, row in rows.items()})
    coords = {name: share[name] for name in share.dims[1:]}
    return curve.assign_coords(coords).assign(prompts=len(cells))
