"""Labels from word lists: no network, no model, and the same answer every time.

1. Every word gets traits: topics written by hand (itlens/data/seed_words.tsv: topic, level, task, words), WordNet's
   supersenses (itlens/data/builtin_senses.npz), grammatical classes, families of forms, and what its characters say.
2. A trait that enough of the words have may be the label: at least half of them, and more for traits that many words
   of any list have (`_NEEDED`).
3. Topics come first, then grammatical class, affixes and families, supersenses, other forms, and sound (`_ORDER`);
   within one of these the trait of most words wins. Function words and sentence adverbs count as grammar, whatever
   they mean; and where an affix is shared, so is what it means ("-er": people).
4. Tasks: that of the label's topic, and every task that at least half of the words serve by any topic.

It knows the words and topics in its lists and no others: it reads no word in its context, sees no meaning that a list
of words does not name, and cannot read languages other than English.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from itlens.annotate.character_classes import Trait, affixes, case, inside, parts, sounds, surface
from itlens.annotate.labels import TASKS, Label, top_words

DATA = Path(__file__).parents[1] / "data"

# lexnames(5WN), in the order of its numbers
SUPERSENSES = [
    "adj.all",
    "adj.pert",
    "adv.all",
    "noun.Tops",
    "noun.act",
    "noun.animal",
    "noun.artifact",
    "noun.attribute",
    "noun.body",
    "noun.cognition",
    "noun.communication",
    "noun.event",
    "noun.feeling",
    "noun.food",
    "noun.group",
    "noun.location",
    "noun.motive",
    "noun.object",
    "noun.person",
    "noun.phenomenon",
    "noun.plant",
    "noun.possession",
    "noun.process",
    "noun.quantity",
    "noun.relation",
    "noun.shape",
    "noun.state",
    "noun.substance",
    "noun.time",
    "verb.body",
    "verb.change",
    "verb.cognition",
    "verb.communication",
    "verb.competition",
    "verb.consumption",
    "verb.contact",
    "verb.creation",
    "verb.emotion",
    "verb.motion",
    "verb.perception",
    "verb.possession",
    "verb.social",
    "verb.stative",
    "verb.weather",
    "adj.ppl",
]

_ENDINGS = (("ies", "y"), ("es", "e"), ("es", ""), ("s", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", ""))

# Supersenses that say nothing of a topic: too wide, or (noun.Tops) the words for the supersenses themselves.
_WIDE = {"adj.all", "adj.pert", "adj.ppl", "adv.all", "noun.Tops", "verb.stative", "noun.attribute", "noun.state"}
_SENSE_TASK = {
    "noun.food": "daily",
    "noun.body": "daily",
    "noun.time": "daily",
    "noun.feeling": "daily",
    "verb.consumption": "daily",
    "noun.quantity": "mathematics",
    "noun.shape": "mathematics",
    "noun.animal": "literary",
    "noun.plant": "literary",
    "noun.object": "literary",
    "verb.weather": "literary",
    "noun.possession": "professional",
}
_SENSE_NAME = {"noun.object": "natural objects", "noun.artifact": "things people make", "noun.person": "people"}
# The share of the words that a trait needs. A half is the rule; what is common in any list needs more.
_NEEDED = {"sense": 0.6, "verbs": 0.6, "inside": 0.9}
_ORDER = (
    ("surface", "topic"),
    ("task", "families"),
    ("class",),
    ("grammar",),
    ("affix", "family"),
    ("sense",),
    ("plural", "part", "verbs", "case"),
    ("sound",),
    ("inside",),
)
_RANK = {kind: rank for rank, kinds in enumerate(_ORDER) for kind in kinds}
_STEM = 5
_GRAMMAR = Trait("grammar", "function words and sentence adverbs", "syntax")


class Lexicon:
    """The offline labeller: call it with words, the strongest first."""

    name = "lexicon"
    seeds: tuple[int, ...] = ()  # it always says the same

    def __call__(self, words: Sequence[str], *, seed: int | None = None) -> Label:
        """Return the label of the first 15 words. Raises AnnotateError for anything but a list of words."""
        kept = top_words(words)
        votes = _votes(kept)
        best = _best(votes, len(kept))
        if best is None:
            return Label.unknown
        trait, count = best
        tasks = _tasks(kept, trait)
        return Label(f"{trait.description}: {', '.join(kept[:5])}", tasks, trait.level, count / len(kept))

    def __repr__(self) -> str:
        return "lexicon()"


def lexicon() -> Lexicon:
    """Return the labeller that comes with itlens: word lists and rules, offline, the same answer every time."""
    return Lexicon()


def _votes(words: list[str]) -> Counter[Trait]:
    """How many of the words have each trait."""
    votes = Counter(trait for word in words for trait in _traits(word))
    # for what the spelling says, "Over" and "over" are one word
    votes += Counter(trait for word in dict.fromkeys(word.lower() for word in words) for trait in _spelling(word))
    return votes + _families(words) + _joined(words)


def _traits(word: str) -> set[Trait]:
    """The traits of one word apart from its spelling."""
    traits = {trait for trait in (surface(word), case(word)) if trait is not None}
    low = word.lower()
    grammatical = [topic for topic in topics().get(low, ()) if topic.level == "syntax"]
    traits |= {Trait("class", topic.name, "syntax") for topic in grammatical}
    traits |= {_GRAMMAR} if grammatical else set()
    traits |= {
        Trait("topic", topic.name, topic.level, topic.task)
        for topic in topics().get(low, ())
        if topic.level != "syntax"
    }
    return traits | (_sense_traits(low) if not grammatical else set())


def _sense_traits(word: str) -> set[Trait]:
    """What WordNet says: the supersense of the word's first meanings, and whether it is a verb or an adverb first."""
    senses = supersenses(word)
    if not senses:
        return set()
    found = {Trait("sense", _sense_name(s), "semantics", _SENSE_TASK.get(s, "")) for s in senses[:1] if s not in _WIDE}
    if senses[0].startswith("verb."):
        found.add(Trait("verbs", "verbs", "syntax"))
    if senses[0] == "adv.all":
        found.add(_GRAMMAR)
    if word.endswith("s") and not word.endswith("ss") and senses[0].startswith("noun."):
        found.add(Trait("plural", "plurals in -s", "morphology"))
    return found


