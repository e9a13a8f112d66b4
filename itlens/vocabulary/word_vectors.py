"""Word vectors: how related two words are, measured by the cosine of vectors that come from another source.

The paper takes GloVe 840B 300d; the built-in vectors are GloVe 6B 100d. A word is looked up exactly as it is written:
nothing is lower-cased or guessed. A word without a vector, or whose vector is zero and so has no direction, is unknown.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property, lru_cache
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float32, Int64

from itlens.errors import ProbeError, ResultError, StoreError
from itlens.vocabulary.checks import BUILTIN, BUILTIN_FILE, check_size, checked_words, words_fingerprint
from itlens.vocabulary.static_model import read_static_model
from itlens.vocabulary.vector_files import read_archive, read_vector_text
from itlens.vocabulary.words import Vocabulary

_TEXT = (".txt", ".vec", ".glove", ".w2v", ".word2vec")
_OTHER = (".bin", ".gz", ".zip", ".npy", ".json", ".csv", ".tsv", ".parquet", ".model", ".pkl", ".kv", ".safetensors")


class WordVectors:
    """A vector for each of some words.

    words: tuple of strings. vectors: float32 (words, dimensions), as given, not of length one. duplicates: how many
    words came again and were dropped. without_direction: how many words have a vector of zeros (`rows` does not find
    them). name: "builtin", the file's or model's name, or "". fingerprint: of words and vectors.
    """

    words: tuple[str, ...]
    vectors: Float32[np.ndarray, "words dimensions"]
    duplicates: int
    without_direction: int
    name: str

    def __init__(self, words: Iterable[str], vectors: Any, *, name: str = "") -> None:
        """Keep the words and an array with a row for each; of a word given twice the first is kept.

        Raises ResultError for no words, words that are no strings, an array that is not (words, dimensions), and
        vectors with NaN, infinity or numbers too large for float32 (it names the first such word).
        """
        given = checked_words(words, "WordVectors")
        array = _checked_vectors(vectors, given)
        # One pass says it all: the squared length is not finite for a broken vector and 0 for one without direction.
        with np.errstate(over="ignore", invalid="ignore"):
            squared = np.einsum("wd,wd->w", array, array)
        broken = np.flatnonzero(~np.isfinite(squared))
        if broken.size:
            raise ResultError(
                f"WordVectors: the vector of {given[broken[0]]!r} holds NaN, infinity or numbers too large for float32"
                f" ({broken.size} of {len(given)} words); correct it or leave the word out."
            )
        first: dict[str, int] = {}
        for number, word in enumerate(given):
            first.setdefault(word, number)
        kept = list(first.values())
        self.duplicates = len(given) - len(kept)
        self.words = tuple(first)
        self.vectors = array[kept] if self.duplicates else array
        self._directed = (squared[kept] if self.duplicates else squared) > 0
        self.without_direction = int((~self._directed).sum())
        self.name = name

    @classmethod
    def load(
        cls, name_or_path: str | os.PathLike[str], words: Iterable[str] | None = None, size: int | None = None
    ) -> WordVectors:
        """Return the word vectors of a file or model; "builtin" is GloVe 6B 100d of the built-in vocabulary.

        .txt and .vec: GloVe (a word and its numbers a line), word2vec or fastText (the same after a line "n d"), UTF-8,
        separated by single spaces; words may hold anything but line ends. .npz: arrays `words` (strings, or the UTF-8
        bytes of a text with a word a line) and `vectors`. Anything else: a folder or hub name of a static
        sentence-transformers model (extra "static"), which gives its own single-token words, or those asked for.

        words: keep only these, such as a Vocabulary: a file of 840 billion tokens then takes no memory to speak of.
        size: look only at the first so many words of the file. Raises StoreError for what cannot be read (with the line
        at fault), and when none of the words asked for is there.
        """
        check_size(size)
        name, path = str(name_or_path), Path(name_or_path)
        wanted = None if words is None else checked_words(words, "WordVectors.load")
        read_words, vectors = _read(name, path, wanted, size)
        if not read_words:
            asked = "" if wanted is None else f" of the {len(wanted)} words asked for"
            raise StoreError(f"{name} has no vector for any word{asked}; check the spelling, or take other vectors.")
        return cls(read_words, vectors, name=name if name == BUILTIN else path.name)

    def rows(self, words: Iterable[str]) -> Int64[np.ndarray, " asked"]:
        """Return the row of `vectors` for each word, -1 where a word is unknown or its vector has no direction."""
        return np.array([self._index.get(word, -1) for word in words], dtype=np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """ "sha256:" and 16 hexadecimal digits: equal for equal words with equal vectors."""
        return words_fingerprint(self.words, np.ascontiguousarray(self.vectors))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words) if self._directed[number]}

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        return f"WordVectors({len(self)} words, {self.vectors.shape[1]} dimensions; name={self.name!r})"


def _read(name: str, path: Path, words: list[str] | None, size: int | None) -> tuple[list[str], np.ndarray]:
    suffix = path.suffix.lower()
    if name == BUILTIN or suffix == ".npz":
        found, vectors = _builtin() if name == BUILTIN else read_archive(path)
        if vectors.shape[:1] == (len(found),):  # else the constructor says what is wrong
            return _only(found, vectors, words, size)
        return found, vectors
    if suffix in _TEXT or (path.is_file() and suffix not in _OTHER):
        return read_vector_text(path, words, size)
    if suffix in _OTHER and not path.is_dir():
        raise StoreError(
            f"{name}: word vectors are read from text (.txt, .vec), .npz with words and vectors, or a folder of a "
            f"static model, not from {suffix}; unpack or convert it first."
        )
    return read_static_model(name, words, size)


@lru_cache(maxsize=1)
def _builtin() -> tuple[list[str], np.ndarray]:
    """Return the archive that comes with the package, which a process unpacks once."""
    words, vectors = read_archive(BUILTIN_FILE)
    vectors.setflags(write=False)
    return words, vectors


def _only(
    found: list[str], vectors: np.ndarray, words: list[str] | None, size: int | None
) -> tuple[list[str], np.ndarray]:
    found, vectors = found[:size], vectors[:size]
    if words is None:
        return found, vectors
    wanted = set(words)
    kept = [number for number, word in enumerate(found) if word in wanted]
    return [found[number] for number in kept], vectors[kept]


def _checked_vectors(vectors: Any, words: list[str]) -> np.ndarray:
    try:
        array = np.asarray(vectors)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ResultError(f"WordVectors: the vectors are no array of numbers, a row per word ({error}).") from error
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] == 0:
        raise ResultError(
            f"WordVectors: got an array of {array.dtype} of shape {array.shape}; expected numbers, a row per word."
        )
    if len(array) != len(words):
        raise ResultError(
            f"WordVectors: got {len(words)} words and {len(array)} vectors; expected one vector per word."
        )
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is named as such
        return array.astype(np.float32, copy=False)


VocabularyLike: TypeAlias = Vocabulary | str | PathLike[str]
VectorsLike: TypeAlias = WordVectors | str | PathLike[str]


def loaded_vocabulary(given: VocabularyLike, name: str = "vocab") -> Vocabulary:
    """Return the vocabulary itself, or load it by name: "builtin" or a file (`Vocabulary.load`).

    name: of the argument, for the message. Raises ProbeError for another kind, StoreError for an unreadable file.
    """
    if isinstance(given, Vocabulary):
        return given
    return Vocabulary.load(_named(given, name, "an itlens.Vocabulary"))


def loaded_vectors(given: VectorsLike, vocabulary: Vocabulary, name: str = "vectors") -> WordVectors:
    """Return the word vectors themselves, or load those of the vocabulary's words by name (`WordVectors.load`).

    name: of the argument, for the message. Raises ProbeError for another kind, StoreError for an unreadable file.
    """
    if isinstance(given, WordVectors):
        return given
    return WordVectors.load(_named(given, name, "itlens.WordVectors"), words=vocabulary.words)


def _named(given: object, name: str, expected: str) -> str | PathLike[str]:
    if isinstance(given, (str, PathLike)):
        return given
    raise ProbeError(f'{name} is a {type(given).__name__}; expected "builtin", a file, or {expected}.')
