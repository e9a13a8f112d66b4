"""The contract, for every finding: what holds of one holds of all, a toy finding from outside included.

Fresh = resumed = reopened; tables on disk = in memory; every table has its columns; every verdict is in the page, the
terminal and findings.json; a study is another exactly when an option that results depend on changes.
"""

from __future__ import annotations

import html
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

import itlens
from itlens.errors import ItlensError, ProbeError, StoreError
from itlens.findings import findings
from itlens.findings.options import Option, options_of
from itlens.report.blocks import Card, Figure, Panel, Table, Text, leaves
from itlens.report.terminal import print_page
from itlens.results.store import load
from itlens.study import Comparison, open_comparison, outcome
from tests.study.conftest import NAMES
from tests.study.studies import (
    Counted,
    copied,
    same_finding,
    same_table,
    same_tables_of,
    small,
    unit_files,
    vectors,
    vocabulary,
    without_page,
)

Folders = tuple[Path, Path]
OPTIONAL = {"rating"}  # columns that only some data have; the page leaves them out elsewhere
PHASES = {"prompts": 0, "weights": 0, "weight_pair": 1, "pair": 2}  # the order in which a study computes
every_finding = pytest.mark.parametrize("name", NAMES)


def again(folders: Folders, out: Path, names: str | Sequence[str], **changes: Any) -> Comparison:
    """The comparison of the fixtures `runs` and `whole`, with changes."""
    return itlens.compare(*folders, probes=names, out=out, **small(**changes))


def plain(text: str) -> str:
    """The text of a page, without its tags' escapes."""
    return html.unescape(text)


@dataclass(frozen=True)
class Observed:
    """A comparison, what was computed for it as (finding, side, unit), and the models that were loaded."""

    comparison: Comparison
    units: Sequence[tuple[str, str, str]]
    loaded: Sequence[str]

    def units_of(self, name: str) -> list[tuple[str, str]]:
        """What was computed of one finding, as (side, unit)."""
        return [(side, unit) for finding, side, unit in self.units if finding == name]


def observed(folders: Folders, out: Path, **changes: Any) -> Observed:
    """The comparison of all findings, with changes, and what it took."""
    with pytest.MonkeyPatch.context() as patch:
        counted = Counted(patch)
        comparison = again(folders, out, NAMES, **changes)
    return Observed(comparison, counted.units, counted.loaded)


