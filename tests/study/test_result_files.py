"""Files of a run folder are read once, and again when they change."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr

from itlens.store import save
from itlens.study import result_files
from itlens.study.result_files import ResultFiles


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were really read."""
    paths, load = [], result_files.load
    monkeypatch.setattr(result_files, "load", lambda path: paths.append(path) or load(path))
    return paths


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, loaded: list[Path]) -> None:
    path, files = tmp_path / "a.nc", ResultFiles()
    save(xr.Dataset(attrs={"number": 1}), path)
    assert [files.read(path).attrs["number"] for _ in range(3)] == [1, 1, 1] and loaded == [path]
    save(xr.Dataset(attrs={"number": 2}), path)
    assert files.read(path).attrs["number"] == 2 and loaded == [path, path]


def test_what_was_written_need_not_be_read(tmp_path: Path, loaded: list[Path]) -> None:
    path, files = tmp_path / "new" / "a.nc", ResultFiles()
    written = files.write(xr.Dataset(attrs={"number": 1}), path)
    assert files.read(path) is written and loaded == []
    assert ResultFiles().read(path).attrs == {"number": 1}


def test_missing_broken_and_other_files_are_none(tmp_path: Path) -> None:
    path, files = tmp_path / "a.nc", ResultFiles()
    assert files.read(path) is None
    path.write_bytes(b"no netCDF")
    assert files.read(path) is None
    save(xr.DataArray([1.0], dims="x"), path)
    assert files.read(path) is None
    files.write(xr.Dataset(attrs={"number": 1}), path)
    assert files.read(path) is not None
    path.unlink()
    assert files.read(path) is None
