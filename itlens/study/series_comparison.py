"""Several tuned models against one base: every pair's comparison, and what they say along the series."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from itlens.diff import ModelSeries, series_verdict
from itlens.errors import StoreError
from itlens.study.comparison import Comparison, open_comparison
from itlens.study.distances import from_first, of_neighbours
from itlens.study.series_numbers import SeriesNumbers
from itlens.study.several import SeveralFolder


@dataclass(frozen=True)
class SeriesComparison:
    """out: the folder. labels: of the models, in order. folders: the run folder of each model after the first.

    first, neighbours: `itlens.diff.series` of each prompt's numbers, against the first model and against the one
    before; None where no part has any for all models (activations only of the same tokens). distances: per pair of
    models how far weights and activations are apart.
    """

    out: Path
    labels: tuple[str, ...]
    folders: tuple[Path, ...]
    first: ModelSeries | None
    neighbours: ModelSeries | None
    distances: pd.DataFrame
    notes: list[str]

    @property
    def report_path(self) -> Path:
        """The page of the whole series; each pair has its own beside it."""
        return SeveralFolder(self.out, "series").page

    def comparison(self, label: str) -> Comparison:
        """The comparison of a model with the first. Raises StoreError for a label that there is not."""
        if label not in self.labels[1:]:
            raise StoreError(f"There is no comparison {label!r}; there are {', '.join(map(repr, self.labels[1:]))}.")
        return open_comparison(self.folders[self.labels.index(label) - 1])

    @cached_property
    def answers(self) -> list[str]:
        """What came out, a sentence or two for each statistic."""
        if self.first is None:
            return [f"{len(self.labels)} models: {', '.join(self.labels)}; see the distances between them."]
        return [series_verdict(self.first, statistic=name) for name in dict.fromkeys(self.first.trend["statistic"])]

    @property
    def verdict(self) -> str:
        """The first answer."""
        return self.answers[0]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """By name, as they are written."""
        found: dict[str, pd.DataFrame] = {"distances": self.distances} if len(self.distances.columns) > 3 else {}
        if self.first is not None and self.neighbours is not None:
            found |= {"models": self.first.models, "trend": self.first.trend}
            both = {"first": self.first.differences, "neighbour": self.neighbours.differences}
            found["differences"] = pd.concat([t.assign(against=name) for name, t in both.items()], ignore_index=True)
        return found

    def __repr__(self) -> str:
        tables = [f"{name}\n{table.to_string(index=False)}" for name, table in self.tables.items() if name != "models"]
        notes = [f"Note: {note}" for note in self.notes]
        return "\n\n".join([*self.answers, *tables, *notes, f"Report: {self.report_path}"])


def open_series(path: str | Path) -> SeriesComparison:
    """Read the folder of a series. Raises StoreError where it is none, or a pair of it has nothing finished."""
    folder = SeveralFolder(path, "series")
    asked = folder.read()
    labels, names = tuple(asked.get("labels", ())), asked.get("folders", ())
    if len(labels) < 2 or len(names) != len(labels) - 1:
        raise StoreError(f"{folder.file} does not name the models of a series; run the same command again.")
    folders = tuple(folder.path / name for name in names)
    numbers = SeriesNumbers(labels)
    notes: dict[str, list[str]] = {}
    rows = []
    for place, run in enumerate(folders, start=1):  # one at a time: the word pairs of a large model fill a gigabyte
        comparison = open_comparison(run)
        for note in comparison.notes:
            notes.setdefault(note, []).append(labels[place])
        numbers.add(place, comparison)
        rows.append({"against": "first", "reference": labels[0], "model": labels[place], **from_first(comparison)})
    for place, found in enumerate(of_neighbours(folders), start=2):
        if found:
            rows.append({"against": "neighbour", "reference": labels[place - 1], "model": labels[place], **found})
    distances = pd.DataFrame(rows).dropna(axis="columns", how="all")
    first, neighbours = numbers.compared(folders[0])
    said = [*numbers.notes, *(f"{', '.join(models)}: {note}" for note, models in notes.items())]
    return SeriesComparison(folder.path, labels, folders, first, neighbours, distances, said)