def _sense_name(sense: str) -> str:
    kind, _, name = sense.partition(".")
    return _SENSE_NAME.get(sense, f"{name} ({kind}s)")


def _spelling(word: str) -> list[Trait]:
    compounds = [Trait("part", f"words with {part} in them", "morphology") for part in parts(word) if is_listed(part)]
    return [*affixes(word), *sounds(word), *compounds, *inside(word)]


def _families(words: list[str]) -> Counter[Trait]:
    """Forms of one word, and lists that consist of two or three such families: those have a topic, though unnamed.

    Words of a family have their first five letters in common (all, if they are shorter).
    """
    sizes = Counter(_stem(word.lower()) for word in words)
    large = [(stem, size) for stem, size in sizes.most_common(3) if size > 2]
    if not large:
        return Counter()
    found = Counter({Trait("family", f"forms of {large[0][0]}-", "morphology"): large[0][1]})
    if len(large) > 1:
        names = ", ".join(f"{stem}-" for stem, _ in large)
        found[Trait("families", f"forms of {names}", "semantics")] = sum(size for _, size in large)
    return found


def _joined(words: list[str]) -> Counter[Trait]:
    """Several topics of one task, where none of them has enough words by itself."""
    found: Counter[Trait] = Counter()
    for task in TASKS:
        served = [topic.name for word in words for topic in topics().get(word.lower(), ()) if topic.task == task]
        names = ", ".join(name for name, _ in Counter(served).most_common(2))
        count = sum(task in _served(word) for word in words)
        if count:
            found[Trait("task", names, "semantics", task)] = count
    return found


def _stem(word: str) -> str:
    for ending in ("ing", "ies", "es", "ed", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) > 2:
            return word[: len(word) - len(ending)][:_STEM]
    return word[:_STEM]


def _best(votes: Counter[Trait], words: int) -> tuple[Trait, int] | None:
    """The trait that decides, and how many of the words have it."""
    passed = [(t, count) for t, count in votes.items() if count >= max(_NEEDED.get(t.kind, 0.5) * words, min(3, words))]
    if not passed:
        return None
    return min(passed, key=_preference)


def _preference(item: tuple[Trait, int]) -> tuple[int, int, int, Trait]:
    """Step 3; of two equal counts of sounds, the longer one ("st-" rather than "s-")."""
    trait, count = item
    return _RANK[trait.kind], -count, -len(trait.description) if trait.kind == "sound" else 0, trait


def _tasks(words: list[str], trait: Trait) -> tuple[str, ...]:
    """Step 4, in the order of TASKS."""
    if trait.level not in ("semantics", ""):
        return ()
    votes = Counter(task for word in words for task in _served(word))
    return tuple(task for task in TASKS if task == trait.task or votes[task] >= 0.5 * len(words))


def _served(word: str) -> set[str]:
    traits = [surface(word), *(topics().get(word.lower(), ()))]
    return {trait.task for trait in traits if trait is not None and trait.task}


@dataclass(frozen=True)
class Topic:
    """A list of words written by hand. level: of a label that rests on it. task: one of TASKS, or "" for none."""

    name: str
    level: str
    task: str


@cache
def topics() -> dict[str, tuple[Topic, ...]]:
    """Return the topics of each word, in lower case."""
    by_word: dict[str, list[Topic]] = defaultdict(list)
    lines = (DATA / "seed_words.tsv").read_text(encoding="utf-8").splitlines()
    for line in lines[1:]:
        name, level, task, words = line.split("\t")
        for word in dict.fromkeys(words.split()):
            by_word[word].append(Topic(name, level, task))
    return {word: tuple(several) for word, several in by_word.items()}


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
    """Return whether WordNet has the word in this form, in lower case."""
    return word in _senses()


def supersenses(word: str) -> tuple[str, ...]:
    """Return at most three supersenses of a word in lower case, from frequent to rare; none where WordNet has none.

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
