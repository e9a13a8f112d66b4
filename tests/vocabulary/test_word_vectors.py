"""Word vectors from arrays: look-ups, what has no direction, and each wrong input with its sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itlens import ResultError, WordVectors

WORDS = ["cat", "Dog", "a=b|c", "🙂"]
VECTORS = np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5], [-1.0, 4.0]])


def test_rows_are_exact_matches_and_nothing_is_guessed() -> None:
    related = WordVectors(WORDS, VECTORS)
    asked = ["🙂", "cat", "Cat", "dog", "cats", "a=b|c", "", "cat "]
    assert related.rows(asked).tolist() == [3, 0, -1, -1, -1, 2, -1, -1]
    assert related.rows([]).shape == (0,) and related.rows([]).dtype == np.int64
    assert related.words == tuple(WORDS) and len(related) == 4 and related.name == ""


def test_vectors_stay_as_given_in_float32() -> None:
    for vectors in (VECTORS, VECTORS.astype(np.float16), VECTORS.tolist(), torch.tensor(VECTORS)):
        related = WordVectors(WORDS, vectors)
        assert related.vectors.dtype == np.float32 and np.array_equal(related.vectors, VECTORS)


def test_of_a_word_given_twice_the_first_is_kept() -> None:
    related = WordVectors(["a", "b", "a", "c", "b"], np.arange(10.0).reshape(5, 2) + 1)
    assert related.words == ("a", "b", "c") and related.duplicates == 2
    assert related.vectors.tolist() == [[1, 2], [3, 4], [7, 8]]
    assert related.rows(["c", "b"]).tolist() == [2, 1]


def test_a_vector_of_zeros_has_no_direction_and_is_unknown() -> None:
    tiny = 1e-30  # its square is zero in float32, so no cosine can be had from it either
    related = WordVectors(["zero", "a", "tiny"], [[0, 0], [1, 0], [tiny, tiny]])
    assert related.rows(["zero", "a", "tiny"]).tolist() == [-1, 1, -1]
    assert related.without_direction == 2 and len(related) == 3


def test_the_fingerprint_says_words_and_vectors() -> None:
    one = WordVectors(WORDS, VECTORS, name="x").fingerprint
    assert one == WordVectors(WORDS, np.asfortranarray(VECTORS)).fingerprint
    assert one.startswith("sha256:") and len(one) == 23
    changed = VECTORS.copy()
    changed[0, 0] += 1e-3
    others = [(WORDS, changed), (WORDS[::-1], VECTORS), (WORDS[:2], VECTORS.reshape(2, 4))]
    assert len({one, *(WordVectors(words, vectors).fingerprint for words, vectors in others)}) == 4


@pytest.mark.parametrize(
    ("words", "vectors", "message"),
    [
        ([], np.zeros((0, 2)), "an empty list of words"),
        ("cat", VECTORS, "takes a list of words"),
        (["cat", None, "c", "d"], VECTORS, r"word 1 \(from 0\) is None"),
        (["a\ud83d", "b", "c", "d"], VECTORS, "half a character"),
        (WORDS[:3], VECTORS, "got 3 words and 4 vectors"),
        (WORDS, VECTORS[:, 0], r"shape \(4,\); expected numbers, a row per word"),
        (WORDS, VECTORS[None], r"shape \(1, 4, 2\)"),
        (WORDS, VECTORS[:, :0], r"shape \(4, 0\)"),
        (WORDS, VECTORS + 1j, "array of complex128"),
        (WORDS, np.array(WORDS)[:, None], "array of <U"),
        (WORDS, [[1], [1, 2], [3], [4]], "no array of numbers, a row per word"),
        (WORDS, [[1, 1], [1, np.nan], [np.inf, 1], [1, 1]], r"vector of 'Dog' holds NaN.*\(2 of 4 words\)"),
        (WORDS, [[1, 1], [1, 1], [1, -np.inf], [1, 1]], r"vector of 'a=b\|c' holds NaN, infinity"),
        (WORDS, [[1e300, 1], [1, 1], [1, 1], [1, 1]], "vector of 'cat' holds NaN, infinity or numbers too large"),
    ],
)
def test_wrong_arrays_are_refused(words: object, vectors: object, message: str) -> None:
    with pytest.raises(ResultError, match=message):
        WordVectors(words, vectors)  # type: ignore[arg-type]
