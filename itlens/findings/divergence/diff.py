"""Where in depth the decision between two next tokens is made: effects of early and late blocks, with tests.

Of the four cells Y(U, L) at a boundary (`itlens.divergence`), by prompt:
1. upstream = mean over L of Y(T, L) - Y(B, L);  late = mean over U of Y(U, T) - Y(U, B);
   interaction = (Y(T, T) - Y(T, B)) - (Y(B, T) - Y(B, B));  total = Y(T, T) - Y(B, B) = upstream + late
2. share = sum over prompts of upstream / sum of total, with a bootstrap over prompts (a ratio of sums, because single
   totals near zero would make a mean of ratios mean nothing)
3. step of block l = upstream at boundary l + 1 - upstream at boundary l: what this block adds, given the others
4. half depth: the boundary at which share first reaches 1/2, between boundaries on a straight line
5. halves: upstream against late at half the depth: which half of the blocks contributes more?
Tests are paired over prompts (t, Benjamini-Hochberg over boundaries or blocks). Under the null the labels of base and
tuned can be exchanged within a prompt: the sign of its effect is then as likely positive as negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.results.provenance import provenance
from itlens.stats.groups import groups_of, paired_groups
from itlens.stats.paired import adjust, paired_cells

ReadoutName: TypeAlias = Literal["base", "tuned"]
_GAPS: dict[str, str] = {"base": "logit_gap", "tuned": "logit_gap_tuned"}
_EFFECTS = ("upstream_effect", "late_effect", "interaction")
_RESAMPLES = 2000


def divergence_effects(ds: xr.Dataset, *, readout: ReadoutName = "base") -> xr.Dataset:
    """Return the effects of each prompt whose answers part.

    ds: of `itlens.divergence`. readout: whose final norm and unembedding measure, "base" or "tuned". Returns, in
    logits, upstream_effect, late_effect, interaction (prompt, boundary), step (prompt, block), total and halves
    (prompt; halves: upstream - late at half the depth), with the coordinates of `ds`. Raises ResultError for another
    kind of result.
    """
    _refuse_other(ds, "divergence_effects")
    if readout not in _GAPS:
        raise ResultError(f"readout={readout!r} is unknown; expected 'base' or 'tuned'.")
    gaps = ds[_GAPS[readout]].isel(prompt=np.flatnonzero(np.isfinite(ds["position"].values)))
    cell = {(u, v): gaps.sel(upstream=u, late=v, drop=True) for u in ("base", "tuned") for v in ("base", "tuned")}
    t_t, t_b, b_t, b_b = (cell[u, v] for u in ("tuned", "base") for v in ("tuned", "base"))
    upstream = ((t_t - b_t) + (t_b - b_b)) / 2
    late = ((t_t - t_b) + (b_t - b_b)) / 2
    step = upstream.diff("boundary").rename(boundary="block").assign_coords(block=np.arange(gaps.sizes["boundary"] - 1))
    middle = (gaps.sizes["boundary"] - 1) / 2
    halves = (upstream - late).interp(boundary=middle).drop_vars("boundary")
    variables = {
        "upstream_effect": upstream,
        "late_effect": late,
        "interaction": (t_t - t_b) - (b_t - b_b),
        "step": step,
        "total": (t_t - b_b).isel(boundary=0, drop=True),
        "halves": halves,
    }
    found: xr.Dataset = xr.Dataset(variables)
    same = {name: ds.attrs[name] for name in ("base_model", "tuned_model") if name in ds.attrs}
    return found.assign_attrs(provenance("diff.divergence_effects", readout=readout, **same))


def divergence_depth(
    ds: xr.Dataset, *, readout: ReadoutName = "base", seed: int = 0, resamples: int = _RESAMPLES, minimum: int = 5
) -> pd.DataFrame:
    """Test the effects at each boundary over prompts.

    Returns boundary, depth (0 to 1), n, share (of the total that is upstream) with share_low, share_high (95 %
    bootstrap over prompts of the ratio of sums), and of each of upstream, late and interaction: the mean (logits), its
    95 % percentile bootstrap interval _low, _high, _p (paired t over prompts) and _p_bh (Benjamini-Hochberg over
    boundaries); half_depth, half_depth_low, half_depth_high, the same in all rows: the boundary at which half of the
    total is upstream. Raises ResultError for another kind of result.
    """
    effects = divergence_effects(ds, readout=readout)
    upstream, total = effects["upstream_effect"].values, effects["total"].values
    share, (low, high), half = _shares(upstream, total, seed=seed, resamples=resamples, minimum=minimum)
    boundaries = effects["boundary"].values
    columns: dict[str, object] = {
        "boundary": boundaries,
        "depth": boundaries / max(1, boundaries[-1]),
        "n": np.full(boundaries.size, total.size),
        "share": share,
        "share_low": low,
        "share_high": high,
    }
    for name in _EFFECTS:
        tested = _against_zero(effects[name].values, seed=seed, resamples=resamples, minimum=minimum)
        columns |= {f"{name.removesuffix('_effect')}{end}": values for end, values in tested.items()}
    columns |= {f"half_depth{end}": value for end, value in zip(("", "_low", "_high"), half, strict=True)}
    table: pd.DataFrame = pd.DataFrame(columns)
    options = {"readout": readout, "seed": seed, "resamples": resamples, "minimum": minimum}
    table.attrs.update(provenance("diff.divergence_depth", **options))
    return table


def divergence_blocks(
    ds: xr.Dataset, *, readout: ReadoutName = "base", seed: int = 0, resamples: int = _RESAMPLES, minimum: int = 5
) -> pd.DataFrame:
    """Test what each block adds to the decision.

    Returns block, n, step (mean over prompts, logits), step_low, step_high (95 % bootstrap), p (paired t), p_bh
    (Benjamini-Hochberg over the blocks), share_of_total. Raises ResultError for another kind of result.
    """
    effects = divergence_effects(ds, readout=readout)
    tested = _against_zero(effects["step"].values, seed=seed, resamples=resamples, minimum=minimum)
    total = float(effects["total"].sum())
    table: pd.DataFrame = pd.DataFrame(
        {
            "block": effects["block"].values,
            "n": effects.sizes["prompt"],
            **{f"step{end}" if end != "_p_bh" else "p_bh": values for end, values in tested.items()},
            "share_of_total": effects["step"].sum("prompt").values / total if total else np.nan,
        }
    )
    options = {"readout": readout, "seed": seed, "resamples": resamples, "minimum": minimum}
    table.attrs.update(provenance("diff.divergence_blocks", **options))
    return table


def divergence_tests(
    ds: xr.Dataset, *, readout: ReadoutName = "base", seed: int = 0, resamples: int = 10_000, minimum: int = 5
) -> pd.DataFrame:
    """Test, per group, the whole decision and which half of the blocks makes it: statistic, group, then the columns of
    `itlens.diff.paired`.

    statistic: "decision", Y of the base's plain run against the tuned model's; "halves", at half the depth the late
    effect ("base" in the columns) against the upstream effect ("tuned"), logits. Raises ResultError for another kind of
    result.
    """
    effects = divergence_effects(ds, readout=readout)
    gaps = ds[_GAPS[readout]].sel(prompt=effects["prompt"].values).isel(boundary=0)
    own = {side: gaps.sel(upstream=side, late=side).values for side in ("base", "tuned")}
    total, halves = effects["total"].values, effects["halves"].values
    pairs = {"decision": (own["base"], own["tuned"]), "halves": ((total - halves) / 2, (total + halves) / 2)}
    groups = groups_of(effects["group"].values)
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    tables = []
    for name, (x, y) in pairs.items():
        tested = paired_groups(groups, x, y, **options)
        tested.insert(0, "statistic", name)
        tables.append(tested)
    table: pd.DataFrame = pd.concat(tables, ignore_index=True)
    table.attrs.update(provenance("diff.divergence_tests", readout=readout, **options))
    return table


def _against_zero(values: np.ndarray, *, seed: int, resamples: int, minimum: int) -> dict[str, np.ndarray]:
    """Return the mean ("") with _low, _high, _p and _p_bh of each column over prompts."""
    tested = paired_cells(np.zeros_like(values), values, seed=seed, resamples=resamples, minimum=minimum)
    return {
        "": tested["difference"],
        "_low": tested["ci_low"],
        "_high": tested["ci_high"],
        "_p": tested["p_paired"],
        "_p_bh": adjust(tested["p_paired"], "fdr_bh"),
    }


def _shares(
    upstream: np.ndarray, total: np.ndarray, *, seed: int, resamples: int, minimum: int
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], tuple[float, float, float]]:
    """Return the share upstream by boundary, its interval, and the half depth with its interval."""
    nothing = np.full(upstream.shape[1], np.nan)
    if not total.sum() > 0:
        return nothing, (nothing, nothing), (np.nan, np.nan, np.nan)
    share = upstream.sum(axis=0) / total.sum()
    if total.size < minimum:
        return share, (nothing, nothing), (half_depth(share), np.nan, np.nan)
    drawn = np.random.default_rng(seed).multinomial(total.size, np.full(total.size, 1 / total.size), resamples)
    totals = drawn @ total
    shares = (drawn @ upstream)[totals > 0] / totals[totals > 0, None]
    low, high = np.quantile(shares, [0.025, 0.975], axis=0)
    halves = np.array([half_depth(each) for each in shares])
    known = halves[np.isfinite(halves)]
    ends = np.quantile(known, [0.025, 0.975]) if known.size else (np.nan, np.nan)
    return share, (low, high), (half_depth(share), float(ends[0]), float(ends[1]))


def half_depth(share: np.ndarray) -> float:
    """Return the boundary at which the share first reaches 1/2, on a straight line between boundaries; NaN: never."""
    reached = np.flatnonzero(share >= 0.5)
    if not reached.size:
        return np.nan
    after = int(reached[0])
    if after == 0:
        return 0.0
    before = share[after - 1]
    return float(after - 1 + (0.5 - before) / (share[after] - before))


def _refuse_other(ds: object, call: str) -> None:
    if not isinstance(ds, xr.Dataset) or ds.attrs.get("probe") != "divergence":
        got = "another kind of result" if isinstance(ds, xr.Dataset) else f"a {type(ds).__name__}"
        raise ResultError(f"{call} takes a Dataset of itlens.divergence; got {got}.")


def partings(ds: xr.Dataset, *, readout: ReadoutName = "base") -> pd.DataFrame:
    """Return a row per prompt: id, group, position (of the response, from 0; NaN where the answers do not part),
    token_base, token_tuned, gap_base and gap_tuned (Y of both plain runs, logits), share (of the total that is upstream
    at half the depth), compared (tokens). Raises ResultError for another kind of result."""
    _refuse_other(ds, "partings")
    effects = divergence_effects(ds, readout=readout).reindex(prompt=ds["prompt"].values)
    plain = ds[_GAPS[readout]].isel(boundary=0)
    total, halves = effects["total"].values, effects["halves"].values
    rows: Mapping[str, object] = {
        "id": ds["prompt"].values.astype(str),
        "group": ds["group"].values.astype(str),
        "position": ds["position"].values,
        **{f"token_{side}": ds[f"token_{side}"].values.astype(object) for side in ("base", "tuned")},
        **{f"gap_{side}": plain.sel(upstream=side, late=side).values for side in ("base", "tuned")},
        "share": np.divide((total + halves) / 2, total, out=np.full(total.shape, np.nan), where=np.abs(total) > 1e-9),
        "compared": ds["compared"].values,
    }
    table: pd.DataFrame = pd.DataFrame(rows)
    table.attrs.update(provenance("diff.partings", readout=readout))
    return table
