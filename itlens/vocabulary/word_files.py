"""Word lists in files: a word a line, or a word, a tab and its frequency."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from itlens.errors import StoreError
from itlens.files import read_bytes

_TABLES = (".tsv", ".tab")
_NOT_TEXT = (".csv", ".json", ".jsonl", ".npz", ".npy", ".parquet", ".xlsx", ".xls", ".gz", ".zip", ".pkl")


def read_word_file(path: Path) -> tuple[list[str], list[float] | None]:
    """The words of a file, and their frequencies when it has them; the format is that of `Vocabulary.load`.

    Raises StoreError for a file that is missing, no UTF-8 text or without words, and for a line at fault.
    """
    lines = [(number, line) for number, line in enumerate(_lines(path), start=1) if line.strip()]
    if not lines:
        raise StoreError(f"{path} holds no words: expected a word a line.")
    if path.suffix.lower() not in _TABLES and _frequency(lines[0][1]) is None:
        return [line for _, line in lines], None
    words, frequencies = [], []
    for number, line in lines:
        word, frequency = line.rpartition("\t")[0], _frequency(line)
        if frequency is None or not word.strip():
            raise StoreError(
                f"{path}, line {number}: expected a word, a tab and a frequency (a finite number of at least 0), got "
                f"{line[:60]!r}; correct it, or take it out if it is a header."
            )
        words.append(word)
        frequencies.append(frequency)
    return words, frequencies


def _frequency(line: str) -> float | None:
    """The number after the last tab, if there is one."""
    _, tab, last = line.rpartition("\t")
    if not tab:
        return None
    try:
        number = float(last)
    except ValueError:
        return None
    return number if np.isfinite(number) and number >= 0 else None


def _lines(path: Path) -> list[str]:
    """Lines end at LF or CRLF only: other separators of Unicode may be parts of words."""
    if path.suffix.lower() in _NOT_TEXT:
        raise StoreError(f"{path}: a vocabulary is a text file (a word a line) or TSV (a word, a tab and a frequency).")
    data = read_bytes(path)
    if b"\0" in data:
        raise StoreError(f"{path} is not a text file: expected a word a line, in UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise StoreError(f"{path}, line {line} is not UTF-8 text; save the file in UTF-8.") from error
    return [line.removesuffix("\r") for line in text.split("\n")]
