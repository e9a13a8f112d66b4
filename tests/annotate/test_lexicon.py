"""The offline labeller: tables of lists whose label is plain, and its agreement with lists labelled by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from itlens import AnnotateError
from itlens.annotate import LEVELS, TASKS, Label, lexicon
from itlens.annotate.character_classes import Trait, surface
from itlens.annotate.lexicon_labels import DATA, SUPERSENSES, supersenses, topics
from itlens.vocabulary import Vocabulary

GOLD = [json.loads(line) for line in (Path(__file__).parent / "gold_concepts.jsonl").read_text("utf-8").splitlines()]

# words, level, tasks, and a word of the description; noise stands among them as in real concepts
TABLE = [
    ("Monday Tuesday tax Wednesday Friday is weekly June October tonight lamp yesterday", "semantics", "daily", "days"),
    ("nose ear gravel toe elbow chin Fingers knees of tongue", "semantics", "daily", "body"),
    ("breakfast sofa shirts Uncle bedroom lunch coat of", "semantics", "daily", ""),  # several topics of one task
    ("dragon castle Peru knight princess wizard sword the kingdom", "semantics", "literary", "stories"),
    ("lawsuit judge jury verdict blue prison defendant", "semantics", "professional", "law"),
    ("seven twelve thirty the ninety eleven", "semantics", "mathematics", "numbers"),
    ("theorem polynomial matrix cosine the integral", "semantics", "mathematics", "mathematics"),
    ("def elif printf numpy boat args kwargs", "semantics", "coding", "code"),
    ("French Dutch spoon Korean Hindi Arabic dialect", "semantics", "translation", "languages"),
    ("oak maple elm birch chestnut gravel", "semantics", "literary", "plant"),  # WordNet's supersense alone
    ("unhappy unpaid unfair undo unseen unlock Peru", "morphology", "", "un-"),
    ("kindness sadness illness darkness Peru boldness", "morphology", "", "-ness"),
    ("define defined defines Defining redefine Definition definitions", "morphology", "", "defin"),
    ("non-profit so-called full-time lamp well-known Peru first-class", "morphology", "", "hyphen"),
    ("sunflower wallflower flowerpot mayflower deflower flowerbed", "morphology", "", "flow"),
    ("however therefore nevertheless lamp hence although", "syntax", "", ""),
    ("could would must gravel should might Peru may", "syntax", "", "auxiliaries"),
    ("himself ours Tuesday themselves everyone whoever", "syntax", "", "pronouns"),
    ("stand stork stiff stumpy Stalin store stucco", "phonology", "", "begin with st"),
    ("nation station gyration dictation cation lamp", "morphology", "", "-tion"),
    ("bright kite fight tight knight slight plight", "phonology", "", "ight"),
    ("1987 12 3.5 40% lamp 7,000", "semantics", "mathematics", "digits"),
    ("2019-03-04 12:30 03/04/2001 lamp 1/2/99", "semantics", "daily", "dates"),
    ("https://a.org www.b.net c.com lamp index.html", "semantics", "coding", "web addresses"),
    ("getName my_list foo() :: lamp __init__ -> self.x", "semantics", "coding", "programs"),
    ("дом кот лес lamp река", "", "translation", "Cyrillic"),
    ("東京 日本 lamp 漢字 中国", "", "translation", "Cjk"),
    ("été señor größe lamp français", "", "translation", "accented"),
    (". , ; ! lamp ?", "syntax", "", "punctuation"),
    ("Q J X K lamp Z", "phonology", "", "single letters"),
    ("NATO BBC USB lamp CNN GDP", "morphology", "", "capitals"),
]


@pytest.mark.parametrize(("words", "level", "task", "described"), TABLE, ids=[row[0] for row in TABLE])
def test_a_plain_list_gets_its_label(words: str, level: str, task: str, described: str) -> None:
    label = lexicon()(words.split())
    assert (label.level, label.tasks) == (level, (task,) if task else ())
    assert described in label.description and label.known and label.confidence >= 0.5


def test_fewer_than_half_that_agree_are_no_label_and_half_are() -> None:
    """Body parts among words that share nothing: 7 of 15 are too few, 8 are enough, and the share is the confidence."""
    body = ["nose", "ear", "toe", "elbow", "chin", "knees", "tongue", "thumb"]
    rest = ["gravel", "Peru", "tax", "of", "narrow", "whose", "matrix", "sword"]
    assert lexicon()(body[:7] + rest) == Label.unknown
    label = lexicon()(body + rest[:7])
    assert label.known and label.confidence == 8 / 15 and label.tasks == ("daily",)
    assert Label.unknown.description == "cannot tell" and not Label.unknown.known and Label.unknown.confidence == 0


def test_only_the_first_fifteen_words_count_and_the_answer_is_always_the_same() -> None:
    body = [
        "nose",
        "ear",
        "toe",
        "elbow",
        "chin",
        "knees",
        "tongue",
        "thumb",
        "gravel",
        "Peru",
        "sing",
        "of",
        "narrow",
        "tax",
        "lamp",
    ]
    first = lexicon()(body)
    assert lexicon()([*body, *["seven"] * 35]) == first
    assert all(lexicon()(body) == first for _ in range(3)) and lexicon().seeds == ()
    assert lexicon()([word.upper() if word == "nose" else word for word in body]).level == first.level


@pytest.mark.parametrize("words", [[], ["", " "], "a text", ["one", 2]])
def test_what_is_no_list_of_words_is_refused(words: Any) -> None:
    with pytest.raises(AnnotateError, match="A labeller takes a list of words"):
        lexicon()(words)


def test_a_label_holds_known_tasks_and_levels_only() -> None:
    with pytest.raises(AnnotateError, match="the task 'cooking' is none of daily, literary"):
        Label("x", ("cooking",))
    with pytest.raises(AnnotateError, match="the level 'pragmatics' is none of phonology"):
        Label("x", level="pragmatics")
    for confidence in (-0.1, 1.5, float("nan")):
        with pytest.raises(AnnotateError, match="expected a number from 0 to 1"):
            Label("x", confidence=confidence)


def kappa(ours: list[Any], theirs: list[Any]) -> float:
    """Cohen's kappa: agreement beyond that of two who answer at random, each as often as they do."""
    table = np.array([[sum(pair == (a, b) for pair in zip(ours, theirs, strict=True)) for b in {*ours, *theirs}]
                      for a in {*ours, *theirs}], dtype=float)  # fmt: skip
    table /= table.sum()
    chance = float(table.sum(0) @ table.sum(1))
    return (float(np.trace(table)) - chance) / (1 - chance)


