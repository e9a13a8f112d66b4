"""The run folder: what a study keeps on disk, and what makes it the same study when it is resumed.

study.json                        what was asked: models with fingerprints, options, versions, when (`record`)
index.jsonl                       digests of all that follows but the tables and the report (`index`)
prompts.jsonl                     the prompts as the models read them
responses/<side>/<unit>.json      the responses that a model generated, by prompt
<finding>/<side>/<unit>.nc        a file per unit of work: side is base, tuned or pair; .parquet for a table
<finding>/<side>/<unit>/          a folder of files where a unit has several results
tables/                           the comparison: Parquet and CSV tables, netCDF arrays
findings.json                     every finding's verdict, numbers, caveats and tables, for scripts
report.html                       one offline page

A study is the same when its models (by fingerprint), its prompts and words (by content) and the options that results
depend on are the same; then what is finished is kept. What was not asked for before is added. Each result is written
atomically and stamped with what it depends on: a file of another study is computed again, never believed, and one that
is not as it was written is set aside (`<name>.damaged`) and computed again. A folder that holds anything else is
refused, never overwritten. One process at a time writes (`lock`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from itlens.errors import PromptError, StoreError
from itlens.files import PARTS, json_bytes, read_bytes, read_json, remove_parts, system_reason, written
from itlens.prompts import Prompt, load_prompts
from itlens.prompts.jsonl import jsonl_bytes
from itlens.study.index import NAME, State
from itlens.study.lock import HOLDER, LOCK, locked
from itlens.study.prompts import prompt_digest
from itlens.study.record import (
    Study,
    differences,
    joined,
    outgrown,
    reads_prompts,
    refuse_no_study,
    response_digest,
    result_digest,
    without,
)
from itlens.study.results import UnitResults, results_in, unit_name

FINDINGS_FILE = "findings.json"
_OUTGROWN = "Left out, since its results are of fewer prompts: {names}; with --probes {probes} it is computed again."


class RunFolder(UnitResults):
    """The paths of one run folder, and reading and writing them."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.study_file = self.path / "study.json"
        self.prompts_file = self.path / "prompts.jsonl"
        self.responses = self.path / "responses"
        self.tables = self.path / "tables"
        self.findings_file = self.path / FINDINGS_FILE
        self.report = self.path / "report.html"

    # ---- the study

    @contextmanager
    def opened(
        self, asked: Study, prompts: Sequence[Prompt] | None, *, resume: bool, before: Study | None = None
    ) -> Iterator[Study]:
        """Write what is asked and give the study, with the findings that the folder had before.

        prompts: None where none are asked for. before: what is asked, of the folder's own prompts alone, where there
        are more now. The folder is locked while the block runs. When the block fails before any result is finished,
        what was made here is taken away. Raises StoreError for a file, for a folder of other things or in use, and for
        another study's results.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not _exists(folder)]
        self._refuse_foreign()
        try:
            with locked(self.path), self._begun(asked, prompts, before or asked, resume=resume) as study:
                yield study
        except BaseException:
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()
            raise

    @contextmanager
    def _begun(self, asked: Study, prompts: Sequence[Prompt] | None, before: Study, *, resume: bool) -> Iterator[Study]:
        remove_parts(self.path)
        held = self._kept(before)
        if held and not resume:
            self._clear(list(asked["findings"]), held)
            held = without(held, [name for name in held["findings"] if not self.with_results([name])])
        if held and (old := outgrown(held, asked)):
            held = without(held, old)
            self.told.append(_OUTGROWN.format(names=", ".join(map(repr, old)), probes=",".join(old)))
        study = joined(held, asked) if held and held["findings"] else dict(asked)
        try:
            self._write_study(study)
            if prompts is not None:
                self.put_aside(self.prompts_file, "written")
                self.index.write(self.prompts_file, jsonl_bytes(prompts))
            yield study
        except BaseException:
            with suppress(OSError, StoreError):
                if not self.with_results(list(study["findings"])):
                    self._clear(list(study["findings"]), study)
            raise

    def note(self, study: Mapping[str, Any], sentences: Sequence[str]) -> Study:
        """Return the study with more notices, which is then on disk too."""
        noted = {**study, "notices": list(dict.fromkeys([*study["notices"], *sentences]))}
        self._write_study(noted)
        return noted

    def read_study(self) -> Study:
        """Return what was asked. Raises StoreError where there is no study, or a damaged one."""
        if not _exists(self.path) or not self.path.is_dir():
            raise StoreError(f"{self.path} is no folder; give the folder that `itlens compare` wrote (its --out).")
        if not self.study_file.exists():
            raise StoreError(
                f"{self.path} holds no study (no {self.study_file.name}); give the folder that `itlens compare` wrote."
            )
        if self.index.state(self.study_file) is State.DAMAGED:
            raise StoreError(
                f"{self.study_file} is damaged: its content is not what was written; run the same `itlens compare` "
                "again, which keeps what is finished."
            )
        study = read_json(self.study_file)
        refuse_no_study(study, self.study_file)
        return dict(study)

    def held_study(self) -> Study | None:
        """Return the study that the folder has results of; None where there is none that can be read."""
        try:
            held = self.read_study()
        except StoreError:  # `opened` says what is wrong with the folder
            return None
        return without(held, [name for name in held["findings"] if not self.with_results([name])])

    def read_prompts(self, study: Mapping[str, Any]) -> list[Prompt]:
        """Return the prompts as the models read them. Raises StoreError where they are not those of the study."""
        known = study["reading"].get("prompts", [])
        again = "run the same `itlens compare` again, which writes it again."
        try:
            prompts = load_prompts(self.prompts_file)
        except PromptError as error:
            raise StoreError(f"{self.prompts_file} is not what the study wrote ({error}); {again}") from error
        found = [[prompt.id, prompt_digest(prompt)] for prompt in prompts]
        if found != known:
            changed = [prompt for prompt in found if prompt not in known] or found[len(known) :] or known[len(found) :]
            which = f" (prompt {changed[0][0]!r} is another)" if changed else ""
            raise StoreError(f"{self.prompts_file} is not what the study wrote{which}; {again}")
        return prompts

    def _write_study(self, study: Study) -> None:
        self.index.write(self.study_file, json_bytes(self.study_file, study))

    def _refuse_foreign(self) -> set[str]:
        """Return the names in the folder. Raises StoreError for a file, and for a folder of other things."""
        if not _exists(self.path):
            return set()
        if not self.path.is_dir():
            raise StoreError(f"{self.path} is a file; give a folder for the results.")
        try:
            own = {entry.name for entry in self.path.glob(PARTS)} | {NAME, LOCK, HOLDER}
            inside = {entry.name for entry in self.path.iterdir()} - own
        except OSError as error:
            raise StoreError(f"Cannot look into {self.path}: {system_reason(error)}.") from error
        if inside and self.study_file.name not in {name.removesuffix(".damaged") for name in inside}:
            shown = ", ".join(sorted(inside)[:3])
            raise StoreError(f"{self.path} holds {shown} and no study; give an empty or new folder for the results.")
        return inside

    def _kept(self, asked: Study) -> Study | None:
        """Return the study of this folder, as far as it has results; None where there is none. Refuses another one."""
        if not self._refuse_foreign():
            return None
        self.put_aside(self.study_file, "written")
        if not self.study_file.exists():  # it was damaged
            self._refuse_results_of_others(asked)
            return None
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

    def _refuse_results_of_others(self, asked: Study) -> None:
        """Raise StoreError where study.json was damaged and a finding's results are not what is asked for."""
        for name in asked["findings"]:
            for path in results_in(self.path / name):
                stamp, side = self.index.stamp(path), path.parent.name
                if stamp is not None and stamp != result_digest(asked, name, side, unit_name(path)):
                    raise StoreError(
                        f"{self.study_file} was damaged, and the results in {self.path} are of another study than this "
                        "one; give another folder."
                    )

    def _clear(self, names: Sequence[str], study: Study) -> None:
        """Delete the results of these findings and what was made of them; the study when nothing is left of it."""
        try:
            for folder in (self.tables, *(self.path / name for name in names)):
                if folder.exists():
                    shutil.rmtree(folder)
            if reads_prompts(study, names) and self.responses.exists():
                shutil.rmtree(self.responses)
            for path in (self.report, self.findings_file):
                path.unlink(missing_ok=True)
            if not self.with_results(list(study["findings"])):
                for path in (self.study_file, self.prompts_file, self.index.file):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"Cannot delete {error.filename or self.path}: {system_reason(error)}.") from error


