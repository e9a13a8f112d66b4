"""Resuming the feed-forward part of `compare`, adding it to other parts, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens.annotate import Label
from itlens.errors import ItlensError, ProbeError, StoreError
from itlens.models.quiet import quiet
from itlens.store import load, save
from itlens.study import Comparison, open_comparison
from tests.study.concept_runs import (
    COMPONENTS,
    CountedConcepts,
    Initials,
    asked,
    concept_files,
    same_concepts,
)
from tests.study.runs import NEW_TOKENS, Counted, copied, same_results, same_tables, six_prompts
from tests.study.word_runs import TOP_K, WORDS, vectors, vocabulary
from tests.tiny import tiny_folder, tiny_tokenizer

ROOT = Path(__file__).parents[2]
Folders = tuple[Path, Path]
EVERYTHING = [(which, side, layer) for which in ("base", "tuned") for side in ("value", "key") for layer in (0, 1)]


@pytest.fixture(scope="module")
def concepts(pair_folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """An uninterrupted run of the feed-forward part alone; tests read it and never write into its folder."""
    return itlens.compare(*pair_folders, out=tmp_path_factory.mktemp("concepts") / "run", **asked())


def again(folders: Folders, out: Path, **changes: Any) -> Comparison:
    return itlens.compare(*folders, out=out, **asked(**changes))


@pytest.mark.parametrize("done", [3, 6], ids=["base", "tuned"])
def test_an_interruption_in_the_middle_of_the_layers_goes_on(
    done: int, concepts: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        CountedConcepts(patch, stop_at=done, error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            again(pair_folders, out)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("concepts/*/*")}
    assert len(kept) == 2 * done and not (out / "report.html").exists()
    counted = CountedConcepts(monkeypatch)
    found = again(pair_folders, out)
    assert counted.probed == EVERYTHING[done:] and counted.loaded == ["base", "tuned"][done // 4 :]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    same_concepts(found, concepts)


def test_a_half_finished_folder_opens_with_a_note(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CountedConcepts(monkeypatch, stop_at=5, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        again(pair_folders, tmp_path / "run")
    found = open_comparison(tmp_path / "run")
    assert found.concepts is not None and list(found.concepts) == ["value"]
    assert found.concepts["value"].turned.layer.values.tolist() == [0]
    for side, done in (("value", 1), ("key", 0)):
        note = f"Only {done} of 2 layers of {side} vectors are finished; run the same comparison to go on."
        assert note in found.notes


def test_a_folder_without_a_common_layer_says_so(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CountedConcepts(monkeypatch, stop_at=4, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        again(pair_folders, tmp_path / "run")
    with pytest.raises(StoreError, match="no layer of which both models have finished the concepts"):
        open_comparison(tmp_path / "run")


def test_nothing_is_left_when_no_layer_was_finished(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CountedConcepts(monkeypatch, stop_at=0, error=ProbeError("no"))
    with pytest.raises(ProbeError, match="no"):
        again(pair_folders, tmp_path / "not" / "there")
    assert list(tmp_path.iterdir()) == []


def test_missing_and_broken_layers_are_probed_again(
    concepts: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counted = copied(concepts, tmp_path / "run"), CountedConcepts(monkeypatch)
    base, tuned = folder / "concepts" / "base", folder / "concepts" / "tuned"
    whole = (base / "value-00.nc").read_bytes()
    (base / "value-00.nc").write_bytes(whole[: len(whole) // 2])
    (base / "labels-key-01.parquet").unlink()
    (tuned / "value-00.nc").write_bytes((tuned / "value-01.nc").read_bytes())  # another layer's
    (tuned / "key-00.nc").write_bytes((tuned / "value-00.nc").read_bytes())  # another side's
    other = load(tuned / "labels-value-01.parquet")
    assert isinstance(other, pd.DataFrame)
    other.attrs["labeller_identity"] = "somebody else"
    save(other, tuned / "labels-value-01.parquet")
    again_ = load(tuned / "key-01.nc")
    assert isinstance(again_, xr.Dataset)
    save(again_.assign_attrs(seed=99), tuned / "key-01.nc")
    found = again(pair_folders, folder)
    assert counted.probed == [
        *(("base", "value", 0), ("base", "key", 1)),
        *(("tuned", "value", 0), ("tuned", "value", 1), ("tuned", "key", 0), ("tuned", "key", 1)),
    ]
    same_concepts(found, concepts)


def test_a_finished_run_loads_no_model(
    concepts: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counted = copied(concepts, tmp_path / "run"), CountedConcepts(monkeypatch)
    (folder / "report.html").unlink()
    same_concepts(again(pair_folders, folder, vocabulary=itlens.Vocabulary(WORDS)), concepts)
    assert counted.loaded == [] and (folder / "report.html").exists()
    again(pair_folders, folder, resume=False)
    assert counted.probed == EVERYTHING


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL, which Windows does not have")
def test_a_killed_run_goes_on_to_identical_results(pair_folders: Folders, tmp_path: Path) -> None:
    """kill -9, no chance to clean up, while layers are under way."""
    out, words = tmp_path / "run", tmp_path / "words.txt"
    words.write_text("\n".join(word for word in WORDS if "\n" not in word), encoding="utf-8")
    options = ["--probes", "mlp", "--vocabulary", words, "--components", COMPONENTS, "--resamples", 50, "--out", out]
    command = [sys.executable, "-m", "itlens.cli", "compare", *pair_folders, *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    quietly: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    process = subprocess.Popen(list(map(str, command)), **quietly)
    try:
        deadline = time.monotonic() + 120
        while len(list(out.glob("concepts/*/*.nc"))) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("concepts/*/*.nc")}
    assert process.returncode == -signal.SIGKILL and 3 <= len(kept) < 8
    found = itlens.compare(
        *pair_folders, probes="mlp", vocabulary=words, components=COMPONENTS, resamples=50, out=out, progress=False
    )
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    same_concepts(open_comparison(out), found)


def test_tables_and_report_are_written_again_without_torch(concepts: Comparison, tmp_path: Path) -> None:
    out = copied(concepts, tmp_path / "run")
    page = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    (out / "tables" / "turned_key.nc").unlink()
    code = f"""
