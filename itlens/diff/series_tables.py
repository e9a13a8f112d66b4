"""Several models' numbers by prompt, from tables or Datasets, aligned by label: what `itlens.diff.series` compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError

_MOST = 500  # statistics: each is bootstrapped


@dataclass(frozen=True)
class SeriesNumbers:
    """values: (statistic, prompt, model); groups: of each prompt, "" for none."""

    statistics: list[str]
    groups: np.ndarray
    values: np.ndarray

    def parts(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """(statistic, group, values (prompt, model)) with the prompts that have a number in every model."""
        named = {"all": np.ones(self.groups.size, dtype=bool)}
        named |= {str(name): self.groups == name for name in dict.fromkeys(self.groups.tolist()) if name}
        for place, statistic in enumerate(self.statistics):
            known = np.isfinite(self.values[place]).all(axis=1)
            for group, members in named.items():
                yield statistic, group, self.values[place][members & known]


def read_series(results: Mapping[str, Any]) -> SeriesNumbers:
    """The numbers of each label, prompts and statistics in the order of the first. Raises ResultError."""
    tables = {str(label): _table(str(label), result) for label, result in results.items()}
    (first, (numbers, groups)), *others = tables.items()
    for label, (other, _) in others:
        _refuse_unlike("prompts", first, numbers.index, label, other.index)
        _refuse_unlike("statistics", first, numbers.columns, label, other.columns)
    aligned = [table.loc[numbers.index, numbers.columns].to_numpy(float) for table, _ in tables.values()]
    return SeriesNumbers([str(name) for name in numbers.columns], groups, np.stack(aligned, axis=-1).transpose(1, 0, 2))


def _table(label: str, result: Any) -> tuple[pd.DataFrame, np.ndarray]:
    """A row per prompt and a column per statistic, and the group of each row."""
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
    """A column per variable and label of its further axes: attention_mass[layer=3, head=1]."""
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


def _at(array: xr.DataArray, dim: Any, number: int) -> str:
    return f"{dim}={array[dim].values[number] if dim in array.coords else number}"


def _refuse_unlike(what: str, first: str, one: pd.Index, label: str, other: pd.Index) -> None:
    missing = [str(name) for name in one.symmetric_difference(other)]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ResultError(
            f"{len(missing)} {what} are in {first!r} or in {label!r} only: {', '.join(missing[:5])}{more}; every model "
            "of a series needs the same."
        )
