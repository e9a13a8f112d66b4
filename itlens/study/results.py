"""The results of units in a run folder: read, written, and judged by their digests before anything opens them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from itlens.errors import StoreError
from itlens.files import write_bytes, written
from itlens.findings.base import SIDES, Result
from itlens.results.store import file_bytes, load
from itlens.study.index import Index, State, folder_digest, is_aside, set_aside
from itlens.study.record import Study, result_digest

_STAMP = "study_digest"
_SMALL = 1 << 22  # bytes; larger results are read again whenever they are needed
_DAMAGED = "{path} was damaged: its content is not what was written. It is kept as {aside}, and was {again} again."
Unit = Result | dict[str, Result]


class UnitResults:
    """<finding>/<side>/<unit> of one folder, with its index. told: what was found damaged, a sentence each."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.index = Index(self.path)
        self.told: list[str] = []
        self._held: dict[Path, tuple[tuple[int, int, int], Unit]] = {}

    def read(self, study: Study, name: str, side: str, unit: str) -> Unit | None:
        """Return a finished result; None where there is none, a damaged one, or one of another study.

        Small ones are read once for as long as their file stays as it is: nobody may change them.
        """
        path = self.found(name, side, unit)
        digest = result_digest(study, name, side, unit)
        if path is None or not self._is_good(path, digest):
            return None
        return self._loaded(path, digest)

    def _is_good(self, path: Path, digest: str) -> bool:
        """Whether a unit is as it was written, for this study: by its bytes, which nothing has opened yet.

        One that the index does not know (its line was lost) is read, and judged by its own stamp and checksum.
        """
        state = self.index.state(path, digest)
        return state is State.GOOD or (state is State.UNKNOWN and self._loaded(path, digest) is not None)

    def _loaded(self, path: Path, digest: str) -> Unit | None:
        stamp = _file_stamp(path)
        if path not in self._held or self._held[path][0] != stamp:
            self._held.pop(path, None)
            try:
                result: Unit = _read_folder(path) if path.is_dir() else load(path)
            except (StoreError, OSError):
                return None
            if sum(_size(each) for each in result_parts(result)) >= _SMALL:
                return result if _is_stamped(result, digest) else None
            self._held[path] = stamp, result
        return self._held[path][1] if _is_stamped(self._held[path][1], digest) else None

    def write(self, study: Study, name: str, side: str, unit: str, result: Unit) -> None:
        """Write the result of a unit, wholly or not at all."""
        stamp = result_digest(study, name, side, unit)
        stamped = _stamped(result, stamp)
        folder = self.path / name / side
        if not isinstance(stamped, dict):
            path = folder / f"{unit}{_ending(stamped)}"
            self.index.write(path, file_bytes(stamped, path), stamp)
            return
        part, whole = folder / f".itlens-{unit}.part", folder / unit
        shutil.rmtree(part, ignore_errors=True)
        digests = {}
        for key, each in stamped.items():
            file = part / f"{key}{_ending(each)}"
            content = file_bytes(each, file)
            digests[file.name] = hashlib.sha256(content).hexdigest()
            write_bytes(file, content)
        self.index.add(whole, folder_digest(digests), stamp)
        with written(whole):
            shutil.rmtree(whole, ignore_errors=True)
            part.replace(whole)

    def finished(self, study: Study, name: str, side: str, units: Sequence[str]) -> list[str]:
        """Return those of the units that have a result of this study, without opening any."""
        return [
            unit
            for unit in units
            if (path := self.found(name, side, unit)) is not None
            and self._is_good(path, result_digest(study, name, side, unit))
        ]

    def damaged(self, name: str, units: Sequence[str]) -> list[Path]:
        """Return those of the units' files (or folders) of a finding that are not as they were written."""
        paths = (self.found(name, side, unit) for side in (*SIDES, "pair") for unit in units)
        return [path for path in paths if path is not None and self.index.state(path) is State.DAMAGED]

    def put_damaged_aside(self, units: Mapping[str, Sequence[str]]) -> None:
        """Rename the damaged ones of the units, by finding."""
        for name, listed in units.items():
            for path in self.damaged(name, listed):
                self.put_aside(path)

    def with_results(self, names: Sequence[str]) -> list[str]:
        """Return those of the findings that have a result of some kind, of either model."""
        return [name for name in names if any(results_in(self.path / name))]

    def found(self, name: str, side: str, unit: str) -> Path | None:
        """Return the file (or folder) of a unit, whatever is in it; None where there is none."""
        base = self.path / name / side
        return next((path for ending in (".nc", ".parquet", "") if (path := base / f"{unit}{ending}").exists()), None)

    def put_aside(self, path: Path, again: str = "computed") -> None:
        """Rename a file (or folder) that is not as it was written, and say so in `told`. again: what becomes of it."""
        if self.index.state(path) is State.DAMAGED:
            aside = set_aside(path)
            where = path.relative_to(self.path).as_posix()
            self.told.append(_DAMAGED.format(path=where, aside=aside.name, again=again))


