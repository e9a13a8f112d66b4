"""Any number of models in order, as one axis: a base, its fine-tuned self, and what came after.

1. Align the models' numbers by prompt id; a prompt that has no number in one of them does not count for that statistic.
2. Differences against the first model, or between neighbours: paired over prompts (`itlens.diff.statistics`), Holm over
   the pairs of one statistic and group.
3. Trend: per prompt, the least-squares slope over the models' order 0, 1, 2 ... and Spearman's rank correlation with
   it (0 where the prompt's numbers are all the same); over prompts, a paired t-test of the slopes, and an exact sign
   test of the prompts whose correlation is above against those below 0; Holm over the statistics of a group.
A pair is the series of two: its slope is the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest, rankdata

from itlens.diff.series_tables import read_series
from itlens.diff.statistics import adjust, bootstrap_interval, mean, paired_row
from itlens.errors import ResultError
from itlens.provenance import provenance

AGAINST = ("first", "neighbour")


class ModelSeries(NamedTuple):
    """What `series` found; every table has its provenance in `.attrs`.

    models: statistic, group, model, n, mean, ci_low, ci_high, in order. differences: statistic, group, reference,
    model, then `PAIRED_COLUMNS` (base_ is the reference's, tuned_ the model's) and p_holm. trend: statistic, group, n,
    slope (per step along the models) with ci_low, ci_high, effect_size, p_slope, p_slope_holm; rank_correlation (mean
    over prompts), rising, falling (numbers of prompts), p_rank (of these two), p_rank_holm; note.
    """

    models: pd.DataFrame
    differences: pd.DataFrame
    trend: pd.DataFrame


def series(
    results: Mapping[str, Any],
    against: str = "first",
    *,
    seed: int = 0,
    resamples: int = 10_000,
    minimum: int = 5,
) -> ModelSeries:
    """Compare any number of models, in order, over the same prompts.

    results: label -> that model's numbers by prompt: a table with a column "id" (or prompt ids as its index), perhaps
    "group", and columns of numbers; or a Dataset on the axis prompt, whose further axes become one statistic per label
    (select or average first where they are many). against: "first" or "neighbour". minimum: groups of fewer prompts get
    no test.

    Raises ResultError: fewer than two models, prompts or statistics that differ between them, nothing numeric.
    """
    if not isinstance(results, Mapping) or len(results) < 2:
        got = ", ".join(map(repr, results)) if isinstance(results, Mapping) else f"a {type(results).__name__}"
        raise ResultError(
            f"A series needs two or more models by label, in order, such as {{'base': ..., 'sft': ...}}; got "
            f"{got or 'none'}."
        )
    if against not in AGAINST:
        raise ResultError(f"against={against!r} is unknown; expected one of {', '.join(map(repr, AGAINST))}.")
    numbers = read_series(results)
    options: dict[str, Any] = {"seed": seed, "resamples": resamples, "minimum": minimum}
    labels, parts = list(map(str, results)), list(numbers.parts())
    models = [row for part in parts for row in _means(*part, labels, seed, resamples)]
    pairs = [(0 if against == "first" else place - 1, place) for place in range(1, len(labels))]
    differences = [_differences(*part, labels, pairs, **options) for part in parts]
    made = ModelSeries(
        pd.DataFrame(models),
        pd.concat(differences, ignore_index=True),
        _corrected(pd.DataFrame([_trend(*part, **options) for part in parts])),
    )
    attrs: dict[Any, Any] = provenance("diff.series", models=", ".join(labels), against=against, **options)
    for table in made:
        table.attrs = attrs
    return made


def _means(statistic: str, group: str, values: np.ndarray, labels: list[str], seed: int, resamples: int) -> Any:
    for place, label in enumerate(labels):
        low, high = bootstrap_interval(values[:, place], seed=seed, resamples=resamples)
        yield {"statistic": statistic, "group": group, "model": label, "n": len(values),
               "mean": mean(values[:, place]), "ci_low": low, "ci_high": high}  # fmt: skip


def _differences(
    statistic: str, group: str, values: np.ndarray, labels: list[str], pairs: list[tuple[int, int]], **options: Any
) -> pd.DataFrame:
    rows = [
        {"statistic": statistic, "group": group, "reference": labels[one], "model": labels[other]}
        | paired_row(values[:, one], values[:, other], **options)
        for one, other in pairs
    ]
    table = pd.DataFrame(rows)
    table.insert(int(table.columns.get_loc("p_paired")) + 1, "p_holm", adjust(table["p_paired"]))
    return table


def _trend(statistic: str, group: str, values: np.ndarray, **options: Any) -> dict[str, Any]:
    slope, rho = slopes(values), rank_trends(values)
    found = paired_row(np.zeros(slope.size), slope, **options)
    rising, falling = int((rho > 1e-9).sum()), int((rho < -1e-9).sum())
    tested = not str(found["note"]).startswith("too few")
    p_rank = binomtest(rising, rising + falling).pvalue if rising + falling else 1.0
    return {
        "statistic": statistic, "group": group, "n": slope.size, "slope": found["difference"],
        **{name: found[name] for name in ("ci_low", "ci_high", "effect_size")}, "p_slope": found["p_paired"],
        "rank_correlation": mean(rho), "rising": rising, "falling": falling, "p_rank": p_rank if tested else np.nan,
        "note": found["note"],
    }  # fmt: skip


def slopes(values: np.ndarray) -> np.ndarray:
    """Least-squares slope per row of values (prompt, model) over 0, 1, 2 ..."""
    place = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    return values @ place / (place @ place)


def rank_trends(values: np.ndarray) -> np.ndarray:
    """Spearman's correlation per row of values (prompt, model) with the models' order; 0 for a row without spread."""
    ranks = rankdata(values, axis=1)
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    place = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    size = np.sqrt((ranks**2).sum(axis=1) * (place @ place))
    return np.divide(ranks @ place, size, out=np.zeros(len(values)), where=size > 1e-9)


def _corrected(trend: pd.DataFrame) -> pd.DataFrame:
    for name in ("p_slope", "p_rank"):
        within = trend.groupby("group", sort=False)[name].transform(lambda p: pd.Series(adjust(p), p.index))
        trend.insert(list(trend.columns).index(name) + 1, f"{name}_holm", within)
    return trend
