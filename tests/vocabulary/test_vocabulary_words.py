"""Vocabularies: order, duplicates, frequencies, files in their formats, and each wrong input with its sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itlens import ModelError, ResultError, StoreError, Vocabulary
from tests.tiny import tiny_tokenizer

ODD = [
    "a=b",
    "a|b",
    "x|||y",
    '"',
    "''",
    "``",
    '"quoted"',
    "naïve",
    "Ünïcode",
    "🙂",
    "👩‍👩‍👧",
    "日本語",
    "\u200b",
    "\xa0x",
    "#",
    "\\t",
]


def written(folder: Path, content: str | bytes, name: str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def test_order_is_kept_and_the_first_of_two_equal_words_stays() -> None:
    vocabulary = Vocabulary(["the", "of", "The", "of", "the", "a b"])
    assert vocabulary.words == ("the", "of", "The", "a b")
    assert (vocabulary.duplicates, vocabulary.frequencies, vocabulary.name, len(vocabulary)) == (2, None, "", 4)
    assert list(vocabulary) == ["the", "of", "The", "a b"]


def test_frequencies_sort_and_equal_ones_stay_in_the_order_given() -> None:
    vocabulary = Vocabulary(["c", "a", "b", "d", "a"], [2, 5, 2, 9, 7])
    assert vocabulary.words == ("d", "a", "c", "b")
    assert vocabulary.frequencies is not None and vocabulary.frequencies.tolist() == [9.0, 7.0, 2.0, 2.0]
    assert vocabulary.duplicates == 1


def test_the_fingerprint_says_words_and_order_and_nothing_else() -> None:
    one = Vocabulary(["a", "b,c"], name="x").fingerprint
    assert one == Vocabulary(["b,c", "a"], [1, 2]).fingerprint
    others = [["b,c", "a"], ["a", "b", "c"], ["a", "b,", "c"], ['a", "b,c'], ["a\nb,c"], ["a", "b,ć"]]
    assert len({one, *(Vocabulary(words).fingerprint for words in others)}) == 7
    assert one.startswith("sha256:") and len(one) == 23


def test_a_text_file_has_a_word_a_line_and_nothing_is_stripped(tmp_path: Path) -> None:
    path = written(tmp_path, "\n".join([*ODD, "New York", " lead", "trail ", "tab\tinside", ""]), "words.txt")
    vocabulary = Vocabulary.load(path)
    assert vocabulary.words == (*ODD, "New York", " lead", "trail ", "tab\tinside")
    assert vocabulary.name == "words.txt" and vocabulary.frequencies is None


def test_a_table_splits_at_the_last_tab_and_is_sorted(tmp_path: Path) -> None:
    rows = [(word, number + 1) for number, word in enumerate([*ODD, "tab\tinside", "1\t2", " x "])]
    path = written(tmp_path, "".join(f"{word}\t{number}\n" for word, number in rows), "words.tsv")
    vocabulary = Vocabulary.load(path)
    assert vocabulary.words == tuple(word for word, _ in reversed(rows))
    assert vocabulary.frequencies is not None and vocabulary.frequencies[0] == len(rows)
    assert Vocabulary.load(written(tmp_path, path.read_bytes(), "words.txt")).words == vocabulary.words


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), min_size=1).filter(str.strip),
        min_size=1,
        unique=True,
    )
)
def test_any_words_survive_a_table(tmp_path: Path, words: list[str]) -> None:
    path = written(tmp_path, "".join(f"{word}\t{1 / n}\n" for n, word in enumerate(words, 1)), "any.tsv")
    assert Vocabulary.load(path).words == tuple(words)


def test_windows_lines_a_byte_order_mark_blank_lines_and_a_size(tmp_path: Path) -> None:
    path = written(tmp_path, b"\xef\xbb\xbfthe\r\n\r\nof\r\nto\r\n\r\n", "words.txt")
    assert Vocabulary.load(path).words == ("the", "of", "to")
    assert Vocabulary.load(str(path), size=2).words == ("the", "of")
    assert Vocabulary.load(path, size=9).words == ("the", "of", "to")
    table = Vocabulary.load(written(tmp_path, "a\t1\nb\t3\nc\t2\n", "w.tsv"), size=2)
    assert table.words == ("b", "c")
    assert table.frequencies is not None and table.frequencies.tolist() == [3.0, 2.0]


def test_a_size_gives_the_fingerprint_of_the_short_list(tmp_path: Path) -> None:
    path = written(tmp_path, "a\nb\nc\n", "w.txt")
    assert Vocabulary.load(path, size=2).fingerprint == Vocabulary(["a", "b"]).fingerprint


@pytest.mark.parametrize(
    ("words", "frequencies", "message"),
    [
        ([], None, "an empty list of words"),
        ("word", None, "takes a list of words, not 'word'"),
        (None, None, "takes a list of words, not None"),
        (["a", 3], None, r"word 1 \(from 0\) is 3, not a string"),
        (["a", ""], None, r"word 1 \(from 0\), '', is empty"),
        (["a", " \t"], None, "is empty; leave it out"),
        (["a", "b\0"], None, "holds a NUL or half a character"),
        (["\ud83d"], None, "holds a NUL or half a character"),
        (["a", "b"], [1], r"got 2 words and frequencies of shape \(1,\)"),
        (["a", "b"], [1, -1], r"frequency of word 1 \(from 0\) is -1"),
        (["a", "b"], [np.nan, 1], r"frequency of word 0 \(from 0\) is nan"),
        (["a"], ["many"], "frequencies must be numbers"),
    ],
)
def test_wrong_words_are_refused(words: object, frequencies: object, message: str) -> None:
    with pytest.raises(ResultError, match=message):
        Vocabulary(words, frequencies)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "3"])
def test_a_wrong_size_is_refused(size: object) -> None:
    with pytest.raises(ResultError, match="expected a whole number of at least 1"):
        Vocabulary.load("builtin", size=size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "", "holds no words"),
        ("blank.tsv", "\n \n", "holds no words"),
        ("latin.txt", b"a\ncaf\xe9\n", "line 2 is not UTF-8"),
        ("binary.txt", b"\x80\x04\0\0", "is not a text file"),
        ("words.csv", "a,1\n", r"a word a line\) or TSV"),
        ("header.tsv", "word\tfrequency\na\t1\n", "line 1: .*take it out if it is a header"),
        ("plain.tsv", "a\t1\nb\n", "line 2: expected a word, a tab and a frequency"),
        ("nan.tsv", "a\tnan\n", "a finite number of at least 0"),
        ("blankword.tsv", "a\t1\n\t2\n", "line 2"),
        ("late.txt", "a\t1\nb\n", "line 2"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        Vocabulary.load(written(tmp_path, content, name))
    assert name in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such file"):
        Vocabulary.load(tmp_path / "none.txt")
    with pytest.raises(StoreError, match="it is a folder"):
        Vocabulary.load(tmp_path)


@pytest.mark.parametrize("kind", ["bytes", "metaspace"])
def test_a_tokenizers_own_words_are_its_tokens_that_begin_a_word(kind: str) -> None:
    tokenizer = tiny_tokenizer(kind)
    space = "Ġ" if kind == "bytes" else "▁"
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    expected = [token[1:] for token in tokens if token[0] == space and any(map(str.isalpha, token[1:]))]
    expected = [word for word in expected if space not in word and word.isascii()]
    vocabulary = Vocabulary.of_tokenizer(tokenizer)
    assert set(expected) <= set(vocabulary.words)
    for word in vocabulary.words:
        pieces = tokenizer.tokenize(" " + word)
        assert pieces[-1].lstrip(space) == word and not "".join(pieces[:-1]).strip(space)
    ids = vocabulary.token_ids(tokenizer)
    assert (np.diff(ids.start) == 1).all() and (np.diff(ids.ids) > 0).all()
    assert Vocabulary.of_tokenizer(tokenizer, size=3).words == vocabulary.words[:3]


def test_a_tokenizer_without_words_and_something_else_are_refused() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    wordless = Tokenizer(models.WordLevel({"<unk>": 0, "1": 1, "!": 2}, unk_token="<unk>"))
    with pytest.raises(ModelError, match="no token that is a whole word"):
        Vocabulary.of_tokenizer(PreTrainedTokenizerFast(tokenizer_object=wordless, unk_token="<unk>"))
    with pytest.raises(ModelError, match="Expected a Hugging Face tokenizer, got str"):
        Vocabulary.of_tokenizer("gpt2")
