"""Word vectors in files: GloVe and word2vec text, .npz archives, and what is broken in them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from itlens import ItlensError, ResultError, StoreError, Vocabulary, WordVectors

WORDS = ["the", ",", "a=b", "x|y", "🙂", "naïve", '"', "tab\tinside", ". . .", "at name@domain.com", "1", "World War 2"]
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 5)).astype(np.float32)


def lines(words: list[str] = WORDS, vectors: np.ndarray = VECTORS, end: str = "\n") -> str:
    return "".join(f"{word} {' '.join(map(repr, row))}{end}" for word, row in zip(words, vectors.tolist(), strict=True))


def written(folder: Path, content: str | bytes, name: str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])  # fastText ends its lines with a space
@pytest.mark.parametrize("header", ["", "12 5\n"])
@pytest.mark.parametrize("name", ["v.txt", "v.vec", "v"])
def test_text_files_give_every_word_its_numbers(tmp_path: Path, end: str, header: str, name: str) -> None:
    related = WordVectors.load(written(tmp_path, header + lines(end=end), name))
    assert related.words == tuple(WORDS) and np.array_equal(related.vectors, VECTORS)
    assert related.name == name and related.duplicates == 0


def test_a_file_without_its_last_line_end_and_with_blank_lines(tmp_path: Path) -> None:
    related = WordVectors.load(written(tmp_path, "\n" + lines()[:-1] + "\n\n", "v.txt"))
    assert related.words == tuple(WORDS) and np.array_equal(related.vectors, VECTORS)


def test_numbers_in_any_notation(tmp_path: Path) -> None:
    related = WordVectors.load(written(tmp_path, "a 1 -2.5e-3 .5\nb +1. 0 -0\n", "v.txt"))
    assert np.array_equal(related.vectors, np.array([[1, -2.5e-3, 0.5], [1, 0, 0]], dtype=np.float32))


def test_only_the_words_asked_for_or_the_first_ones(tmp_path: Path) -> None:
    path = written(tmp_path, lines(), "v.txt")
    some = WordVectors.load(path, words=Vocabulary(["🙂", "absent", ". . .", "the"]))
    assert some.words == ("the", "🙂", ". . .")
    assert np.array_equal(some.vectors, VECTORS[[0, 4, 8]])
    assert WordVectors.load(path, size=3).words == tuple(WORDS[:3])
    assert WordVectors.load(path, words=["🙂", "the"], size=3).words == ("the",)
    archive = tmp_path / "v.npz"
    np.savez(archive, words=np.array(WORDS), vectors=VECTORS)
    some = WordVectors.load(archive, words=["🙂", "the", "absent"])
    assert some.words == ("the", "🙂") and np.array_equal(some.vectors, VECTORS[[0, 4]])
    assert WordVectors.load(archive, words=["🙂", "the"], size=3).words == ("the",)


def test_more_words_than_one_block_of_memory(tmp_path: Path) -> None:
    words, vectors = [f"w{number}" for number in range(5000)], np.arange(10_000.0).reshape(5000, 2)
    related = WordVectors.load(written(tmp_path, lines(words, vectors), "v.txt"))
    assert related.words == tuple(words) and np.array_equal(related.vectors, vectors)
    assert related.vectors.shape == (5000, 2)


def test_words_that_come_twice_are_counted(tmp_path: Path) -> None:
    related = WordVectors.load(written(tmp_path, "a 1 2\nb 3 4\na 5 6\n", "v.txt"))
    assert related.words == ("a", "b") and related.duplicates == 1 and related.vectors[0].tolist() == [1, 2]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_archives_keep_any_word(tmp_path: Path, dtype: type) -> None:
    for number, words in enumerate([np.array(WORDS), np.frombuffer("\n".join(WORDS).encode(), dtype=np.uint8)]):
        path = tmp_path / f"{number}.npz"
        np.savez_compressed(path, words=words, vectors=VECTORS.astype(dtype))
        related = WordVectors.load(path)
        assert related.words == tuple(WORDS)
        assert np.array_equal(related.vectors, VECTORS.astype(dtype).astype(np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no word vectors"),
        ("\n\n", "holds no word vectors"),
        ("a\nb\n", "line 1: expected a word and numbers"),
        ("a 1 2\nb 3\n", "line 2: expected a word and 2 numbers.*'b 3' with 1 columns"),
        ("a 1 2\nb 3 4\nc 0.5 6.0 7.0\n", "line 3: expected a word and 2 numbers.*with 3 columns"),
        ("a 1 2\nb x 4\n", "line 2: expected a word and 2 numbers"),
        ("a 1 2\n\nb 3 4\nc 5", "line 4: "),
        ("2 3\na 1 2 3\nb 1 2\n", "line 3: expected a word and 3 numbers"),
        (b"a 1 2\ncaf\xe9 3 4\n", "line 2: .*UTF-8"),
        (b"3000 300\nthe \x00\x81\xff \xfe\xfe\n\x93", "line 2: .*a binary or compressed file"),
        (b"\x1f\x8b\x08\x00\x11\x22\x33", "line 1: .*a binary or compressed file"),
    ],
)
def test_broken_text_files_are_refused_with_the_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        WordVectors.load(written(tmp_path, content, "vectors.txt"))
    assert "vectors.txt" in str(caught.value)


def test_a_line_that_is_not_asked_for_must_be_whole_as_well(tmp_path: Path) -> None:
    path = written(tmp_path, "a 1 2\nb 3\nc 5 6\n", "v.txt")
    with pytest.raises(StoreError, match="line 2"):
        WordVectors.load(path, words=["c"])


def test_nan_in_a_file_names_the_word(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="vector of 'b' holds NaN"):
        WordVectors.load(written(tmp_path, "a 1 2\nb nan 4\n", "v.txt"))


def test_nothing_asked_for_is_there(tmp_path: Path) -> None:
    path = written(tmp_path, lines(), "v.txt")
    with pytest.raises(StoreError, match="no vector for any word of the 2 words asked for"):
        WordVectors.load(path, words=["The", "absent"])
    with pytest.raises(ResultError, match="an empty list of words"):
        WordVectors.load(path, words=[])
    with pytest.raises(ResultError, match="takes a list of words, not 'the'"):
        WordVectors.load(path, words="the")
    with pytest.raises(ResultError, match="size is 0"):
        WordVectors.load(path, size=0)


def test_missing_files_and_other_formats_are_refused(tmp_path: Path) -> None:
    for name in ("none.txt", "none.vec", "none.npz"):
        with pytest.raises(StoreError, match=rf"{name}.*[Nn]o such file"):
            WordVectors.load(tmp_path / name)
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(StoreError, match="folder"):
        WordVectors.load(tmp_path / "folder.txt")
    for name in ("v.bin", "v.txt.gz", "v.npy", "v.pkl", "absent.zip"):
        with pytest.raises(StoreError, match="are read from text"):
            WordVectors.load(written(tmp_path, b"\x80", name))


def test_broken_archives_are_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    np.savez(whole, words=np.array(WORDS), vectors=VECTORS)
    path = tmp_path / "broken.npz"
    for content in (b"", b"PK\x03\x04", whole.read_bytes()[:-100], pickle.dumps(VECTORS), b"text"):
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"broken\.npz is no archive of word vectors"):
            WordVectors.load(path)
    np.save(path.open("wb"), VECTORS)
    with pytest.raises(StoreError, match="it is a single array"):
        WordVectors.load(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"vectors": VECTORS}, "no array is called 'words', but vectors"),
        ({"words": np.array(WORDS), "rows": VECTORS}, "no array is called 'vectors', but words, rows"),
        ({"words": np.array(WORDS, dtype=object), "vectors": VECTORS}, r"expected np.savez .* dtype=str"),
        ({"words": np.arange(12), "vectors": VECTORS}, "expected one string per word"),
        ({"words": np.array([WORDS]), "vectors": VECTORS}, "expected one string per word"),
        ({"words": np.array([b"\xff"] * 12), "vectors": VECTORS}, "not UTF-8"),
        ({"words": np.array(WORDS[:3]), "vectors": VECTORS}, "got 3 words and 12 vectors"),
        ({"words": np.array(WORDS), "vectors": VECTORS[0]}, "a row per word"),
        ({"words": np.array(WORDS), "vectors": np.float32(1)}, "a row per word"),
        ({"words": np.array(WORDS), "vectors": VECTORS * np.nan}, "vector of 'the' holds NaN"),
    ],
)
def test_archives_with_other_content_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = tmp_path / "v.npz"
    np.savez(path, **arrays)
    with pytest.raises(ItlensError, match=message):
        WordVectors.load(path)


def test_a_header_that_claims_terabytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="line 1: its header says that a vector has 999999999 numbers"):
        WordVectors.load(written(tmp_path, "999999999999 999999999\na 1 2\n", "vectors.txt"))