def take_side(
    side: str, source: str | Path, folder: RunFolder, study: Study, units: Mapping[str, Sequence[str]]
) -> list[str]:
    """Copy what is finished of the same base (or tuned) model in `source` into `folder`; the findings of it.

    units: by finding. A unit is taken where its result depends on the same things in both studies and `folder` does not
    have it yet; and so is a response. Raises StoreError where `source` is no run folder, or the copies cannot be
    written.
    """
    other = RunFolder(source)
    theirs = other.read_study()
    taken = []
    for name, listed in units.items():
        for unit in listed if name in theirs["findings"] else ():
            digest = result_digest(study, name, side, unit)
            if _take(other, folder, other.found(name, side, unit), digest):
                taken.append(name)
    if study["reading"]:
        for number, file in enumerate(sorted((other.responses / side).glob("*.json"))):
            if number < len(study["reading"]["prompts"]):
                _take(other, folder, file, response_digest(study, side, number))
    return list(dict.fromkeys(taken))


def _take(other: RunFolder, folder: RunFolder, there: Path | None, digest: str) -> bool:
    """Copy a file or a folder of files, under another name first: a killed copy is not taken for the whole."""
    if there is None or other.index.state(there, digest) is not State.GOOD:
        return False
    here = folder.path / there.relative_to(other.path)
    if folder.index.state(here, digest) is State.GOOD:
        return False
    if there.is_file():
        folder.index.write(here, read_bytes(there), digest)
        return True
    part = here.with_name(f".itlens-{here.name}.part")
    with written(here):
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(there, part)
        folder.index.add(here, folder.index.digest(part), digest)
        shutil.rmtree(here, ignore_errors=True)
        part.rename(here)
    return True


def _exists(path: Path) -> bool:
    """Whether there is such a path. Raises StoreError where that cannot be told: no permission, too long a name."""
    if "\0" in str(path):
        raise StoreError(f"The folder {str(path)!r} holds a NUL character; choose another name.")
    try:
        return path.exists()
    except OSError as error:
        raise StoreError(f"Cannot look at {path}: {system_reason(error)}.") from error
