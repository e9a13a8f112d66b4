"""Any number of models in order, as one axis: a base, its fine-tuned self, and what came after.

1. Align the models' numbers by prompt id; a prompt that has no number in one of them does not count for that statistic.
2. Differences against the first model, or between neighbours: paired over prompts (`itlens.stats.paired`), Holm over
   the pairs of one statistic and group.
3. Trend: per prompt, the least-squares slope over the models' order 0, 1, 2 ... and Spearman's rank correlation with
   it (0 where the prompt's numbers are all the same); over prompts, a paired t-test of the slopes, and an exact sign
   test of the prompts whose correlation is above against those below 0; Holm over the statistics of a group.
A pair is the series of two: its slope is the difference. Numbers come as tables or Datasets, a label each.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import binomtest, rankdata

from itlens.errors import ResultError
from itlens.files import minus
from itlens.results.provenance import provenance
from itlens.stats.groups import groups_of
from itlens.stats.paired import adjust, bootstrap_interval, mean, p_text, paired_row

Against: TypeAlias = Literal["first", "neighbour"]
AGAINST: tuple[Against, ...] = get_args(Against)
_MOST = 500  # statistics: each is bootstrapped


class ModelSeries(NamedTuple):
    """What `series` returns; every table has its provenance in `.attrs`.

    models: statistic, group, model, n, mean, ci_low, ci_high, in order. differences: statistic, group, reference,
    model, then `PAIRED_COLUMNS` (base_ is the reference's, tuned_ the model's) and p_holm. trend: statistic, group, n,
    slope (per step along the models) with ci_low, ci_high, effect_size, p_slope, p_slope_holm; rank_correlation (mean
    over prompts), rising, falling (numbers of prompts), p_rank (of these two), p_rank_holm; note.
    """

    models: pd.DataFrame
    differences: pd.DataFrame
    trend: pd.DataFrame


def series(
    results: Mapping[str, pd.DataFrame | xr.Dataset],
    against: Against = "first",
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
    labels, samples = list(map(str, results)), list(numbers.samples())
    models = [row for sample in samples for row in _means(*sample, labels, seed, resamples)]
    pairs = [(0 if against == "first" else place - 1, place) for place in range(1, len(labels))]
    differences = [_differences(*sample, labels, pairs, **options) for sample in samples]
    made = ModelSeries(
        pd.DataFrame(models),
        pd.concat(differences, ignore_index=True),
        _corrected(pd.DataFrame([_trend(*sample, **options) for sample in samples])),
    )
    attrs: dict[Any, Any] = provenance("diff.series", models=", ".join(labels), against=against, **options)
    for table in made:
        table.attrs = attrs
    return made


def series_verdict(result: ModelSeries, *, statistic: str, group: str = "all", alpha: float = 0.05) -> str:
    """Return in one or two sentences what `itlens.diff.series` says of one statistic.

    Does it go one way, and which models differ? Raises ResultError for a statistic or group that there is not.
    """
    tables = [table[(table["statistic"] == statistic) & (table["group"] == group)] for table in result]
    if any(table.empty for table in tables):
        raise ResultError(f"There is no statistic {statistic!r} in the group {group!r} of this series.")
    models, differences, trend = tables
    row, words = trend.iloc[0], statistic.replace("_", " ")
    means = ", ".join(f"{model['model']}: {model['mean']:.3g}" for _, model in models.iterrows())
    if not np.isfinite(row["p_slope_holm"]):
        untested = f"No trend was tested: {row['note'] or 'too few prompts'}."
        return minus(f"The {words} over {row['n']} prompts: {means}. {untested}")
    if (differences[["difference", "ci_low", "ci_high"]] == 0).all(axis=None):  # as where no prompt differs
        level = minus(f"{models['mean'].iloc[0]:.3g}")
        return f"The {words} is constant along the series: {level} in every model, on each of {row['n']} prompts alike."
    figures = (
        f"{means}; slope {row['slope']:+.3g} a step, 95 % interval {row['ci_low']:.3g} to {row['ci_high']:.3g}, "
        f"Holm {p_text(float(row['p_slope_holm']))}, {row['n']} prompts"
    )
    direction = "rises" if row["slope"] > 0 else "falls"
    significant = row["p_slope_holm"] < alpha
    claim = f"The {words} {direction} along the series" if significant else f"No significant trend of the {words}"
    differing = differences[differences["p_holm"] < alpha]
    pairs = ", ".join(f"{pair['reference']} to {pair['model']}" for _, pair in differing.iterrows()) or "none"
    return minus(f"{claim} ({figures}). Significant differences: {pairs}.")


def _means(
    statistic: str, group: str, values: np.ndarray, labels: list[str], seed: int, resamples: int
) -> Iterator[dict[str, object]]:
    for place, label in enumerate(labels):
        low, high = bootstrap_interval(values[:, place], seed=seed, resamples=resamples)
        yield {"statistic": statistic, "group": group, "model": label, "n": len(values),
               "mean": mean(values[:, place]), "ci_low": low, "ci_high": high}  # fmt: skip


def _differences(
    statistic: str, group: str, values: np.ndarray, labels: list[str], pairs: list[tuple[int, int]], **options: int
) -> pd.DataFrame:
    rows = [
        {"statistic": statistic, "group": group, "reference": labels[reference], "model": labels[model]}
        | paired_row(values[:, reference], values[:, model], **options)
        for reference, model in pairs
    ]
    table = pd.DataFrame(rows)
    table.insert(list(table.columns).index("p_paired") + 1, "p_holm", adjust(table["p_paired"]))
    return table


def _trend(statistic: str, group: str, values: np.ndarray, *, minimum: int, **options: int) -> dict[str, object]:
    slope, rho = slopes(values), rank_trends(values)
    row = paired_row(np.zeros(slope.size), slope, minimum=minimum, **options)
    rising, falling = int((rho > 1e-9).sum()), int((rho < -1e-9).sum())
    tested = slope.size >= minimum
    p_rank = binomtest(rising, rising + falling).pvalue if rising + falling else 1.0
    return {
        "statistic": statistic, "group": group, "n": slope.size, "slope": row["difference"],
        **{name: row[name] for name in ("ci_low", "ci_high", "effect_size")}, "p_slope": row["p_paired"],
        "rank_correlation": mean(rho), "rising": rising, "falling": falling, "p_rank": p_rank if tested else np.nan,
        "note": row["note"],
    }  # fmt: skip


def slopes(values: np.ndarray) -> np.ndarray:
    """Return the least-squares slope per row of values (prompt, model) over 0, 1, 2 ..."""
    place = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    return values @ place / (place @ place)


def rank_trends(values: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation per row of values (prompt, model) with the models' order; 0 without spread."""
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


