"""Is a number of a model linear in how much of the tuning it has? Curves over alpha, and how near they are to a line.

f(alpha) of models W_base + alpha (W_tuned - W_base). The LINE goes through f(0) and f(1); LINEARITY is
1 - sum (f - line)^2 / sum (f - mean)^2 over all alphas: 1 where the number follows the weights, 0 or less where the
line says no more than the mean does. It is not defined (NaN) for a curve that is constant, and without an alpha other
than 0 and 1: the line goes through any two points.

A row's linearity is that of the mean curve over prompts, with a percentile bootstrap interval (prompts are drawn, whole
curves at a time; from five prompts on); the median of the prompts' own is next to it, since a mean of steps at
different places is smooth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from itlens.errors import ResultError
from itlens.files import minus
from itlens.results.provenance import provenance
from itlens.stats.paired import mean
from itlens.stats.series import read_series

_FLAT = 1e-12  # of a curve's size: below, its spread is rounding
_FEWEST = 5  # prompts, for an interval
NOT_DEFINED = "not defined: the mean curve is constant"
NOT_BETWEEN = "not defined: it needs an alpha other than 0 and 1"


def linearity(values: Float[np.ndarray, "curves alphas"], alphas: Sequence[float]) -> Float[np.ndarray, " curves"]:
    """Return the linearity of each curve; NaN for a constant one, and without an alpha other than 0 and 1.

    Raises ResultError where alpha 0 or 1 is missing, or the numbers of values and alphas differ.
    """
    at = np.asarray(alphas, dtype=float)
    values = np.asarray(values, dtype=float)
    if values.shape[-1] != at.size:
        raise ResultError(f"linearity got {values.shape[-1]} values and {at.size} alphas; expected one value for each.")
    if not {0.0, 1.0} <= set(at.tolist()):
        raise ResultError(f"linearity got alphas {', '.join(f'{a:g}' for a in at)}; expected 0 and 1 among them.")
    first, last = (values[..., [int(np.flatnonzero(at == end)[0])]] for end in (0.0, 1.0))
    apart = np.square(values - (first + at * (last - first))).sum(-1)
    spread = np.square(values - values.mean(-1, keepdims=True)).sum(-1)
    if not set(at.tolist()) - {0.0, 1.0}:
        return np.full(spread.shape, np.nan)
    flat = spread <= np.square(_FLAT * np.maximum(1e-300, np.abs(values).max(-1)))
    return np.asarray(1 - np.divide(apart, spread, out=np.full(spread.shape, np.nan), where=~flat))


def linearity_table(
    results: Mapping[str, pd.DataFrame], alphas: Sequence[float], *, seed: int = 0, resamples: int = 2000
) -> pd.DataFrame:
    """Return a row per statistic and group: n (prompts with a number at every alpha), base (at 0), tuned (at 1),
    linearity with ci_low and ci_high, median (of the prompts' own), defined (prompts whose curve is not constant),
    note.

    results: numbers by prompt of each model, in the order of alphas (as of `itlens.diff.series`). Raises ResultError.
    """
    numbers = read_series(results)
    at = [float(alpha) for alpha in alphas]
    between = bool(set(at) - {0.0, 1.0})
    rows = []
    for statistic, group, values in numbers.samples():
        own = linearity(values, at)
        curve = values.mean(0, keepdims=True) if len(values) else np.full((1, len(at)), np.nan)
        whole = float(linearity(curve, at)[0])
        low, high = _interval(values, at, seed, resamples)
        known = own[np.isfinite(own)]
        rows.append(
            {
                "statistic": statistic, "group": group, "n": len(values),
                "base": float(curve[0, at.index(0.0)]), "tuned": float(curve[0, at.index(1.0)]),
                "linearity": whole, "ci_low": low, "ci_high": high,
                "median": float(np.median(known)) if known.size else np.nan, "defined": int(known.size),
                "note": "" if np.isfinite(whole) or not len(values) else NOT_DEFINED if between else NOT_BETWEEN,
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    table.attrs.update(provenance("diff.linearity", alphas=", ".join(f"{a:g}" for a in at), seed=seed))
    return table


def linearity_sentence(table: pd.DataFrame, statistic: str) -> str:
    """Return in a sentence how linear the mean curve of a statistic is, over all prompts."""
    row = table[(table["statistic"] == statistic) & (table["group"] == "all")].iloc[0]
    words = statistic.replace("_", " ")
    if not np.isfinite(row["linearity"]):
        return f"Linearity of the {words} is {row['note'] or NOT_DEFINED}."
    ends = f", 95 % interval {row['ci_low']:.2f} to {row['ci_high']:.2f}" if np.isfinite(row["ci_low"]) else ""
    return minus(f"Linearity of the {words} in alpha: {row['linearity']:.2f}{ends}.")


def _interval(values: np.ndarray, at: list[float], seed: int, resamples: int) -> tuple[float, float]:
    if len(values) < _FEWEST:
        return np.nan, np.nan
    drawn = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    found = linearity(drawn @ values / len(values), at)
    found = found[np.isfinite(found)]
    if not found.size or not np.isfinite(mean(found)):
        return np.nan, np.nan
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)
