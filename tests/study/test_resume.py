"""Resuming beyond the contract: killed runs, refused folders, findings that share one folder, wrong arguments."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens.annotate import Label
from itlens.errors import ItlensError, ModelError, ProbeError, StoreError
from itlens.models.quiet import quiet
from itlens.prompts import save_prompts
from itlens.results.store import load, save
from itlens.study import Comparison, open_comparison
from itlens.study.folder import RunFolder
from tests.commands import interrupted
from tests.study.studies import (
    NEW_TOKENS,
    WORDS,
    Counted,
    Initials,
    copied,
    same_results,
    same_table,
    same_tables,
    six_prompts,
    small,
    unit_files,
    vectors,
    vocabulary,
)
from tests.tiny import BACKENDS, tiny_folder, tiny_tokenizer

ROOT = Path(__file__).parents[2]
Folders = tuple[Path, Path]


def again(folders: Folders, out: Path, name: Any = "attribution", **changes: Any) -> Comparison:
    """The comparison of the `runs` fixture, with changes."""
    return itlens.compare(*folders, out=out, **{"probes": name, **small(**changes)})


def untouched(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def units(folder: Path, name: str = "attribution") -> list[str]:
    return [f"{path.parent.name}/{path.name}" for path in unit_files(folder, name)]


# ---- what is finished is kept, what is broken is not


@pytest.mark.usefixtures("no_page")
def test_missing_and_broken_results_are_computed_again(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counted = copied(finished, tmp_path / "run"), Counted(monkeypatch)
    results = folder / "attribution" / "tuned"
    (results / "0002-p2.nc").unlink()
    whole = (results / "0003-p3.nc").read_bytes()
    (results / "0003-p3.nc").write_bytes(whole[: len(whole) // 2])
    (results / "0004-p4.nc").write_bytes(b"")
    (results / "0005-p5.nc").write_bytes((folder / "attribution" / "base" / "0005-p5.nc").read_bytes())  # another side
    found = again(pair_folders, folder)
    assert counted.loaded == ["tuned"]
    assert counted.units == [("attribution", "tuned", f"000{n}-p{n}") for n in (2, 3, 4, 5)]
    aside = [f"attribution/tuned/000{n}-p{n}.nc was damaged" for n in (3, 4, 5)]
    assert [note.split(":")[0] for note in found.notes if "damaged" in note] == aside
    assert (results / "0003-p3.nc.damaged").read_bytes() == whole[: len(whole) // 2]
    same_tables(found, finished)


@pytest.mark.usefixtures("no_page")
def test_results_of_other_words_and_half_a_layer_are_computed_again(
    runs: dict[str, Comparison], pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counted = copied(runs["mlp"], tmp_path / "run"), Counted(monkeypatch)
    base, tuned = folder / "mlp" / "base", folder / "mlp" / "tuned"
    (base / "value-00" / "concepts.nc").write_bytes(b"CDF")
    labels = load(tuned / "value-01" / "labels.parquet")
    assert isinstance(labels, pd.DataFrame)
    labels.attrs["study_digest"] = "somebody else"
    save(labels, tuned / "value-01" / "labels.parquet")
    found = again(pair_folders, folder, "mlp")
    assert counted.units == [("mlp", "base", "value-00"), ("mlp", "tuned", "value-01")]
    same_tables(found, runs["mlp"])


@pytest.mark.usefixtures("no_page")
def test_another_scoring_keeps_the_attributions(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counted = copied(finished, tmp_path / "run"), Counted(monkeypatch)
    found = again(pair_folders, folder, threshold=0, seed=5)
    assert counted.loaded == []
    assert found.study["findings"]["attribution"]["settings"]["threshold"] == 0
    assert found.diff.groups.attrs["threshold"] == 0
    assert not found.diff.groups.equals(finished.diff.groups)


def test_an_interruption_loads_only_the_model_that_is_left(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        Counted(patch, stop_at=8, error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            again(pair_folders, out)
    assert not (out / "report.html").exists()
    assert units(out) == units(finished.out)[:8]
    opened = open_comparison(out)
    assert "Only 2 of 6 prompts of the finding 'attribution' are finished; run the same comparison to go on." in (
        opened.notes
    )
    counted = Counted(monkeypatch)
    same_results(again(pair_folders, out), finished)
    assert counted.loaded == ["tuned"]


def test_a_folder_without_a_common_unit_says_so(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Counted(monkeypatch, stop_at=4, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        again(pair_folders, tmp_path / "run", "mlp")
    with pytest.raises(StoreError, match=r"nothing that both models have finished .*Only 0 of 4 layers of the finding"):
        open_comparison(tmp_path / "run")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ProbeError("no")], ids=["ctrl-c", "error"])
def test_nothing_is_left_when_nothing_was_finished(
    error: BaseException, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Counted(monkeypatch, stop_at=0, error=error)
    with pytest.raises(type(error)):
        again(pair_folders, tmp_path / "not" / "there" / "run")
    assert list(tmp_path.iterdir()) == []
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(type(error)):
        again(pair_folders, empty)
    assert list(tmp_path.iterdir()) == [empty]
    assert list(empty.iterdir()) == []


def test_a_tuned_model_that_cannot_be_loaded_leaves_the_base_results(pair_folders: Folders, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tiny_folder(tmp_path / "broken", "llama", seed=1)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][3] = 1e30  # finite in the file, and not in half precision
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="holds NaN"):
        again((pair_folders[0], broken), tmp_path / "run", prompts=six_prompts()[:2], dtype="float16")
    assert units(tmp_path / "run") == ["base/0001-p1.nc", "base/0002-p2.nc"]
    with pytest.raises(ModelError, match="holds NaN"):
        again((broken, pair_folders[1]), tmp_path / "second", prompts=six_prompts()[:2], dtype="float16")
    assert not (tmp_path / "second").exists()


def test_what_a_kill_leaves_of_a_write_is_no_foreign_file(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".itlens-0123456789abcdef.part").write_bytes(b"{")
    Counted(monkeypatch, stop_at=1, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        again(pair_folders, out)
    assert units(out) == ["base/0001-p1.nc"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL, which Windows does not have")
@pytest.mark.parametrize(("name", "least"), [("attribution", 2), ("mlp", 3)])
@pytest.mark.usefixtures("no_page")
def test_a_killed_run_goes_on_to_identical_results(
    name: str, least: int, runs: dict[str, Comparison], pair_folders: Folders, tmp_path: Path
) -> None:
    """kill -9, no chance to clean up, while units of the base model are under way."""
    out, words, prompts = tmp_path / "run", tmp_path / "words.txt", tmp_path / "prompts.jsonl"
    save_prompts(six_prompts(), prompts)
    listed = [word for word in WORDS if "\n" not in word]
    words.write_text("\n".join(listed), encoding="utf-8")
    options = ["--prompts", prompts, "--max-new-tokens", NEW_TOKENS, "--seed", 3, "--probes", name, "--out", out]
    options += ["--vocabulary", words, "--components", 8, "--resamples", 50]
    ended = interrupted(lambda: len(units(out, name)) >= least, "compare", *pair_folders, *options, by=signal.SIGKILL)
    assert ended.code == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in unit_files(out, name)}
    assert least <= len(kept) < len(unit_files(runs[name].out, name))
    asked: dict[str, Any] = {"prompts": prompts, "max_new_tokens": NEW_TOKENS, "seed": 3, "probes": name}
    asked |= {"vocabulary": words, "components": 8, "resamples": 50, "progress": False}
    found = itlens.compare(*pair_folders, out=out, **asked)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    if name == "attribution":
        same_results(found, runs[name])
    else:
        same_results(found, itlens.compare(*pair_folders, out=tmp_path / "other", **asked))


def test_tables_and_report_are_written_again_without_torch(runs: dict[str, Comparison], tmp_path: Path) -> None:
    """Of a finding whose tables are netCDF, and of one whose tables are Parquet and CSV."""
    out = {name: copied(runs[name], tmp_path / name) for name in ("mlp", "attribution")}
    pages = {name: (folder / "report.html").read_bytes() for name, folder in out.items()}
    for folder in out.values():
        (folder / "report.html").unlink()
    (out["mlp"] / "tables" / "turned_key.nc").unlink()
    shutil.rmtree(out["attribution"] / "tables")
    code = f"""