class SavedResults(Mapping[str, Any]):
    """The finished units of one side of a finding, read from the folder when they are asked for."""

    def __init__(self, folder: UnitResults, study: Study, name: str, side: str, units: Sequence[str]) -> None:
        self._folder, self._study, self._where, self._units = folder, study, (name, side), list(units)

    def __getitem__(self, unit: str) -> Any:
        if unit not in self._units:
            raise KeyError(unit)
        result = self._folder.read(self._study, *self._where, unit)
        if result is None:
            name, side = self._where
            raise StoreError(f"The result {name}/{side}/{unit} in {self._folder.path} can no longer be read.")
        return result

    def __iter__(self) -> Iterator[str]:
        return iter(self._units)

    def __len__(self) -> int:
        return len(self._units)


def count_results(path: str | Path) -> int:
    """Return how many finished results a run folder, or the run folders in it, hold."""
    sides = (*SIDES, "pair")
    found = [each for depth in ("*", "*/*") for side in sides for each in Path(path).glob(f"{depth}/{side}/*")]
    return sum(not each.name.startswith(".") and each.suffix != ".json" and not is_aside(each) for each in found)


def result_parts(result: Any) -> list[Result]:
    """Return the xarray objects and tables of a unit's result, or of a file's content."""
    return list(result.values()) if isinstance(result, dict) else [result]


def unit_name(path: Path) -> str:
    """Return the unit that a file or folder is of."""
    return path.stem if path.suffix in (".nc", ".parquet") else path.name


def _stamped(result: Unit, digest: str) -> Unit:
    if isinstance(result, dict):
        return {key: _stamped(each, digest) for key, each in result.items()}  # type: ignore[misc]
    if isinstance(result, pd.DataFrame):
        shallow = result.copy(deep=False)
        shallow.attrs = {**result.attrs, _STAMP: digest}
        return shallow
    return result.assign_attrs({_STAMP: digest})


def _is_stamped(result: Unit, digest: str) -> bool:
    parts = result_parts(result)
    return bool(parts) and all(each.attrs.get(_STAMP) == digest for each in parts)


def _ending(result: Any) -> str:
    return ".parquet" if isinstance(result, pd.DataFrame) else ".nc"


def _read_folder(path: Path) -> dict[str, Result]:
    return {file.stem: load(file) for file in sorted(path.iterdir()) if not file.name.startswith(".")}


def results_in(folder: Path) -> Iterator[Path]:
    """Return the files and folders of units in a finding's folder, of all sides; none that were set aside."""
    return (path for path in folder.glob("*/*") if not path.name.startswith(".") and not is_aside(path))


def _size(result: Any) -> int:
    return int(result.memory_usage(index=False).sum()) if isinstance(result, pd.DataFrame) else int(result.nbytes)


def _file_stamp(path: Path) -> tuple[int, int, int]:
    """Changes when the file does: it is always replaced as a whole, by a new inode."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
