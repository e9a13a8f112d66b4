"""Is the difference one of length? A regression of the paired difference on the lengths of the two responses.

    difference_i = c0 + c1 * log(M_tuned / M_base) + c2 * (log M - mean log M),   log M = (log M_tuned + log M_base) / 2

Ordinary least squares with HC3 errors (they hold when the spread differs between prompts, also in small samples). The
log ratio is not centred: it is 0 at equal length, so the intercept is the effect of tuning on equally long responses of
average length. Paired differences are used instead of both models' scores in one long table with a dummy for the model,
because the long table treats two scores of one prompt as independent and loses the pairing's power.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from itlens.stats.paired import is_constant

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
    decided: np.ndarray = (np.abs(influence[:, through]) > 1e-9 * np.abs(influence).max()).any(axis=1)
    return decided


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
