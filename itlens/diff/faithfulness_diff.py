"""Are attributions faithful, of both models and by which method? Deletion and insertion over many prompts.

Each result of `itlens.faithfulness` says for one prompt by how much the attribution beats random orders (`advantage`).
Per method and direction: 1. each model's mean advantage over its prompts with a 95 % BCa bootstrap interval, and a
t-test against 0; 2. tuned against base, paired over prompts (`itlens.diff.statistics.paired_row`); 3. Holm over the
rows, for each of the three tests by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from itlens.diff.statistics import adjust, bootstrap_interval, mean, paired_row, paired_t, too_few
from itlens.errors import ResultError
from itlens.provenance import provenance

_UNITS = {"share": "advantage", "nats": "advantage_nats"}
_SAME = ("steps", "draws", "baseline")
_Side = dict[tuple[str, str], dict[str, xr.Dataset]]  # (method, by) -> prompt id -> result


def faithfulness(
    base: Any, tuned: Any, *, unit: str = "share", seed: int = 0, resamples: int = 10_000, minimum: int = 5
) -> pd.DataFrame:
    """How faithful each method's attributions are to each model, and whether tuning changed it.

    base, tuned: Datasets of `itlens.faithfulness` (or `itlens.load`), of the same prompts and of one or several
    methods: an iterable, or a mapping whose values count. unit: "share" (of what the whole prompt does to the response;
    prompts of which it does too little on either side are left out) or "nats". minimum: fewer prompts get no test.

    Returns a table, a row per method, by ("density" or "sum") and direction: n (prompts on both sides with a number),
    left_out; base_advantage, base_low, base_high, base_p, base_p_holm, base_better (share of prompts with an advantage
    above 0), the same of tuned; difference (tuned - base), ci_low, ci_high, effect_size (d_z), p_paired, p_holm, note.

    Raises ResultError for other results, two of one prompt and method, and sides or settings that differ.
    """
    if unit not in _UNITS:
        raise ResultError(f"unit={unit!r} is unknown; expected one of {', '.join(map(repr, _UNITS))}.")
    sides = {name: _by_method(results, name) for name, results in (("base", base), ("tuned", tuned))}
    _refuse_unlike(sides["base"], sides["tuned"])
    options: dict[str, Any] = {"seed": seed, "resamples": resamples, "minimum": minimum}
    rows = [
        {"method": key[0], "by": key[1], "direction": direction}
        | _row([_values(sides[name][key], sides["base"][key], direction, unit) for name in sides], **options)
        for key in sides["base"]
        for direction in ("deletion", "insertion")
    ]
    table = pd.DataFrame(rows)
    for p, corrected in (("base_p", "base_p_holm"), ("tuned_p", "tuned_p_holm"), ("p_paired", "p_holm")):
        table.insert(int(table.columns.get_loc(p)) + 1, corrected, adjust(table[p]))
    models = {f"{name}_model": _models(side) for name, side in sides.items()}
    first = next(iter(next(iter(sides["base"].values())).values()))
    same = {name: first.attrs.get(name, "") for name in _SAME}
    table.attrs = provenance("diff.faithfulness", **models, **same, unit=unit, **options)
    return table


def _by_method(results: Any, side: str) -> _Side:
    single = isinstance(results, xr.Dataset)  # a mapping too, of its variables
    listed = list(results.values()) if isinstance(results, Mapping) and not single else results
    if single or not isinstance(listed, Iterable) or not (listed := list(listed)):
        raise ResultError(f"The {side} side needs one or more Datasets of itlens.faithfulness in a list or mapping.")
    found: _Side = {}
    for ds in listed:
        if not isinstance(ds, xr.Dataset) or ds.attrs.get("probe") != "faithfulness":
            raise ResultError(f"The {side} side holds something else than results of itlens.faithfulness.")
        method, id = (str(ds.attrs["method"]), str(ds.attrs.get("by", ""))), str(ds.attrs["prompt_id"])
        if not id:
            raise ResultError(f"A {side} result has no prompt_id; give its prompt an id.")
        if id in found.setdefault(method, {}):
            raise ResultError(f"The {side} side holds the prompt {id!r} twice with the method {method[0]!r}; keep one.")
        found[method][id] = ds
    return found


def _refuse_unlike(base: _Side, tuned: _Side) -> None:
    if set(base) != set(tuned):
        shown = [", ".join(sorted(" by ".join(filter(None, key)) for key in side)) for side in (base, tuned)]
        raise ResultError(f"The sides have different methods (base: {shown[0]}; tuned: {shown[1]}); compare like.")
    for key in base:
        missing = sorted(set(base[key]) ^ set(tuned[key]))
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise ResultError(
                f"{len(missing)} prompts have results of {key[0]} on one side only: {', '.join(missing[:5])}{more}."
            )
    for name in _SAME:
        values = {
            str(ds.attrs.get(name, "")) for side in (base, tuned) for part in side.values() for ds in part.values()
        }
        if len(values) > 1:
            raise ResultError(f"The results differ in {name} ({', '.join(sorted(values))}); compare like with like.")


def _values(part: dict[str, xr.Dataset], order: Iterable[str], direction: str, unit: str) -> np.ndarray:
    return np.array([float(part[id][_UNITS[unit]].sel(direction=direction)) for id in order])


def _row(pair: list[np.ndarray], *, seed: int, resamples: int, minimum: int) -> dict[str, Any]:
    both = np.isfinite(pair[0]) & np.isfinite(pair[1])
    kept = {name: values[both] for name, values in zip(("base", "tuned"), pair, strict=True)}
    row: dict[str, Any] = {"n": int(both.sum()), "left_out": int((~both).sum())}
    for name, x in kept.items():
        low, high = bootstrap_interval(x, seed=seed, resamples=resamples)
        p = np.nan if too_few(x.size, minimum) else paired_t(np.zeros(x.size), x)[1]
        row |= {f"{name}_advantage": mean(x), f"{name}_low": low, f"{name}_high": high}
        row |= {f"{name}_p": p, f"{name}_better": mean((x > 0).astype(float))}
    tested = paired_row(kept["base"], kept["tuned"], seed=seed, resamples=resamples, minimum=minimum)
    return row | {name: tested[name] for name in ("difference", "ci_low", "ci_high", "effect_size", "p_paired", "note")}


def _models(side: _Side) -> str:
    return ", ".join(dict.fromkeys(str(ds.attrs.get("model", "")) for part in side.values() for ds in part.values()))
