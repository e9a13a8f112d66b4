"""Instruction scores of attributions: for any cut-off, power and length, along the response, with length as control.

1. The importance density only asks how often a token has which level: with c[n, l] = how many targets give token n the
level l,  ||S[n]||_1 = sum_{l > b} l c[n, l]  and  ||S[n]||_p^p = sum_{l > b} l^p c[n, l].  The counts are taken once
per map; thirty settings of (b, p) then cost as much as one. (`itlens.results.density` computes it directly; a test
compares the two.)
2. Sensitivity: does the difference depend on the cut-off b and the power p? The same tests over b = 0..L-1 and p in
{2, 4, 8}.
3. Profile: is the model "constantly conditioned" on the instruction? Its share of the importance along the response.
4. Regression: is the difference one of length?

    difference_i = c0 + c1 * log(M_tuned / M_base) + c2 * (log M - mean log M),   log M = (log M_tuned + log M_base) / 2

Ordinary least squares with HC3 errors (they hold when the spread differs between prompts, also in small samples). The
log ratio is not centred: it is 0 at equal length, so the intercept is the effect of tuning on equally long responses of
average length. Paired differences are used instead of both models' scores in one long table with a dummy for the model,
because the long table treats two scores of one prompt as independent and loses the pairing's power.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from itlens.results.density import span_profile
from itlens.stats.paired import bootstrap_interval, cohen_dz, is_constant, mean, paired_t, welch

_GRID = ("difference", "base_mean", "tuned_mean", "t_paired", "p_paired", "effect_size", "t_welch", "p_welch")


class Scored(NamedTuple):
    """One attribution map, ready to be scored: whole levels (source, target), and the instruction's tokens."""

    levels: np.ndarray
    mask: np.ndarray
    highest: int
    result: xr.Dataset

    @property
    def targets(self) -> int:
        return int(self.levels.shape[1])

    def scores(self, thresholds: Iterable[int], powers: Iterable[float], targets: int | None = None) -> np.ndarray:
        """Return instruction scores on (threshold, power), of the first `targets` targets (default: all)."""
        counts = level_counts(self.levels[:, :targets], self.highest)
        return np.array([[count_score(counts, self.mask, b, p) for p in powers] for b in thresholds])


def level_counts(levels: np.ndarray, highest: int) -> np.ndarray:
    """Count how many targets give each source token each level: counts (source, highest + 1)."""
    rows = levels.shape[0]
    index = levels.astype(np.intp) + np.arange(rows)[:, None] * (highest + 1)
    return np.bincount(index.ravel(), minlength=rows * (highest + 1)).reshape(rows, highest + 1)


def count_score(counts: np.ndarray, mask: np.ndarray, threshold: int, p: float) -> float:
    """Return the span score (`itlens.span_score`) from counts of levels."""
    value = np.arange(threshold + 1, counts.shape[1], dtype=float)
    kept = counts[:, threshold + 1 :]
    density = kept @ value / ((kept @ value**p) ** (1 / p) + 1e-9)
    highest = density.max(initial=0.0)
    return float((density[mask] / highest).sum() / np.log2(2 + mask.sum())) if highest > 0 else 0.0


def response_profile(
    base: Sequence[Scored],
    tuned: Sequence[Scored],
    levels: int,
    threshold: int,
    *,
    bins: int = 20,
    seed: int = 0,
    resamples: int = 2_000,
) -> xr.Dataset:
    """Average `itlens.span_profile` over prompts: share, ci_low, ci_high and n on (model, position).

    The interval is a 95 % percentile bootstrap over prompts; n counts the prompts that have a share there.
    `uniform_share` is what evenly spread importance would give: the mean share of instruction tokens in the prompts.
    """
    sides = {"base": base, "tuned": tuned}
    profiles = [np.array([_profile(s, levels, threshold, bins) for s in side]) for side in sides.values()]
    shape = (len(sides), bins)
    share, low, high, n = (np.full(shape, np.nan) for _ in range(4))
    for k, at in np.ndindex(shape):
        known = profiles[k][:, at][np.isfinite(profiles[k][:, at])]
        share[k, at], n[k, at] = mean(known), known.size
        low[k, at], high[k, at] = bootstrap_interval(known, seed=seed, resamples=resamples, method="percentile")
    axes = ("model", "position")
    variables = {"share": (axes, share), "ci_low": (axes, low), "ci_high": (axes, high), "n": (axes, n.astype(int))}
    uniform = float(np.mean([s.mask.mean() for s in base]))
    coords = {"model": list(sides), "position": (np.arange(bins) + 0.5) / bins}
    return xr.Dataset({**variables, "uniform_share": uniform}, coords)


def _profile(scored: Scored, levels: int, threshold: int, bins: int) -> np.ndarray:
    score = xr.DataArray(scored.levels, dims=("source", "target"), attrs={"levels": levels})
    return span_profile(score, xr.DataArray(scored.mask, dims="source"), levels, threshold, bins).values


