"""The run folder: what a study keeps on disk, and what makes it the same study when it is resumed.

study.json                        what was asked: models with fingerprints, options, versions, when (`record`)
prompts.jsonl                     the prompts as the models read them
responses/<side>/<unit>.json      the responses that a model generated, by prompt
<finding>/<side>/<unit>.nc        a file per unit of work: side is base, tuned or pair; .parquet for a table
<finding>/<side>/<unit>/          a folder of files where a unit has several results
tables/                           the comparison: Parquet and CSV tables, netCDF arrays
findings.json                     every finding's verdict, numbers, caveats and tables, for scripts
report.html                       one offline page

A study is the same when its models (by fingerprint), its prompts and words (by content) and the options that results
depend on are the same; then what is finished is kept. What was not asked for before is added. Each result is written
atomically and stamped with what it depends on: a file of another study is computed again, never believed. A folder
that holds anything else is refused, never overwritten.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from itlens.errors import StoreError
from itlens.files import read_json, write_json
from itlens.findings.base import Result
from itlens.prompts import Prompt, load_prompts, save_prompts
from itlens.results.store import load, save
from itlens.study.record import Study, differences, joined, reads_prompts, refuse_no_study, result_digest, without

_PARTS = ".itlens-*.part"  # what an atomic write leaves when the program is killed in the middle of it
_STAMP = "study_digest"
_SMALL = 1 << 22  # bytes; larger results are read again whenever they are needed
Unit = Result | dict[str, Result]


class RunFolder:
    """The paths of one run folder, and reading and writing them."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.study_file = self.path / "study.json"
        self.prompts_file = self.path / "prompts.jsonl"
        self.responses = self.path / "responses"
        self.tables = self.path / "tables"
        self.findings_file = self.path / "findings.json"
        self.report = self.path / "report.html"
        self._held: dict[Path, tuple[tuple[int, int, int], Unit]] = {}

    # ---- results of units

    def read(self, study: Study, name: str, side: str, unit: str) -> Unit | None:
        """Return a finished result; None where there is none, a broken one, or one of another study.

        Small ones are read once for as long as their file stays as it is: nobody may change them.
        """
        path = self._found(name, side, unit)
        if path is None:
            return None
        stamp = _file_stamp(path)
        if path in self._held and self._held[path][0] == stamp:
            return self._held[path][1]
        try:
            result: Unit = _read_folder(path) if path.is_dir() else load(path)
        except (StoreError, OSError):
            return None
        if not result_parts(result) or any(
            each.attrs.get(_STAMP) != result_digest(study, name, side) for each in result_parts(result)
        ):
            return None
        if sum(_size(each) for each in result_parts(result)) < _SMALL:
            self._held[path] = stamp, result
        return result

    def write(self, study: Study, name: str, side: str, unit: str, result: Unit) -> None:
        """Write the result of a unit, wholly or not at all."""
        stamped = _stamped(result, result_digest(study, name, side))
        folder = self.path / name / side
        if not isinstance(stamped, dict):
            save(stamped, folder / f"{unit}{_ending(stamped)}")
            return
        part, whole = folder / f".itlens-{unit}.part", folder / unit
        shutil.rmtree(part, ignore_errors=True)
        for key, each in stamped.items():
            save(each, part / f"{key}{_ending(each)}")
        with _written(whole):
            shutil.rmtree(whole, ignore_errors=True)
            part.replace(whole)

    def finished(self, study: Study, name: str, side: str, units: Sequence[str]) -> list[str]:
        """Return those of the units that have a result of this study."""
        return [unit for unit in units if self.read(study, name, side, unit) is not None]

    def with_results(self, names: Sequence[str]) -> list[str]:
        """Return those of the findings that have a result of some kind, of either model."""
        return [name for name in names if any(_results_in(self.path / name))]

    def _found(self, name: str, side: str, unit: str) -> Path | None:
        base = self.path / name / side
        return next((path for ending in (".nc", ".parquet", "") if (path := base / f"{unit}{ending}").exists()), None)

    # ---- the study

    @contextmanager
    def opened(self, asked: Study, prompts: Sequence[Prompt] | None, *, resume: bool) -> Iterator[Study]:
        """Write what is asked and give the study, with the findings that the folder had before.

        prompts: None where none are asked for. When the block fails before any result is finished, what was made here
        is taken away. Raises StoreError for a file, for a folder of other things, and for another study's results.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not _exists(folder)]
        held = self._kept(asked)
        if held and not resume:
            self._clear(list(asked["findings"]), held)
            held = without(held, [name for name in held["findings"] if not self.with_results([name])])
        study = joined(held, asked) if held else dict(asked)
        try:
            write_json(self.study_file, study)
            if prompts is not None:
                save_prompts(prompts, self.prompts_file)
            yield study
        except BaseException:
            with suppress(OSError, StoreError):
                if not self.with_results(list(study["findings"])):
                    self._clear(list(study["findings"]), study)
                    for folder in made:
                        folder.rmdir()
            raise

    def note(self, study: Mapping[str, Any], sentences: Sequence[str]) -> Study:
        """Return the study with more notices, which is then on disk too."""
        noted = {**study, "notices": list(dict.fromkeys([*study["notices"], *sentences]))}
        write_json(self.study_file, noted)
        return noted

    def read_study(self) -> Study:
        """Return what was asked. Raises StoreError where there is no study."""
        if not _exists(self.path) or not self.path.is_dir():
            raise StoreError(f"{self.path} is no folder; give the folder that `itlens compare` wrote (its --out).")
        if not self.study_file.exists():
            raise StoreError(
                f"{self.path} holds no study (no {self.study_file.name}); give the folder that `itlens compare` wrote."
            )
        study = read_json(self.study_file)
        refuse_no_study(study, self.study_file)
        return dict(study)

    def read_prompts(self) -> list[Prompt]:
        """Return the prompts as the models read them."""
        return load_prompts(self.prompts_file)

    def _kept(self, asked: Study) -> Study | None:
        """Return the study of this folder, as far as it has results; None where there is none. Refuses another one."""
        if not _exists(self.path):
            return None
        if not self.path.is_dir():
            raise StoreError(f"{self.path} is a file; give a folder for the results.")
        try:
            inside = {entry.name for entry in self.path.iterdir()} - {entry.name for entry in self.path.glob(_PARTS)}
        except OSError as error:
            raise StoreError(f"Cannot look into {self.path} ({error.strerror}); choose another folder.") from error
        if not inside:
            return None
        if self.study_file.name not in inside:
            shown = ", ".join(sorted(inside)[:3])
            raise StoreError(f"{self.path} holds {shown} and no study; give an empty or new folder for the results.")
        held = self.read_study()
        held = without(held, [name for name in held["findings"] if not self.with_results([name])])
        if not held["findings"]:
            return None
        if other := differences(held, asked):
            raise StoreError(
                f"{self.path} holds the results of another study ({'; '.join(other[:3])}); give another folder, or "
                "delete this one."
            )
        return held

    def _clear(self, names: Sequence[str], study: Study) -> None:
        """Delete the results of these findings and what was made of them; the study when nothing is left of it."""
        try:
            for folder in (self.tables, *(self.path / name for name in names)):
                if folder.exists():
                    shutil.rmtree(folder)
            if reads_prompts(study, names) and self.responses.exists():
                shutil.rmtree(self.responses)
            for path in (self.report, self.findings_file, *self.path.glob(_PARTS)):
                path.unlink(missing_ok=True)
            if not self.with_results(list(study["findings"])):
                self.study_file.unlink(missing_ok=True)
                self.prompts_file.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"Cannot delete {error.filename or self.path} ({error.strerror}); change its rights, or give another "
                "folder."
            ) from error


class SavedResults(Mapping[str, Any]):
    """The finished units of one side of a finding, read from the folder when they are asked for."""

    def __init__(self, folder: RunFolder, study: Study, name: str, side: str, units: Sequence[str]) -> None:
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


def take_side(side: str, source: str | Path, folder: RunFolder, study: Study) -> list[str]:
    """Copy what is finished of the same base (or tuned) model in `source` into `folder`; the findings that were taken.

    A finding is taken where its results of that model depend on the same things in both studies, and where `folder` has
    nothing of it yet; the model's responses with the first that reads prompts. Raises StoreError where `source` is no
    run folder, or the copies cannot be written.
    """
    other = RunFolder(source)
    theirs = other.read_study()
    taken = [
        name
        for name in study["findings"]
        if name in theirs["findings"] and result_digest(theirs, name, side) == result_digest(study, name, side)
    ]
    for name in taken:
        _copy(other.path / name / side, folder.path / name / side)
    if any(reads_prompts(study, [name]) for name in taken):
        _copy(other.responses / side, folder.responses / side)
    return taken


def _copy(there: Path, here: Path) -> None:
    """Under another name first, so that a killed copy is not taken for the whole."""
    if not there.is_dir() or here.exists():
        return
    part = here.with_name(f".itlens-{here.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(there, part)
        part.rename(here)
    except OSError as error:
        raise StoreError(
            f"Cannot copy {there} to {here} ({error.strerror}); give a folder that can be written."
        ) from error


def count_results(path: str | Path) -> int:
    """Return how many finished results a run folder, or the run folders in it, hold."""
    sides = ("base", "tuned", "pair")
    found = [each for depth in ("*", "*/*") for side in sides for each in Path(path).glob(f"{depth}/{side}/*")]
    return sum(not each.name.startswith(".") and each.suffix != ".json" for each in found)


def result_parts(result: Any) -> list[Result]:
    """Return the xarray objects and tables of a unit's result, or of a file's content."""
    return list(result.values()) if isinstance(result, dict) else [result]


def _stamped(result: Unit, digest: str) -> Unit:
    if isinstance(result, dict):
        return {key: _stamped(each, digest) for key, each in result.items()}  # type: ignore[misc]
    if isinstance(result, pd.DataFrame):
        shallow = result.copy(deep=False)
        shallow.attrs = {**result.attrs, _STAMP: digest}
        return shallow
    return result.assign_attrs({_STAMP: digest})


def _ending(result: Any) -> str:
    return ".parquet" if isinstance(result, pd.DataFrame) else ".nc"


def _read_folder(path: Path) -> dict[str, Result]:
    return {file.stem: load(file) for file in sorted(path.iterdir()) if not file.name.startswith(".")}


def _results_in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*/*") if not path.name.startswith("."))


def _size(result: Any) -> int:
    return int(result.memory_usage(index=False).sum()) if isinstance(result, pd.DataFrame) else int(result.nbytes)


def _file_stamp(path: Path) -> tuple[int, int, int]:
    """Changes when the file does: it is always replaced as a whole, by a new inode."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"Cannot write {path} ({error.strerror}); choose another folder.") from error


def _exists(path: Path) -> bool:
    """Whether there is such a path. Raises StoreError where that cannot be told: no permission, too long a name."""
    if "\0" in str(path):
        raise StoreError(f"The folder {str(path)!r} holds a NUL character; choose another name.")
    try:
        return path.exists()
    except OSError as error:
        raise StoreError(f"Cannot look at {path} ({error.strerror}); choose another folder.") from error