def test_kappa_is_what_the_textbook_says() -> None:
    """Cohen 1960's kind of example: 50 cases, 20 and 15 on the diagonal, 5 and 10 beside it: (0.7 - 0.5) / 0.5."""
    ours = ["yes"] * 25 + ["no"] * 25
    theirs = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert kappa(ours, theirs) == pytest.approx(0.4)


# Cohen's kappa of levels (with "cannot tell"), of telling at all, and of tasks. What the splits are: the first line of
# the file. Only "held out" says how well new lists are labelled: the seed lists were written after reading the others.
@pytest.mark.parametrize(
    ("split", "level", "told", "tasks"),
    [("tune", 0.856, 0.814, 0.817), ("read", 0.878, 0.916, 0.973), ("held out", 0.643, 0.754, 0.423)],
)
def test_agreement_with_lists_labelled_by_hand_is_what_was_measured(
    split: str, level: float, told: float, tasks: float
) -> None:
    rows = [row for row in GOLD[1:] if row["split"] == split]
    labels = [lexicon()(row["words"]) for row in rows]
    assert len(rows) == 75
    assert kappa([row["level"] for row in rows], [label.level for label in labels]) == pytest.approx(level, abs=0.03)
    assert kappa([bool(row["level"]) for row in rows], [label.known for label in labels]) == pytest.approx(
        told, abs=0.03
    )
    each = [
        (task in row["tasks"], task in label.tasks) for row, label in zip(rows, labels, strict=True) for task in TASKS
    ]
    assert kappa([hand for hand, _ in each], [own for _, own in each]) == pytest.approx(tasks, abs=0.03)


def test_the_lists_labelled_by_hand_are_what_their_first_line_says() -> None:
    assert "before any labeller was run on them" in GOLD[0]["about"]
    assert all(len(row["words"]) == 15 and set(row["tasks"]) <= set(TASKS) for row in GOLD[1:])
    assert all(row["level"] in ("", *LEVELS) and (row["level"] or not row["tasks"]) for row in GOLD[1:])
    assert len({tuple(row["words"]) for row in GOLD[1:]}) == 225


def test_words_drawn_at_random_share_nothing() -> None:
    """The null: in 300 lists of random words of the built-in vocabulary, fewer than one in fifty gets a label."""
    words, rng = list(Vocabulary.load("builtin").words), random.Random(0)
    known = sum(lexicon()(rng.sample(words, 15)).known for _ in range(300))
    assert known < 6


def test_the_lists_that_come_along_are_sound() -> None:
    lines = (DATA / "seed_words.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    assert all(len(row) == 4 and row[1] in LEVELS and row[2] in ("", *TASKS) for row in rows)
    assert {row[2] for row in rows} == {"", *TASKS} and len({row[0] for row in rows}) == len(rows)
    assert all(len(row[3].split()) >= 9 and row[3] == row[3].lower() for row in rows)
    assert {topic.name for topic in topics()["twelve"]} == {"cardinal numbers"}
    assert (DATA / "builtin_senses.npz").stat().st_size < 400_000


def test_supersenses_are_those_of_wordnet() -> None:
    """Numbers and names of lexnames(5WN), and words whose first meaning nobody disputes, inflected or not."""
    assert len(SUPERSENSES) == 45 and SUPERSENSES[13] == "noun.food" and SUPERSENSES[38] == "verb.motion"
    expected = {"bread": "noun.food", "horses": "noun.animal", "walked": "verb.motion", "paris": "noun.location"}
    assert {word: supersenses(word)[0] for word in expected} == expected
    assert supersenses("quickly") == ("adv.all",) and supersenses("xqzt") == ()
    with np.load(DATA / "builtin_senses.npz") as archive:
        assert archive["words"].tobytes().count(b"\n") + 1 == archive["supersenses"].shape[1]


@pytest.mark.parametrize("word", ["lamp", "Lamp", "follow-up", "it's", "don't", "real-time", "NATO"])
def test_plain_words_are_no_special_tokens(word: str) -> None:
    assert surface(word) is None


def test_the_class_of_a_token_is_told_by_its_characters() -> None:
    assert surface("http://x.org/y") == Trait("surface", "web addresses", "semantics", "coding")
    kinds = {
        "1999": "dates and times of the clock",
        "3rd": "numbers in digits",
        "camelCase": "names and signs of programs",
    }
    assert {word: trait.description for word in kinds if (trait := surface(word))} == kinds
