"""Do several rankings of heads (by word pairs, activations, patching) put the same heads first?

1. Each result becomes one number per (layer, head), larger = changed more (or carries more).
2. For every two: Spearman's rank correlation over heads, its bootstrap interval over heads, and its p under random
   pairings of heads, Holm over the pairs. Heads of one layer are not independent of one another, so that p is
   optimistic.
3. For every two: how many of the top heads they share, against k * k / N by chance (hypergeometric, one-sided). Where
   the last of the top heads ties with the next one, the top is not defined: no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import hypergeom, rankdata

from itlens.errors import ResultError
from itlens.results.provenance import provenance
from itlens.stats.paired import adjust
from itlens.stats.ranks import rank_correlation, rank_correlation_interval, rank_correlation_p

HeadResult: TypeAlias = xr.Dataset | xr.DataArray

_AXES = ("layer", "head")
_PAIRED = ("spearman", "spearman_low", "spearman_high", "p", "p_holm", "shared", "shared_expected", "shared_p")


def head_agreement(results: Mapping[str, HeadResult], *, top: int = 10, seed: int = 0) -> xr.Dataset:
    """Compare rankings of heads, two at a time.

    results: by name, DataArrays on (layer, head), larger = changed more; or the Datasets of `itlens.diff.word_pairs`
    (1 - overlap is taken), `itlens.patch` with what="head" or weights of heads (the size of recovered: a head may widen
    the gap as well as close it) and `itlens.activation_shift` (result_relative_change without first tokens, mean over
    prompts). top: how many heads count as a result's top.

    Returns a Dataset: value and rank (1 = changed most, ties share their mean) on (result, layer, head); on (result,
    other), symmetric, NaN on the diagonal: spearman, spearman_low, spearman_high (95 % bootstrap over heads), p
    (10,000 random pairings), p_holm, shared (of the top heads), shared_expected (by chance), shared_p; these three are
    NaN where the last top head of either result ties with the next. Heads without a number in one of two results do not
    count for any of them. `top_heads` lists the top of each.

    Raises ResultError for fewer than two results, other axes, heads that differ, or nothing finite.
    """
    if not isinstance(results, Mapping) or len(results) < 2:
        raise ResultError("head_agreement needs two or more results by name, such as {'shift': ..., 'patching': ...}.")
    if isinstance(top, bool) or not isinstance(top, (int, np.integer)) or top < 1:
        raise ResultError(f"top={top!r}: expected a whole number of at least 1.")
    names = [str(name) for name in results]
    values = [_head_values(result, name) for name, result in zip(names, results.values(), strict=True)]
    _refuse_unaligned(names, values)
    stacked = np.stack([value.values.astype(float) for value in values])
    pairs = _pairs(stacked.reshape(len(names), -1), int(top), seed)
    return xr.Dataset(
        {
            "value": (("result", *_AXES), stacked),
            "rank": (("result", *_AXES), np.stack([_ranks(ranking) for ranking in stacked])),
            **{name: (("result", "other"), table) for name, table in pairs.items()},
        },
        coords={"result": names, "other": names, **{axis: values[0][axis].values for axis in _AXES}},
        attrs=provenance("diff.head_agreement", top=int(top), seed=seed),
    )


def top_heads(agreement: xr.Dataset, top: int | None = None) -> pd.DataFrame:
    """List the top heads of each result of `head_agreement` with their ranks in all, a row per (result, place).

    Columns: result, place (1 = changed most), layer, head, value, and the head's rank in every result, by its name.

    Raises ResultError for another kind of result.
    """
    if not isinstance(agreement, xr.Dataset) or "rank" not in agreement or "result" not in agreement.dims:
        probe = agreement.attrs.get("probe", "") if isinstance(agreement, xr.Dataset) else ""
        got = f"a result of {probe}" if probe else f"a {type(agreement).__name__}"
        raise ResultError(
            f"top_heads got {got}; expected what itlens.diff.head_agreement returns, such as "
            "top_heads(head_agreement({'patching': patched, 'estimate': patched.estimated}))."
        )
    count = int(agreement.attrs["top"] if top is None else top)
    flat = agreement.stack(cell=_AXES)
    rows = []
    for name in agreement["result"].values:
        own = flat.sel(result=name)
        order = np.argsort(own["rank"].values, kind="stable")  # NaN last
        for place, cell in enumerate(order[: min(count, int(np.isfinite(own["value"]).sum()))], 1):
            layer, head = flat["cell"].values[cell]
            ranks = {str(other): float(flat["rank"].sel(result=other)[cell]) for other in agreement["result"].values}
            row = {"result": str(name), "place": place, "layer": int(layer), "head": int(head)}
            rows.append(row | {"value": float(own["value"][cell])} | ranks)
    return pd.DataFrame(rows)


def _head_values(result: HeadResult, name: str) -> xr.DataArray:
    """Return one number per (layer, head) of a result. Raises ResultError, naming it, where it has none."""
    value = _of_dataset(result, name) if isinstance(result, xr.Dataset) else result
    if not isinstance(value, xr.DataArray) or set(value.dims) != set(_AXES):
        got = f"axes {value.dims}" if isinstance(value, xr.DataArray) else f"a {type(value).__name__}"
        raise ResultError(f"{name!r} has {got}; expected a DataArray on (layer, head), or a Dataset with heads.")
    if not np.isfinite(value.values.astype(float)).any():
        note = result.attrs.get("note", "") if isinstance(result, xr.Dataset) else ""
        raise ResultError(f"{name!r} has no finite number for any head{': ' + note if note else ''}.")
    return value.transpose(*_AXES)


def _of_dataset(ds: xr.Dataset, name: str) -> xr.DataArray:
    if "recovered" in ds:
        return abs(ds["recovered"])
    if "result_relative_change" in ds:
        return ds["result_relative_change"].sel(token_class="rest").mean("prompt")
    if "overlap" in ds and "instruction_change" in ds:
        return 1 - ds["overlap"]
    raise ResultError(
        f"{name!r} is a Dataset with {', '.join(map(repr, sorted(map(str, ds))[:5]))} ...; expected one of "
        "itlens.diff.word_pairs, itlens.patch (exact) or itlens.activation_shift (with heads), or pass a DataArray."
    )


def _refuse_unaligned(names: list[str], values: list[xr.DataArray]) -> None:
    for name, value in zip(names[1:], values[1:], strict=True):
        for axis in _AXES:
            ours, theirs = values[0][axis].values, value[axis].values
            if not np.array_equal(ours, theirs):
                raise ResultError(
                    f"{names[0]!r} and {name!r} have other {axis}s ({_listed(ours)} and {_listed(theirs)}); compute "
                    "both for the same heads of the same pair."
                )


def _listed(labels: np.ndarray) -> str:
    shown = ", ".join(map(str, labels[:6]))
    return f"{shown}, ... {labels[-1]}" if labels.size > 6 else shown


def _ranks(value: np.ndarray) -> np.ndarray:
    return rankdata(-value, axis=None, nan_policy="omit").reshape(value.shape)


def _pairs(values: np.ndarray, top: int, seed: int) -> dict[str, np.ndarray]:
    """Return symmetric tables of the statistics of every two rows."""
    tables = {name: np.full((len(values), len(values)), np.nan) for name in _PAIRED}
    pairs = list(combinations(range(len(values)), 2))
    for row, column in pairs:
        both = np.isfinite(values[[row, column]]).all(axis=0)
        a, b = values[row, both], values[column, both]
        correlation = (rank_correlation(a, b), *rank_correlation_interval(a, b, seed=seed))
        numbers = (*correlation, rank_correlation_p(a, b, seed=seed), np.nan, *_shared(a, b, top))
        for name, number in zip(_PAIRED, numbers, strict=True):
            tables[name][row, column] = tables[name][column, row] = number
    corrected = adjust([tables["p"][pair] for pair in pairs])
    for (row, column), p in zip(pairs, corrected, strict=True):
        tables["p_holm"][row, column] = tables["p_holm"][column, row] = p
    return tables


def _shared(a: np.ndarray, b: np.ndarray, top: int) -> tuple[float, float, float]:
    """Return (shared, expected by chance, p of at least as many) of the top heads of two results.

    NaN where the last of either top ties with the next head.
    """
    count = min(top, a.size)
    orders = [np.argsort(-ranking, kind="stable") for ranking in (a, b)]
    tied = any(
        count < ranking.size and ranking[order[count - 1]] == ranking[order[count]]
        for ranking, order in zip((a, b), orders, strict=True)
    )
    if not count or tied:
        return np.nan, np.nan, np.nan
    best = [set(order[:count].tolist()) for order in orders]
    shared = len(best[0] & best[1])
    return shared, count * count / a.size, float(hypergeom.sf(shared - 1, a.size, count, count))
