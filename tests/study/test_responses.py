"""Whose responses models are read on: each one's own, or both on the tuned or on the base model's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import itlens
from itlens.errors import PromptError, StoreError
from itlens.findings import findings
from itlens.hooked import response as response_module
from itlens.study import Comparison, open_comparison
from itlens.study import pair as pair_module
from itlens.study import responses as study_responses
from itlens.study.pair import OWN_RESPONSES, compare_own_responses
from tests.study.studies import NEW_TOKENS, Counted, copied, same_results, same_tables, six_prompts, small
from tests.tiny import tiny_folder, tiny_tokenizer

Folders = tuple[Path, Path]
SIDES = ("base", "tuned")


class Written:
    """Which model wrote a response to which prompt's text, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str]] = []
        respond = study_responses.respond

        def counted(model: Any, text: str, **options: Any) -> Any:
            self.calls.append((Path(model.itlens_source.name).name, text))
            return respond(model, text, **options)

        monkeypatch.setattr(study_responses, "respond", counted)


def read_on(folders: Folders, out: Path, responses: str, **changes: Any) -> Comparison:
    return itlens.compare(*folders, out=out, **{"probes": "attribution", **small(responses=responses, **changes)})


@pytest.fixture(scope="module", params=SIDES)
def held(request: pytest.FixtureRequest, pair_folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Both models on one model's responses."""
    return read_on(pair_folders, tmp_path_factory.mktemp("held") / "run", request.param)


def writer_of(run: Comparison) -> str:
    return str(run.study["reading"]["settings"]["responses"])


def ids(run: Comparison, side: str) -> dict[str, list[int]]:
    return {id: result["target_id"].values.tolist() for id, result in getattr(run, side).items()}


def test_both_models_are_attributed_on_the_same_ids(
    held: Comparison, finished: Comparison, pair_folders: Folders
) -> None:
    writer = writer_of(held)
    assert ids(held, "base") == ids(held, "tuned") == ids(finished, writer)
    other = "base" if writer == "tuned" else "tuned"
    assert ids(finished, other) != ids(held, other), "the models write different responses"
    folder = dict(zip(SIDES, pair_folders, strict=True))[other]
    model = itlens.load_model(folder)
    for prompt in six_prompts():
        response = np.asarray(ids(finished, writer)[prompt.id])
        alone = itlens.attribute(model, prompt, response.tolist(), max_new_tokens=NEW_TOKENS)
        np.testing.assert_array_equal(getattr(held, other)[prompt.id].score.values, alone.score.values)


def test_the_writer_s_own_results_are_those_of_own(held: Comparison, finished: Comparison) -> None:
    writer = writer_of(held)
    for id, result in getattr(held, writer).items():
        own = getattr(finished, writer)[id]
        np.testing.assert_array_equal(result.score.values, own.score.values)
        assert result.attrs["response_text"] == own.attrs["response_text"]


def test_attributes_verdict_and_caveats_know_whose_responses_were_read(held: Comparison, finished: Comparison) -> None:
    writer = writer_of(held)
    for side in SIDES:
        assert {result.attrs["response_of"] for result in getattr(held, side).values()} == {writer}
        assert {result.attrs["response_of"] for result in getattr(finished, side).values()} == {side}
    assert any(f"Both models were read on the {writer} model's responses" in note for note in held.notes)
    assert not any("Both models were read on" in note for note in finished.notes)
    content = json.loads((held.out / "findings.json").read_text(encoding="utf-8"))
    assert content["responses"] == writer
    assert json.loads((finished.out / "findings.json").read_text(encoding="utf-8"))["responses"] == "own"


def test_responses_are_those_of_the_writer_alone_and_reopen(held: Comparison) -> None:
    assert [path.name for path in (held.out / "responses").iterdir()] == [writer_of(held)]
    assert len(list((held.out / "responses" / writer_of(held)).iterdir())) == 6
    same_results(open_comparison(held.out), held)


@pytest.mark.usefixtures("no_page")
def test_own_responses_of_both_models_are_written_once(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attributions, activations, patching and faithfulness share them."""
    written = Written(monkeypatch)
    probes = ["attribution", "activation", "patching", "faithfulness"]
    prompts = six_prompts()[:3]
    read_on(pair_folders, tmp_path / "run", "own", probes=probes, prompts=prompts)
    assert written.calls == [(side, prompt.text) for side in SIDES for prompt in prompts]
    read_on(pair_folders, tmp_path / "run", "own", probes=probes, prompts=prompts, threshold=5)
    assert len(written.calls) == 6


def test_beside_responses_held_equal_own_ones_cost_one_model(
    held: Comparison, finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer was read on its own responses before; the tables of the study are not compared again."""
    out = copied(held, tmp_path / "run")
    run = open_comparison(out)
    compare_tables, compared = pair_module.compared, []
    monkeypatch.setattr(
        pair_module, "compared", lambda folder, *rest: compared.append(folder.path) or compare_tables(folder, *rest)
    )
    counted = Counted(monkeypatch)
    options = {name: value for name, value in small().items() if name != "prompts"}
    found = compare_own_responses(run, *pair_folders, six_prompts(), **options)
    reader = "base" if writer_of(held) == "tuned" else "tuned"
    assert {side for _, side, _ in counted.units} == {reader}
    assert counted.loaded == [pair_folders[reader == "tuned"].name]
    assert compared == [out / OWN_RESPONSES]
    own = open_comparison(out / OWN_RESPONSES)
    same_results(own, finished)
    (said,) = [note for note in found.notes if note.startswith("On each model's own responses")]
    assert own.verdicts["attribution"].sentence in said
    assert said in open_comparison(out).notes
    assert said in json.loads((out / "findings.json").read_text(encoding="utf-8"))["notes"]


@pytest.mark.parametrize("writer", SIDES)
@pytest.mark.usefixtures("no_page")
def test_one_model_s_responses_are_written_once_and_first(
    writer: str, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, counted = Written(monkeypatch), Counted(monkeypatch)
    prompts = six_prompts()[:3]
    read_on(pair_folders, tmp_path / "run", writer, probes=["attribution", "activation"], prompts=prompts)
    assert written.calls == [(writer, prompt.text) for prompt in prompts]
    other = "base" if writer == "tuned" else "tuned"
    assert counted.loaded[:2] == [writer, other]
    order = [side for name, side, _ in counted.units if name == "attribution"]
    assert order == [writer] * 3 + [other] * 3


@pytest.mark.usefixtures("no_page")
def test_an_interruption_between_the_models_keeps_the_responses(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = six_prompts()[:3]
    with monkeypatch.context() as patch:
        Counted(patch, stop_at=4, error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            read_on(pair_folders, tmp_path / "run", "tuned", prompts=prompts)
    written, counted = Written(monkeypatch), Counted(monkeypatch)
    read_on(pair_folders, tmp_path / "run", "tuned", prompts=prompts)
    assert written.calls == []
    assert counted.units == [("attribution", "base", "0002-p2"), ("attribution", "base", "0003-p3")]


@pytest.mark.usefixtures("no_page")
def test_a_response_that_is_missing_is_written_again_by_its_writer(
    held: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_of(held)
    other = "base" if writer == "tuned" else "tuned"
    out = copied(held, tmp_path / "run")
    (out / "responses" / writer / "0002-p2.json").write_bytes(b"{")
    (out / "attribution" / other / "0002-p2.nc").unlink()
    written = Written(monkeypatch)
    again = read_on(pair_folders, out, writer)
    assert written.calls == [(writer, six_prompts()[1].text)]
    same_tables(again, held)
    (said,) = set(again.notes) - set(held.notes)
    assert "0002-p2.json.damaged" in said


def test_the_study_is_another_one(held: Comparison, pair_folders: Folders) -> None:
    with pytest.raises(StoreError, match=f"responses: '{writer_of(held)}' there, 'own' here"):
        read_on(pair_folders, held.out, "own")


@pytest.mark.usefixtures("no_page")
def test_a_given_response_wins(pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written(monkeypatch)
    prompts = [six_prompts()[0].replace(response=" Le chat."), six_prompts()[1]]
    found = read_on(pair_folders, tmp_path / "run", "base", prompts=prompts)
    for side in SIDES:
        results = getattr(found, side)
        assert results["p1"].attrs["response_text"] == " Le chat."
        assert results["p1"].attrs["response_of"] == "given"
        assert results["p2"].attrs["response_of"] == "base"
    assert written.calls == [("base", prompts[1].text)]


@pytest.mark.parametrize(("responses", "writer"), [("own", "tuned"), ("tuned", "tuned"), ("base", "base")])
@pytest.mark.usefixtures("no_page")
def test_what_needs_both_models_reads_the_right_model_s_responses(
    responses: str, writer: str, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written(monkeypatch)
    prompts = six_prompts()[:3]
    found = read_on(pair_folders, tmp_path / "run", responses, probes="activation", prompts=prompts)
    assert written.calls == [(writer, prompt.text) for prompt in prompts]
    model = itlens.load_model(dict(zip(SIDES, pair_folders, strict=True))[writer])
    options: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "prepend_bos": None, "name": "it"}
    lengths = [len(response_module.respond(model, prompt.text, **options).ids) for prompt in prompts]
    targets = {side: getattr(found.activation, side)["targets"].values.tolist() for side in SIDES}
    assert targets["base"] == targets["tuned"] == [length for length in lengths if length]


def test_a_writer_that_has_not_written_is_named(held: Comparison, tmp_path: Path) -> None:
    """Only a finding that asks past the order of the study can meet this."""
    from itlens.study.folder import RunFolder
    from itlens.study.prompts import StudyPrompts

    writer = writer_of(held)
    other = "base" if writer == "tuned" else "tuned"
    read = StudyPrompts(six_prompts(), six_prompts(), None, "raw", NEW_TOKENS, None, writer)  # type: ignore[arg-type]
    store = study_responses.FolderResponses(read, RunFolder(tmp_path), dict(held.study))
    responses = study_responses.StudyResponses(read, store)
    with pytest.raises(PromptError, match=f"The {writer} model has no response to prompt 'p1' yet"):
        responses.response(None, other, 0)


@pytest.mark.usefixtures("no_page")
@pytest.mark.long
def test_every_finding_that_reads_prompts_runs_on_every_choice(pair_folders: Folders, tmp_path: Path) -> None:
    names = [name for name, finding in findings().items() if finding.reads != "weights"]
    for responses in ("tuned", "base"):
        found = read_on(pair_folders, tmp_path / responses, responses, probes=names, prompts=six_prompts()[:3])
        assert list(found.verdicts) == names
        assert found.failures == []


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("responses", ["tuned", "base"])
def test_what_both_models_read_does_not_depend_on_what_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, responses: str
) -> None:
    """The tuned tokenizer puts a special token in front, the base's does not: all read as the writer reads."""
    folders = [tiny_folder(tmp_path / side, "llama", seed=seed) for seed, side in enumerate(SIDES)]
    for folder, bos in zip(folders, (False, True), strict=True):
        tiny_tokenizer(bos=bos).save_pretrained(folder)
    read: list[tuple[int, ...]] = []
    of_study = study_responses.StudyResponses.forced

    def kept(self: Any, pair: Any, numbers: Any = None) -> Any:
        found = of_study(self, pair, numbers)
        read.append(found[0].read)
        return found

    monkeypatch.setattr(study_responses.StudyResponses, "forced", kept)
    for name, probes in (("alone", ["logit_diff"]), ("after", ["attribution", "logit_diff"])):
        asked = small(responses=responses, prompts=six_prompts()[:2])
        itlens.compare(*folders, probes=probes, out=tmp_path / name, **asked)
    assert len(read) == 2
    assert read[0] == read[1]
    assert (read[0][0] == 1) == (responses == "tuned"), "the id of the special token in front"
