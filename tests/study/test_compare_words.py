"""The attention part of `compare`: what the folder holds, that it is what the probe alone finds, and resuming it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens.errors import ItlensError, ProbeError, StoreError
from itlens.probes.attention import qk_word_pairs
from itlens.store import load, save
from itlens.study import Comparison, open_comparison
from tests.study.runs import NEW_TOKENS, Counted, copied, result_files, same_results, same_tables, six_prompts
from tests.study.word_runs import (
    ODD_WORDS,
    TOP_K,
    WORDS,
    CountedLayers,
    asked,
    layer_files,
    same_words,
    vectors,
    vocabulary,
)

Folders = tuple[Path, Path]
FILES = [
    f"{which}/{kind}-0{layer}.parquet"
    for which in ("base", "tuned")
    for kind in ("energy", "layer")
    for layer in (0, 1)
]


@pytest.fixture(scope="module")
def words(pair_folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """An uninterrupted run of the attention part alone; tests read it and never write into its folder."""
    return itlens.compare(*pair_folders, out=tmp_path_factory.mktemp("words-finished") / "run", **asked())


def again(folders: Folders, out: Path, **changes: Any) -> Comparison:
    return itlens.compare(*folders, out=out, **asked(**changes))


def test_the_folder_holds_words_and_no_prompts(words: Comparison) -> None:
    assert {path.name for path in words.out.iterdir()} == {"study.json", "words", "tables", "report.html"}
    assert layer_files(words.out) == sorted(FILES)
    tables = {"word_pairs.nc", "pair_changes.parquet"} | {
        f"{name}.{kind}" for name in ("verbs", "moved_heads") for kind in ("parquet", "csv")
    }
    assert {path.name for path in (words.out / "tables").iterdir()} == tables
    study = json.loads((words.out / "study.json").read_text())
    assert study["prompts"] == 0 and "max_new_tokens" not in study["settings"]
    assert (
        study["settings"]["vocabulary"] == "fifty, 50 words" and study["settings"]["vectors"] == "heaps, 16 dimensions"
    )
    assert study["identity"]["vocabulary"] == vocabulary().fingerprint and study["settings"]["top_k"] == TOP_K
    assert words.diff is None and words.prompts == [] and words.base == words.tuned == {}


def test_pairs_are_those_of_the_probe_alone(words: Comparison, pair_folders: Folders) -> None:
    assert words.pairs is not None
    for which, folder in zip(("base", "tuned"), pair_folders, strict=True):
        alone = qk_word_pairs(itlens.load_model(folder), vocabulary(), vectors=vectors(), top_k=TOP_K)
        found = words.pairs[which]
        assert len(alone) > 100 and found.attrs == alone.attrs
        pd.testing.assert_frame_equal(found, alone, check_categorical=False)
        assert found.dtypes.astype(str).to_dict() == alone.dtypes.astype(str).to_dict()
        energy = load(words.out / "words" / which / "energy-01.parquet")
        assert isinstance(energy, pd.DataFrame) and energy["energy"].dtype == np.float64 and set(energy["layer"]) == {1}


def test_words_that_hold_separators_come_back_from_the_folder(words: Comparison) -> None:
    assert words.pairs is not None and words.changes is not None
    for table in (words.pairs["base"], words.changes, load(words.out / "tables" / "pair_changes.parquet")):
        assert isinstance(table, pd.DataFrame)
        seen = set(table["query"]) | set(table["key"])
        assert set(ODD_WORDS) <= seen <= set(WORDS)


def test_a_folder_opens_again_as_the_same_comparison(words: Comparison) -> None:
    before = {path: path.stat().st_mtime_ns for path in words.out.rglob("*")}
    opened = open_comparison(words.out)
    same_words(opened, words)
    assert repr(opened) == repr(words) and opened.notes == words.notes
    assert words.verb_shares is not None and words.verb_shares["group"].tolist()[0] == "all"
    assert "p_null" in repr(words) and "p_null" in words._repr_html_() and "report.html" in words._repr_html_()
    assert {path: path.stat().st_mtime_ns for path in words.out.rglob("*")} == before


def test_saved_tables_are_the_ones_in_memory(words: Comparison) -> None:
    tables = words.out / "tables"
    xr.testing.assert_equal(load(tables / "word_pairs.nc"), words.words)
    for name, table in (("pair_changes", words.changes), ("moved_heads", words.moved)):
        pd.testing.assert_frame_equal(load(tables / f"{name}.parquet"), table, check_categorical=False)
    assert len(load(tables / "verbs.csv")) == len(load(tables / "verbs.parquet"))


def test_the_report_names_words_and_heads(words: Comparison) -> None:
    page = words.report_path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "fifty, 50 words" in page
    assert words.moved is not None
    layer, head = words.moved.loc[0, ["layer", "head"]].astype(int)
    assert f"L{layer}H{head}" in page


@pytest.mark.parametrize("done", [1, 3], ids=["base", "tuned"])
def test_an_interruption_in_the_middle_of_the_layers_goes_on(
    done: int, words: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        CountedLayers(patch, stop_at=done, error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            again(pair_folders, out)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("words/*/*.parquet")}
    assert len(kept) == 2 * done and not (out / "report.html").exists()
    counted = CountedLayers(monkeypatch)
    found = again(pair_folders, out)
    everything = [(which, layer) for which in ("base", "tuned") for layer in (0, 1)]
    assert counted.probed == everything[done:] and counted.loaded == ["base", "tuned"][done // 2 :]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    same_words(found, words)


def test_a_half_finished_folder_opens_with_a_note(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CountedLayers(monkeypatch, stop_at=3, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        again(pair_folders, tmp_path / "run")
    found = open_comparison(tmp_path / "run")
    assert found.words is not None and found.words.layer.values.tolist() == [0]
    assert "Only 1 of 2 layers are finished; run the same comparison to go on." in found.notes


def test_nothing_is_left_when_no_layer_was_finished(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CountedLayers(monkeypatch, stop_at=0, error=ProbeError("no"))
    with pytest.raises(ProbeError, match="no"):
        again(pair_folders, tmp_path / "not" / "there")
    assert list(tmp_path.iterdir()) == []


def test_missing_and_broken_layers_are_probed_again(
    words: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counted = copied(words, tmp_path / "run"), CountedLayers(monkeypatch)
    base, tuned = folder / "words" / "base", folder / "words" / "tuned"
    whole = (base / "layer-00.parquet").read_bytes()
    (base / "layer-00.parquet").write_bytes(whole[: len(whole) // 2])
    (base / "energy-01.parquet").unlink()
    (tuned / "layer-00.parquet").write_bytes((tuned / "layer-01.parquet").read_bytes())  # another layer's
    other = load(tuned / "layer-01.parquet")
    assert isinstance(other, pd.DataFrame)
    other.attrs["vectors"] = "sha256:of something else"
    save(other, tuned / "layer-01.parquet")
    found = again(pair_folders, folder)
    assert counted.probed == [("base", 0), ("base", 1), ("tuned", 0), ("tuned", 1)]
    same_words(found, words)


def test_a_finished_run_loads_no_model(
    words: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counted = copied(words, tmp_path / "run"), CountedLayers(monkeypatch)
    (folder / "report.html").unlink()
    same_words(again(pair_folders, folder), words)
    assert counted.loaded == [] and (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"vocabulary": itlens.Vocabulary(WORDS[:-1])}, "vocabulary: 'sha256:"),
        ({"vocabulary": itlens.Vocabulary(WORDS[::-1])}, "vocabulary: 'sha256:"),
        ({"vectors": vectors(seed=1)}, "vectors: 'sha256:"),
        ({"top_k": 13}, "top_k: 30 there, 13 here"),
        ({"dtype": "float64"}, "dtype: 'float32' there, 'float64' here"),
        ({"resume": False, "top_k": 13}, "top_k"),
    ],
    ids=["fewer-words", "other-order", "vectors", "top_k", "dtype", "no-resume"],
)
def test_other_words_are_another_study(
    words: Comparison, pair_folders: Folders, changes: dict[str, Any], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in words.out.rglob("*") if path.is_file()}
    counted = CountedLayers(monkeypatch)
    with pytest.raises(StoreError, match="holds the results of another study") as caught:
        again(pair_folders, words.out, **changes)
    assert named in str(caught.value) and counted.loaded == []
    assert {path: path.read_bytes() for path in words.out.rglob("*") if path.is_file()} == before


def test_the_same_words_from_elsewhere_are_the_same_study(
    words: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By content: a file of another name, with the same words and vectors."""
    counted = CountedLayers(monkeypatch)
    np.savez(tmp_path / "moved.npz", words=np.array(WORDS), vectors=vectors().vectors)
    out = copied(words, tmp_path / "run")
    again(pair_folders, out, vocabulary=itlens.Vocabulary(WORDS), vectors=tmp_path / "moved.npz")
    assert counted.loaded == []


