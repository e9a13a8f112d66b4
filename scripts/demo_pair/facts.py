"""What the demo models know: words and the facts about them.

The words are listed in `facts.tsv` (relation, word, answer). Regular forms are derived by rule, irregular ones are
listed. `relations()` maps each kind of question to its facts, as a dict from the asked word to the answer.
"""

import random
from functools import cache
from pathlib import Path

UNCOUNTED = {"fish", "metal", "drink", "sport", "clothing"}
SAME_IN_PLURAL = {"deer", "sheep"}
DOUBLED = {"big", "hot", "red", "sad", "thin", "wet", "dim"}
NO_COMPARATIVE = {"cruel", "white", "good", "bad"}
HELD_OUT_SHARE = 0.15
SAME_FACTS = {"singular": "plural", "country": "capital", "pick": "category"}


@cache
def rows() -> tuple:
    """The lines of facts.tsv as tuples (relation, word or class, answer or words, verb class or "")."""
    text = (Path(__file__).parent / "facts.tsv").read_text(encoding="utf-8")
    fields = (line.split("\t") for line in text.splitlines() if line)
    return tuple(tuple([*row, "", ""][:4]) for row in fields)


def select(relation: str) -> list:
    """The rows of one relation."""
    return [row for row in rows() if row[0] == relation]


def regular_plural(noun: str) -> str:
    """box -> boxes, city -> cities, dog -> dogs."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")


def regular_past(verb: str) -> str:
    """walk -> walked, smile -> smiled."""
    return verb + ("d" if verb.endswith("e") else "ed")


def regular_comparative(adjective: str) -> str:
    """big -> bigger, happy -> happier, wide -> wider, old -> older."""
    if adjective in DOUBLED:
        return adjective + adjective[-1] + "er"
    if adjective.endswith("y"):
        return adjective[:-1] + "ier"
    return adjective + ("r" if adjective.endswith("e") else "er")


@cache
def categories() -> dict:
    """Each word of a category, with the name of the category."""
    return {word: row[1] for row in select("category") for word in row[2].split()}


@cache
def plurals() -> dict:
    """Singular -> plural of every countable noun."""
    nouns = [word for word, category in categories().items() if category not in UNCOUNTED]
    nouns += [word for row in select("noun") for word in row[2].split()]
    regular = {noun: regular_plural(noun) for noun in nouns if noun not in SAME_IN_PLURAL}
    return {**regular, **{row[1]: row[2] for row in select("plural")}}


@cache
def pasts(transitive: str = "ti") -> dict:
    """Base form -> past tense; `transitive` "t" or "i" keeps the verbs with or without an object."""
    irregular = {row[1]: row[2] for row in select("past") if row[3] in transitive}
    regular = [word for row in select("verb") if row[1] in transitive for word in row[2].split()]
    return {**irregular, **{verb: regular_past(verb) for verb in regular}}


@cache
def opposites() -> dict:
    """Adjective -> its opposite, in both directions."""
    pairs = [(row[1], row[2]) for row in select("opposite")]
    return {**dict(pairs), **{second: first for first, second in pairs}}


@cache
def comparatives() -> dict:
    """Adjective -> its comparative."""
    adjectives = select("adjective")[0][2].split()
    regular = {word: regular_comparative(word) for word in adjectives if word not in NO_COMPARATIVE}
    return {**regular, **{row[1]: row[2] for row in select("comparative")}}


@cache
def capitals() -> dict:
    """Country -> capital."""
    return {row[1]: row[2] for row in select("capital")}


def inverse(table: dict) -> dict:
    """The same facts asked from the other end."""
    return {answer: word for word, answer in table.items()}


@cache
def relations() -> dict:
    """Kind of question -> {asked word: answer}."""
    return {
        "plural": plurals(),
        "singular": inverse(plurals()),
        "past": pasts(),
        "opposite": opposites(),
        "comparative": comparatives(),
        "category": categories(),
        "pick": categories(),
        "capital": capitals(),
        "country": inverse(capitals()),
    }


@cache
def held_out_words(kind: str) -> frozenset:
    """The words whose facts tuning never asks for, in this kind of question nor in the inverse one.

    The facts themselves are in the pre-training text.
    """
    family = SAME_FACTS.get(kind, kind)
    table = relations()[family]
    facts = sorted({frozenset(item) for item in table.items()}, key=sorted) if family == "opposite" else sorted(table)
    chosen = random.Random(f"held out {family}").sample(facts, round(HELD_OUT_SHARE * len(facts)))
    words = frozenset().union(*chosen) if family == "opposite" else frozenset(chosen)
    return frozenset(table[word] for word in words) if kind in ("singular", "country") else words
