"""Are attributions faithful, of both models and by which method? Deletion and insertion over many prompts.

Each result of `itlens.faithfulness` says for one prompt by how much the attribution beats random orders, in nats
(a_i, `advantage_nats`), and what the whole prompt does to the response (g_i = intact - removed). Per method and
direction:
1. Share = mean(a) / mean(g), a share of means: where the whole prompt does little to one response, a mean of the shares
a_i / g_i would hang on that prompt alone. Prompts enter the tests as v_i = share + (a_i - share g_i) / mean(g), whose
mean is the share and whose spread is that of a ratio of means (delta method; Cochran 1977, Sampling Techniques, ch. 6).
2. No share where the 95 % interval of mean(g) does not lie above 0: there is nothing to have a share of.
3. Each model's share: a t-test of v against 0. Tuned against base: a paired t-test of v over prompts.
4. Holm over the rows, for each of the three tests by itself.

The verdict rests on deletion; insertion is its check. All intervals are those of the t-tests (`t_interval`), so that
an interval that excludes 0 and a p-value below 0.05 before correction are the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError, first_few
from itlens.findings.shared import model_names
from itlens.results.provenance import provenance
from itlens.stats.paired import (
    adjust,
    cell_interval,
    cohen_dz,
    is_constant,
    mean,
    no_spread,
    paired_t,
    t_interval,
    too_few,
)

Unit: TypeAlias = Literal["share", "nats"]
Results: TypeAlias = Iterable[xr.Dataset] | Mapping[str, xr.Dataset]

_UNITS: tuple[Unit, ...] = ("share", "nats")
_DIRECTIONS = ("deletion", "insertion")
_SAME = ("steps", "draws", "baseline")
_Side: TypeAlias = dict[tuple[str, str], dict[str, xr.Dataset]]  # (method, by) -> prompt id -> result


def compare_faithfulness(base: Results, tuned: Results, *, unit: Unit = "share", minimum: int = 5) -> pd.DataFrame:
    """Test how faithful each method's attributions are to each model, and whether tuning changed it.

    base, tuned: Datasets of `itlens.faithfulness` (or `itlens.load`), of the same prompts and of one or several
    methods: an iterable, or a mapping whose values count. unit: "share" (mean advantage per mean of what the whole
    prompt does to the response) or "nats". minimum: fewer prompts get no test.

    Returns a table, a row per method, by ("density" or "sum") and direction: n (prompts); base_prompt (nats: mean of
    what the whole prompt does), base_prompt_low, base_prompt_high (95 % interval of its t-test), base_advantage,
    base_low, base_high (of the t-test), base_p, base_p_holm, base_better (share of prompts with an advantage above 0),
    the same of tuned; difference (tuned - base), ci_low, ci_high, effect_size (d_z), p_paired, p_holm, note (why
    something was not tested). Advantages are NaN where the whole prompt does nothing that can be told from zero.

    Raises ResultError for other results, two of one prompt and method, and sides or settings that differ.
    """
    if unit not in _UNITS:
        raise ResultError(f"unit={unit!r} is unknown; expected one of {', '.join(map(repr, _UNITS))}.")
    sides = {name: _by_method(results, name) for name, results in (("base", base), ("tuned", tuned))}
    _refuse_unlike(sides["base"], sides["tuned"])
    rows = []
    for key, of_base in sides["base"].items():
        for direction in _DIRECTIONS:
            measured = {name: _measured(side[key], of_base, direction) for name, side in sides.items()}
            row = _row(measured, unit, minimum)
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


@dataclass(frozen=True)
class _Measured:
    """Of one model's prompts, in nats: the advantage over random orders, and what the whole prompt does."""

    advantage: np.ndarray
    prompt: np.ndarray

    def prompt_interval(self, minimum: int) -> tuple[float, float]:
        """Return the 95 % interval of the mean of what the whole prompt does; NaN of too few prompts."""
        if too_few(self.prompt.size, minimum):
            return np.nan, np.nan
        if is_constant(self.prompt):
            return mean(self.prompt), mean(self.prompt)
        return t_interval(mean(self.prompt), paired_t(np.zeros(self.prompt.size), self.prompt)[1], self.prompt.size)


def _measured(results: Mapping[str, xr.Dataset], ids: Iterable[str], direction: str) -> _Measured:
    ordered = [results[id] for id in ids]
    advantage = [float(result["advantage_nats"].sel(direction=direction)) for result in ordered]
    return _Measured(np.array(advantage), np.array([float(result["intact"] - result["removed"]) for result in ordered]))