def test_attributions_are_added_to_the_heads_of_the_same_models(
    words: Comparison, finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, layers, counted = copied(words, tmp_path / "run"), CountedLayers(monkeypatch), Counted(monkeypatch)
    two = ["attention", "attribution"]
    both = again(pair_folders, out, probes=two, prompts=six_prompts(), max_new_tokens=NEW_TOKENS)
    assert layers.probed == [] and len(counted.attributed) == 12
    same_words(both, both)
    same_results(both.base, finished.base)
    assert both.diff is not None and both.diff.groups.equals(finished.diff.groups)  # type: ignore[union-attr]
    assert both.verdict == f"{finished.verdict} {words.verdict}"
    assert both.words is not None and both.words.identical(words.words)
    page = both.report_path.read_text(encoding="utf-8")
    assert "What did instruction tuning change?" in page
    # each part alone goes on in the same folder, and the other one stays
    alone = again(pair_folders, out)
    same_tables(alone, both)
    assert len(alone.prompts) == 6 and layers.probed == [] and len(counted.attributed) == 12
    with pytest.raises(StoreError, match="max_new_tokens: 4 there, 5 here"):
        again(pair_folders, out, probes=two, prompts=six_prompts(), max_new_tokens=5)


def test_heads_are_added_to_the_attributions_of_the_same_models(
    words: Comparison, finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, counted = copied(finished, tmp_path / "run"), Counted(monkeypatch)
    both = again(pair_folders, out)
    assert counted.attributed == [] and both.study["settings"]["max_new_tokens"] == NEW_TOKENS
    same_results(both.base, finished.base)
    assert both.words is not None and both.words.identical(words.words)
    with pytest.raises(StoreError, match=r"base model: 'sha256:"):
        again((pair_folders[1], pair_folders[0]), out)


def test_no_resume_of_one_part_keeps_the_other(
    words: Comparison, finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, layers, counted = copied(finished, tmp_path / "run"), CountedLayers(monkeypatch), Counted(monkeypatch)
    again(pair_folders, out)
    found = again(pair_folders, out, resume=False)
    assert len(layers.probed) == 8 and counted.attributed == []
    assert result_files(out) == result_files(finished.out) and found.diff is not None


def test_a_part_that_never_finished_anything_binds_nobody(
    words: Comparison, finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(finished, tmp_path / "run")
    with monkeypatch.context() as patch:
        CountedLayers(patch, stop_at=0, error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            again(pair_folders, out, top_k=5)
    assert open_comparison(out).words is None and open_comparison(out).diff is not None
    assert again(pair_folders, out).words is not None  # with another top_k than the one that was stopped


def test_a_folder_of_the_time_before_words_still_opens(finished: Comparison, tmp_path: Path) -> None:
    out = copied(finished, tmp_path / "run")
    study = json.loads((out / "study.json").read_text())
    assert not set(study["identity"]) & {"vocabulary", "vectors", "top_k"}
    found = open_comparison(out)
    same_tables(found, finished)
    assert found.words is None and found.pairs is None and found.moved is None and found.changes is None


def test_a_vocabulary_that_only_one_of_two_knows(pair_folders: Folders, tmp_path: Path) -> None:
    half = itlens.WordVectors(WORDS[::2], vectors().vectors[::2])
    found = again(pair_folders, tmp_path / "run", vectors=half)
    assert (
        f"{len(WORDS) // 2} of {len(WORDS)} words are unknown to the word vectors, and are never paired." in found.notes
    )
    assert found.pairs is not None
    assert set(found.pairs["base"]["query"]) <= set(WORDS[::2])


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no such probe": (
        {"probes": "attenton"},
        "Unknown probe 'attenton'; known are attribution, attention, mlp, activation, patching, faithfulness and all",
    ),
    "no such file": ({"vocabulary": "no-such.txt"}, "no-such.txt"),
    "no such vectors": ({"vectors": "no-such.npz"}, "no-such.npz"),
    "no vocabulary": ({"vocabulary": 5}, "vocabulary is a int"),
    "a bare list": ({"vectors": [1.0]}, "vectors is a list"),
    "top_k": ({"top_k": 0}, "top_k=0"),
    "other words": ({"vectors": itlens.WordVectors(["elsewhere"], [[1.0]])}, "both to the tokenizer"),
}


@pytest.mark.parametrize("kind", BAD)
def test_wrong_words_are_refused_before_anything_is_loaded(
    kind: str, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, named = BAD[kind]
    counted = CountedLayers(monkeypatch)
    with pytest.raises(ItlensError) as caught:
        again(pair_folders, tmp_path / "run", **changes)
    assert named in str(caught.value) and "\n" not in str(caught.value)
    assert counted.loaded == [] and list(tmp_path.iterdir()) == []
