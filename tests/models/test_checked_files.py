"""A file that was found whole is not read again; one that changed in any way is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from itlens.errors import ModelError
from itlens.models import load_model, source
from itlens.models.gguf_copy import copies
from itlens.models.locate import locate
from itlens.models.source import refuse_broken_files
from tests.tiny import tiny_folder


class Reads:
    """Counts the tensors that are looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, plain = 0, source.refuse_not_finite_tensor

        def counted(tensor: torch.Tensor, key: str, name: str) -> None:
            self.count += 1
            plain(tensor, key, name)

        monkeypatch.setattr(source, "refuse_not_finite_tensor", counted)

    def during_check(self, folder: Path) -> int:
        self.count = 0
        refuse_broken_files(locate(folder))
        return self.count


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tiny_folder(tmp_path / "model", "llama")
    aged(made / "model.safetensors", 60)
    return made


def aged(path: Path, seconds: float) -> None:
    os.utime(path, (time.time(), time.time() - seconds))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def test_a_file_is_read_once(folder: Path, reads: Reads) -> None:
    assert reads.during_check(folder) == 21
    assert reads.during_check(folder) == 0
    with copies(False):
        assert reads.during_check(folder) == 21


def test_a_file_that_changed_is_read_again(folder: Path, reads: Reads) -> None:
    reads.during_check(folder)
    path = folder / "model.safetensors"
    aged(path, 50)
    assert reads.during_check(folder) == 21, "another time of change"
    held, before = {key: tensor.clone() for key, tensor in load_file(path).items()}, path.stat()
    held["model.norm.weight"][0] = torch.nan
    save_file(held, folder / "other", metadata={"format": "pt"})
    path.write_bytes((folder / "other").read_bytes())  # the same inode
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size and path.stat().st_ino == before.st_ino
    with pytest.raises(ModelError, match=r"model\.norm\.weight .* holds NaN"):  # size, time and inode are the same
        refuse_broken_files(locate(folder))
    with pytest.raises(ModelError, match="holds NaN"):
        load_model(folder)


def test_a_file_of_this_second_is_not_noted(folder: Path, reads: Reads) -> None:
    aged(folder / "model.safetensors", 0)
    assert [reads.during_check(folder) for _ in range(2)] == [21, 21]


def test_a_broken_file_is_never_noted(folder: Path, reads: Reads) -> None:
    path = folder / "model.safetensors"
    held = {key: tensor.clone() for key, tensor in load_file(path).items()}
    held["lm_head.weight"][0, 0] = torch.inf
    save_file(held, path, metadata={"format": "pt"})
    aged(path, 60)
    for _ in range(2):
        with pytest.raises(ModelError, match="holds NaN or infinity"):
            refuse_broken_files(locate(folder))


def test_a_pair_that_was_checked_is_not_checked_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from itlens.models import load_pair, pair

    asked: list[str] = []
    monkeypatch.setattr(pair, "check_places", lambda place, config, **options: asked.append(place.name))
    aged(folder / "config.json", 60)
    for _ in range(2):
        load_pair(folder, folder).check_files()
    assert asked == [str(folder)]
    aged(folder / "config.json", 50)
    load_pair(folder, folder, cache=False).check_files()
    assert asked == [str(folder)] * 3
    load_pair(folder, folder).check_files()
    assert asked == [str(folder)] * 4
