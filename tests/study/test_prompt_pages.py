"""The chapter of prompts of a study: its numbers are the findings', its answers the run folder's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import itlens
from itlens.findings import findings
from itlens.report.prompts import PromptsChapter
from itlens.study import Comparison, open_comparison
from itlens.study.prompt_pages import prompts_chapter
from tests.study.studies import copied, six_prompts, small


def chapter_of(run: Comparison) -> PromptsChapter:
    chapter = prompts_chapter(run, [])
    assert chapter is not None
    return chapter


def stored(run: Comparison, side: str) -> list[str]:
    return [json.loads(path.read_text())["text"] for path in sorted((run.out / "responses" / side).glob("*.json"))]


def test_numbers_equal_the_tables(finished: Comparison) -> None:
    numbers = {number.name: number.values for number in chapter_of(finished).numbers}
    table = finished.results["attribution"]["prompts"].set_index("id")
    expected = {id: (row["base"], row["tuned"]) for id, row in table.iterrows()}
    assert numbers["instruction score"] == expected
    lengths = table[["base_targets", "tuned_targets"]].itertuples(index=False)
    assert numbers["response tokens"] == dict(zip(table.index, map(tuple, lengths), strict=True))


def test_answers_equal_the_files(finished: Comparison) -> None:
    entries = chapter_of(finished).entries
    for side in ("base", "tuned"):
        assert [entry.answers[side].text for entry in entries] == stored(finished, side)
    assert {entry.answers["base"].end for entry in entries} <= {"cut at the length limit", "ended by itself"}
    assert ["".join(piece for piece, _ in entry.pieces) for entry in entries] == [p.text for p in finished.prompts]
    marked = ["".join(piece for piece, kinds in entry.pieces if "instruction" in kinds) for entry in entries]
    assert set(marked) == {"Translate the word"}


def test_every_prompt_has_its_tokens(finished: Comparison) -> None:
    chapter = chapter_of(finished)
    for entry in chapter.entries:
        (panel,) = chapter.panels(entry.id)
        scores = finished.base[entry.id]
        assert "".join(token.text for token in panel.sides[0].prompt) == scores.attrs["prompt_text"]


def test_a_response_that_is_damaged_is_left_out_and_named(finished: Comparison, tmp_path: Path) -> None:
    run = open_comparison(copied(finished, tmp_path / "run"))
    file = sorted((run.out / "responses" / "base").glob("*.json"))[1]
    file.write_text(file.read_text().replace("text", "txet"))
    chapter = chapter_of(run)
    assert [list(entry.answers) for entry in chapter.entries][:2] == [["base", "tuned"], ["tuned"]]
    assert chapter.note == "Responses that are not finished or cannot be read: 1 of the base model."
    assert file.exists(), "reading a page changes nothing"


def test_weights_alone_have_no_prompts(runs: dict[str, Comparison]) -> None:
    assert prompts_chapter(runs["mlp"], []) is None


def test_given_responses_are_shown_once(pair_folders: tuple[Path, Path], tmp_path: Path) -> None:
    prompts = [prompt.replace(response=" Yes.") for prompt in six_prompts()[:2]]
    run = itlens.compare(*pair_folders, out=tmp_path / "run", probes="attribution", **small(prompts=prompts))
    chapter = chapter_of(run)
    assert [list(entry.answers) for entry in chapter.entries] == [["given"], ["given"]]
    assert chapter.note.startswith("The responses were given")


def test_a_finding_that_fails_costs_its_numbers_only(finished: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, tables: object, plan: object) -> pd.DataFrame:
        raise KeyError("score")

    monkeypatch.setattr(type(findings()["attribution"]), "per_prompt", broken)
    failed: list[object] = []
    chapter = prompts_chapter(finished, failed)  # type: ignore[arg-type]
    assert chapter is not None
    assert (len(chapter.entries), list(chapter.numbers)) == (6, [])
    assert "KeyError" in failed[0].sentence  # type: ignore[attr-defined]


def test_patterns_of_the_study_are_those_of_a_forward_pass(
    runs: dict[str, Comparison], pair_folders: tuple[Path, Path]
) -> None:
    run = runs["activation"]
    patterns = run.tables["activation"]["_patterns"]
    assert patterns.sizes["prompt"] == 4
    assert patterns["group"].values.tolist() == ["even", "odd", "even", "odd"]
    assert patterns.sizes["place"] == 8, "all heads of a model of 2 layers of 4"
    shift = run.tables["activation"]["_shift"]["pattern_jsd"].mean("prompt")
    places = list(zip(patterns["layer"].values, patterns["head"].values, strict=True))
    moved = [float(shift.sel(layer=layer, head=head)) for layer, head in places]
    assert moved == sorted(moved, reverse=True)
    text = "".join(piece for piece, _ in chapter_of(run).entries[1].pieces)
    for side, folder in zip(("base", "tuned"), pair_folders, strict=True):
        expected = itlens.attention_patterns(itlens.load_model(folder), text)["pattern"]
        size = expected.sizes["query"]  # of the prompt: no token looks at the response after it
        for place, (layer, head) in enumerate(places[:2]):
            found = patterns["pattern"].sel(model=side)[1, place].values
            np.testing.assert_allclose(found[:size, :size], expected.sel(layer=layer, head=head), atol=1e-4)
            length = int(patterns["length"][1])
            np.testing.assert_allclose(found[:length].sum(-1), 1, atol=2e-3)


def test_the_page_has_the_patterns_with_their_prompt(runs: dict[str, Comparison]) -> None:
    run = runs["activation"]
    chapter = chapter_of(run)
    shown = {entry.id: chapter.panels(entry.id) for entry in chapter.entries}
    patterns = run.tables["activation"]["_patterns"]
    assert [id for id, panels in shown.items() if panels] == patterns["prompt"].values.tolist()
    (panel,) = shown["p1"]
    assert [list(panel.layers), list(panel.heads)] == [patterns[name].values.tolist() for name in ("layer", "head")]
    assert 'href="#/prompt/p2"' in run.report_path.read_text()


def test_a_run_without_patterns_is_shown_without_them(runs: dict[str, Comparison], tmp_path: Path) -> None:
    folder = copied(runs["activation"], tmp_path / "run")
    (folder / "activation" / "pair" / "patterns.nc").unlink()
    run = open_comparison(folder)
    assert run.tables["activation"]["_patterns"] is None
    assert run.failures == []
    assert chapter_of(run).panels("p1") == []
    assert any("3 of 4 results" in note for note in run.notes)
