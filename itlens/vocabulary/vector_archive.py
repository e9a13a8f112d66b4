"""Word vectors in .npz archives: `words` and `vectors`. No pickled objects are read."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from itlens.errors import StoreError

_BROKEN = (ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def read_archive(path: Path) -> tuple[list[str], np.ndarray]:
    """Words and vectors (words, dimensions) of an .npz archive, in its dtype.

    `words` is an array of strings, or the bytes of a UTF-8 text with a word a line (uint8). Raises StoreError for a
    file that is missing, broken, without these arrays, or with pickled objects in them.
    """
    parts = _parts(path, ("words", "vectors"))
    return _words(parts["words"], path), parts["vectors"]


def read_archived_words(path: Path) -> list[str]:
    """The words of an .npz archive, without reading its vectors."""
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
        raise StoreError(f"Cannot read {path}: {error.strerror or error}.") from error
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
            return array.tobytes().decode("utf-8").split("\n")
        if array.ndim == 1 and array.dtype.kind == "U":
            return list(array.tolist())
        if array.ndim == 1 and array.dtype.kind == "S":
            return [word.decode("utf-8") for word in array.tolist()]
    except UnicodeDecodeError as error:
        raise StoreError(f"{path}: the words are not UTF-8 text ({error}).") from error
    raise StoreError(
        f"{path}: words is an array of {array.dtype} of shape {array.shape}; expected one string per word."
    )
