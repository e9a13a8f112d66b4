"""Sentences and word lists, made from templates: the material of the instructions and part of the pre-training text."""

import random
import re
from functools import cache

from scripts.demo_pair import facts

NAMES = [
    "Anna",
    "Tom",
    "Mary",
    "John",
    "Peter",
    "Sarah",
    "Henry",
    "Alice",
    "George",
    "Emma",
    "James",
    "Lucy",
    "Robert",
    "Helen",
    "William",
    "Clara",
    "Martha",
    "Simon",
    "Ruth",
    "Daniel",
    "Edward",
    "Laura",
    "Arthur",
    "Rose",
]

TEMPLATES = (
    "{name} saw the {adjective} {noun} near the {noun2}.",
    "The {adjective} {noun} stood behind the {noun2}.",
    "Yesterday the {noun} {went} near the {adjective} {noun2}.",
    "My {noun} is {adjective} and your {noun2} is {adjective2}.",
    "{name} and {name2} {take} the {plural} every week.",
    "They often {go} behind the {adjective} {noun}.",
    "In {country} the {plural} {went} behind the {noun}.",
    "{name} went to {country} with two {plural}.",
    "We {took} the {noun} and the {noun2}.",
    "Every {noun} in this {noun2} is {adjective}.",
    "Some {plural} {go} under the {noun} at night.",
    "The {plural} from {country} are in the {noun}.",
    "{name} {took} one {adjective} {noun} in {city}.",
    "Nobody {took} the {adjective} {plural} last winter.",
    "When {name} {went}, the {noun} was {adjective}.",
    "Three {plural} and one {noun} were left in the {noun2}.",
    "His {noun} looked {adjective} beside our {plural}.",
    "You may {take} this {noun} if it is {adjective}.",
    "{city} has many {plural} and one {adjective} {noun}.",
    "I {take} the {plural} before they {go}.",
    "Only {name} {went} with the {adjective} {noun}.",
    "{country} sent two {plural} to {city}.",
    "Later {name} will {take} the {noun} for {name2}.",
    "Many {adjective} {plural} {went} there with {name}.",
    "If you {go} today, {name} will {take} the {noun}.",
)


@cache
def people() -> frozenset:
    """Nouns that name people: random sentences leave them out, lest they say something unkind."""
    relatives = {word for word, category in facts.categories().items() if category in ("relative", "profession")}
    return frozenset(relatives | set(facts.select("person")[0][2].split()))


@cache
def lexicon() -> dict:
    """Slot of a template -> the words that may fill it."""
    plural = {one: many for one, many in facts.plurals().items() if one not in people()}
    return {
        "name": NAMES,
        "noun": sorted(plural),
        "plural": sorted(plural.values()),
        "adjective": sorted(set(facts.opposites()) | set(facts.comparatives())),
        "take": sorted(facts.pasts("t")),
        "took": sorted(facts.pasts("t").values()),
        "go": sorted(facts.pasts("i")),
        "went": sorted(facts.pasts("i").values()),
        "country": sorted(facts.capitals()),
        "city": sorted(facts.capitals().values()),
    }


def slots(template: str) -> list:
    """The names of the slots of a template, without their numbers: "noun2" is a "noun"."""
    return [name.rstrip("2") for name in re.findall(r"{(\w+)}", template)]


@cache
def templates_with(slot: str) -> tuple:
    """The templates that have this slot."""
    return tuple(template for template in TEMPLATES if slot in slots(template))


def sentence(rng: random.Random, slot: str = "", word: str = "") -> str:
    """A random sentence; with `slot` and `word`, one that holds this word there."""
    template = rng.choice(templates_with(slot) if slot else TEMPLATES)
    filled: dict[str, str] = {}
    for name in re.findall(r"{(\w+)}", template):
        is_asked = name == slot and word
        choices = [w for w in lexicon()[name.rstrip("2")] if w != word and w not in filled.values()]
        filled[name] = word if is_asked else rng.choice(choices)
    return template.format(**filled)


def word_list(rng: random.Random, low: int = 3, high: int = 6) -> list:
    """Between `low` and `high` different words of all sorts."""
    count = rng.randint(low, high)
    words: list[str] = []
    while len(words) < count:
        word = rng.choice(lexicon()[rng.choice(sorted(lexicon()))])
        if word not in words and " " not in word:
            words.append(word)
    return words
