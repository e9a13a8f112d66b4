"""Results of `itlens.activation_shift` over prompts: means with intervals, the heads that changed most, and tests.

A distance (relative change, divergence) is above zero for any two models, so it has an interval and no test; it is
large or small compared with other heads. What has a SIGN is tested, paired over prompts: whether the tuned activations
are longer than the base's (log of norm_ratio), and whether the logit lens gives the response's token more probability.
Kernel alignments are over the tokens of all prompts together: they are no means over prompts, and stay in the result.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.activation.diff import group_coordinates, means_over_prompts, tested_over_prompts
from itlens.results.provenance import provenance
from itlens.stats.groups import groups_of

_COUNTS = ("token_count", "lens_positions")


def shift_summary(shift: xr.Dataset, *, seed: int = 0, resamples: int = 2000, minimum: int = 5) -> xr.Dataset:
    """Average over prompts, with 95 % percentile bootstrap intervals: over all prompts and per group.

    Returns every statistic of the input that has prompts, on (group, summary, ...): group "all" and then each group of
    prompts; summary: n (prompts that count), mean, ci_low, ci_high (NaN under `minimum` prompts). Raises ResultError
    for another kind of result.
    """
    _refuse_other(shift)
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    groups = groups_of(shift["group"].values)
    averaged = [name for name, value in shift.data_vars.items() if "prompt" in value.dims and name not in _COUNTS]
    means = xr.Dataset({name: means_over_prompts(shift[name], groups, **options) for name in averaged})
    return _with_origin(means, shift, groups, "diff.shift_summary", options)


def shift_tests(shift: xr.Dataset, *, seed: int = 0, resamples: int = 2000, minimum: int = 5) -> xr.Dataset:
    """Test the statistics that have a sign over prompts: paired t, Benjamini-Hochberg over layers (and heads).

    Returns, on (group, measure, ...) with the measures of `itlens.diff.activations` (n, base_mean, tuned_mean,
    difference, ci_low, ci_high, effect_size, p_paired, p_bh): log_norm_ratio of each kind of activation (difference: of
    log norms; 0.1 is 10 % longer), one family per class of tokens; and lens_logprob, nats, tuned against base, each
    with its own readout. Raises ResultError for another kind of result.
    """
    _refuse_other(shift)
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    sides = _sides(shift)
    if not sides:
        raise ResultError("This result has nothing with a sign to test: neither norms nor a lens; see hooks=.")
    groups = groups_of(shift["group"].values)
    tests = xr.Dataset({name: _tested(base, tuned, groups, **options) for name, (base, tuned) in sides.items()})
    return _with_origin(tests, shift, groups, "diff.shift_tests", options)


def shifted_heads(
    shift: xr.Dataset,
    *,
    by: str = "result_relative_change",
    token_class: str = "rest",
    group: str = "all",
    seed: int = 0,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Rank heads from the most to the least changed: rank, layer, head, mean over prompts of `by`, ci_low, ci_high, n.

    by: a statistic on heads; token_class: where it has classes. Cosines rank from the lowest. Raises ResultError for a
    statistic, class or group that there is not.
    """
    _refuse_other(shift)
    if by not in shift or "head" not in shift[by].dims or "prompt" not in shift[by].dims:
        known = [name for name, value in shift.data_vars.items() if {"head", "prompt"} <= set(value.dims)]
        raise ResultError(f"by={by!r} is no statistic on heads of this result; it has {', '.join(map(str, known))}.")
    groups, value = groups_of(shift["group"].values), shift[by]
    classes = [str(name) for name in value["token_class"].values] if "token_class" in value.dims else [token_class]
    for name, got, there in (("group", group, [*groups]), ("token_class", token_class, classes)):
        if got not in there:
            raise ResultError(f"{name}={got!r} is unknown here; expected one of {', '.join(there)}.")
    value = value.sel(token_class=token_class) if "token_class" in value.dims else value
    means = means_over_prompts(value, {group: groups[group]}, seed=seed, resamples=resamples, minimum=2)
    table = means.sel(group=group, drop=True).to_series().unstack("summary").reset_index()
    table["n"] = table["n"].astype(int)
    table = table.sort_values("mean", ascending=by.endswith("cosine"), kind="stable", ignore_index=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table[["rank", "layer", "head", "mean", "ci_low", "ci_high", "n"]].rename_axis(columns=None)


def _refuse_other(shift: object) -> None:
    if not isinstance(shift, xr.Dataset) or shift.attrs.get("probe") != "activation_shift":
        raise ResultError("This is no Dataset of itlens.activation_shift; compute it, or load it.")


def _sides(shift: xr.Dataset) -> dict[str, tuple[xr.DataArray, xr.DataArray]]:
    """Return (base, tuned) of everything that has a sign; of a ratio, 0 and its logarithm."""
    sides: dict[str, tuple[xr.DataArray, xr.DataArray]] = {}
    for name in ("resid", "mlp", "z", "result"):
        ratio = shift.get(f"{name}_norm_ratio")
        if ratio is not None:
            log: xr.DataArray = np.log(ratio.where(ratio > 0))  # type: ignore[assignment]  # numpy keeps the array's kind
            sides[f"{name}_log_norm_ratio"] = (xr.zeros_like(log), log)
    if "lens_logprob" in shift:
        base, tuned = (shift["lens_logprob"].sel(stream=side, readout=side, drop=True) for side in ("base", "tuned"))
        sides["lens_logprob"] = base, tuned
    return sides


def _tested(base: xr.DataArray, tuned: xr.DataArray, groups: Mapping[str, np.ndarray], **options: int) -> xr.DataArray:
    """Return MEASURES of one statistic, on (group, measure, ...); each class of tokens is a family of its own."""
    last = [dim for dim in tuned.dims if dim == "token_class"]
    base, tuned = (side.transpose("prompt", ..., *last) for side in (base, tuned))
    return tested_over_prompts(base, tuned, groups, last, **options)


def _with_origin(
    ds: xr.Dataset, shift: xr.Dataset, groups: Mapping[str, np.ndarray], probe: str, options: Mapping[str, int]
) -> xr.Dataset:
    """Add what each group is, and where the numbers come from."""
    models = {str(name): value for name, value in shift.attrs.items() if str(name).startswith(("base_", "tuned_"))}
    ds = ds.assign_coords(group_coordinates(groups, options["minimum"]))
    ds = ds.assign_attrs(provenance(probe, **models, **options))
    return ds