def shares_of_means(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return a value per prompt whose mean is mean(part) / mean(whole), and whose spread is that ratio's.

    part: (prompt, ...). whole: (prompt,), with a mean that is not 0.
    """
    whole = whole.reshape(-1, *[1] * (part.ndim - 1))
    share = part.mean(axis=0) / whole.mean(axis=0)
    return np.asarray(share + (part - share * whole) / whole.mean(axis=0))


def _row(measured: Mapping[str, _Measured], unit: Unit, minimum: int) -> dict[str, object]:
    n = measured["base"].advantage.size
    few = too_few(n, minimum)
    row: dict[str, object] = {"n": n}
    values, notes = {}, [few] if few else []
    for name, of in measured.items():
        low, high = of.prompt_interval(minimum)
        x = of.advantage
        if unit == "share":
            told = low > 0 or bool(few and mean(of.prompt) > 0)
            x = shares_of_means(of.advantage, of.prompt) if told else np.full(n, np.nan)
            if not told and not few:
                notes.append(
                    f"the prompt does not raise the log-probability of the {name} model's responses "
                    f"({mean(of.prompt):+.2f} nats, 95 % interval {low:+.2f} to {high:+.2f}), so that "
                    "shares of it are not defined"
                )
        row |= {f"{name}_prompt": mean(of.prompt), f"{name}_prompt_low": low, f"{name}_prompt_high": high}
        row |= _tested(name, x, few) | {f"{name}_better": mean((of.advantage > 0).astype(float))}
        values[name] = x
    difference = values["tuned"] - values["base"]
    known = bool(np.isfinite(difference).all()) and not few
    p = paired_t(values["base"], values["tuned"])[1] if known else np.nan
    low, high = t_interval(mean(difference), p, n)
    if known and is_constant(difference):
        notes.append(no_spread(difference[0]))
    size = cohen_dz(difference) if known else np.nan
    row |= {"difference": mean(difference), "ci_low": low, "ci_high": high, "effect_size": size, "p_paired": p}
    return row | {"note": "; ".join(notes)}


def _tested(name: str, x: np.ndarray, few: str) -> dict[str, float]:
    """The mean of a model's values, and its t-test against 0."""
    p = np.nan if few or not np.isfinite(x).all() else paired_t(np.zeros(x.size), x)[1]
    low, high = t_interval(mean(x), p, x.size)
    return {f"{name}_advantage": mean(x), f"{name}_low": low, f"{name}_high": high, f"{name}_p": p}


def _models(side: _Side) -> str:
    return model_names(result for of_method in side.values() for result in of_method.values())


def faithfulness_curves(
    results: Mapping[str, Results], *, seed: int = 0, resamples: int = 2000, minimum: int = 5
) -> xr.Dataset:
    """Average the deletion and insertion curves of several models over their prompts, as shares of means.

    results: by model label, Datasets of `itlens.faithfulness` of one method, prompts in any number.

    Returns on (model, order, direction, fraction) share = mean(curve - removed) / mean(intact - removed): 0 is
    everything removed and 1 the prompt as it is, with share_low, share_high (95 % bootstrap over prompts); NaN where
    the whole prompt does nothing that can be told from zero; prompts(model). Raises ResultError for other results, for
    two methods or other fractions.
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
    curve = side[0]["curve"]
    removed = np.array([float(result["removed"]) for result in side])
    whole = np.array([float(result["intact"]) for result in side]) - removed
    above = np.stack([result["curve"].transpose(*curve.dims).values.ravel() for result in side]) - removed[:, None]
    low = high = average = np.full(above.shape[1], np.nan)
    # With fewer prompts than a test needs there is an average, but no interval.
    if _Measured(whole, whole).prompt_interval(minimum)[0] > 0 or (len(side) < minimum and mean(whole) > 0):
        shares = shares_of_means(above, whole)
        average = shares.mean(axis=0)
        if len(side) >= minimum:
            low, high = cell_interval(shares, seed=seed, resamples=resamples)
    rows = {"share": average, "share_low": low, "share_high": high}
    found: xr.Dataset = xr.Dataset({name: (curve.dims, row.reshape(curve.shape)) for name, row in rows.items()})
    coords = {name: curve[name] for name in curve.dims}
    return found.assign_coords(coords).assign(prompts=len(side))
