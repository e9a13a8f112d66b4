"""`compare` end to end on a tiny pair: what the folder holds, and that it is what each probe alone finds."""

from __future__ import annotations

import gc
import html
import json
import math
import weakref
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens.errors import PromptError
from itlens.findings import findings
from itlens.findings.attention.probe import qk_word_pairs
from itlens.hooked.tokens import forced
from itlens.models import pair as pair_module
from itlens.models.compatibility import Side
from itlens.results.store import load
from itlens.study import Comparison, open_comparison
from itlens.study.prompts import study_prompts
from tests.study.studies import (
    NEW_TOKENS,
    ODD_WORDS,
    WORDS,
    copied,
    same_results,
    same_table,
    six_prompts,
    small,
    vectors,
    vocabulary,
)
from tests.tiny import tiny_folder, tiny_tokenizer

CHAT = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}[assistant]"
OTHER_CHAT = "{% for m in messages %}Q: {{ m['content'] }}\n{% endfor %}A:"
COMPONENTS, KEPT, LABELLED, DRAWS, SEED = (
    small()[name] for name in ("components", "concept_words", "labelled", "resamples", "seed")
)
READ = 15  # words that a label is made of
Folders = tuple[Path, Path]


def attributed(folders: Folders, out: Path, **changes: Any) -> Comparison:
    asked: dict[str, Any] = {"prompts": six_prompts(), "max_new_tokens": 2, "probes": "attribution", "progress": False}
    return itlens.compare(*folders, out=out, **asked | changes)


def test_the_folder_holds_what_was_asked_and_what_was_found(finished: Comparison) -> None:
    names = {path.name for path in finished.out.iterdir()}
    assert names == {
        *("index.jsonl", "study.json", "prompts.jsonl", "responses", "attribution", "tables", "findings.json"),
        "report.html",
    }  # fmt: skip
    units = [f"{side}/000{n}-p{n}" for side in ("base", "tuned") for n in range(1, 7)]
    for kind, ending in (("attribution", ".nc"), ("responses", ".json")):
        root = finished.out / kind
        assert sorted(str(path.relative_to(root)) for path in root.glob("*/*")) == [f"{unit}{ending}" for unit in units]
    tables = {f"{name}.{kind}" for name in ("equal_length", "groups", "prompts", "regression")
              for kind in ("parquet", "csv")} | {"sensitivity.nc", "profile.nc"}  # fmt: skip
    assert {path.name for path in (finished.out / "tables").iterdir()} == tables
    study = json.loads((finished.out / "study.json").read_text())
    assert study["reading"]["settings"]["max_new_tokens"] == NEW_TOKENS
    assert study["settings"]["seed"] == SEED
    assert study["models"]["base"]["label"] == "base"
    assert study["models"]["base"]["revision"].startswith("sha256:")
    assert study["models"]["base"]["revision"] != study["models"]["tuned"]["revision"]
    assert study["prompts"] == 6
    assert study["versions"]["transformer_lens"] == version("transformer-lens")
    assert itlens.load_prompts(finished.out / "prompts.jsonl") == six_prompts()


@pytest.mark.parametrize("name", ["attention", "mlp"])
def test_what_reads_weights_keeps_no_prompts(name: str, runs: dict[str, Comparison]) -> None:
    run = runs[name]
    assert {path.name for path in run.out.iterdir()} == {
        *("index.jsonl", "study.json", name, "tables", "findings.json", "report.html")
    }
    study = json.loads((run.out / "study.json").read_text())
    assert study["prompts"] == 0
    assert study["reading"] == {}
    part = study["findings"][name]
    assert part["identity"]["vocabulary"] == vocabulary().fingerprint
    assert part["settings"]["vocabulary"] == "fifty, 50 words"
    assert run.prompts == []
    assert run.diff is None
    assert "fifty, 50 words" in run.report_path.read_text(encoding="utf-8")


