"""Numbers by model and prompt of several comparisons, from the findings' `per_prompt`, joined into one table each.

A finding whose models did not all read the same tokens (its numbers have a column "tokens") is compared only on the
prompts of which they did: with each pair on its own responses, the texts would differ as much as the models.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from itlens.findings import findings
from itlens.prompts.formats import Framed
from itlens.study.comparison import Comparison, plan_of
from itlens.study.outcome import topic_of

_TOKENS = "tokens"
OTHER_TOKENS = (
    "{topic}: compared on {same} of {all} prompts only, because the models did not read the same tokens of the others "
    "(responses of their own, or different chat templates); give prompts with responses, and one format."
)


def numbers_of(comparison: Comparison, frames: Sequence[Framed] | None = None) -> dict[str, pd.DataFrame]:
    """By finding, its numbers by model ("base", "tuned") and prompt; findings without such numbers are left out.

    frames: where each prompt's own text is in its template, for comparisons with the template on.
    """
    tables = {name: numbers_of_finding(comparison, name, frames) for name in comparison.tables}
    return {name: table for name, table in tables.items() if table is not None}


def numbers_of_finding(
    comparison: Comparison, name: str, frames: Sequence[Framed] | None = None
) -> pd.DataFrame | None:
    """The numbers of one finding; None where it has none. Raises what the finding raises."""
    finding, tables = findings()[name], comparison.tables
    plan = replace(plan_of(finding, dict(comparison.study), comparison.prompts, tables), frames=frames)
    return finding.per_prompt(tables[name], plan)


class PromptNumbers:
    """Numbers of several models (or cells), filled comparison by comparison; keys: all models, in order."""

    def __init__(self, keys: Sequence[Hashable]) -> None:
        self._keys = list(keys)
        self._tables: dict[str, dict[Hashable, pd.DataFrame]] = {}
        self._read: dict[str, list[pd.Series]] = {}

    def add(self, numbers: Mapping[str, pd.DataFrame], sides: Mapping[Hashable, str]) -> None:
        """Add one comparison's numbers. sides: which of its models, "base" or "tuned", each key is."""
        for name, table in numbers.items():
            for key, side in sides.items():
                rows = table[table["model"] == side].drop(columns="model").reset_index(drop=True)
                self._tables.setdefault(name, {})[key] = rows
            if _TOKENS in table:
                first = table[table["model"] == next(iter(sides.values()))]
                self._read.setdefault(name, []).append(first.set_index("id")[_TOKENS])

    def joined(self, *, same_tokens: bool = True) -> dict[Hashable, pd.DataFrame]:
        """By key, one table with a row per prompt: id, group, and the numbers that every key has; empty without any.

        The first finding with numbers says which prompts there are. same_tokens: leave out prompts that were not read
        alike.
        """
        kept = [self._restricted(name, same_tokens) for name in self._tables if self._complete(name)]
        kept = [tables for tables in kept if all(len(table) for table in tables.values())]
        if not kept:
            return {}
        whole = kept[0]
        for more in kept[1:]:
            whole = {
                key: table.merge(more[key].drop(columns="group"), on="id", how="left") for key, table in whole.items()
            }
        return {key: whole[key] for key in self._keys}

    @property
    def notes(self) -> list[str]:
        """What is in no table, and why."""
        return [
            OTHER_TOKENS.format(topic=topic_of(findings()[name]).capitalize(), same=len(same), all=len(every))
            for name in self._read
            if self._complete(name)
            and len(same := self._same(name)) < len(every := set().union(*(read.index for read in self._read[name])))
        ]

    def _complete(self, name: str) -> bool:
        return len(self._tables[name]) == len(self._keys)

    def _restricted(self, name: str, same_tokens: bool) -> dict[Hashable, pd.DataFrame]:
        tables = self._tables[name]
        if name not in self._read:
            return tables
        bare = {key: table.drop(columns=_TOKENS) for key, table in tables.items()}
        if not same_tokens:
            return bare
        same = self._same(name)
        return {key: table[table["id"].isin(same)] for key, table in bare.items()}

    def _same(self, name: str) -> list[Any]:
        digests = pd.concat(self._read[name], axis=1, join="inner")
        return list(digests.index[digests.nunique(axis=1) == 1])
