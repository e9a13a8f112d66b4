"""What the tests of studies share: a tiny pair, prompts, words, small options for every finding, and counting units."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens import Vocabulary, WordVectors
from itlens.annotate import Label
from itlens.files import write_json
from itlens.findings import findings
from itlens.models import pair as pair_module
from itlens.prompts import Prompt
from itlens.study import Comparison
from itlens.study.outcome import findings_json, page_of

NEW_TOKENS = 4
_NOUNS = ("cat", "dog", "horse", "mouse", "apple", "pear")
ODD_WORDS = ("a=b", "c|||d", "tab\there", 'quo"te', "comma,", "\N{PARTY POPPER}", "café", "NA", "new\nline", "-")
_PLAIN = (
    "write explain describe translate list answer give find make tell run eat walk sing cook play jump sleep read draw "
    "the and house river letter letters story poem word text line name cat dog horse mouse apple pear plum bread"
)
WORDS = (*_PLAIN.split(), *ODD_WORDS)
TASKS = {
    "writing": _PLAIN.split()[:14],
    "reading": ["house", "river", "letter", "letters", "story", "poem", "word", "text", "line", "name", "read"],
}


def six_prompts() -> list[Prompt]:
    """Six short prompts in two groups."""
    return [
        Prompt(
            f"Translate the word: {word}.",
            instruction="Translate the word",
            id=f"p{n}",
            group="even" if n % 2 else "odd",
        )
        for n, word in enumerate(_NOUNS, start=1)
    ]


def vocabulary() -> Vocabulary:
    """Fifty words, ten of which hold what separates words in other people's files."""
    return Vocabulary(WORDS, name="fifty")


def vectors(seed: int = 0) -> WordVectors:
    """Vectors in ten heaps of five words each, so that a word is related to most of its heap and to few others."""
    rng = np.random.default_rng(seed)
    heaps, noise = rng.normal(size=(10, 16)), 0.1 * rng.normal(size=(len(WORDS), 16))
    return WordVectors(WORDS, heaps[np.arange(len(WORDS)) % 10] + noise, name="heaps")


def small(**changes: Any) -> dict[str, Any]:
    """Arguments of `compare` with which every finding takes a second on a tiny pair."""
    options: dict[str, Any] = {"prompts": six_prompts(), "max_new_tokens": NEW_TOKENS, "seed": 3, "progress": False}
    options |= {"vocabulary": vocabulary(), "vectors": vectors(), "top_k": 30, "components": 8, "concept_words": 6}
    options |= {"resamples": 3, "labelled": 4, "sample": 3, "task_words": TASKS}
    return options | changes


def copied(run: Comparison, target: Path) -> Path:
    """A copy of a run folder, for a test that changes it."""
    return Path(shutil.copytree(run.out, target))


def unit_files(folder: Path, name: str) -> list[Path]:
    """The result files (or folders) of a finding's units."""
    return sorted(path for path in folder.glob(f"{name}/*/*") if not path.name.startswith("."))


def same_results(found: Comparison, expected: Comparison) -> None:
    """The same tables of every finding, to the last bit and in their attributes, and the same verdicts and notes."""
    same_tables(found, expected)
    assert found.notes == expected.notes


def same_tables(found: Comparison, expected: Comparison) -> None:
    """The same tables of every finding, to the last bit and in their attributes, and the same verdicts."""
    assert list(found.results) == list(expected.results)
    for name in expected.results:
        same_tables_of(name, found, expected)


def same_finding(name: str, found: Comparison, expected: Comparison) -> None:
    """The same tables of a finding, to the last bit and in their attributes, and the same verdict and notes."""
    same_tables_of(name, found, expected)
    assert found.finding_notes[name] == expected.finding_notes[name]
    assert found.study_notes == expected.study_notes


def same_tables_of(name: str, found: Comparison, expected: Comparison) -> None:
    """The same tables of a finding, to the last bit and in their attributes, and the same verdict."""
    assert list(found.results[name]) == list(expected.results[name])
    for key, table in found.results[name].items():
        same_table(table, expected.results[name][key])
    # numbers that do not exist are NaN, which equals nothing
    assert repr(found.verdicts[name]) == repr(expected.verdicts[name])


def same_table(table: Any, other: Any) -> None:
    """Equal to the last bit, attributes included."""
    if isinstance(table, pd.DataFrame):
        pd.testing.assert_frame_equal(table, other, check_exact=True)
        assert table.attrs == other.attrs
    else:
        xr.testing.assert_identical(table, other)


def without_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let studies write no tables and no page: a third of the time of a test of what is computed."""
    monkeypatch.setattr("itlens.study.pair.write_outcome", _write_findings)


def _write_findings(comparison: Comparison) -> None:
    """Write findings.json alone, which series of studies read."""
    page = page_of(comparison, blocks=False)
    write_json(comparison.out / "findings.json", findings_json(comparison, page))


class Counted:
    """What a study did: `units` as (finding, side, unit), and the models it `loaded`, by the folder's name.

    stop_at: raise `error` instead of computing the unit after so many, of all findings or of a (finding, number).
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, stop_at: int | tuple[str, int] | None = None, error: Any = None
    ) -> None:
        self.units: list[tuple[str, str, str]] = []
        self.loaded: list[str] = []
        for finding in findings().values():
            monkeypatch.setattr(type(finding), "run", self._counted(type(finding).run, stop_at, error))
        load_model = pair_module.load_model

        @wraps(load_model)
        def counted_load(name_or_path: Any, **options: Any) -> Any:
            self.loaded.append(Path(name_or_path).name)
            return load_model(name_or_path, **options)

        monkeypatch.setattr(pair_module, "load_model", counted_load)

    def _counted(self, run: Any, stop_at: int | tuple[str, int] | None, error: Any) -> Any:
        def counted_run(finding: Any, source: Any, unit: str, plan: Any) -> Any:
            if stop_at == len(self.units) or stop_at == (
                finding.name,
                sum(n == finding.name for n, _, _ in self.units),
            ):
                raise error
            self.units.append((finding.name, plan.side, unit))
            return run(finding, source, unit, plan)

        return counted_run


class Initials:
    """A labeller of our own: by the strongest word's first letter; the second seed knows one level only."""

    name, seeds = "initials", (4, 7)

    def __init__(self) -> None:
        self.requested: list[tuple[tuple[str, ...], int]] = []

    def estimate(self, lists: Sequence[Sequence[str]]) -> str:
        """What a labeller that costs something says before anything is sent to it."""
        return f"{len({*map(tuple, lists)})} lists of {len(lists[0])} words"

    def __call__(self, words: Sequence[str], *, seed: int) -> Label:
        self.requested.append((tuple(words), seed))
        early = words[0][:1].lower() < "m"
        level = "syntax" if early and seed == 4 else "semantics"
        return Label(f"{words[0]!r} and others", ("coding",) if early else ("daily", "literary"), level, 0.75)


@contextmanager
def registered(finding: Any) -> Iterator[Any]:
    """A finding that is known while the block runs."""
    from itlens.findings import unregister

    made = itlens.register(finding)
    try:
        yield made
    finally:
        unregister(made.name)
