"""Resuming: nothing finished is computed twice, interrupted runs end like uninterrupted ones, no folder is mixed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import itlens
from itlens.errors import ItlensError, ModelError, ProbeError, StoreError
from itlens.prompts import save_prompts
from itlens.store import load, save
from itlens.study import Comparison
from tests.study.runs import NEW_TOKENS, Counted, copied, result_files, same_tables, six_prompts
from tests.tiny import tiny_folder

ROOT = Path(__file__).parents[2]
Folders = tuple[Path, Path]


def again(folders: Folders, out: Path, **changes: Any) -> Comparison:
    """The comparison of the `finished` fixture, with changes."""
    asked: dict[str, Any] = {"prompts": six_prompts(), "max_new_tokens": NEW_TOKENS, "seed": 3}
    asked |= {"probes": "attribution"}
    return itlens.compare(*folders, out=out, **asked | changes)


def untouched(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_finished_run_loads_no_model(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counted = copied(finished, tmp_path / "run"), Counted(monkeypatch)
    for name in ("report.html", "tables/groups.csv"):
        (folder / name).unlink()
    found = again(pair_folders, folder)
    assert counted.loaded == [] and counted.attributed == []
    same_tables(found, finished)
    assert (folder / "report.html").exists() and (folder / "tables" / "groups.csv").exists()


def test_another_scoring_keeps_the_attributions(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counted = copied(finished, tmp_path / "run"), Counted(monkeypatch)
    found = again(pair_folders, folder, threshold=0, seed=5)
    assert counted.loaded == [] and found.study["settings"]["threshold"] == 0
    assert found.diff.groups.attrs["threshold"] == 0 and not found.diff.groups.equals(finished.diff.groups)


def test_missing_and_broken_results_are_computed_again(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counted = copied(finished, tmp_path / "run"), Counted(monkeypatch)
    results = folder / "attributions" / "tuned"
    (results / "0002-p2.nc").unlink()
    whole = (results / "0003-p3.nc").read_bytes()
    (results / "0003-p3.nc").write_bytes(whole[: len(whole) // 2])
    (results / "0004-p4.nc").write_bytes(b"")
    (results / "0005-p5.nc").write_bytes((results / "0006-p6.nc").read_bytes())  # another prompt's
    found = again(pair_folders, folder)
    assert counted.loaded == ["tuned"] and counted.attributed == [("tuned", f"p{n}") for n in (2, 3, 4, 5)]
    same_tables(found, finished)


def test_no_resume_computes_everything_again(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counted = copied(finished, tmp_path / "run"), Counted(monkeypatch)
    mine = folder / "notes.txt"
    mine.write_text("my own")
    path = folder / "attributions" / "base" / "0001-p1.nc"
    wrong = load(path)
    save(wrong.assign(score=wrong.score * 0), path)
    found = again(pair_folders, folder, resume=False)
    assert len(counted.attributed) == 12 and counted.loaded == ["base", "tuned"]
    same_tables(found, finished)
    assert mine.read_text() == "my own"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"prompts": six_prompts()[:5]}, "prompts: '6 (sha256"),
        ({"prompts": [*six_prompts()[:5], six_prompts()[0].replace(id="p6")]}, "prompts: '6 (sha256"),
        ({"prompts": [p.replace(response=" Yes.") for p in six_prompts()]}, "prompts"),
        ({"max_new_tokens": 5}, "max_new_tokens: 4 there, 5 here"),
        ({"method": "saliency"}, "method: 'input_x_gradient' there, 'saliency' here"),
        ({"objective": "logit"}, "objective"),
        ({"dtype": "float64"}, "dtype: 'float32' there, 'float64' here"),
        ({"format": "Task: {prompt}"}, "prompts"),
        ({"prepend_bos": False}, "prepend_bos"),
        ({"backend": "bridge"}, "backend"),
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
    assert named in str(caught.value) and "give another folder" in str(caught.value)
    assert untouched(finished.out) == before and counted.loaded == []


def test_other_models_and_swapped_ones_are_refused(finished: Comparison, pair_folders: Folders, tmp_path: Path) -> None:
    other = tiny_folder(tmp_path / "base", "llama", seed=5)  # the same name, other weights
    before = untouched(finished.out)
    with pytest.raises(StoreError, match=r"another study .*base model: 'sha256:"):
        again((other, pair_folders[1]), finished.out)
    with pytest.raises(StoreError, match=r"base model: .*tuned model: "):
        again((pair_folders[1], pair_folders[0]), finished.out)
    assert untouched(finished.out) == before


def test_a_moved_model_is_the_same_study(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "elsewhere"
    moved.symlink_to(pair_folders[0])
    counted = Counted(monkeypatch)
    again((moved, pair_folders[1]), copied(finished, tmp_path / "run"))
    assert counted.loaded == []


def test_files_and_foreign_folders_are_refused_and_kept(pair_folders: Folders, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(StoreError, match="is a file; give a folder"):
        again(pair_folders, file)
    with pytest.raises(StoreError, match="Not a directory"):
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
    assert file.read_text() == "mine" and sorted(p.name for p in full.iterdir()) == ["thesis.tex"]


@pytest.mark.parametrize("done", [2, 8], ids=["base", "tuned"])
def test_an_interrupted_run_keeps_what_is_finished_and_goes_on(
    done: int, finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        Counted(patch, stop_at=done, error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            again(pair_folders, out)
    assert result_files(out) == result_files(finished.out)[:done] and not (out / "report.html").exists()
    counted = Counted(monkeypatch)
    found = again(pair_folders, out)
    assert len(counted.attributed) == 12 - done and counted.loaded == ["base", "tuned"][done // 6 :]
    same_tables(found, finished)


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
    assert list(tmp_path.iterdir()) == [empty] and list(empty.iterdir()) == []


def test_a_tuned_model_that_cannot_be_loaded_leaves_the_base_results(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file, save_file

    broken = tiny_folder(tmp_path / "broken", "llama", seed=1)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][3] = 1e30  # finite in the file, and not in half precision
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="holds NaN"):
        again((pair_folders[0], broken), tmp_path / "run", prompts=six_prompts()[:2], dtype="float16")
    assert result_files(tmp_path / "run") == ["base/0001-p1.nc", "base/0002-p2.nc"]
    with pytest.raises(ModelError, match="holds NaN"):
        again((broken, pair_folders[1]), tmp_path / "second", prompts=six_prompts()[:2], dtype="float16")
    assert not (tmp_path / "second").exists()


def test_what_a_kill_leaves_of_a_write_is_no_foreign_file(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".itlens-0123456789abcdef.part").write_bytes(b"{")
    Counted(monkeypatch, stop_at=1, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        again(pair_folders, out)
    assert result_files(out) == ["base/0001-p1.nc"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL, which Windows does not have")
def test_a_killed_run_goes_on_to_identical_results(finished: Comparison, pair_folders: Folders, tmp_path: Path) -> None:
    """kill -9, no chance to clean up, while the base model's prompts are under way."""
    out, prompts = tmp_path / "run", tmp_path / "prompts.jsonl"
    save_prompts(six_prompts(), prompts)
    options = ["--prompts", prompts, "--out", out, "--max-new-tokens", NEW_TOKENS, "--seed", "3"]
    command = [sys.executable, "-m", "itlens.cli", "compare", *pair_folders, *options]
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        deadline = time.monotonic() + 120
        while len(result_files(out)) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    kept = result_files(out)
    assert 2 <= len(kept) < 12
    written = {name: (out / "attributions" / name).stat().st_mtime_ns for name in kept}
    found = again(pair_folders, out)
    assert {name: (out / "attributions" / name).stat().st_mtime_ns for name in kept} == written
    same_tables(found, finished)


@pytest.mark.parametrize(
    "changes",
    [
        {"levels": 0},
        {"threshold": 11},
        {"threshold": -1},
        {"p": 0},
        {"p": float("nan")},
        {"seed": -1},
        {"seed": 1.5},
        {"limit": 0},
        {"limit": -1},
        {"max_new_tokens": 0},
        {"max_new_tokens": True},
        {"batch_size": 0},
        {"labels": ("one",)},
        {"probes": "attenton"},
        {"top_k": 0},
        {"vocabulary": "no such file"},
        {"vectors": 5},
        {"probes": []},
        {"probes": None},
        {"executor": "moon"},
        {"method": "guess"},
        {"objective": "beauty"},
        {"dtype": "int4"},
        {"device": "abacus"},
        {"backend": "spoon"},
        {"prompts": []},
        {"prompts": 5},
        {"prompts": ["text"]},
        {"prompts": [itlens.Prompt("No instruction here.", id="a")]},
        {"prompts": [six_prompts()[0], six_prompts()[0]]},
        {"tuned": None},
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
    assert "\n" not in str(caught.value) and counted.attributed == []
    assert list(tmp_path.iterdir()) == []
