"""Results of `itlens.activation_shift` over prompts: means with intervals, the heads that moved most, and tests.

A distance (relative change, divergence) is above zero for any two models, so it has an interval and no test; it is
large or small beside other heads. What has a SIGN is tested, paired over prompts: whether the tuned activations are
longer than the base's (log of norm_ratio), and whether the logit lens gives the response's token more probability.
Kernel alignments are over the tokens of all prompts together: they are no means over prompts, and stay in the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from itlens.diff.paired_cells import MEASURES, interval, paired_cells
from itlens.diff.statistics import adjust, too_few
from itlens.errors import ResultError
from itlens.provenance import provenance

SUMMARIES = ("n", "mean", "ci_low", "ci_high")
_COUNTS = ("token_count", "lens_positions")


def shift_summary(shift: xr.Dataset, *, seed: int = 0, resamples: int = 2000, minimum: int = 5) -> xr.Dataset:
    """Means over prompts with 95 % percentile bootstrap intervals, over all prompts and per group.

    Returns every statistic of the input that has prompts, on (group, summary, ...): group "all" and then each group of
    prompts; summary: n (prompts that count), mean, ci_low, ci_high (NaN under `minimum` prompts). Raises ResultError
    for another kind of result.
    """
    _refuse_other(shift)
    parts = [_summary(shift.isel(prompt=chosen), seed, resamples, minimum) for chosen in _groups(shift).values()]
    return _grouped(parts, shift, "summary", SUMMARIES, "diff.shift_summary", seed, resamples, minimum)


def shift_tests(shift: xr.Dataset, *, seed: int = 0, resamples: int = 2000, minimum: int = 5) -> xr.Dataset:
    """The statistics that have a sign, tested over prompts: paired t, Benjamini-Hochberg over layers (and heads).

    Returns, on (group, measure, ...) with the measures of `itlens.diff.activations` (n, base_mean, tuned_mean,
    difference, ci_low, ci_high, effect_size, p_paired, p_bh): log_norm_ratio of each kind of activation (difference: of
    log norms; 0.1 is 10 % longer), one family per class of tokens; and lens_logprob, nats, tuned against base, each
    with its own readout. Raises ResultError for another kind of result.
    """
    _refuse_other(shift)
    options: dict[str, Any] = {"seed": seed, "resamples": resamples, "minimum": minimum}
    sides = _sides(shift)
    if not sides:
        raise ResultError("This result has nothing with a sign to test: neither norms nor a lens; see hooks=.")
    parts = [
        xr.Dataset({name: _tested(both[0][chosen], both[1][chosen], **options) for name, both in sides.items()})
        for chosen in _groups(shift).values()
    ]
    return _grouped(parts, shift, "measure", MEASURES, "diff.shift_tests", seed, resamples, minimum)


def shifted_heads(
    shift: xr.Dataset,
    *,
    by: str = "result_relative_change",
    token_class: str = "rest",
    group: str = "all",
    seed: int = 0,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Heads from the most to the least moved: rank, layer, head, mean over prompts of `by`, ci_low, ci_high, n.

    by: a statistic on heads; token_class: where it has classes. Cosines rank from the lowest. Raises ResultError for a
    statistic, class or group that there is not.
    """
    _refuse_other(shift)
    if by not in shift or "head" not in shift[by].dims or "prompt" not in shift[by].dims:
        known = [name for name, value in shift.data_vars.items() if {"head", "prompt"} <= set(value.dims)]
        raise ResultError(f"by={by!r} is no statistic on heads of this result; it has {', '.join(map(str, known))}.")
    groups, value = _groups(shift), shift[by]
    for name, got, there in (("group", group, [*groups]), ("token_class", token_class, _classes(value, token_class))):
        if got not in there:
            raise ResultError(f"{name}={got!r} is unknown here; expected one of {', '.join(there)}.")
    value = value.sel(token_class=token_class) if "token_class" in value.dims else value
    found = _means(value[groups[group]], seed, resamples, 2)
    table = found.to_series().unstack("summary").reset_index()
    table["n"] = table["n"].astype(int)
    table = table.sort_values("mean", ascending=by.endswith("cosine"), kind="stable", ignore_index=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table[["rank", "layer", "head", "mean", "ci_low", "ci_high", "n"]].rename_axis(columns=None)


def _refuse_other(shift: Any) -> None:
    if not isinstance(shift, xr.Dataset) or shift.attrs.get("probe") != "activation_shift":
        raise ResultError("This is no Dataset of itlens.activation_shift; compute it, or load it.")


def _groups(shift: xr.Dataset) -> dict[str, np.ndarray]:
    named = shift["group"].values
    return {"all": np.ones(named.size, dtype=bool)} | {
        str(name): named == name for name in dict.fromkeys(named.tolist()) if name
    }


def _classes(value: xr.DataArray, asked: str) -> list[str]:
    return [str(name) for name in value["token_class"].values] if "token_class" in value.dims else [asked]


def _summary(shift: xr.Dataset, seed: int, resamples: int, minimum: int) -> xr.Dataset:
    kept = [name for name, value in shift.data_vars.items() if "prompt" in value.dims and name not in _COUNTS]
    return xr.Dataset({name: _means(shift[name], seed, resamples, minimum) for name in kept})


def _means(value: xr.DataArray, seed: int, resamples: int, minimum: int) -> xr.DataArray:
    """SUMMARIES of one statistic, on (summary, ...)."""
    value = value.transpose("prompt", ...)
    cells = value.values.reshape(len(value), -1).astype(float)
    known = np.isfinite(cells)
    n = known.sum(axis=0)
    mean = np.divide(np.where(known, cells, 0.0).sum(axis=0), n, out=np.full(n.shape, np.nan), where=n > 0)
    low, high, enough = *np.full((2, n.size), np.nan), n >= max(minimum, 2)
    low[enough], high[enough] = interval(cells[:, enough], seed=seed, resamples=resamples)
    return _like(value, "summary", SUMMARIES, [n.astype(float), mean, low, high])


def _like(value: xr.DataArray, axis: str, names: tuple[str, ...], rows: list[np.ndarray]) -> xr.DataArray:
    shape, dims = value.shape[1:], value.dims[1:]
    coords = {name: value[name] for name in dims if name in value.coords} | {axis: list(names)}
    return xr.DataArray(
        np.stack(rows).reshape(len(names), *shape), dims=(axis, *dims), coords=coords, attrs=value.attrs
    )


def _sides(shift: xr.Dataset) -> dict[str, tuple[xr.DataArray, xr.DataArray]]:
    """(base, tuned) of everything that has a sign; of a ratio, 0 and its logarithm."""
    found = {}
    for name in ("resid", "mlp", "z", "result"):
        ratio = shift.get(f"{name}_norm_ratio")
        if ratio is not None:
            log = np.log(ratio.where(ratio > 0))
            found[f"{name}_log_norm_ratio"] = (xr.zeros_like(log), log)
    if "lens_logprob" in shift:
        base, tuned = (shift["lens_logprob"].sel(stream=side, readout=side, drop=True) for side in ("base", "tuned"))
        found["lens_logprob"] = base, tuned
    return found


def _tested(base: xr.DataArray, tuned: xr.DataArray, **options: Any) -> xr.DataArray:
    last = [dim for dim in base.dims if dim == "token_class"]
    base, tuned = (side.transpose("prompt", ..., *last) for side in (base, tuned))
    found = paired_cells(*(side.values.reshape(len(side), -1) for side in (base, tuned)), **options)
    classes = base.sizes.get("token_class", 1)  # the last axis: each class is a family, over layers and heads
    families = found["p_paired"].reshape(-1, classes).T
    found["p_bh"] = np.array([adjust(family, "fdr_bh") for family in families]).T.ravel()
    return _like(tuned, "measure", MEASURES, [found[name] for name in MEASURES])


def _grouped(
    parts: list[xr.Dataset],
    shift: xr.Dataset,
    axis: str,
    names: tuple[str, ...],
    probe: str,
    seed: int,
    resamples: int,
    minimum: int,
) -> xr.Dataset:
    groups = _groups(shift)
    counts = [int(chosen.sum()) for chosen in groups.values()]
    known = {name: value for name, value in shift.attrs.items() if str(name).startswith(("base_", "tuned_"))}
    out = xr.concat(parts, dim="group", coords="minimal", compat="override").assign_coords(
        group=list(groups),
        prompts=("group", np.array(counts)),
        note=("group", np.array([too_few(count, minimum) for count in counts], dtype=np.str_)),
    )
    said = {str(name): value for name, value in known.items()}
    return out.assign_coords({axis: list(names)}).assign_attrs(
        provenance(probe, **said, seed=seed, resamples=resamples, minimum=minimum)
    )