def sensitivity_grid(
    base: Sequence[Scored],
    tuned: Sequence[Scored],
    levels: int,
    powers: Sequence[float] = (2, 4, 8),
    *,
    minimum: int = 5,
) -> xr.Dataset:
    """Return means and tests on (threshold, power): two-sided paired t, and one-sided Welch t (tuned > base).

    Tests are NaN for fewer than `minimum` prompts, and not corrected for the number of settings, which are not
    independent.
    """
    thresholds = range(levels)
    small = len(base) < minimum
    before, after = (np.array([scored.scores(thresholds, powers) for scored in side]) for side in (base, tuned))
    cells = [
        [_cell(before[:, b, k], after[:, b, k], small) for k in range(len(powers))] for b in range(len(thresholds))
    ]
    values = np.array(cells)
    variables = {name: (("threshold", "power"), values[..., i]) for i, name in enumerate(_GRID)}
    return xr.Dataset(variables, {"threshold": list(thresholds), "power": list(powers)}, {"n": len(base)})


def _cell(base: np.ndarray, tuned: np.ndarray, small: bool) -> list[float]:
    means = [float((tuned - base).mean()), float(base.mean()), float(tuned.mean())]
    if small:
        return [*means, *[np.nan] * 5]
    return [*means, *paired_t(base, tuned), cohen_dz(tuned - base), *welch(tuned, base, alternative="greater")]


# ---- length as a control

COLUMNS = ("term", "coefficient", "std_error", "t", "p", "ci_low", "ci_high")
_TERMS = ("intercept", "log_length_ratio", "log_mean_length")


def length_regression(
    difference: np.ndarray, base_targets: np.ndarray, tuned_targets: np.ndarray, *, minimum: int = 5
) -> pd.DataFrame:
    """Table of coefficients (COLUMNS; 95 % intervals), one row per term; `attrs["note"]` says what could not be had.

    Prompts with an empty response are left out (no logarithm), as `attrs["n"]` shows. A length that does not vary
    cannot be controlled for: its row is NaN, and if the ratio is the same everywhere but not 1, so is the intercept.
    A coefficient that one prompt alone decides (the only one with another length) has no error and no test.
    """
    both = (base_targets > 0) & (tuned_targets > 0)
    log_base, log_tuned = np.log(base_targets[both]), np.log(tuned_targets[both])
    ratio, mean_length = log_tuned - log_base, (log_tuned + log_base) / 2
    table = pd.DataFrame({"term": _TERMS, **dict.fromkeys(COLUMNS[1:], np.nan)})
    table.attrs |= {"n": int(both.sum()), "note": ""}
    needed = max(minimum, len(_TERMS) + 3)
    if both.sum() < needed:
        table.attrs["note"] = f"too few prompts for a regression (n={both.sum()}, at least {needed} needed)"
        return table
    columns = [np.ones_like(ratio), ratio, mean_length - mean_length.mean()]
    used = [0, *(k for k in (1, 2) if not is_constant(columns[k]))]
    if np.linalg.matrix_rank(np.stack([columns[k] for k in used], axis=1)) < len(used):
        used, table.attrs["note"] = [0, 1], "ratio and mean length go together: the mean length is left out"
    elif len(used) < len(_TERMS):
        names = " and ".join(_TERMS[k] for k in (1, 2) if k not in used)
        verb = "does" if len(used) == 2 else "do"
        table.attrs["note"] = f"{names} {verb} not vary between prompts and cannot be controlled for"
    design = np.stack([columns[k] for k in used], axis=1)
    rows, alone = _fit(difference[both], design), _decided_by_one(design)
    rows[alone, 1:] = np.nan
    if alone.any():
        names = " and ".join(_TERMS[k] for k, one in zip(used, alone, strict=True) if one)
        note = f"one prompt alone decides {names}, which has no test"
        table.attrs["note"] = "; ".join(filter(None, [table.attrs["note"], note]))
    table.loc[used, list(COLUMNS[1:])] = rows
    if 1 not in used and abs(ratio.mean()) > 1e-12:
        table.loc[0, list(COLUMNS[1:])] = np.nan  # an effect of tuning and one of length cannot be told apart
    return table


def _decided_by_one(design: np.ndarray) -> np.ndarray:
    """Which coefficients depend on a row of leverage 1: the fit goes through it, HC3 divides rounding by rounding."""
    influence = np.linalg.pinv(design)  # of each row on each coefficient
    through = np.einsum("ij,ji->i", design, influence) > 1 - 1e-9
    return (np.abs(influence[:, through]) > 1e-9 * np.abs(influence).max()).any(axis=1)


def _fit(y: np.ndarray, design: np.ndarray) -> np.ndarray:
    """Rows of coefficient, standard error, t, p, low, high; t and p are NaN where the fit leaves no residual."""
    from statsmodels.regression.linear_model import OLS  # a second to import

    if is_constant(y):
        rows = np.full((design.shape[1], 6), np.nan)
        rows[:, 0] = np.where(np.arange(design.shape[1]) == 0, y[0], 0.0)
        return rows
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        fit = OLS(y, design).fit(cov_type="HC3", use_t=True)
        rows = np.column_stack([fit.params, fit.bse, fit.tvalues, fit.pvalues, fit.conf_int(0.05)])
        exact = fit.ssr <= 1e-20 * max(1.0, float(y @ y))
    rows[:, 1:] = np.nan if exact else rows[:, 1:]
    return np.where(np.isfinite(rows), rows, np.nan)
