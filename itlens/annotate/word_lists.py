"""The word lists behind the lexicon labeller: topics written by hand, and WordNet's supersenses.

Both stand in itlens/data: `seed_words.tsv` (topic, level, task, words) and `builtin_senses.npz`. They are read once.
"""

# ruff: noqa: SIM905

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "data"

# lexnames(5WN), in the order of its numbers
SUPERSENSES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition "
    "noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object "
    "noun.person noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape "
    "noun.state noun.substance noun.time verb.body verb.change verb.cognition verb.communication verb.competition "
    "verb.consumption verb.contact verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social "
    "verb.stative verb.weather adj.ppl"
).split()

_ENDINGS = (("ies", "y"), ("es", "e"), ("es", ""), ("s", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", ""))


@dataclass(frozen=True)
class Topic:
    """A list of words written by hand. level: of a label that rests on it. task: one of TASKS, or "" for none."""

    name: str
    level: str
    task: str


@cache
def topics() -> dict[str, tuple[Topic, ...]]:
    """The topics of each word, in lower case."""
    found: dict[str, list[Topic]] = defaultdict(list)
    lines = (DATA / "seed_words.tsv").read_text(encoding="utf-8").splitlines()
    for line in lines[1:]:
        name, level, task, words = line.split("\t")
        for word in dict.fromkeys(words.split()):
            found[word].append(Topic(name, level, task))
    return {word: tuple(several) for word, several in found.items()}


@cache
def _senses() -> dict[str, tuple[str, ...]]:
    with np.load(DATA / "builtin_senses.npz") as archive:
        words = archive["words"].tobytes().decode("utf-8").split("\n")
        numbers = archive["supersenses"].T.tolist()
    return {
        word: tuple(SUPERSENSES[number] for number in row if number < len(SUPERSENSES))
        for word, row in zip(words, numbers, strict=True)
    }


def is_listed(word: str) -> bool:
    """Whether WordNet has the word as it stands, in lower case."""
    return word in _senses()


def supersenses(word: str) -> tuple[str, ...]:
    """At most three supersenses of a word in lower case, from frequent to rare; none where WordNet has none.

    An inflected form that is not listed has those of its base form.
    """
    table = _senses()
    if word in table:
        return table[word]
    for ending, instead in _ENDINGS:
        base = word[: len(word) - len(ending)] + instead
        if word.endswith(ending) and len(base) > 2 and base in table:
            return table[base]
    return ()