@pytest.fixture(scope="module")
def whole(pair_folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A finished run of all findings. Tests read it and never write into its folder."""
    return again(pair_folders, tmp_path_factory.mktemp("whole") / "run", NAMES)


@pytest.fixture(scope="module")
def run_twice(whole: Comparison, pair_folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """The finished run once more, without its page before."""
    folder = copied(whole, tmp_path_factory.mktemp("twice") / "run")
    (folder / "report.html").unlink()
    return observed(pair_folders, folder)


@every_finding
def test_a_finished_run_computes_nothing_and_loads_nothing(name: str, whole: Comparison, run_twice: Observed) -> None:
    assert run_twice.units_of(name) == []
    assert run_twice.loaded == []
    same_finding(name, run_twice.comparison, whole)
    assert plain(run_twice.comparison.report_path.read_text(encoding="utf-8")).count(findings()[name].question)


@pytest.fixture(scope="module")
def reopened(whole: Comparison) -> Comparison:
    """The finished run, read from its folder, in which nothing is written."""
    before = {path: path.stat().st_mtime_ns for path in whole.out.rglob("*")}
    opened = open_comparison(whole.out)
    assert repr(opened) == repr(whole)
    assert {path: path.stat().st_mtime_ns for path in whole.out.rglob("*")} == before
    return opened


@every_finding
def test_reopened_is_the_same_comparison(name: str, whole: Comparison, reopened: Comparison) -> None:
    same_finding(name, reopened, whole)


@dataclass(frozen=True)
class Interrupted:
    """A run that was stopped once in the middle of every finding. kept: by finding, the units that were finished then;
    after: by finding, those that all later runs computed; comparison: of the last one, which went on to the end."""

    kept: Mapping[str, int]
    after: Mapping[str, int]
    comparison: Comparison


@pytest.fixture(scope="module")
def interrupted(whole: Comparison, pair_folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """Stopped where half of a finding's units are finished, finding by finding in the order of a study."""
    out = tmp_path_factory.mktemp("interrupted") / "run"
    kept: dict[str, int] = {}
    after = Counter[str]()
    for name in sorted(NAMES, key=lambda name: PHASES[findings()[name].reads]):
        finished = len(unit_files(out, name)) if out.exists() else 0
        stop_at = (name, len(unit_files(whole.out, name)) // 2 - finished)
        with pytest.MonkeyPatch.context() as patch:
            counted = Counted(patch, stop_at=stop_at, error=KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                again(pair_folders, out, NAMES)
        kept[name] = len(unit_files(out, name)) if out.exists() else 0
        after.update(finding for finding, _, _ in counted.units if finding in kept and finding != name)
    with pytest.MonkeyPatch.context() as patch:
        without_page(patch)
        last = observed(pair_folders, out)
    after.update(finding for finding, _, _ in last.units)
    return Interrupted(kept, after, last.comparison)


@pytest.mark.long
@every_finding
def test_an_interrupted_run_keeps_what_is_finished_and_goes_on(
    name: str, whole: Comparison, interrupted: Interrupted
) -> None:
    everything = len(unit_files(whole.out, name))
    assert interrupted.kept[name] == everything // 2
    assert interrupted.after[name] == everything - everything // 2
    same_finding(name, interrupted.comparison, whole)


@pytest.fixture(scope="module")
def mended(
    whole: Comparison, pair_folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Observed, dict[str, Path]]:
    """The run again after the last unit of every finding was cut in half, and these units by finding."""
    folder = copied(whole, tmp_path_factory.mktemp("mended") / "run")
    broken = {name: unit_files(folder, name)[-1] for name in NAMES}
    for unit in broken.values():
        for file in unit.iterdir() if unit.is_dir() else [unit]:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.MonkeyPatch.context() as patch:
        without_page(patch)
        return observed(pair_folders, folder), broken


@every_finding
def test_a_broken_result_is_computed_again(
    name: str, whole: Comparison, mended: tuple[Observed, dict[str, Path]]
) -> None:
    found, unit = mended[0], mended[1][name]
    assert found.units_of(name) == [(unit.parent.name, unit.name.split(".")[0])]
    same_tables_of(name, found.comparison, whole)
    new = [note for note in found.comparison.notes if note not in whole.notes]
    (said,) = [note for note in new if note.startswith(f"{name}/")]
    assert f"{unit.name}.damaged" in said
    assert len(new) == len(NAMES)


@pytest.fixture(scope="module")
def not_resumed(whole: Comparison, pair_folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """The finished run computed again, in a folder with a file of the user's."""
    folder = copied(whole, tmp_path_factory.mktemp("not-resumed") / "run")
    (folder / "notes.txt").write_text("my own")
    with pytest.MonkeyPatch.context() as patch:
        without_page(patch)
        return observed(pair_folders, folder, resume=False)


@pytest.mark.long
@every_finding
def test_no_resume_computes_everything_again_and_keeps_foreign_files(
    name: str, whole: Comparison, not_resumed: Observed
) -> None:
    assert len(not_resumed.units_of(name)) == len(unit_files(whole.out, name))
    same_finding(name, not_resumed.comparison, whole)
    assert (not_resumed.comparison.out / "notes.txt").read_text() == "my own"


@every_finding
def test_tables_on_disk_are_those_in_memory(name: str, whole: Comparison) -> None:
    content = json.loads((whole.out / "findings.json").read_text(encoding="utf-8"))
    written = content["findings"][name]["tables"]
    assert set(written) == set(whole.results[name])
    assert written, "a finding without a table shows nothing that could be checked"
    for table, paths in written.items():
        result = whole.results[name][table]
        for path in paths:
            held = load(whole.out / path)
            if path.endswith(".csv"):
                assert isinstance(held, pd.DataFrame)
                assert len(held) == len(result)
            else:
                same_table(held, result) if not isinstance(held, pd.DataFrame) else _same_parquet(held, result)


def test_all_tables_on_disk_are_of_a_finding(whole: Comparison) -> None:
    content = json.loads((whole.out / "findings.json").read_text(encoding="utf-8"))
    named = [path for each in content["findings"].values() for paths in each["tables"].values() for path in paths]
    assert len(named) == len({*named}), "two tables in one file"
    assert {f"tables/{path.name}" for path in (whole.out / "tables").iterdir()} == {*named}


def _same_parquet(held: pd.DataFrame, result: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(held, result, check_dtype=False, check_categorical=False)
    assert held.attrs == result.attrs


@every_finding
def test_every_table_has_columns_of_its_data(name: str, whole: Comparison) -> None:
    blocks = list(leaves(findings()[name].show(whole.tables[name])))
    assert all(isinstance(block, (Card, Text, Figure, Table, Panel)) for block in blocks)
    for table in (block for block in blocks if isinstance(block, Table)):
        assert table.columns, f"{table.title!r} has no columns"
        for column in table.columns:
            assert column.heading, f"a column of {table.title!r} has no heading"
            known = {column.name, f"{column.name}_low", f"{column.name}_mean"} & {*map(str, table.data.columns)}
            there = known or callable(column.format) or column.name in OPTIONAL
            assert there, f"{table.title!r} has no column {column.name!r}"


@every_finding
def test_the_verdict_and_caveats_are_in_page_terminal_and_json(name: str, whole: Comparison) -> None:
    run, finding = whole, findings()[name]
    verdict = run.verdicts[name]
    page = plain(run.report_path.read_text(encoding="utf-8"))
    console = Console(width=160, file=io.StringIO())
    print_page(run.page, console)
    terminal = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    content = json.loads((run.out / "findings.json").read_text(encoding="utf-8"))["findings"][name]
    assert finding.question in page
    assert verdict.sentence in page
    assert " ".join(verdict.sentence.split()) in terminal
    assert content["verdict"] == {key: getattr(verdict, key) for key in ("sentence", "direction", "tested", "caveat")}
    assert content["answer"] == verdict.answer
    assert content["answer"] in page
    assert content["caveats"] == run.finding_notes[name]
    for note in run.notes:
        assert note in page
        assert " ".join(note.split()) in terminal
    assert [each["name"] for each in content["numbers"]] == [each.name for each in verdict.numbers]


@every_finding
def test_a_verdict_is_at_most_two_sentences_and_agrees_with_its_numbers(name: str, whole: Comparison) -> None:
    verdict = whole.verdicts[name]
    assert verdict.sentence.endswith(".")
    assert len([part for part in verdict.sentence.split(". ") if part]) <= 2
    assert not verdict.short.endswith(".")
    assert verdict.numbers, "a verdict names the figures that it rests on"
    first = verdict.numbers[0]
    if verdict.tested and verdict.direction in ("higher", "lower") and first.low is not None and first.high is not None:
        assert (first.low > 0) if verdict.direction == "higher" else (first.high < 0)


@every_finding
def test_findings_json_is_what_is_documented(name: str, whole: Comparison) -> None:
    """Keys and version as `itlens.study.outcome` documents them; numbers finite or null; every table is a file."""
    text = (whole.out / "findings.json").read_text(encoding="utf-8")
    content = json.loads(text, parse_constant=_refuse_constant)
    top = {"version", "itlens", "base", "tuned", "responses", "answer", "notes", "findings"}
    assert set(content) == top
    assert content["version"] == outcome.VERSION == 1
    assert content["itlens"] == itlens.__version__
    assert [content["base"], content["tuned"]] == ["base", "tuned"]
    assert content["responses"] == "own"
    assert content["answer"] == whole.page.answer
    assert content["notes"] == whole.study_notes
    assert list(content["findings"]) == list(NAMES)
    part = content["findings"][name]
    assert set(part) == {"question", "topic", "answer", "verdict", "numbers", "caveats", "tables"}
    known = ("higher", "lower", "changed", "no significant change", "not tested", whole.verdicts[name].word)
    assert part["answer"] in known
    assert set(part["verdict"]) == {"sentence", "direction", "tested", "caveat"}
    assert part["verdict"]["direction"] in ("higher", "lower", "changed", "none")
    assert isinstance(part["verdict"]["tested"], bool)
    for number in part["numbers"]:
        assert set(number) == {"name", "value", "low", "high", "p", "n", "unit"}
        for key in ("value", "low", "high", "p"):
            assert number[key] is None or isinstance(number[key], (int, float)), key
        assert number["n"] is None or isinstance(number["n"], int)
        assert number["p"] is None or 0 <= number["p"] <= 1
        if number["low"] is not None and number["high"] is not None:
            assert number["low"] <= number["high"]
    for paths in part["tables"].values():
        for path in paths:
            assert (whole.out / path).is_file(), path


def test_findings_json_of_weights_names_no_responses(runs: dict[str, Comparison]) -> None:
    content = json.loads((runs["louder"].out / "findings.json").read_text(encoding="utf-8"))
    assert content["responses"] == ""
    assert list(content["findings"]) == ["louder"]


def _refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def _other(option: Option) -> Any:
    """Another value of an option than `small` has."""
    given = small().get(option.name, option.default)
    if option.name == "vocabulary":
        return itlens.Vocabulary(vocabulary().words[:-2], name="others")
    if option.name == "vectors":
        return vectors(seed=1)
    if option.name == "task_words":
        return {"others": list(vocabulary().words[:12])}
    if option.name == "labeller":
        return _labeller
    if option.name in ("texts", "corpus"):
        return ["The river is wide and cold.", "The old man writes long letters."]
    if option.name == "difference_layer":
        return 0  # of the two that there are
    if option.spec.one_of and option.kind == "names":
        return option.spec.one_of[:1]
    if option.spec.one_of:
        return next(name for name in option.spec.one_of if name != given)
    return 2 if given is None else given + 1 if option.name not in ("threshold",) else given - 1


def _labeller(words: Any) -> Any:
    """A labeller of our own."""
    from itlens.annotate import Label

    return Label(f"{words[0]!r} and others", ("coding",), "semantics", 0.75)


CASES = [(name, each) for name, finding in findings().items() for each in options_of(finding.Options)]


@pytest.mark.parametrize(("name", "option"), CASES, ids=[f"{name}-{each.name}" for name, each in CASES])
def test_identity_changes_exactly_with_the_options_that_results_depend_on(
    name: str,
    option: Option,
    runs: dict[str, Comparison],
    whole: Comparison,
    pair_folders: Folders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = copied(whole if option.spec.identity else runs[name], tmp_path / "run")
    counted, changes = Counted(monkeypatch), {option.name: _other(option)}
    if option.spec.identity:
        with pytest.raises(StoreError, match="holds the results of another study"):
            again(pair_folders, folder, name, **changes)
    else:
        without_page(monkeypatch)
        again(pair_folders, folder, name, **changes)
    assert counted.units == []
    assert counted.loaded == []


@pytest.mark.parametrize(("name", "option"), CASES, ids=[f"{name}-{each.name}" for name, each in CASES])
def test_options_out_of_range_are_refused_before_anything_is_written(
    name: str, option: Option, pair_folders: Folders, tmp_path: Path
) -> None:
    wrong = option.spec.at_least - 1 if option.spec.at_least is not None else "no such thing"
    with pytest.raises(ItlensError) as caught:
        again(pair_folders, tmp_path / "run", name, **{option.name: wrong})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_is_none_is_named_with_the_nearest(pair_folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="Unknown option 'treshold'; did you mean 'threshold'"):
        again(pair_folders, tmp_path / "run", "louder", treshold=3)


def test_findings_are_added_to_a_folder_one_by_one(
    runs: dict[str, Comparison], pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counted = copied(runs["louder"], tmp_path / "run"), Counted(monkeypatch)
    both = again(pair_folders, folder, "attention")
    assert {name for name, _, _ in counted.units} == {"attention"}
    assert set(both.verdicts) == {"louder", "attention"}
    for name in both.verdicts:
        for key, table in both.results[name].items():
            same_table(table, runs[name].results[name][key])
