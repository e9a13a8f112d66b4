"""What a study wrote is not believed once it has changed, and none of it is lost: digests, locks, killed writes."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import itlens
from itlens.errors import StoreError
from itlens.results.store import load
from itlens.study import Comparison, open_comparison, open_series
from itlens.study import results as results_module
from itlens.study.folder import RunFolder
from itlens.study.index import Index, State
from itlens.study.lock import locked
from itlens.study.several import SeveralFolder, notices
from tests.study.studies import Counted, copied, same_tables, small

Folders = tuple[Path, Path]


def again(folders: Folders, out: Path, **changes: Any) -> Comparison:
    return itlens.compare(*folders, out=out, **{"probes": "attribution", **small(**changes)})


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


# ---- digests


def test_one_flipped_bit_is_named_set_aside_and_computed_again(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(finished, tmp_path / "run")
    scores = out / "attribution" / "base" / "0004-p4.nc"
    flip(scores, len(scores.read_bytes()) - 200)  # in the file's last values, of which HDF5 keeps no checksum
    opened = open_comparison(out)
    assert any("Damaged" in note and "attribution/base/0004-p4.nc" in note for note in opened.notes)
    assert len(opened.results["attribution"]["prompts"]) == 5
    counted = Counted(monkeypatch)
    found = again(pair_folders, out)
    assert counted.units == [("attribution", "base", "0004-p4")]
    (note,) = (note for note in found.notes if "damaged" in note)
    assert note == (
        "attribution/base/0004-p4.nc was damaged: its content is not what was written. It is kept as "
        "0004-p4.nc.damaged, and was computed again."
    )
    assert (scores.parent / "0004-p4.nc.damaged").exists()
    same_tables(found, finished)
    counted.units.clear()
    again(pair_folders, out)
    assert counted.units == []


def test_what_is_finished_is_known_without_opening_it(
    finished: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(copied(finished, tmp_path / "run"))
    study = folder.read_study()
    monkeypatch.setattr(results_module, "load", lambda path: pytest.fail(f"{path} was opened"))
    units = [f"000{n}-p{n}" for n in range(1, 7)]
    assert folder.finished(study, "attribution", "tuned", units) == units


def test_results_whose_lines_were_lost_are_read_and_kept(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(finished, tmp_path / "run")
    flip(out / "attribution" / "tuned" / "0002-p2.nc", 2000)
    (out / "index.jsonl").unlink()
    counted = Counted(monkeypatch)
    again(pair_folders, out)
    assert counted.units == [("attribution", "tuned", "0002-p2")], "a file carries a checksum of its own"


def test_an_index_is_only_added_to_and_a_torn_line_is_none(tmp_path: Path) -> None:
    index = Index(tmp_path)
    index.write(tmp_path / "a" / "one", b"one", "s")
    with index.file.open("ab") as file:
        file.write(b'{"path": "a/two", "sha2')  # killed there
    index = Index(tmp_path)
    index.write(tmp_path / "a" / "three", b"three", "t")
    again = Index(tmp_path)
    assert again.state(tmp_path / "a" / "one", "s") is State.GOOD
    assert again.state(tmp_path / "a" / "one", "t") is State.OTHER
    assert again.state(tmp_path / "a" / "three", "t") is State.GOOD
    assert again.state(tmp_path / "a" / "two") is State.MISSING
    (tmp_path / "a" / "one").write_bytes(b"onE")
    assert again.state(tmp_path / "a" / "one", "s") is State.DAMAGED
    again.add(tmp_path / "a" / "three", "0" * 64, "u")  # killed before the new file took the place of the old one
    assert Index(tmp_path).state(tmp_path / "a" / "three", "t") is State.GOOD


def test_ten_thousand_finished_results_are_known_in_seconds(tmp_path: Path) -> None:
    index = Index(tmp_path)
    lines = []
    folder = tmp_path / "attribution" / "base"
    folder.mkdir(parents=True)
    for number in range(10_000):
        content = f"{number}".encode()
        (folder / f"{number}.nc").write_bytes(content)
        lines.append(
            json.dumps(
                {"path": f"attribution/base/{number}.nc", "sha256": hashlib.sha256(content).hexdigest(), "stamp": "s"}
            )
        )
    index.file.write_text("\n".join(lines) + "\n")
    begun = time.process_time()
    assert all(index.state(folder / f"{number}.nc", "s") is State.GOOD for number in range(10_000))
    assert time.process_time() - begun < 10


def test_changed_prompts_are_noticed(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moved span changes every score of its prompt."""
    out = copied(finished, tmp_path / "run")
    whole = (out / "prompts.jsonl").read_text()
    lines = whole.splitlines()
    moved = json.loads(lines[2])
    moved["instruction"] = [[0, 9]]
    (out / "prompts.jsonl").write_text("\n".join([*lines[:2], json.dumps(moved), *lines[3:]]) + "\n")
    with pytest.raises(StoreError, match=r"prompts\.jsonl is not what the study wrote \(prompt 'p3' is another\)"):
        open_comparison(out)
    counted = Counted(monkeypatch)
    found = again(pair_folders, out)
    assert counted.loaded == []
    assert any("prompts.jsonl was damaged" in note for note in found.notes)
    assert (out / "prompts.jsonl").read_text() == whole
    same_tables(found, finished)


