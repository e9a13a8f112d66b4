"""A vocabulary: the words in which a model's weights are read, from frequent to rare.

The word-pair probes take relatedness of two words relative to that of the first 3,000 words, so the order counts.
Words are kept exactly as they are given: any character is as good as another, and nothing is stripped or lower-cased.
Files have a word a line, or a word, a tab and its frequency.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from itlens.errors import ResultError, StoreError
from itlens.files import read_bytes
from itlens.vocabulary.checks import BUILTIN, BUILTIN_FILE, check_size, checked_words, words_fingerprint
from itlens.vocabulary.tokens import WordTokens, own_words, word_tokens
from itlens.vocabulary.vector_files import read_archived_words

_TABLES = (".tsv", ".tab")
_NOT_TEXT = (".csv", ".json", ".jsonl", ".npz", ".npy", ".parquet", ".xlsx", ".xls", ".gz", ".zip", ".pkl")


def read_word_file(path: Path) -> tuple[list[str], list[float] | None]:
    """Return the words of a file, and their frequencies when it has them; the format is that of `Vocabulary.load`.

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
    """Return the number after the last tab, if there is one."""
    _, tab, last = line.rpartition("\t")
    if not tab:
        return None
    try:
        number = float(last)
    except ValueError:
        return None
    return number if np.isfinite(number) and number >= 0 else None


def _lines(path: Path) -> list[str]:
    """Split lines, which end at LF or CRLF only: other separators of Unicode may be parts of words."""
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


class Vocabulary:
    """Words from frequent to rare, each once; made from a list, a file, a tokenizer, or the built-in list.

    words: tuple of strings. frequencies: float64 (words,), or None when only the order is known. duplicates: how many
    words were given again and dropped. name: "builtin", the file's name, or "". fingerprint: of words and order.
    """

    words: tuple[str, ...]
    frequencies: Float64[np.ndarray, " words"] | None
    duplicates: int
    name: str

    def __init__(
        self, words: Iterable[str], frequencies: Sequence[float] | np.ndarray | None = None, *, name: str = ""
    ) -> None:
        """Keep words from frequent to rare; or in any order with their frequencies (counts or shares), which sort
        them.

        Words of equal frequency stay in the order given; of a word given twice the first (or the more frequent) is
        kept. Raises ResultError for no words, for a word that is empty or no string, and for frequencies that are
        negative, not finite, or not one per word.
        """
        given = checked_words(words, "Vocabulary")
        blank = next((number for number, word in enumerate(given) if not word.strip()), None)
        if blank is not None:
            raise ResultError(f"Vocabulary: word {blank} (from 0), {given[blank]!r}, is empty; leave it out.")
        numbers = None if frequencies is None else _checked_frequencies(frequencies, len(given))
        order = range(len(given)) if numbers is None else np.argsort(-numbers, kind="stable").tolist()
        first: dict[str, int] = {}
        for number in order:
            first.setdefault(given[number], number)
        self.words = tuple(first)
        self.frequencies = None if numbers is None else numbers[list(first.values())]
        self.duplicates = len(given) - len(first)
        self.name = name

    @classmethod
    def load(cls, path_or_name: str | os.PathLike[str], size: int | None = None) -> Vocabulary:
        """Return the vocabulary of a file, or "builtin": 20,000 English words in GloVe 6B's order (see
        itlens/data/README.md).

        A text file has a word a line, from frequent to rare. A TSV file has a word, a tab and a frequency (a count or a
        share) a line, and no header; it is sorted by frequency. Everything before the last tab is the word: there are
        no quotes, and words may hold tabs and quotes. Any other file whose first line ends in a tab and a number is
        read as TSV too. UTF-8; lines end in LF or CRLF; blank lines are skipped. size: keep the first so many words.

        Raises StoreError for a file that is missing, no text, or has a line at fault (it says which).
        """
        check_size(size)
        if str(path_or_name) == BUILTIN:
            return cls(read_archived_words(BUILTIN_FILE), name=BUILTIN)._first(size)
        path = Path(path_or_name)
        words, frequencies = read_word_file(path)
        return cls(words, frequencies, name=path.name)._first(size)

    @classmethod
    def of_tokenizer(cls, tokenizer: Any, size: int | None = None) -> Vocabulary:
        """Return a tokenizer's own words: tokens that begin a word and are one, with a letter in them, in the order of
        ids.

        The order is that in which the tokenizer learned them, for BPE roughly from frequent to rare. Special tokens,
        punctuation and numbers are left out; beginnings of words that are a token of their own ("nephe") are not, since
        a tokenizer does not know words. Raises ModelError when there is no such token.
        """
        check_size(size)
        return cls(own_words(tokenizer), name=Path(str(getattr(tokenizer, "name_or_path", ""))).name)._first(size)

    def token_ids(self, tokenizer: Any) -> WordTokens:
        """Return the tokens of each word in the middle of a text: those of a space and the word, without special
        tokens."""
        return word_tokens(self.words, tokenizer)

    @cached_property
    def fingerprint(self) -> str:
        """ "sha256:" and 16 hexadecimal digits: equal for equal words in equal order."""
        return words_fingerprint(self.words)

    def __len__(self) -> int:
        return len(self.words)

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.words[:3]))
        return f"Vocabulary({len(self)} words: {shown}{', ...' if len(self) > 3 else ''}; name={self.name!r})"

    def _first(self, size: int | None) -> Vocabulary:
        if size is None or size >= len(self):
            return self
        self.words = self.words[:size]
        self.frequencies = None if self.frequencies is None else self.frequencies[:size]
        return self


def _checked_frequencies(frequencies: Sequence[float] | np.ndarray, count: int) -> np.ndarray:
    try:
        numbers = np.asarray(frequencies, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ResultError(f"Vocabulary: frequencies must be numbers, one per word ({error}).") from error
    if numbers.shape != (count,):
        raise ResultError(
            f"Vocabulary: got {count} words and frequencies of shape {numbers.shape}; expected one number per word."
        )
    wrong = np.flatnonzero(~(np.isfinite(numbers) & (numbers >= 0)))
    if wrong.size:
        raise ResultError(
            f"Vocabulary: the frequency of word {wrong[0]} (from 0) is {numbers[wrong[0]]}; "
            "expected finite numbers of at least 0."
        )
    return numbers
