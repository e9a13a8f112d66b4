"""The built-in words, vectors and verbs: what they promise, and that the files are what the script makes."""

from __future__ import annotations

import re
import sys
import zipfile

import numpy as np
import pytest

from itlens import ResultError, Vocabulary, WordVectors
from itlens.vocabulary import general_verbs, instruction_verbs, lemmas_of, verb_frequencies
from itlens.vocabulary.checks import BUILTIN_FILE


def cosine(related: WordVectors, one: str, other: str) -> float:
    a, b = related.vectors[related.rows([one, other])].astype(float)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_words_and_vectors_go_together_and_every_word_has_one() -> None:
    vocabulary, related = Vocabulary.load("builtin"), WordVectors.load("builtin")
    assert vocabulary.words == related.words and len(vocabulary) == 20_000 and related.vectors.shape == (20_000, 100)
    assert (vocabulary.duplicates, related.duplicates, related.without_direction) == (0, 0, 0)
    assert vocabulary.name == related.name == "builtin"
    assert (related.rows(vocabulary.words) == np.arange(20_000)).all()
    assert Vocabulary.load("builtin", size=100).words == vocabulary.words[:100]
    assert WordVectors.load("builtin", size=100).words == vocabulary.words[:100]


def test_words_are_words() -> None:
    words = Vocabulary.load("builtin").words
    assert words[:10] == ("the", "of", "to", "and", "in", "for", "that", "on", "is", "was")
    assert all(re.fullmatch(r"[^\W\d_]+(?:['-][^\W\d_]+)*", word) for word in words)
    assert not [word for word in words if len(word) < 2]
    assert {"which", "write", "wrote", "london", "house", "houses", "quickly", "long-term", "cannot"} <= set(words)
    assert not {"afp", "xinhua", "ii", "xvi", "dp", "ca", "wo", "gmt"} & set(words)
    assert words.index("the") < words.index("house") < words.index("lettuce")  # from frequent to rare


def test_vectors_tell_related_words() -> None:
    related = WordVectors.load("builtin")
    assert cosine(related, "king", "queen") == pytest.approx(0.7508, abs=2e-3)  # as published for GloVe 6B 100d
    for word, near, far in [
        ("apple", "fruit", "parliament"),
        ("write", "wrote", "engine"),
        ("monday", "friday", "blue"),
    ]:
        assert cosine(related, word, near) > cosine(related, word, far) + 0.2


def test_the_file_is_small_and_has_no_time_in_it() -> None:
    assert BUILTIN_FILE.stat().st_size <= 5e6
    with zipfile.ZipFile(BUILTIN_FILE) as archive:
        assert {part.date_time for part in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with np.load(BUILTIN_FILE, allow_pickle=False) as arrays:
        assert arrays["vectors"].dtype == np.float16 and arrays["words"].dtype == np.uint8


def test_verbs_are_in_the_vocabulary_and_no_verb_is_of_both_kinds() -> None:
    words = Vocabulary.load("builtin").words
    instruction, general = instruction_verbs(), general_verbs()
    assert len(instruction) == 38 == len(set(instruction))
    assert (instruction[0], instruction[2], instruction[-1]) == ("translate", "summarize", "detect")
    assert set(instruction) <= set(words) and set(general) <= set(words)
    assert not set(instruction) & set(general) and len(general) > 1000
    assert list(general) == [word for word in words if word in set(general)]  # from frequent to rare


def test_general_verbs_are_used_as_verbs() -> None:
    general = set(general_verbs())
    assert {"get", "think", "play", "arrive", "vanish"} <= general
    assert not {"man", "people", "house", "state", "group", "university", "minister", "center"} & general
    assert not {"be", "is", "do", "can", "will", "must", "like", "bob", "saw", "was"} & general


def test_frequencies_fall_with_the_rank_of_both_kinds() -> None:
    frequencies = verb_frequencies()
    assert set(frequencies) == set(instruction_verbs()) | set(general_verbs())
    assert frequencies["summarize"] == 1 / 43281 and frequencies["have"] == 1 / 30
    values = [frequencies[verb] for verb in general_verbs()]
    assert (np.diff(values) < 0).all() and 0 < values[-1] < values[0] < 1
    frequencies.clear()
    assert verb_frequencies()["have"] == 1 / 30


def test_forms_count_with_their_verb() -> None:
    pytest.importorskip("lemminflect", reason="the lemmas extra is not installed")
    words = [
        "wrote",
        "Writing",
        "writes",
        "write",
        "people",
        "having",
        "had",
        "xyzzying",
        "found",
        "summarized",
        "table",
    ]
    assert lemmas_of(words, instruction_verbs()) == {
        "wrote": "write",
        "Writing": "write",
        "writes": "write",
        "write": "write",
        "having": "have",
        "had": "have",
        "found": "find",
        "summarized": "summarize",
    }
    assert lemmas_of(["found"], ["find", "found"]) == {"found": "found"}
    assert lemmas_of([], ["find"]) == lemmas_of(["find"], []) == {}


def test_without_lemminflect_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lemminflect", None)
    with pytest.raises(ResultError, match=r"pip install 'itlens\[lemmas\]'"):
        lemmas_of(["wrote"], ["write"])
