"""Taking over what another run folder has of the same model, so that it is computed once."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from itlens.files import read_bytes, written
from itlens.study.folder import RunFolder
from itlens.study.index import State
from itlens.study.record import Study, response_digest, result_digest


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