def test_the_study_says_what_was_asked(runs: dict[str, Comparison]) -> None:
    said = {name: runs[name].study["findings"][name]["settings"] for name in ("mlp", "activation", "patching")}
    expected = {"components": COMPONENTS, "concept_words": KEPT, "resamples": DRAWS, "labelled": LABELLED}
    assert said["mlp"].items() >= (expected | {"components_read": COMPONENTS, "resample_seed": SEED}).items()
    assert said["mlp"]["labeller"] == "lexicon"
    assert "shift of lens" in said["activation"]["activation_summaries"]
    assert said["patching"]["patched_prompts"] == 3
    assert said["patching"]["patch_controls"] == 10
    deletion = runs["faithfulness"].study["findings"]["faithfulness"]["settings"]
    assert deletion["deletion_prompts"] == 3
    assert deletion["deletion_draws"] == 10


def test_attributions_are_those_of_attribute_alone(finished: Comparison, pair_folders: Folders) -> None:
    for folder, side in zip(pair_folders, (finished.base, finished.tuned), strict=True):
        model = itlens.load_model(folder)
        assert list(side) == [f"p{n}" for n in range(1, 7)]
        for prompt in six_prompts():
            alone = itlens.attribute(model, prompt, max_new_tokens=NEW_TOKENS)
            assert float(abs(alone.score).max()) > 0
            found = side[prompt.id]
            assert found.score.values.tobytes() == alone.score.astype("float32").values.tobytes()
            for name in ("prompt_text", "response_text", "finish", "method"):
                assert found.attrs[name] == alone.attrs[name]
            xr.testing.assert_equal(found.drop_vars("score"), alone.drop_vars("score"))
            assert found.attrs["response_of"] == folder.name


def test_word_pairs_are_those_of_the_probe_alone(runs: dict[str, Comparison], pair_folders: Folders) -> None:
    run = runs["attention"]
    for side, folder in zip(("base", "tuned"), pair_folders, strict=True):
        alone = qk_word_pairs(itlens.load_model(folder), vocabulary(), vectors=vectors(), top_k=small()["top_k"])
        found = run.pairs[side]
        assert len(alone) > 100
        pd.testing.assert_frame_equal(found, alone, check_categorical=False)
        assert found.dtypes.astype(str).to_dict() == alone.dtypes.astype(str).to_dict()


def test_words_that_hold_separators_come_back_from_the_folder(runs: dict[str, Comparison]) -> None:
    run = runs["attention"]
    for table in (run.pairs["base"], run.changes, load(run.out / "tables" / "pair_changes.parquet")):
        assert isinstance(table, pd.DataFrame)
        seen = set(table["query"]) | set(table["key"])
        assert set(ODD_WORDS) <= seen
        assert seen <= set(WORDS)


def test_concepts_and_labels_are_those_of_the_probe_alone(runs: dict[str, Comparison], pair_folders: Folders) -> None:
    """Labels read 15 words, also where fewer are kept."""
    for side, folder in zip(("base", "tuned"), pair_folders, strict=True):
        model = itlens.load_model(folder)
        for kind, results in runs["mlp"].concepts.items():
            size: dict[str, Any] = {"components": COMPONENTS, "top_k": READ, "resamples": DRAWS, "seed": SEED}
            alone = itlens.mlp_concepts(model, vocabulary(), vectors=kind, **size)
            labels = itlens.annotate_concepts(alone, components=LABELLED, progress=False)
            pd.testing.assert_frame_equal(getattr(results, f"{side}_labels"), labels)
            alone = alone.isel(rank=slice(KEPT))
            found = getattr(results, side)
            xr.testing.assert_equal(found, alone.drop_vars("direction"))
            assert found.attrs["top_k"] == KEPT
            cards = results.cards[side]
            assert cards["layer"].values.tolist() == [0, 1]
            np.testing.assert_array_equal(cards["direction"].values, alone["direction"].values)


def test_a_row_per_layer_at_the_quoted_size(runs: dict[str, Comparison]) -> None:
    results = runs["mlp"].concepts["key"]
    table, part = results.per_layer, results.turned.sel(k=COMPONENTS)
    assert results.k == COMPONENTS
    assert table["layer"].tolist() == [0, 1]
    assert table["overlap"].tolist() == part["overlap"].values.tolist()
    assert table["random_overlap"].tolist() == pytest.approx([COMPONENTS / 32] * 2)
    floors = (part["floor_base"].values + part["floor_tuned"].values) / 2
    assert table["floor"].tolist() == pytest.approx(floors.tolist())
    assert table["mean_angle"].tolist() == pytest.approx([math.degrees(angle) for angle in part["mean_angle"].values])