import sys
from itlens.cli import main
for folder in {[*map(str, out.values())]!r}:
    sys.argv = ["itlens", "report", folder]
    try:
        main()
    except SystemExit as error:
        assert error.code == 0, error.code
print([name for name in ("torch", "transformers", "transformer_lens") if name in sys.modules])
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert {name: (folder / "report.html").read_bytes() for name, folder in out.items()} == pages
    assert (out["mlp"] / "tables" / "turned_key.nc").exists()
    assert (out["attribution"] / "tables" / "groups.parquet").exists()


# ---- folders that are refused, and kept


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"prompts": six_prompts()[:5]}, "prompts that are only there: 'p6'"),
        ({"prompts": [*six_prompts()[:5], six_prompts()[0].replace(id="p6")]}, "prompts that changed: 'p6'"),
        ({"prompts": [p.replace(response=" Yes.") for p in six_prompts()]}, "'p1', 'p2', 'p3' and 3 more"),
        ({"max_new_tokens": 5}, "max_new_tokens: 4 there, 5 here"),
        ({"dtype": "float64"}, "dtype: 'float32' there, 'float64' here"),
        ({"format": "Task: {prompt}"}, "format: 'raw' there, 'Task: {prompt}' here"),
        ({"prepend_bos": False}, "prepend_bos"),
        ({"backend": "bridge"}, "backend"),
        ({"responses": "tuned"}, "responses: 'own' there, 'tuned' here"),
        ({"resume": False, "max_new_tokens": 5}, "max_new_tokens"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_another_studys_folder_is_refused_and_kept(
    finished: Comparison, pair_folders: Folders, changes: dict[str, Any], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, counted = untouched(finished.out), Counted(monkeypatch)
    with pytest.raises(StoreError, match="holds the results of another study") as caught:
        again(pair_folders, finished.out, **changes)
    assert named in str(caught.value)
    assert "give another folder" in str(caught.value)
    assert untouched(finished.out) == before
    assert counted.loaded == []


def test_other_models_and_swapped_ones_are_refused(finished: Comparison, pair_folders: Folders, tmp_path: Path) -> None:
    other = tiny_folder(tmp_path / "base", "llama", seed=5)  # the same name, other weights
    before = untouched(finished.out)
    with pytest.raises(StoreError, match=r"another study .*base model: 'sha256:"):
        again((other, pair_folders[1]), finished.out)
    with pytest.raises(StoreError, match=r"base model: .*tuned model: "):
        again((pair_folders[1], pair_folders[0]), finished.out)
    assert untouched(finished.out) == before


@pytest.mark.usefixtures("no_page")
def test_a_moved_model_and_moved_words_are_the_same_study(
    runs: dict[str, Comparison], pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By content: a file of another name, with the same words and vectors."""
    moved = tmp_path / "elsewhere"
    moved.symlink_to(pair_folders[0])
    np.savez(tmp_path / "moved.npz", words=np.array(WORDS), vectors=vectors().vectors)
    same: dict[str, Any] = {"vocabulary": itlens.Vocabulary(WORDS), "vectors": tmp_path / "moved.npz"}
    folder = copied(runs["attention"], tmp_path / "run")  # computed here, where it is not counted
    counted = Counted(monkeypatch)
    again((moved, pair_folders[1]), folder, "attention", **same)
    assert counted.loaded == []


def test_other_words_are_another_study(runs: dict[str, Comparison], pair_folders: Folders) -> None:
    for changed, named in ((WORDS[::-1], "vocabulary: 'sha256:"), (WORDS[:-1], "vocabulary: 'sha256:")):
        with pytest.raises(StoreError, match="holds the results of another study") as caught:
            again(pair_folders, runs["attention"].out, "attention", vocabulary=itlens.Vocabulary(changed))
        assert named in str(caught.value)
    labeller = "labeller: 'lexicon' there, 'initials, seeds 4, 7' here"
    for changes, named in (({"labeller": Initials()}, labeller), ({"seed": 4}, "resample_seed: 3 there, 4 here")):
        with pytest.raises(StoreError, match="holds the results of another study") as caught:
            again(pair_folders, runs["mlp"].out, "mlp", **changes)
        assert named in str(caught.value)


@pytest.mark.usefixtures("no_page")
def test_vectors_in_any_order_and_labels_beyond_the_components_are_the_same_study(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = again(pair_folders, tmp_path / "run", "mlp", concept_vectors=["key", "value", "key"])
    assert list(first.concepts) == ["value", "key"]
    counted = Counted(monkeypatch)
    again(pair_folders, tmp_path / "run", "mlp", sides=["value", "key"])
    assert counted.loaded == []


def test_files_and_foreign_folders_are_refused_and_kept(pair_folders: Folders, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(StoreError, match="is a file; give a folder"):
        again(pair_folders, file)
    with pytest.raises(StoreError, match="a part of its path is a file; choose another folder"):
        again(pair_folders, file / "below")
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match=r"holds thesis\.tex and no study; give an empty or new folder"):
        again(pair_folders, full)
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "study.json").write_text("[1, 2]")
    with pytest.raises(StoreError, match="is not a study of itlens"):
        again(pair_folders, odd)
    (odd / "study.json").write_text('{"identity"')
    with pytest.raises(StoreError, match="is not a JSON file"):
        again(pair_folders, odd)
    assert file.read_text() == "mine"
    assert sorted(path.name for path in full.iterdir()) == ["thesis.tex"]


# ---- findings that share a folder


def test_findings_of_one_folder_go_on_each_by_itself(
    runs: dict[str, Comparison], pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, counted = copied(runs["attention"], tmp_path / "run"), Counted(monkeypatch)
    both = again(pair_folders, out, ["attention", "attribution"])
    assert {name for name, _, _ in counted.units} == {"attribution"}
    assert len(counted.units) == 12
    assert both.verdict == f"{runs['attribution'].verdict} {runs['attention'].verdict}"
    for name in ("attention", "attribution"):
        for key, table in both.results[name].items():
            same_table(table, runs[name].results[name][key])
    assert "What did instruction tuning change?" in both.report_path.read_text(encoding="utf-8")
    alone = again(pair_folders, out, "attention")
    assert len(alone.prompts) == 6
    assert len(counted.units) == 12
    assert alone.verdict == both.verdict
    with pytest.raises(StoreError, match="max_new_tokens: 4 there, 5 here"):
        again(pair_folders, out, ["attention", "attribution"], max_new_tokens=5)
    with pytest.raises(StoreError, match=r"base model: 'sha256:"):
        again((pair_folders[1], pair_folders[0]), out, "attention")
    with pytest.raises(StoreError, match=r"another study.*prompts"):
        again(pair_folders, out, "activation", prompts=six_prompts()[:4])
    again(pair_folders, out, "attention", resume=False)
    assert [name for name, _, _ in counted.units[12:]] == ["attention"] * 4
    assert units(out) == units(runs["attribution"].out)
    assert open_comparison(out).diff is not None


@pytest.mark.usefixtures("no_page")
def test_a_finding_that_never_finished_anything_binds_nobody(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(finished, tmp_path / "run")
    with monkeypatch.context() as patch:
        Counted(patch, stop_at=0, error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            again(pair_folders, out, "attention", top_k=5)
    left = open_comparison(out)
    assert left.words is None
    assert left.diff is not None
    assert again(pair_folders, out, "attention").words is not None  # with another top_k than the one that was stopped


def test_a_finding_that_was_stopped_is_not_in_the_answer(
    runs: dict[str, Comparison], pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(runs["activation"], tmp_path / "run")
    Counted(monkeypatch, stop_at=0, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        again(pair_folders, out, ["activation", "patching"])
    left = open_comparison(out)
    assert left.activation is not None
    assert left.patching is None
    assert any("of the finding 'patching' are finished" in note for note in left.notes)
    row = next(row for row in left.page.rows if row.name == "patching")
    assert row.word == "not tested"


# ---- a file of the folder is read once


def test_a_result_is_read_once_until_its_file_changes(
    finished: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from itlens.study import results as results_module

    out = copied(finished, tmp_path / "run")
    folder, paths, load_file = RunFolder(out), list[Path](), results_module.load
    study = folder.read_study()
    monkeypatch.setattr(results_module, "load", lambda path: paths.append(path) or load_file(path))
    where = ("attribution", "base", "0001-p1")
    first = folder.read(study, *where)
    assert isinstance(first, xr.Dataset)
    assert folder.read(study, *where) is first
    assert len(paths) == 1
    folder.write(study, *where, first.assign_attrs(number=2))
    second = folder.read(study, *where)
    assert isinstance(second, xr.Dataset)
    assert second.attrs["number"] == 2
    assert len(paths) == 2
    (out / "attribution" / "base" / "0001-p1.nc").unlink()
    assert folder.read(study, *where) is None


# ---- wrong arguments


@pytest.mark.parametrize(
    "changes",
    [
        {"p": float("nan")},
        {"threshold": 11},
        {"seed": -1},
        {"seed": 1.5},
        {"limit": 0},
        {"limit": -1},
        {"max_new_tokens": 0},
        {"max_new_tokens": True},
        {"labels": ("one",)},
        {"labels": ("one", "one")},
        {"labels": ("one", " ")},
        {"probes": "attenton"},
        {"probes": []},
        {"probes": None},
        {"vectors": 5},
        {"executor": "moon"},
        {"responses": "mine"},
        {"dtype": "int4"},
        {"device": "abacus"},
        {"backend": "spoon"},
        {"prompts": []},
        {"prompts": 5},
        {"prompts": ["text"]},
        {"prompts": [itlens.Prompt("No instruction here.", id="a")]},
        {"prompts": [six_prompts()[0], six_prompts()[0]]},
        {"tuned": None},
        {"nonsense": 1},
        {"sides": "value", "concept_vectors": "value"},
    ],
    ids=lambda changes: "-".join(f"{k}={v}" for k, v in changes.items())[:40],
)
def test_wrong_arguments_raise_before_anything_is_written(
    changes: dict[str, Any], pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    asked = {"tuned": pair_folders[1], "prompts": six_prompts()[:1], "out": tmp_path / "run"} | changes
    with pytest.raises(ItlensError) as caught:
        itlens.compare(pair_folders[0], **asked)
    assert "\n" not in str(caught.value)
    assert counted.units == []
    assert list(tmp_path.iterdir()) == []


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no such probe": ("attenton", {}, "Unknown probe 'attenton'; known are attribution, attention, mlp"),
    "no such file": ("attention", {"vocabulary": "no-such.txt"}, "no-such.txt"),
    "no such vectors": ("attention", {"vectors": "no-such.npz"}, "no-such.npz"),
    "no vocabulary": ("attention", {"vocabulary": 5}, "vocabulary is a int"),
    "a bare list": ("attention", {"vectors": [1.0]}, "vectors is a list"),
    "top_k": ("attention", {"top_k": 0}, "top_k=0"),
    "other words": ("attention", {"vectors": itlens.WordVectors(["elsewhere"], [[1.0]])}, "both to the tokenizer"),
    "no such vectors to analyse": (
        "mlp",
        {"sides": "query"},
        "concept_vectors holds 'query'; expected some of value, key, gate.",
    ),
    "one odd kind": ("mlp", {"sides": ["value", "x"]}, "concept_vectors holds 'x'; expected some of"),
    "no kind": ("mlp", {"sides": []}, "concept_vectors is empty"),
    "a number as kind": ("mlp", {"sides": 5}, "concept_vectors holds 5; expected"),
    "no components": ("mlp", {"components": 0}, "components=0; expected a whole number of at least 1"),
    "half a component": ("mlp", {"components": 2.5}, "components=2.5; expected a whole number"),
    "above the rank": ("mlp", {"components": 33}, "components=33; the 56 centred vectors of width 32 have a rank of"),
    "negative draws": ("mlp", {"resamples": -1}, "resamples=-1; expected a whole number of at least 0"),
    "no words": ("mlp", {"concept_words": 0}, "concept_words=0"),
    "no labels": ("mlp", {"labelled": 0}, "labelled=0"),
    "no labeller": ("mlp", {"labeller": "gpt"}, "labeller='gpt'; expected 'lexicon', itlens.annotate.chat(model), or"),
    "a number as labeller": ("mlp", {"labeller": 5}, "labeller=5; expected"),
    "a lambda": ("mlp", {"labeller": lambda words: Label("x")}, "The labeller is a lambda, whose labels a resumed"),
    "a half sample": ("faithfulness", {"sample": 1.5}, "sample=1.5"),
    "a sample in words": ("patching", {"sample": "3"}, "sample='3'"),
}


@pytest.mark.parametrize("kind", BAD)
def test_wrong_options_are_refused_before_anything_is_loaded(
    kind: str, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, changes, named = BAD[kind]
    counted = Counted(monkeypatch)
    with pytest.raises(ItlensError) as caught:
        again(pair_folders, tmp_path / "run", name, **changes)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert counted.loaded == []
    assert list(tmp_path.iterdir()) == []


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
    counted = Counted(monkeypatch)
    plain, experts, out = tiny_folder(tmp_path / "gpt2", "gpt2"), mixture(tmp_path / "mixtral"), tmp_path / "run"
    with pytest.raises(ProbeError, match=r"gate vectors: the feed-forward layers of \S+gpt2 have no W_gate; expected"):
        again((plain, plain), out, "mlp", concept_vectors=["value", "gate"])
    for backend in BACKENDS:
        with pytest.raises(ProbeError, match=r"\S+mixtral has feed-forward layers that are mixtures of 4 experts"):
            again((experts, experts), out, "mlp", backend=backend)
    with pytest.raises(ProbeError, match="no tokenizer"):
        again((plain, plain), out, "mlp", tokenizer=False)
    assert counted.loaded == []
    assert not out.exists()


def test_a_labeller_that_answers_nonsense_is_one_sentence(pair_folders: Folders, tmp_path: Path) -> None:
    def nonsense(words: object) -> str:
        return "words"

    said = r"The labeller nonsense returned 'words'; expected an itlens\.annotate\.Label"
    with pytest.raises(ItlensError, match=said):
        again(pair_folders, tmp_path / "run", "mlp", labeller=nonsense)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_page")
def test_a_labeller_of_ones_own_with_seeds(pair_folders: Folders, tmp_path: Path) -> None:
    own, announced = Initials(), []

    def announce(cost: str) -> None:
        announced.append((cost, len(own.requested)))

    size: dict[str, Any] = {"labeller": own, "concept_vectors": "value", "announce": announce}
    found = again(pair_folders, tmp_path / "run", "mlp", **size)
    labelled = small()["labelled"]
    assert announced == [(f"{2 * 2 * labelled} lists of 15 words", 0)], "both models, before any list is sent"
    assert found.study["findings"]["mlp"]["identity"]["labeller"] == "initials, seeds 4, 7"
    assert len(own.requested) == 2 * 2 * labelled * 2
    assert all(len(words) == 15 for words, _ in own.requested)
    results = found.concepts["value"]
    for side in ("base", "tuned"):
        labels = getattr(results, f"{side}_labels")
        assert labels[["layer", "component", "seed"]].values.tolist() == [
            [layer, component, seed] for layer in (0, 1) for component in range(labelled) for seed in (4, 7)
        ]
        first = getattr(results, side)["word"].isel(component=slice(labelled), rank=0).values.ravel()
        assert labels["description"].tolist() == [f"{str(word)!r} and others" for word in first for _ in (4, 7)]
        early = np.array([str(word)[:1].lower() < "m" for word in first for _ in (4, 7)])
        assert (labels["task_coding"].to_numpy() == early).all()
        assert (labels["task_daily"].to_numpy() == ~early).all()
        share = results.shares[results.shares["group"] == "all"].set_index(["kind", "category"])
        assert share.loc[("task", "coding"), side] == pytest.approx(early.mean())
        assert share.loc[("level", "syntax"), side] == pytest.approx(early.mean() / 2)
        by_seed = np.std([early.mean(), 0], ddof=1)
        assert share.loc[("level", "syntax"), f"{side}_std"] == pytest.approx(by_seed)
        assert by_seed > 0
        assert share.loc[("task", "coding"), f"{side}_std"] == 0  # no seed wavers there
    assert results.shares.attrs["seeds"] == 2
    opened = open_comparison(found.out).concepts["value"]
    pd.testing.assert_frame_equal(opened.base_labels, results.base_labels)


def test_each_finding_has_a_vocabulary_of_the_same_content(runs: dict[str, Comparison]) -> None:
    """The study knows words by their content, and says to people what they were called."""
    for name in ("attention", "mlp"):
        assert runs[name].study["findings"][name]["identity"]["vocabulary"] == vocabulary().fingerprint
        assert json.loads((runs[name].out / "study.json").read_text())["findings"][name]["settings"]["vocabulary"] == (
            "fifty, 50 words"
        )
