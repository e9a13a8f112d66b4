"""Every model's numbers by prompt along a series, of its attributions and of its activations.

Attributions are each model's on its own response. Activations are compared along the series only on prompts of which
all its models read the same tokens, such as those that bring their responses: with each pair on the responses of its
own tuned model, the texts would differ as much as the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from itlens.diff import ModelSeries, activation_scores, prompt_scores, series
from itlens.errors import StoreError
from itlens.study.comparison import Comparison
from itlens.study.folder import RunFolder

_SCORING = ("levels", "threshold", "p")
OTHER_TOKENS = (
    "Activations are compared along the series on {same} of {all} prompts: of the others the models did not read the "
    "same tokens (responses of their own, or different chat templates); give prompts with responses, and one format."
)


class SeriesNumbers:
    """Filled pair by pair, the first model's numbers from the first pair; labels: of the models, in order."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = list(labels)
        self._scores: dict[str, pd.DataFrame] = {}
        self._runs: dict[str, pd.DataFrame] = {}
        self._read: list[pd.Series] = []

    def add(self, place: int, comparison: Comparison) -> None:
        """The comparison of the model at this place (from 1) with the first."""
        sides = {self._labels[0]: "base"} if place == 1 else {}
        for label, which in (sides | {self._labels[place]: "tuned"}).items():
            if comparison.diff is not None:
                self._scores[label] = _scores(comparison, which)
            if comparison.activation is not None:
                self._runs[label] = activation_scores(getattr(comparison.activation, which))
        if comparison.activation is not None:
            self._read.append(comparison.activation.base["tokens_digest"].to_series())

    @property
    def notes(self) -> list[str]:
        """What stands in no table, and why."""
        same, all_read = len(self._same_tokens()), set().union(*(digests.index for digests in self._read))
        if len(self._runs) < len(self._labels) or same == len(all_read):
            return []
        return [OTHER_TOKENS.format(same=same, all=len(all_read))]

    def compared(self, folder: Path) -> tuple[ModelSeries | None, ModelSeries | None]:
        """`itlens.diff.series` of the prompts that all models have finished, against the first and the neighbour;
        None where no part is finished by all. `folder`: of a pair, whose seed is taken."""
        tables = self._tables()
        if not tables:
            return None, None
        shared = set.intersection(*(set(table["id"]) for table in tables.values()))
        if not shared:
            raise StoreError("No prompt is finished by every model of the series; run the same command again.")
        kept = {label: table[table["id"].isin(shared)] for label, table in tables.items()}
        seed = int(RunFolder(folder).read_study()["settings"]["seed"])
        return series(kept, "first", seed=seed), series(kept, "neighbour", seed=seed)

    def _tables(self) -> dict[str, pd.DataFrame]:
        scores, runs = ({} if len(found) < len(self._labels) else found for found in (self._scores, self._runs))
        same = self._same_tokens()
        runs = {label: table[table["id"].isin(same)] for label, table in runs.items()} if len(same) else {}
        if not scores or not runs:
            return scores or runs
        return {
            label: scores[label].merge(runs[label].drop(columns="group"), on="id", how="left") for label in self._labels
        }

    def _same_tokens(self) -> list[str]:
        """The prompts of which all pairs read the same tokens."""
        if not self._read:
            return []
        digests = pd.concat(self._read, axis=1, join="inner")
        return [str(id) for id in digests.index[digests.nunique(axis=1) == 1]]


def _scores(comparison: Comparison, which: str) -> pd.DataFrame:
    """One model's numbers by prompt, of its attributions."""
    results = getattr(comparison, which)
    prompts = [prompt for prompt in comparison.prompts if prompt.id in results]
    scoring = {name: comparison.study["settings"][name] for name in _SCORING}
    return prompt_scores(results, prompts, **scoring).drop(columns="template_share")
