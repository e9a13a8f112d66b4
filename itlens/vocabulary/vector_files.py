"""Read word vectors from files: .npz archives, and text files of GloVe, word2vec and fastText.

An archive holds `words` and `vectors`; no pickled objects are read. A text file has a word and its numbers a line
(GloVe), or a line "n d" first (word2vec, fastText). Text files may be larger than memory: lines are read one by one,
and only what is wanted is kept. Columns are separated by single spaces and counted from the right, since words may hold
spaces (some of GloVe 840B do).
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from itlens.errors import StoreError
from itlens.files import system_reason

_DECIMAL = re.compile(rb"[+-]?(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WIDEST = 100_000  # numbers of a vector; released ones have a few hundred
_BROKEN = (ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def read_archive(path: Path) -> tuple[list[str], np.ndarray]:
    """Return the words and vectors (words, dimensions) of an .npz archive, in its dtype.

    `words` is an array of strings, or the bytes of a UTF-8 text with a word a line (uint8). Raises StoreError for a
    file that is missing, broken, without these arrays, or with pickled objects in them.
    """
    parts = _parts(path, ("words", "vectors"))
    return _words(parts["words"], path), parts["vectors"]


def read_archived_words(path: Path) -> list[str]:
    """Return the words of an .npz archive, without reading its vectors."""
    return _words(_parts(path, ("words",))["words"], path)


def _parts(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it is a single array")
            missing = [name for name in names if name not in archive.files]
            if missing:
                raise ValueError(f"no array is called {missing[0]!r}, but {', '.join(archive.files) or 'none'}")
            return {name: archive[name] for name in names}
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {system_reason(error)}.") from error
    except _BROKEN as error:
        # numpy's own sentence advises to load such a file unsafely
        why = "it holds Python objects, or is no such file" if "pickle" in str(error) else str(error)
        raise StoreError(
            f"{path} is no archive of word vectors ({why}): expected np.savez with words (strings: "
            "np.array(words, dtype=str)) and vectors (a row per word)."
        ) from error


def _words(array: Any, path: Path) -> list[str]:
    try:
        if array.dtype == np.uint8:
            return str(array.tobytes(), "utf-8").split("\n")
        if array.ndim == 1 and array.dtype.kind == "U":
            return list(array.tolist())
        if array.ndim == 1 and array.dtype.kind == "S":
            return [word.decode("utf-8") for word in array.tolist()]
    except UnicodeDecodeError as error:
        raise StoreError(f"{path}: the words are not UTF-8 text ({error}).") from error
    raise StoreError(
        f"{path}: words is an array of {array.dtype} of shape {array.shape}; expected one string per word."
    )


def read_vector_text(
    path: Path, words: Collection[str] | None = None, size: int | None = None
) -> tuple[list[str], np.ndarray]:
    """Return the words and their vectors, float32 (words, dimensions); of the first `size` lines, and only those in
    `words`.

    Raises StoreError for a file that is missing, empty or no text, and for a line that is not a word and as many
    numbers as the first one.
    """
    try:
        with path.open("rb") as file:
            return _read(path, ((n, line) for n, line in enumerate(file, start=1)), words, size)
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {system_reason(error)}.") from error


def _read(
    path: Path, lines: Iterator[tuple[int, bytes]], words: Collection[str] | None, size: int | None
) -> tuple[list[str], np.ndarray]:
    dimensions, lines = _dimensions(path, lines)
    wanted = None if words is None else set(words)
    beginnings = None if wanted is None else {word.split(" ", 1)[0].encode("utf-8", "replace") for word in wanted}
    kept: list[str] = []
    rows = np.empty((1024, dimensions), dtype=np.float32)
    for count, (number, line) in enumerate(lines):
        if count == size:
            break
        if beginnings is not None and line.split(b" ", 1)[0] not in beginnings:
            _check_columns(path, number, line, dimensions)
            continue
        word, row = _parse(path, number, line, dimensions)
        if wanted is not None and word not in wanted:
            continue
        if len(kept) == len(rows):  # grows in place where the system can: the vectors are never held twice
            rows.resize((2 * len(rows), dimensions), refcheck=False)
        rows[len(kept)] = row
        kept.append(word)
    rows.resize((len(kept), dimensions), refcheck=False)
    return kept, rows


def _dimensions(path: Path, lines: Iterator[tuple[int, bytes]]) -> tuple[int, Iterator[tuple[int, bytes]]]:
    """Return how many numbers a line has, and the lines that have words: without a header, blank lines and line
    ends."""
    full = ((number, line.rstrip(b" \r\n")) for number, line in lines if line.strip())
    first = next(full, None)
    if first is None:
        raise StoreError(f"{path} holds no word vectors: expected a word and its numbers a line.")
    header = re.fullmatch(rb"\d+ +([1-9]\d*)", first[1])  # a vector of one whole number would be no vector
    if header and int(header[1]) > _WIDEST:
        raise StoreError(
            f"{path}, line {first[0]}: its header says that a vector has {int(header[1])} numbers; expected at most "
            f"{_WIDEST:,}."
        )
    if header:
        return int(header[1]), full
    dimensions = 0
    for column in reversed(first[1].split(b" ")[1:]):
        if not _is_number(column):
            break
        dimensions += 1
    if dimensions == 0:
        raise _no_vector(path, first[0], first[1], "numbers")
    return dimensions, chain([first], full)


def _parse(path: Path, number: int, line: bytes, dimensions: int) -> tuple[str, np.ndarray]:
    """Return the word and the numbers of a line; a decimal number at the end of a word is one column too many."""
    word, *columns = line.rsplit(b" ", dimensions)
    _check_columns(path, number, line, dimensions)
    if b" " in word and _DECIMAL.fullmatch(word.rsplit(b" ", 1)[1]):
        raise _no_vector(path, number, line, f"{dimensions} numbers")
    try:
        return word.decode("utf-8"), np.array(columns, dtype=np.float32)
    except ValueError as error:  # UnicodeDecodeError is one
        raise _no_vector(path, number, line, f"{dimensions} numbers") from error


def _check_columns(path: Path, number: int, line: bytes, dimensions: int) -> None:
    if line.count(b" ") < dimensions:
        raise _no_vector(path, number, line, f"{dimensions} numbers")


def _no_vector(path: Path, number: int, line: bytes, numbers: str) -> StoreError:
    start = line[:40].decode("utf-8", errors="backslashreplace")
    return StoreError(
        f"{path}, line {number}: expected a word and {numbers}, separated by spaces, in UTF-8 text, got {start!r}"
        f"{'...' if len(line) > 40 else ''} with {len(line.split(b' ')) - 1} columns after the first; a binary or "
        "compressed file must be turned into text first, and an incomplete one fetched again."
    )


def _is_number(column: bytes) -> bool:
    try:
        float(column)
    except ValueError:
        return False
    return True