def test_a_changed_study_file_is_noticed(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(finished, tmp_path / "run")
    text = (out / "study.json").read_text()
    (out / "study.json").write_text(text.replace('"threshold": 7', '"threshold": 6'))
    with pytest.raises(StoreError, match=r"study\.json is damaged: its content is not what was written; run the same"):
        open_comparison(out)
    with pytest.raises(StoreError, match=r"the results in .* are of another study"):
        again(pair_folders, out, max_new_tokens=2)
    counted = Counted(monkeypatch)
    same_tables(again(pair_folders, out), finished)
    assert counted.loaded == []


def test_a_damaged_response_is_generated_again(finished: Comparison, pair_folders: Folders, tmp_path: Path) -> None:
    out = copied(finished, tmp_path / "run")
    response, result = out / "responses" / "tuned" / "0001-p1.json", out / "attribution" / "tuned" / "0001-p1.nc"
    whole = response.read_bytes()
    response.write_bytes(whole.replace(b'"ids"', b'"idz"'))
    result.unlink()
    found = again(pair_folders, out)
    assert response.read_bytes() == whole
    assert any("responses/tuned/0001-p1.json was damaged" in note for note in found.notes)
    same_tables(found, finished)


# ---- a file alone


def test_a_saved_file_knows_that_it_was_changed(finished: Comparison, tmp_path: Path) -> None:
    source = finished.out / "attribution" / "base" / "0001-p1.nc"
    for at in (500, 3000, len(source.read_bytes()) - 5):
        copy = Path(shutil.copy(source, tmp_path / "copy.nc"))
        flip(copy, at)
        with pytest.raises(StoreError, match=r"is broken or not a \.nc file"):
            load(copy)
    copy.write_bytes(source.read_bytes()[:-80])
    with pytest.raises(StoreError, match=r"its end is missing|broken"):
        load(copy)


def test_a_zeroed_heap_of_another_programs_file_never_reaches_hdf5(finished: Comparison, tmp_path: Path) -> None:
    """HDF5 would walk it for ever, deaf to Ctrl-C."""
    import h5py

    path = tmp_path / "foreign.nc"
    with h5py.File(path, "w") as file:
        file["words"] = ["a word", "another"] * 40
    assert path.read_bytes().count(b"GCOL") == 1
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 528] = bytes(512)
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="was overwritten with zeros"):
        load(path)


# ---- one process at a time


def test_a_second_study_in_one_folder_is_refused_and_named(
    finished: Comparison, pair_folders: Folders, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path / "run")
    before = sorted(path for path in out.rglob("*"))
    for resume in (True, False):
        with (
            locked(out),
            pytest.raises(StoreError, match=r"is in use by another process \(pid \d+ on .+, since 20.+\); wait"),
        ):
            again(pair_folders, out, resume=resume)
    assert sorted(out.rglob("*")) == before, "nothing of the first was deleted, and no lock is left"
    same_tables(again(pair_folders, out), finished)


def test_a_killed_holder_holds_nothing(finished: Comparison, pair_folders: Folders, tmp_path: Path) -> None:
    out = copied(finished, tmp_path / "run")
    (out / ".itlens.lock").write_text("")
    (out / ".itlens.holder").write_text('{"pid": 1, "host": "h", "since": "then"}')
    (out / "attribution" / "base" / ".itlens-00112233.part").write_bytes(b"half")
    (out / ".itlens-00112233.part").write_bytes(b"half")
    (out / "attribution" / "tuned" / ".itlens-x.part").mkdir()
    same_tables(again(pair_folders, out), finished)
    assert not list(out.rglob(".itlens*"))


# ---- folders of several comparisons


