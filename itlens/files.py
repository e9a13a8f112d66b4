"""Files: atomic writes, JSON, and system errors turned into one sentence.

An atomic write goes to a temporary name in the same folder, is flushed to the disk and then renamed: a reader sees the
old file or the whole new one, whenever the program is killed.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO

from itlens.errors import StoreError

_REASONS = {
    errno.ENOSPC: "no space is left on the disk; free some, or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space, or choose another folder",
    errno.EACCES: "there is no permission; choose another folder, or change its rights",
    errno.EPERM: "there is no permission; choose another folder, or change its rights",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EISDIR: "it is a folder; give the name of a file",
    errno.ENOTDIR: "a part of its path is a file; choose another folder",
    errno.ENAMETOOLONG: "its name is too long; choose a shorter one",
    errno.EIO: "the disk cannot be read or written; check it, or choose another one",
}

# before a digit, where a number begins (not in GPT-2 or 2024-01), or in its power of ten
_MINUS = re.compile(r"(?<![\w.)\]-])-(?=\.?\d)|(?<=\d[eE])-(?=\d\d)")
PARTS = ".itlens-*.part"  # what an atomic write leaves when the program is killed in the middle of it
_TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of `path` only when the block ends without an error, and then wholly.

    Makes missing folders. An OSError becomes a StoreError that says why; after any error nothing is left behind.
    """
    path = Path(path)
    part = path.with_name(f".itlens-{token_hex(8)}.part")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync_folder(path.parent)
        except OSError as error:
            raise StoreError(f"Cannot write {path}: {system_reason(error)}.") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text atomically, as UTF-8."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_json(path: str | Path, content: Any) -> None:
    """Write plain lists, dictionaries, texts and numbers as JSON, atomically. Raises StoreError for anything else."""
    write_bytes(path, json_bytes(path, content))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_write(path) as file:
        file.write(content)


def json_bytes(path: str | Path, content: Any) -> bytes:
    """Return what `write_json` writes to `path`. Raises StoreError for what JSON cannot hold."""
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"Cannot write {path} as JSON: {error}.") from error
    if not is_plain_text(text):  # half a surrogate pair can only be written as an escape
        text = json.dumps(content, indent=2)
    return f"{text}\n".encode("utf-8", errors="backslashreplace")


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file. Raises StoreError for a file that is missing, broken, or cannot be read."""
    try:
        return json.loads(read_bytes(Path(path)).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is not a JSON file ({error}).") from error


def read_bytes(path: Path) -> bytes:
    """Return the content of a file. Raises StoreError that says why it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {system_reason(error)}.") from error


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Turn an OSError of the block, which writes `path`, into a StoreError that says why."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {system_reason(error)}.") from error


def remove_parts(folder: Path) -> None:
    """Delete what killed writes left in a folder and below it; what cannot be deleted stays."""
    for part in folder.rglob(PARTS):
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part, ignore_errors=True)
        else:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def system_reason(error: OSError) -> str:
    """Return why the system refused, and what to do about it, without a full stop."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return _REASONS.get(error.errno or 0, error.strerror or str(error))


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every system lets a folder be opened; the file itself is safe
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_plain_text(text: str) -> bool:
    """Return whether a text is valid UTF-8 without NUL: what netCDF, Parquet and readers of JSON can hold."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def visible(text: str) -> str:
    """Return the text with control characters (not new lines and tabs) escaped: nothing in a file may steer a
    terminal."""
    return "".join(_escaped(c) if _steers(c) else c for c in text)


def minus(text: str) -> str:
    """`text` with a true minus (−) before numbers, as figures and tables write it; hyphens in names stay."""
    return _MINUS.sub("−", text)


def json_line(content: Any) -> str:
    """Return JSON in one line for a terminal or another program: what could steer a terminal is a JSON escape."""
    text = json.dumps(content, ensure_ascii=False)
    return "".join(json.dumps(c)[1:-1] if _steers(c) else c for c in text) + "\n"


def _steers(character: str) -> bool:
    """Return whether a character starts an escape sequence, moves the cursor, or turns the direction of writing."""
    if character in "\n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cs") or character in _TURNS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