import sys
from itlens.cli import main
sys.argv = ["itlens", "report", {str(out)!r}]
try:
    main()
except SystemExit as error:
    assert error.code == 0, error.code
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").read_bytes() == page and (out / "tables" / "turned_key.nc").exists()


# Other parts in the same folder.


def test_concepts_are_added_to_the_attributions_of_the_same_models(
    concepts: Comparison, finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, counted = copied(finished, tmp_path / "run"), Counted(monkeypatch)
    study = json.loads((out / "study.json").read_text())
    assert not set(study["identity"]) & {"sides", "concept_vocabulary"} and open_comparison(out).concepts is None
    both = again(pair_folders, out)
    assert counted.attributed == [] and both.study["settings"]["max_new_tokens"] == NEW_TOKENS
    same_results(both.base, finished.base)
    assert both.concepts is not None and both.concepts["key"].turned.identical(concepts.concepts["key"].turned)  # type: ignore[index]
    assert both.verdict == f"{finished.verdict} {concepts.verdict}"
    page = both.report_path.read_text(encoding="utf-8")
    assert "What did instruction tuning change?" in page
    # the other part alone goes on in the same folder, and the concepts stay
    layers = CountedConcepts(monkeypatch)
    asked_ = {"prompts": six_prompts(), "max_new_tokens": NEW_TOKENS, "seed": 3, "probes": "attribution"}
    alone = itlens.compare(*pair_folders, out=out, **asked_)
    same_tables(alone, both)
    assert layers.probed == [] and alone.concepts is not None and alone.verdict == both.verdict


def test_all_parts_share_one_folder_and_one_vocabulary(
    concepts: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part has settings of its own: another vocabulary for the heads is no other vocabulary for concepts."""
    out = copied(concepts, tmp_path / "run")
    rest: dict[str, Any] = {"vectors": vectors(), "top_k": TOP_K, "prompts": six_prompts()[:1], "max_new_tokens": 2}
    layers = CountedConcepts(monkeypatch)
    found = again(pair_folders, out, probes="all", **rest)
    assert layers.probed == [] and found.concepts is not None and found.words is not None and found.diff is not None
    assert len(found.answers) == 7 and found.study["identity"]["vocabulary"] == vocabulary().fingerprint
    names = {"attributions", "words", "concepts", "activations", "patching", "faithfulness"}
    names |= {"tables", "prompts.jsonl", "study.json", "report.html"}
    assert {path.name for path in out.iterdir()} == names
    again(pair_folders, out, probes="attention", resume=False, **rest)
    assert concept_files(out) == concept_files(concepts.out) and open_comparison(out).concepts is not None
    with pytest.raises(StoreError, match=r"vocabulary: 'sha256:\w+' there, 'sha256:\w+' here; concept_vocabulary: "):
        again(pair_folders, out, probes="all", **rest | {"vocabulary": itlens.Vocabulary(WORDS[:-1])})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"vocabulary": itlens.Vocabulary(WORDS[::-1])}, "concept_vocabulary: 'sha256:"),
        ({"sides": "value"}, "sides: 'value, key' there, 'value' here"),
        ({"components": 9}, "components: 8 there, 9 here"),
        ({"components": None}, "components: 8 there, 32 here"),
        ({"concept_words": 7}, "concept_words: 6 there, 7 here"),
        ({"resamples": 4}, "resamples: 3 there, 4 here"),
        ({"seed": 4}, "resample_seed: 3 there, 4 here"),
        ({"labelled": 5}, "labelled: 4 there, 5 here"),
        ({"labeller": Initials()}, "labeller: 'lexicon' there, 'initials, seeds 4, 7' here"),
        ({"dtype": "float64"}, "dtype: 'float32' there, 'float64' here"),
        ({"resume": False, "components": 9}, "components"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_other_concepts_are_another_study(
    concepts: Comparison, pair_folders: Folders, changes: dict[str, Any], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in concepts.out.rglob("*") if path.is_file()}
    counted = CountedConcepts(monkeypatch)
    with pytest.raises(StoreError, match="holds the results of another study") as caught:
        again(pair_folders, concepts.out, **changes)
    assert named in str(caught.value) and counted.loaded == []
    assert {path: path.read_bytes() for path in concepts.out.rglob("*") if path.is_file()} == before


def test_sides_in_any_order_and_labels_beyond_the_components_are_the_same_study(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = again(pair_folders, tmp_path / "run", labelled=50, sides=["key", "value", "key"])
    assert first.concepts is not None and list(first.concepts) == ["value", "key"]
    counted = CountedConcepts(monkeypatch)
    again(pair_folders, tmp_path / "run", labelled=COMPONENTS)
    assert counted.loaded == []


# Bad input.

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no such side": ({"sides": "query"}, "side='query'; expected one of value, key, gate."),
    "one odd side": ({"sides": ["value", "x"]}, "side='x'; expected one of"),
    "no side": ({"sides": []}, "sides is empty"),
    "a number as side": ({"sides": 5}, "side=5; expected one of"),
    "no components": ({"components": 0}, "components=0; expected a whole number of at least 1"),
    "half a component": ({"components": 2.5}, "components=2.5; expected a whole number"),
    "above the rank": (
        {"components": 33},
        "components=33; the 56 centred vectors of width 32 have a rank of at most 32",
    ),
    "negative draws": ({"resamples": -1}, "resamples=-1; expected a whole number of at least 0"),
    "no words": ({"concept_words": 0}, "concept_words=0"),
    "no labels": ({"labelled": 0}, "labelled=0"),
    "no labeller": ({"labeller": "gpt"}, "labeller='gpt'; expected 'lexicon', itlens.annotate.chat(model), or"),
    "a number as labeller": ({"labeller": 5}, "labeller=5; expected"),
    "a lambda": ({"labeller": lambda words: Label("x")}, "The labeller is a lambda, whose labels a resumed study"),
    "no such file": ({"vocabulary": "no-such.txt"}, "no-such.txt"),
    "no vocabulary": ({"vocabulary": 5}, "vocabulary is a int"),
}


@pytest.mark.parametrize("kind", BAD)
def test_wrong_concepts_are_refused_before_anything_is_loaded(
    kind: str, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, named = BAD[kind]
    counted = CountedConcepts(monkeypatch)
    with pytest.raises(ItlensError) as caught:
        again(pair_folders, tmp_path / "run", **changes)
    assert named in str(caught.value) and "\n" not in str(caught.value)
    assert counted.loaded == [] and list(tmp_path.iterdir()) == []


def mixture(folder: Path) -> Path:
    """A tiny Mixtral: its config alone says what it is."""
    import transformers

    config = transformers.MixtralConfig(
        vocab_size=300, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    with quiet():
        transformers.MixtralForCausalLM(config).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
    return folder


def test_models_without_such_vectors_are_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = CountedConcepts(monkeypatch)
    plain, experts, out = tiny_folder(tmp_path / "gpt2", "gpt2"), mixture(tmp_path / "mixtral"), tmp_path / "run"
    with pytest.raises(ProbeError, match=r'side="gate": the feed-forward layers of \S+gpt2 have no W_gate; expected'):
        again((plain, plain), out, sides=["value", "gate"])
    for backend in ("hooked", "bridge"):
        with pytest.raises(ProbeError, match=r"\S+mixtral has feed-forward layers that are mixtures of 4 experts"):
            again((experts, experts), out, backend=backend)
    with pytest.raises(ProbeError, match="no tokenizer"):
        again((plain, plain), out, tokenizer=False)
    assert counted.loaded == [] and not out.exists()


def test_a_labeller_that_answers_nonsense_is_one_sentence(pair_folders: Folders, tmp_path: Path) -> None:
    def nonsense(words: object) -> str:
        return "words"

    with pytest.raises(
        ItlensError, match=r"The labeller nonsense returned 'words'; expected an itlens\.annotate\.Label"
    ):
        again(pair_folders, tmp_path / "run", labeller=nonsense)
    assert list(tmp_path.iterdir()) == []