@pytest.mark.parametrize("kind", ["series", "template"])
def test_a_killed_write_of_the_top_folder_is_no_foreign_file(kind: str, tmp_path: Path) -> None:
    folder = SeveralFolder(tmp_path / "top", kind)
    folder.path.mkdir()
    (folder.path / ".itlens-0011.part").write_bytes(b"{")
    with folder.opened({"labels": ["a", "b"]}, ["2-b"]):
        assert folder.read() == {"labels": ["a", "b"]}
        with pytest.raises(StoreError, match="is in use by another process"), folder.opened({}, []):
            pass
    (folder.path / "2-b").mkdir()
    (folder.path / ".itlens-0022.part").write_bytes(b"{")
    with folder.opened({"labels": ["a", "b"]}, ["2-b"]):
        pass
    assert sorted(path.name for path in folder.path.iterdir()) == ["2-b", "index.jsonl", f"{kind}.json"]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "zeroed": lambda content: bytes(len(content)),
    "cut off": lambda content: content[:-9],
    "empty": lambda content: b"",
    "a list": lambda content: b"[]",
    "another label": lambda content: content.replace(b'"a"', b'"c"'),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("kind", ["series", "template"])
def test_a_damaged_top_file_is_named_and_written_again(
    kind: str, damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    folder, asked = SeveralFolder(tmp_path / "top", kind), {"labels": ["a", "b"]}
    with folder.opened(asked, ["2-b"]):
        (folder.path / "2-b").mkdir()
    folder.file.write_bytes(damage(folder.file.read_bytes()))
    with pytest.raises(StoreError, match=rf"{kind}\.json is damaged.*run the same `itlens compare` again"):
        folder.read()
    told = [f"{kind}.json was damaged: its content is not what was written. It is kept as {kind}.json.damaged, and was"]
    for _ in range(2):  # said also when the same command is given once more
        with SeveralFolder(folder.path, kind).opened(asked, ["2-b"]):
            assert [text.removesuffix(" written again.") for text in notices(folder.read())] == told
    with (
        pytest.raises(StoreError, match="holds another study"),
        folder.opened({"labels": ["a", "other"]}, ["2-b"]),
    ):
        pass


def test_a_top_folder_killed_before_its_file_was_written_is_no_foreign_folder(tmp_path: Path) -> None:
    folder = SeveralFolder(tmp_path / "top", "series")
    for left in ({"index.jsonl": b'{"pa'}, {"index.jsonl": b"", "series.json.damaged": b"x", "2-b/study.json": b"{}"}):
        for name, content in left.items():
            (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / name).write_bytes(content)
        with folder.opened({"labels": ["a", "b"]}, ["2-b"]):
            assert folder.read()["labels"] == ["a", "b"]
        folder.file.unlink()


@pytest.mark.parametrize("content", [b"\0\0\0\0", None], ids=["zeroed", "gone"])
def test_prompts_that_cannot_be_read_are_those_of_a_study(
    content: bytes | None, finished: Comparison, tmp_path: Path
) -> None:
    file = copied(finished, tmp_path / "run") / "prompts.jsonl"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(StoreError, match=r"prompts\.jsonl is not what the study wrote .*run the same `itlens compare`"):
        open_comparison(file.parent)


@pytest.mark.parametrize("name", ["../victim", "/etc", "..", "", "a/b", 5, ".hidden", "link"])
def test_a_series_reads_no_folder_outside_itself(name: Any, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (tmp_path / "victim").mkdir()
    (top / "link").symlink_to(tmp_path / "victim")
    (top / "series.json").write_text(json.dumps({"labels": ["a", "b"], "folders": [name]}))
    with pytest.raises(StoreError, match="is no folder in"):
        open_series(top)
    assert list((tmp_path / "victim").iterdir()) == []


@pytest.mark.parametrize(
    "content", [{"labels": 5}, {"labels": ["a", 1], "folders": ["x"]}, {"labels": ["a"], "folders": []}]
)
def test_a_broken_series_file_is_one_sentence(content: Any, tmp_path: Path) -> None:
    (tmp_path / "series.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match="does not name the models of a series"):
        open_series(tmp_path)


def test_a_study_names_no_folder_outside_itself(finished: Comparison, pair_folders: Folders, tmp_path: Path) -> None:
    out = copied(finished, tmp_path / "run")
    study = json.loads((out / "study.json").read_text())
    study["findings"]["../victim"] = study["findings"]["attribution"]
    (out / "study.json").write_text(json.dumps(study))
    (out / "index.jsonl").unlink()
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match="is not a study of itlens"):
        again(pair_folders, out, resume=False)
    assert (tmp_path / "victim" / "thesis.tex").exists()