@dataclass(frozen=True)
class SeriesNumbers:
    """Several models' numbers by prompt. values: (statistic, prompt, model); groups: of each prompt, "" for none."""

    statistics: list[str]
    groups: np.ndarray
    values: np.ndarray

    def samples(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """Yield (statistic, group, values (prompt, model)) with the prompts that have a number in every model."""
        named = groups_of(self.groups)
        for place, statistic in enumerate(self.statistics):
            known = np.isfinite(self.values[place]).all(axis=1)
            for group, members in named.items():
                yield statistic, group, self.values[place][members & known]


def read_series(results: Mapping[str, pd.DataFrame | xr.Dataset]) -> SeriesNumbers:
    """Return the numbers of each label, prompts and statistics in the order of the first. Raises ResultError."""
    tables = {str(label): _table(str(label), result) for label, result in results.items()}
    (first, (numbers, groups)), *others = tables.items()
    for label, (other, _) in others:
        _refuse_unlike("prompts", first, numbers.index, label, other.index)
        _refuse_unlike("statistics", first, numbers.columns, label, other.columns)
    aligned = [table.loc[numbers.index, numbers.columns].to_numpy(float) for table, _ in tables.values()]
    return SeriesNumbers([str(name) for name in numbers.columns], groups, np.stack(aligned, axis=-1).transpose(1, 0, 2))


def _table(label: str, result: pd.DataFrame | xr.Dataset) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table with a row per prompt and a column per statistic, and the group of each row."""
    if isinstance(result, xr.Dataset):
        result = _unrolled(label, result)
    if not isinstance(result, pd.DataFrame):
        raise ResultError(f"{label!r} is a {type(result).__name__}; expected a table by prompt, or a Dataset.")
    table = result.set_index("id") if "id" in result.columns else result
    table = table.set_axis(table.index.map(str))  # a new table: the given one stays as it is
    twice = table.index[table.index.duplicated()]
    if len(twice):
        raise ResultError(f"{label!r} holds the prompt {twice[0]!r} twice; keep one row per prompt.")
    groups = table["group"].fillna("").to_numpy(str) if "group" in table.columns else np.full(len(table), "")
    numbers = table.drop(columns=["group"], errors="ignore").select_dtypes("number")
    if numbers.empty:
        raise ResultError(f"{label!r} has no numbers by prompt; expected a row per prompt and columns of numbers.")
    return numbers.astype(float), groups


def _unrolled(label: str, ds: xr.Dataset) -> pd.DataFrame:
    """Return a table with a column per variable and label of its further axes: attention_mass[layer=3, head=1]."""
    if "prompt" not in ds.dims:
        raise ResultError(f"The Dataset {label!r} has no axis prompt; expected one with a number per prompt.")
    by_prompt = {str(name): array for name, array in ds.data_vars.items() if "prompt" in array.dims}
    numeric = {name: array for name, array in by_prompt.items() if array.dtype.kind in "fiu"}
    count = sum(array.size // max(ds.sizes["prompt"], 1) for array in numeric.values())
    if count > _MOST:
        raise ResultError(
            f"{label!r} holds {count:,} numbers per prompt, at most {_MOST} can be compared; select some or average "
            'first, such as ds[["attention_mass"]].mean(("layer", "head")).'
        )
    columns: dict[str, np.ndarray] = {}
    for name, array in numeric.items():
        rows = array.transpose("prompt", ...)
        for place in np.ndindex(rows.shape[1:]):
            at = ", ".join(_at(rows, dim, number) for dim, number in zip(rows.dims[1:], place, strict=True))
            everywhere = (slice(None), *place)
            columns[f"{name}[{at}]" if at else name] = rows.values[everywhere]
    table = pd.DataFrame(columns, index=pd.Index(ds["prompt"].values.astype(str)))
    return table.assign(group=ds["group"].values.astype(str)) if "group" in ds.coords else table


def _at(array: xr.DataArray, dim: Hashable, number: int) -> str:
    return f"{dim}={array[dim].values[number] if dim in array.coords else number}"


def _refuse_unlike(what: str, first: str, names: pd.Index[Any], label: str, others: pd.Index[Any]) -> None:
    missing = [str(name) for name in names.symmetric_difference(others)]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ResultError(
            f"{len(missing)} {what} are in {first!r} or in {label!r} only: {', '.join(missing[:5])}{more}; every model "
            "of a series needs the same."
        )
