"""The words that a study or a command is asked for, loaded and checked before any weights are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from itlens.errors import ProbeError
from itlens.models.compatibility import Side
from itlens.study.ranges import refuse_numbers
from itlens.vocabulary import Vocabulary, WordVectors


class AskedWords(NamedTuple):
    """A vocabulary, vectors that tell which of its words are related, and the words to take per dimension and side."""

    vocabulary: Vocabulary
    vectors: WordVectors
    top_k: int

    @classmethod
    def of(cls, vocabulary: str | Path | Vocabulary, vectors: str | Path | WordVectors, top_k: int) -> AskedWords:
        """Load what is given by name. Raises a subclass of ItlensError for what cannot be read."""
        refuse_numbers(top_k=top_k)
        words = asked_vocabulary(vocabulary)
        if isinstance(vectors, WordVectors):
            return cls(words, vectors, top_k)
        return cls(words, WordVectors.load(_path(vectors, "vectors"), words=words.words), top_k)

    def refuse_unknown(self, side: Side) -> None:
        """Raise ProbeError when no word is known both to the model's tokenizer and to the vectors."""
        read = known_to_tokenizer(self.vocabulary, side)
        related = self.vectors.rows(self.vocabulary.words) >= 0
        if not np.any(read & related):
            raise ProbeError(
                f"None of the {len(self.vocabulary)} words of the vocabulary is known both to the tokenizer "
                f"({int(read.sum())} words) and to the word vectors ({int(related.sum())} words); give a vocabulary "
                "and vectors in the language that the model reads, with words written the same way."
            )

    @property
    def identity(self) -> dict[str, Any]:
        """What results depend on: by content, so that a file may be moved or renamed."""
        return {"vocabulary": self.vocabulary.fingerprint, "vectors": self.vectors.fingerprint, "top_k": self.top_k}

    @property
    def settings(self) -> dict[str, Any]:
        """The same for people."""
        vectors = f"{self.vectors.name or 'given'}, {self.vectors.vectors.shape[1]} dimensions"
        return {"vocabulary": described(self.vocabulary), "vectors": vectors, "top_k": self.top_k}


def asked_vocabulary(vocabulary: str | Path | Vocabulary) -> Vocabulary:
    """The vocabulary, read where a name is given. Raises a subclass of ItlensError for what cannot be read."""
    return vocabulary if isinstance(vocabulary, Vocabulary) else Vocabulary.load(_path(vocabulary, "vocabulary"))


def described(vocabulary: Vocabulary) -> str:
    """A vocabulary for people."""
    return f"{vocabulary.name or 'given'}, {len(vocabulary):,} words"


def known_to_tokenizer(vocabulary: Vocabulary, side: Side) -> np.ndarray:
    """Which words (bool) the model's tokenizer knows. Raises ProbeError where there is no tokenizer."""
    if side.tokenizer is None:
        raise ProbeError(f"{side.name} has no tokenizer, and words need one; give tokenizer=.")
    return vocabulary.token_ids(side.tokenizer).known


def _path(given: Any, name: str) -> str | Path:
    if isinstance(given, (str, Path)):
        return given
    expected = {"vocabulary": "an itlens.Vocabulary", "vectors": "itlens.WordVectors"}[name]
    raise ProbeError(f'{name} is a {type(given).__name__}; expected "builtin", a file, or {expected}.')
