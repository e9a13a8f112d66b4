"""The feed-forward part of `itlens compare`: what it prints and refuses."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import itlens
from itlens import terminal
from itlens.study import Comparison, mlp_runs, open_comparison
from itlens.terminal.turned import print_turned
from tests.commands import Commands
from tests.study.concept_runs import CountedConcepts, Initials
from tests.study.word_runs import WORDS
from tests.tiny import tiny_folder

# a file holds a word a line: everything but the line end can be in it
LISTED = [word for word in WORDS if "\n" not in word]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """What every command here begins with."""
    root = tmp_path_factory.mktemp("cli-compare-concepts")
    for seed, name in enumerate(("base", "tuned")):
        tiny_folder(root / name, "llama", seed=seed)
    (root / "words.txt").write_text("\n".join(LISTED), encoding="utf-8")
    options = ["--vocabulary", root / "words.txt", "--components", 9, "--resamples", 2]
    return ["compare", root / "base", root / "tuned", "--probes", "mlp", *options]


@pytest.fixture(scope="module")
def finished(run: list[object]) -> Comparison:
    base, tuned, vocabulary = run[1], run[2], run[6]
    out = Path(str(base)).parent / "finished"
    size = {"components": 9, "resamples": 2}
    return itlens.compare(base, tuned, out=out, probes="mlp", vocabulary=vocabulary, labeller=Initials(), **size)  # type: ignore[arg-type]


def printed(comparison: Comparison, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    terminal.print_comparison(comparison, console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_options_reach_the_study(commands: Commands, run: list[object], tmp_path: Path) -> None:
    own = ["--side", "key, gate", "--concept-words", 7, "--labelled", 3, "--seed", 5, "--out", tmp_path / "run"]
    code, out, err = commands.run(*run, *own, "--prompts", "no-such-file.jsonl")
    assert (code, err) == (0, "") and out.startswith("Keys: ") and "\nGates: " in out
    found = open_comparison(tmp_path / "run")
    expected = {"sides": "key, gate", "components": 9, "concept_words": 7, "resamples": 2, "labelled": 3, "seed": 5}
    assert found.study["settings"].items() >= expected.items() and found.concepts is not None
    assert {len(results.base_labels) for results in found.concepts.values()} == {2 * 3}


def test_a_table_of_layers_and_one_of_shares_for_each_side(finished: Comparison) -> None:
    """In 100 columns nothing is cut; the figures are those of the results."""
    lines = printed(finished, 100)
    assert max(map(len, lines)) <= 100 and finished.concepts is not None
    for name, results in zip(("Values", "Keys"), finished.concepts.values(), strict=True):
        start = lines.index(f"{name}: how far the first 9 concepts of a layer turned")
        assert lines[start + 2].split() == ["layer", "overlap", "random", "floor", "angle", "moved", "gap"]
        for row, line in zip(results.per_layer.to_dict("records"), lines[start + 4 :], strict=False):
            numbers = [f"{row[key]:.3f}" for key in ("overlap", "random_overlap", "floor")]
            flags = ["yes"] * bool(row["below_floor"]) + ["none"] * bool(row["degenerate"])
            assert line.split() == [str(row["layer"]), *numbers, f"{row['mean_angle']:.1f}", *flags]
        start = lines.index(f"{name}: what concepts are about, labels of initials")
        assert results.shares is not None
        shown = {line.strip().split("  ")[0]: line for line in lines[start + 4 : start + 21]}
        shares = results.shares[results.shares["group"] == "all"]
        for row in shares.to_dict("records"):
            category = row["category"] if row["kind"] == "known" else f"{row['kind']}: {row['category']}"
            if not row["base"] and not row["tuned"] and row["category"] not in ("any", "known"):
                assert category not in shown
                continue
            cells = shown[category].strip().removeprefix(category).split()
            assert cells[:2] == [f"{100 * row['base']:.0f}", f"{100 * row['tuned']:.0f}"]
            assert cells[2] == f"{round(100 * row['difference']):+d}"
    assert "Turned: overlap of the spans" in " ".join(lines) and "Labels: of the concepts" in " ".join(lines)


def test_flags_are_printed(finished: Comparison) -> None:
    assert finished.concepts is not None
    results = finished.concepts["value"]
    changed = results.turned.copy(deep=True)
    changed["below_floor"].values[:] = [[False], [True]]
    changed["degenerate"].values[:] = [[True], [False]]
    console = Console(file=io.StringIO(), width=100)
    print_turned([replace(results, turned=changed, shares=None)], console)
    rows = [line.split() for line in console.file.getvalue().splitlines() if line.split()[:1] in (["0"], ["1"])]  # type: ignore[attr-defined]
    assert [row[-1] for row in rows] == ["none", "yes"] and [len(row) for row in rows] == [6, 6]
    assert "what concepts are about" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_report_prints_the_same_again(commands: Commands, finished: Comparison) -> None:
    code, out, err = commands.run("report", finished.out)
    assert (code, err) == (0, "") and "how far the first 9 concepts" in out and "Report: " in out


def test_ctrl_c_counts_layers(
    commands: Commands, run: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        CountedConcepts(patch, stop_at=3, error=KeyboardInterrupt())
        code, out, err = commands.run(*run, "--out", tmp_path / "run")
    said = f"Stopped; 3 finished results are kept in {tmp_path / 'run'}: the same command goes on."
    assert (code, out, err.strip()) == (130, "", said)
    counted = CountedConcepts(monkeypatch)
    assert commands.run(*run, "--out", tmp_path / "run").code == 0 and len(counted.probed) == 5


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--side", "query"), "side='query'; expected one of value, key, gate."),
        (("--side", ""), "side=''; expected one of"),
        (("--components", 0), "--components"),
        (("--components", 33), "components=33; the 56 centred vectors of width 32 have a rank of at most 32"),
        (("--resamples", -1), "--resamples"),
        (("--concept-words", 0), "--concept-words"),
        (("--labelled", 0), "--labelled"),
        (("--vocabulary", "missing.txt"), "missing.txt"),
    ],
    ids=lambda value: "_".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_is_not_there_is_refused_before_weights_are_loaded(
    commands: Commands,
    run: list[object],
    tmp_path: Path,
    options: tuple[object, ...],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def probed(*args: object, **given: object) -> None:
        raise AssertionError("a layer was probed")

    monkeypatch.setattr(mlp_runs, "mlp_layers", probed)
    counted = CountedConcepts(monkeypatch)
    assert named in commands.refused(*run, *options, "--out", tmp_path / "run")
    assert counted.loaded == [] and list(tmp_path.iterdir()) == []
