"""The contract, for every finding: what holds of one holds of all, a toy finding from outside included.

Fresh = resumed = reopened; tables on disk = in memory; every table has its columns; every verdict is in the page, the
terminal and findings.json; a study is another exactly when an option that results depend on changes.
"""

from __future__ import annotations

import html
import io
import json
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
    same_results,
    same_table,
    same_tables,
    small,
    unit_files,
    vectors,
    vocabulary,
)

Folders = tuple[Path, Path]
OPTIONAL = {"rating"}  # columns that only some data have; the page leaves them out elsewhere
every_finding = pytest.mark.parametrize("name", NAMES)


def again(folders: Folders, out: Path, name: str, **changes: Any) -> Comparison:
    """The comparison of the `runs` fixture, with changes."""
    return itlens.compare(*folders, probes=name, out=out, **small(**changes))


def plain(text: str) -> str:
    """The text of a page, without its tags' escapes."""
    return html.unescape(text)


@every_finding
def test_a_finished_run_computes_nothing_and_loads_nothing(
    name: str, runs: dict[str, Comparison], pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(runs[name], tmp_path / "run")
    (folder / "report.html").unlink()
    counted = Counted(monkeypatch)
    resumed = again(pair_folders, folder, name)
    assert counted.units == []
    assert counted.loaded == []
    same_results(resumed, runs[name])
    assert (folder / "report.html").exists()


@every_finding
def test_reopened_is_the_same_comparison(name: str, runs: dict[str, Comparison]) -> None:
    before = {path: path.stat().st_mtime_ns for path in runs[name].out.rglob("*")}
    opened = open_comparison(runs[name].out)
    same_results(opened, runs[name])
    assert repr(opened) == repr(runs[name])
    assert {path: path.stat().st_mtime_ns for path in runs[name].out.rglob("*")} == before


@every_finding
def test_an_interrupted_run_keeps_what_is_finished_and_goes_on(
    name: str, runs: dict[str, Comparison], pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = len(unit_files(runs[name].out, name))
    stop_at = everything // 2
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        Counted(patch, stop_at=stop_at, error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            again(pair_folders, out, name)
    assert len(unit_files(out, name) if out.exists() else []) == stop_at
    counted = Counted(monkeypatch)
    resumed = again(pair_folders, out, name)
    assert len(counted.units) == everything - stop_at
    same_results(resumed, runs[name])


@every_finding
def test_a_broken_result_is_computed_again(
    name: str, runs: dict[str, Comparison], pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(runs[name], tmp_path / "run")
    unit = unit_files(folder, name)[-1]
    for file in unit.iterdir() if unit.is_dir() else [unit]:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    counted = Counted(monkeypatch)
    resumed = again(pair_folders, folder, name)
    assert [(side, done) for _, side, done in counted.units] == [(unit.parent.name, unit.name.split(".")[0])]
    same_tables(resumed, runs[name])
    (said,) = set(resumed.notes) - set(runs[name].notes)
    assert f"{unit.name}.damaged" in said


@every_finding
def test_no_resume_computes_everything_again_and_keeps_foreign_files(
    name: str, runs: dict[str, Comparison], pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(runs[name], tmp_path / "run")
    (folder / "notes.txt").write_text("my own")
    counted = Counted(monkeypatch)
    computed = again(pair_folders, folder, name, resume=False)
    assert len(counted.units) == len(unit_files(runs[name].out, name))
    same_results(computed, runs[name])
    assert (folder / "notes.txt").read_text() == "my own"


@every_finding
def test_tables_on_disk_are_those_in_memory(name: str, runs: dict[str, Comparison]) -> None:
    content = json.loads((runs[name].out / "findings.json").read_text(encoding="utf-8"))
    written = content["findings"][name]["tables"]
    assert set(written) == set(runs[name].results[name])
    assert written, "a finding without a table shows nothing that could be checked"
    for table, paths in written.items():
        result = runs[name].results[name][table]
        for path in paths:
            held = load(runs[name].out / path)
            if path.endswith(".csv"):
                assert isinstance(held, pd.DataFrame)
                assert len(held) == len(result)
            else:
                same_table(held, result) if not isinstance(held, pd.DataFrame) else _same_parquet(held, result)
    on_disk = {f"tables/{path.name}" for path in (runs[name].out / "tables").iterdir()}
    assert on_disk == {path for paths in written.values() for path in paths}


def _same_parquet(held: pd.DataFrame, result: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(held, result, check_dtype=False, check_categorical=False)
    assert held.attrs == result.attrs


@every_finding
def test_every_table_has_columns_of_its_data(name: str, runs: dict[str, Comparison]) -> None:
    blocks = list(leaves(findings()[name].show(runs[name].tables[name])))
    assert all(isinstance(block, (Card, Text, Figure, Table, Panel)) for block in blocks)
    for table in (block for block in blocks if isinstance(block, Table)):
        assert table.columns, f"{table.title!r} has no columns"
        for column in table.columns:
            assert column.heading, f"a column of {table.title!r} has no heading"
            known = {column.name, f"{column.name}_low", f"{column.name}_mean"} & {*map(str, table.data.columns)}
            there = known or callable(column.format) or column.name in OPTIONAL
            assert there, f"{table.title!r} has no column {column.name!r}"


@every_finding
def test_the_verdict_and_caveats_are_in_page_terminal_and_json(name: str, runs: dict[str, Comparison]) -> None:
    run, finding = runs[name], findings()[name]
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
def test_a_verdict_is_at_most_two_sentences_and_agrees_with_its_numbers(name: str, runs: dict[str, Comparison]) -> None:
    verdict = runs[name].verdicts[name]
    assert verdict.sentence.endswith(".")
    assert len([part for part in verdict.sentence.split(". ") if part]) <= 2
    assert not verdict.short.endswith(".")
    assert verdict.numbers, "a verdict names the figures that it rests on"
    first = verdict.numbers[0]
    if verdict.tested and verdict.direction in ("higher", "lower") and first.low is not None and first.high is not None:
        assert (first.low > 0) if verdict.direction == "higher" else (first.high < 0)


@every_finding
def test_findings_json_is_what_is_documented(name: str, runs: dict[str, Comparison]) -> None:
    """Keys and version as `itlens.study.outcome` documents them; numbers finite or null; every table is a file."""
    text = (runs[name].out / "findings.json").read_text(encoding="utf-8")
    content = json.loads(text, parse_constant=_refuse_constant)
    top = {"version", "itlens", "base", "tuned", "responses", "answer", "notes", "findings"}
    assert set(content) == top
    assert content["version"] == outcome.VERSION == 1
    assert content["itlens"] == itlens.__version__
    assert [content["base"], content["tuned"]] == ["base", "tuned"]
    assert content["responses"] == ("own" if findings()[name].reads_prompts else "")
    assert content["answer"] == runs[name].page.answer
    assert content["notes"] == runs[name].study_notes
    assert list(content["findings"]) == [name]
    part = content["findings"][name]
    assert set(part) == {"question", "topic", "answer", "verdict", "numbers", "caveats", "tables"}
    assert part["answer"] in ("higher", "lower", "changed", "no significant change", "not tested")
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
            assert (runs[name].out / path).is_file(), path


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
    pair_folders: Folders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, counted = copied(runs[name], tmp_path / "run"), Counted(monkeypatch)
    changes = {option.name: _other(option)}
    if option.spec.identity:
        with pytest.raises(StoreError, match="holds the results of another study"):
            again(pair_folders, folder, name, **changes)
    else:
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
