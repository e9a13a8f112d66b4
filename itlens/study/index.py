"""The digests of what a study wrote, so that a damaged file is known before anything reads it.

index.jsonl has a line for each write: the path in the run folder, the SHA-256 of the bytes, and the stamp of what they
depend on. The line is on disk before the file takes its name: whenever the program is killed, every file has its line,
and a line without its file costs nothing. Lines are only added, so that 10,000 results do not write it 10,000 times; a
line that was cut off or cannot be read is none. A unit in a folder has one line, with the digest of its files' digests.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from itlens.errors import StoreError
from itlens.files import PARTS, read_bytes, system_reason, write_bytes, written

NAME = "index.jsonl"


class State(Enum):
    """What the index says of a file: it is as it was written, or was written for something else, or neither."""

    MISSING = "missing"
    GOOD = "good"
    OTHER = "other"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"


class Index:
    """The index of one run folder. Files are digested once for as long as they stay as they are."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.file = folder, folder / NAME
        self._lines: dict[str, dict[str, str]] = {}  # by path: stamps by digest
        self._read: tuple[int, int, int] | None = None
        self._digests: dict[Path, tuple[Any, str]] = {}

    def write(self, path: Path, content: bytes, stamp: str = "") -> None:
        """Write a file atomically, after its line."""
        self.add(path, hashlib.sha256(content).hexdigest(), stamp)
        write_bytes(path, content)

    def add(self, path: Path, digest: str, stamp: str) -> None:
        """Add the line of a file (or folder) that is written next."""
        self._reload()
        name = path.relative_to(self._folder).as_posix()
        line = json.dumps({"path": name, "sha256": digest, "stamp": stamp}) + "\n"
        with written(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else f"\n{line}"  # a killed write cut the last one off
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        self._lines.setdefault(name, {})[digest] = stamp
        self._read = _mark(self.file)

    def state(self, path: Path, stamp: str | None = None) -> State:
        """Return what the index says of a file or of a unit's folder. stamp: what it must have been written for."""
        if not path.exists():
            return State.MISSING
        self._reload()
        known = self._lines.get(path.relative_to(self._folder).as_posix())
        if not known:
            return State.UNKNOWN
        found = known.get(self.digest(path))
        if found is None:
            return State.DAMAGED
        return State.GOOD if stamp in (None, found) else State.OTHER

    def stamp(self, path: Path) -> str | None:
        """Return what a file was written for; None for one that is damaged or that the index does not know."""
        if self.state(path) is not State.GOOD:
            return None
        return self._lines[path.relative_to(self._folder).as_posix()][self.digest(path)]

    def digest(self, path: Path) -> str:
        """Return the digest of a file, or of a folder of files."""
        files = _files(path)
        marks = [(file.name, _mark(file)) for file in files]
        if path not in self._digests or self._digests[path][0] != marks:
            digests = {file.name: hashlib.sha256(read_bytes(file)).hexdigest() for file in files}
            self._digests[path] = marks, folder_digest(digests) if path.is_dir() else digests[path.name]
        return self._digests[path][1]

    def _reload(self) -> None:
        mark = _mark(self.file)
        if mark == self._read:
            return
        self._lines, self._read = {}, mark
        for line in read_bytes(self.file).split(b"\n") if mark else ():
            try:
                entry = json.loads(line)
                path, digest, stamp = (str(entry[name]) for name in ("path", "sha256", "stamp"))
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            self._lines.setdefault(path, {})[digest] = stamp


def folder_digest(digests: Mapping[str, str]) -> str:
    """Return the digest of a folder from those of its files, by name."""
    listed = "".join(f"{name}\n{digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(listed.encode("utf-8", "backslashreplace")).hexdigest()


def set_aside(path: Path) -> Path:
    """Rename a damaged file (or folder) so that nothing reads it; its new path."""
    aside = path.with_name(f"{path.name}.damaged")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    with written(aside):
        path.rename(aside)
    return aside


def is_aside(path: Path) -> bool:
    """Return whether a file was set aside."""
    return path.match("*.damaged") or path.match("*.damaged-[0-9]*")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if not file.match(PARTS))


def _mark(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file does: it is always replaced as a whole, by a new inode."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"Cannot look at {path}: {system_reason(error)}.") from error
    return found.st_ino, found.st_mtime_ns, found.st_size