def tuned_ids(run: Comparison) -> dict[str, tuple[int, ...]]:
    """The ids that the tuned model wrote: its text, read again, has other tokens (these models write any bytes)."""
    files = sorted((run.out / "responses" / "tuned").iterdir())
    return {file.stem.split("-")[1]: tuple(json.loads(file.read_text())["ids"]) for file in files}


def test_activations_of_both_models_are_on_the_tuned_model_s_responses(
    runs: dict[str, Comparison], pair_folders: Folders
) -> None:
    run = runs["activation"]
    pair = itlens.load_pair(*pair_folders)
    read = forced(pair.tuned, run.prompts, responses=tuned_ids(run))
    for model, held in ((pair.tuned, run.activation.tuned), (pair.base, run.activation.base)):
        expected = itlens.activations(model, read, progress=False)
        for name in held.data_vars:
            np.testing.assert_allclose(held[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=str(name))
    assert run.activation.base["targets"].equals(run.activation.tuned["targets"])


def test_patching_and_faithfulness_are_those_of_the_probes(runs: dict[str, Comparison], pair_folders: Folders) -> None:
    run = runs["patching"]
    patched = run.patching.patched
    drawn = patched["prompt"].values.tolist()
    assert len(drawn) == 3
    assert set(drawn) < {prompt.id for prompt in run.prompts}
    pair = itlens.load_pair(*pair_folders)
    chosen = [tokens for tokens in forced(pair.tuned, run.prompts, responses=tuned_ids(run)) if tokens.id in drawn]
    expected = itlens.patch(pair, chosen, controls=10, seed=SEED, progress=False)
    np.testing.assert_allclose(patched["effect"], expected["effect"], rtol=1e-3, atol=1e-5)
    prompt = next(prompt for prompt in run.prompts if prompt.id == drawn[0])
    model = itlens.load_model(pair_folders[0])
    scores = itlens.attribute(model, prompt, max_new_tokens=NEW_TOKENS)
    own = itlens.faithfulness(model, prompt, scores, steps=5, draws=10, seed=SEED)
    files = (runs["faithfulness"].out / "faithfulness" / "base").glob(f"*-{prompt.id}.nc")
    np.testing.assert_allclose(load(next(files))["curve"], own["curve"], rtol=1e-4, atol=1e-5)


def test_given_and_empty_responses(pair_folders: Folders, tmp_path: Path) -> None:
    given = [prompt.replace(response=" Le chat dort.") for prompt in six_prompts()[:3]]
    given.append(six_prompts()[3].replace(response=""))
    found = attributed(pair_folders, tmp_path / "run", prompts=given)
    for side in (found.base, found.tuned):
        assert [side[f"p{n}"].attrs["response_text"] for n in range(1, 5)] == [" Le chat dort."] * 3 + [""]
        assert [side[f"p{n}"].attrs["finish"] for n in range(1, 5)] == ["given"] * 3 + ["empty"]
        assert side["p4"].sizes["target"] == 0
    scores = found.diff.prompts.set_index("id")
    assert scores.loc["p4", ["base", "tuned"]].tolist() == [0.0, 0.0]
    assert (scores.loc["p1":"p3", "base"] > 0).all()
    said = [note for note in found.notes if "empty" in note]
    assert len(said) == 2
    for note in said:
        assert "1 of 4 prompts" in note
        assert "p4" in note
        assert note in html.unescape(found.report_path.read_text(encoding="utf-8"))
    assert not [note for note in found.notes if "cut" in note]
    assert not (found.out / "responses").exists()


def watched_models(monkeypatch: pytest.MonkeyPatch) -> tuple[list[weakref.ref[Any]], list[int]]:
    """The models that are loaded from now on, and how many of them were in memory before each."""
    held: list[weakref.ref[Any]] = []
    alive: list[int] = []
    load_model = pair_module.load_model

    @wraps(load_model)
    def counted_load(name_or_path: Any, **options: Any) -> Any:
        gc.collect()
        alive.append(sum(ref() is not None for ref in held))
        model = load_model(name_or_path, **options)
        held.append(weakref.ref(model))
        return model

    monkeypatch.setattr(pair_module, "load_model", counted_load)
    return held, alive


@pytest.mark.usefixtures("no_page")
def test_one_model_is_in_memory_at_a_time(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, alive = watched_models(monkeypatch)
    units: list[tuple[str, str]] = []

    def checked(run: Any) -> Any:
        def checked_run(finding: Any, source: Any, unit: str, plan: Any) -> Any:
            assert len([ref() for ref in held if ref() is not None]) == 1
            units.append((finding.name, unit))
            return run(finding, source, unit, plan)

        return checked_run

    for name in ("attribution", "attention", "activation", "patching"):
        kind = type(findings()[name])
        monkeypatch.setattr(kind, "run", checked(kind.run))
    probes = ["attribution", "attention", "activation", "patching"]
    itlens.compare(*pair_folders, probes=probes, out=tmp_path / "run", **small(prompts=six_prompts()[:2]))
    gc.collect()
    # base and tuned for what reads one model; base, tuned and base for what needs both; tuned and base for the patterns
    assert alive == [0] * len(alive)
    assert [ref() for ref in held] == [None] * len(held)
    assert len(held) == 7
    assert [unit for name, unit in units if name == "attention"] == ["layer-00", "layer-01"] * 2
    assert {name for name, _ in units} == {*probes}


@pytest.mark.usefixtures("no_page")
def test_a_finding_that_fails_does_not_keep_its_model_in_memory(
    toy: object, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, alive = watched_models(monkeypatch)

    def failing(finding: Any, source: Any, unit: str, plan: Any) -> Any:
        local = source  # what a traceback would hold
        raise ValueError(f"a bug with {type(local).__name__}")

    monkeypatch.setattr(type(findings()["attribution"]), "run", failing)
    found = itlens.compare(*pair_folders, probes=["attribution", "louder"], out=tmp_path / "run", **small())
    assert list(found.verdicts) == ["louder"]
    assert [each.finding for each in found.failures] == ["attribution"]
    assert alive == [0]  # for the finding that fails; the other one reads weights from their files
    gc.collect()
    assert [ref() for ref in held] == [None]


@pytest.mark.usefixtures("no_page")
def test_chat_uses_the_template_of_the_tuned_tokenizer_for_both(tmp_path: Path) -> None:
    folders = [
        tiny_folder(tmp_path / name, "llama", seed=seed, tokenizer=tiny_tokenizer(chat_template=template))
        for seed, (name, template) in enumerate((("base", OTHER_CHAT), ("tuned", CHAT)))
    ]
    found = attributed((folders[0], folders[1]), tmp_path / "run", prompts=six_prompts()[:2], format="chat")
    for side in (found.base, found.tuned):
        assert side["p1"].attrs["prompt_text"] == "[user] Translate the word: cat.\n[assistant]"
    assert found.prompts[0].span_text("instruction") == ["Translate the word"]
    raw = itlens.attribute(itlens.load_model(folders[0]), six_prompts()[0], max_new_tokens=2)
    tokens = int(itlens.span_mask(raw, six_prompts()[0], "instruction").sum())
    assert found.diff.prompts.loc[0, "instruction_tokens"] == tokens


def test_labels_and_a_format_of_ones_own(pair_folders: Folders, tmp_path: Path) -> None:
    options: dict[str, Any] = {"format": "Task: {prompt} =>", "labels": ("A <b>", "B")}
    found = attributed(pair_folders, tmp_path / "run", prompts=six_prompts()[0], **options)
    assert found.base["p1"].attrs["prompt_text"] == "Task: Translate the word: cat. =>"
    assert found.study["models"]["base"]["label"] == "A <b>"
    assert "A &lt;b&gt;" in found.report_path.read_text(encoding="utf-8")
    verdict = found.verdicts["attribution"]
    assert not verdict.tested
    assert verdict.sentence.startswith("Not tested")
    assert verdict.numbers[0].n == 1


@pytest.mark.usefixtures("no_page")
def test_loaded_models_are_compared_too(pair_folders: Folders, finished: Comparison, tmp_path: Path) -> None:
    models = [itlens.load_model(folder) for folder in pair_folders]
    found = itlens.compare(*models, probes="attribution", out=tmp_path / "run", **small())
    for name, table in found.results["attribution"].items():
        same_table(table, finished.results["attribution"][name])
    assert found.verdict == finished.verdict


def test_half_precision_is_said_to_be_coarse(finished: Comparison, tmp_path: Path) -> None:
    out = copied(finished, tmp_path / "run")
    study = json.loads((out / "study.json").read_text())
    study["settings"]["dtype"] = "bfloat16"
    (out / "study.json").write_text(json.dumps(study))
    (out / "index.jsonl").unlink()
    assert any("Computed in bfloat16" in note for note in open_comparison(out).notes)
    assert not any("Computed in" in note for note in finished.notes)


def test_a_finding_that_cannot_be_had_does_not_stop_the_others(pair_folders: Folders, tmp_path: Path) -> None:
    """An empty response predicts nothing, so that neither model can be read on it; attributions score it 0."""
    prompts = [prompt.replace(response="") for prompt in six_prompts()[:2]]
    found = attributed(pair_folders, tmp_path / "run", prompts=prompts, probes=["attribution", "activation"])
    assert found.diff is not None
    assert found.activation is None
    page = found.report_path.read_text(encoding="utf-8")
    for note in (found.notes, open_comparison(tmp_path / "run").notes):
        assert any("'activation'" in sentence for sentence in note)
    assert any("empty" in note for note in found.notes if "'activation'" in note)
    assert "is empty on all of 2 prompts" in page
    with pytest.raises(PromptError, match="empty"):
        attributed(pair_folders, tmp_path / "none", prompts=prompts, probes="activation")
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("no_page")
def test_prompts_with_an_empty_response_are_left_out(
    runs: dict[str, Comparison], pair_folders: Folders, tmp_path: Path
) -> None:
    prompts = [six_prompts()[0].replace(response=""), *six_prompts()[1:]]
    found = itlens.compare(*pair_folders, probes="activation", out=tmp_path / "run", **small(prompts=prompts))
    assert found.activation.base["prompt"].values.tolist() == [f"p{n}" for n in range(2, 7)]
    assert any("5 of 6 prompts" in note for note in found.notes)


@pytest.mark.usefixtures("no_page")
def test_a_vocabulary_that_only_one_of_two_knows(pair_folders: Folders, tmp_path: Path) -> None:
    half = itlens.WordVectors(WORDS[::2], vectors().vectors[::2])
    found = itlens.compare(*pair_folders, probes="attention", out=tmp_path / "run", **small(vectors=half))
    said = f"{len(WORDS) // 2} of {len(WORDS)} words are unknown to the word vectors, and are never paired."
    assert said in found.notes
    assert set(found.pairs["base"]["query"]) <= set(WORDS[::2])


@pytest.mark.usefixtures("no_page")
def test_gates_alone(pair_folders: Folders, tmp_path: Path) -> None:
    found = itlens.compare(*pair_folders, probes="mlp", out=tmp_path / "run", **small(concept_vectors=["gate"]))
    assert list(found.concepts) == ["gate"]
    alone = itlens.mlp_concepts(itlens.load_model(pair_folders[1]), vocabulary(), vectors="gate", components=COMPONENTS)
    assert found.concepts["gate"].tuned["word"].values.tolist() == alone["word"].values[..., :KEPT].tolist()


def test_a_prompt_must_leave_room_for_the_response_that_is_requested() -> None:
    """ "a" * 9 and BOS are ten tokens."""
    sides = {side: Side(side, "x", {"context": 10}, tiny_tokenizer(), "r") for side in ("base", "tuned")}

    def check(*prompts: itlens.Prompt) -> None:
        study_prompts([each.replace(instruction="a") for each in prompts], None, "raw", sides, 5, None, "own")

    check(itlens.Prompt("a" * 8, id="p"), itlens.Prompt("a" * 9, id="q", response="b"))
    with pytest.raises(PromptError, match="10 tokens long; the base model reads at most 10, so there is no room"):
        check(itlens.Prompt("a" * 9, id="p"))
    with pytest.raises(PromptError, match="11 tokens long; the base model reads at most 10: shorten"):
        check(itlens.Prompt("a" * 9, id="p", response="bb"))


def test_the_first_screen_of_a_notebook(finished: Comparison) -> None:
    shown = finished._repr_html_()
    assert "<table" in shown
    assert "script" not in shown
    same_results(open_comparison(finished.out), finished)
