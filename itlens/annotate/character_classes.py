"""Traits of words by their characters, without any dictionary: numbers, code, scripts, affixes, sounds.

Each function takes a word and returns traits: something a word has, as (level, task, description). Words have a trait
in common when their traits are equal.
"""

# ruff: noqa: SIM905

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple


class Trait(NamedTuple):
    """Something words can have in common. kind: which rule found it. task, level: "" where it says nothing of them."""

    kind: str
    description: str
    level: str = ""
    task: str = ""


SUFFIXES = (
    "ing ed er est ly tion sion ness ment ist ism ity ities ive ous ful less able ible "
    "ship hood dom ize izes ized ise land man men ward wards like ish ology ical ance ence"
).split()
PREFIXES = (
    "un re pre dis mis non over under out inter anti counter sub super trans co semi multi micro self back up down "
    "fore hyper mega poly bio tele auto"
).split()
_SHORT = 2  # letters that must be left when an affix is taken off

_DATE = re.compile(r"\d{1,4}[-/]\d{1,2}([-/]\d{1,4})?|\d{1,2}\.\d{1,2}\.\d{2,4}|(1[5-9]|20)\d\ds?|\d{1,2}:\d\d")
_URL = re.compile(r"(https?|ftp)(:.*)?|www\..*|[\w.-]+\.(com|org|net|edu|gov|io|html?)(/.*)?", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d[\d.,]*(%|st|nd|rd|th|s|k|m)?|[+-]?\.\d+", re.IGNORECASE)
_FORMULA = re.compile(r"[=+*/^<>≤≥≠±×÷√∑∏∫∂∞≈%-]{1,3}|\\[a-z]+|[a-z]\^\d")
_CODE = re.compile(
    r"[a-z]+[a-z0-9]*[A-Z]\w*|\w*[^\W_]_+[^\W_]\w*|__\w+__|\w+\(\)?|\w*(==|!=|->|=>|::|&&|\|\||\+=|-=|<=|>=)\w*"
    r"|[\[\](){};]+|\$\w+|#\w*|//|/\*|\*/|</?\w*>?|\w+\.\w+\(?|@\w+|0x[0-9a-f]+"
)


def surface(word: str) -> Trait | None:
    """Return the class of a token that is no plain word of Latin letters; None for one that is."""
    if _URL.fullmatch(word):
        return Trait("surface", "web addresses", "semantics", "coding")
    if _DATE.fullmatch(word):
        return Trait("surface", "dates and times of the clock", "semantics", "daily")
    if _NUMBER.fullmatch(word):
        return Trait("surface", "numbers in digits", "semantics", "mathematics")
    if _CODE.fullmatch(word):
        return Trait("surface", "names and signs of programs", "semantics", "coding")
    if _FORMULA.fullmatch(word):
        return Trait("surface", "signs of formulas", "semantics", "mathematics")
    if all(unicodedata.category(character)[0] in "PS" for character in word):
        return Trait("surface", "punctuation", "syntax")
    return _script(word)


def _script(word: str) -> Trait | None:
    """Words in another script, or in Latin letters with accents: foreign words, as far as English is home."""
    letters = [character for character in word if character.isalpha()]
    if not letters or all(letter.isascii() for letter in letters):
        return None
    scripts = {unicodedata.name(letter, "OTHER").split(" ")[0].split("-")[0] for letter in letters}
    if scripts == {"LATIN"}:
        return Trait("surface", "words with accented letters", "", "translation")
    named = sorted(scripts - {"LATIN"})[0]
    return Trait("surface", f"words in {named.capitalize()} script", "", "translation")


def case(word: str) -> Trait | None:
    """Return the trait of abbreviations in capitals, and of single letters."""
    if len(word) == 1 and word.isalpha():
        return Trait("case", "single letters", "phonology")
    if len(word) > 1 and word.isalpha() and word.isupper():
        return Trait("case", "words in capitals", "morphology")
    return None


def affixes(word: str) -> list[Trait]:
    """Return the prefixes and endings of a word in lower case that leave at least three letters; hyphens.

    A plural has its singular's ending. "-s" is no ending here: only a dictionary distinguishes a plural from "always".
    """
    singular = word[:-1] if word.endswith("s") and not word.endswith("ss") else word
    ends = [f"-{end}" for end in SUFFIXES if singular.endswith(end) and len(singular) - len(end) > _SHORT]
    starts = [f"{start}-" for start in PREFIXES if word.startswith(start) and len(word) - len(start) > _SHORT]
    shared = [f"words with {affix}" for affix in (*ends, *starts)]
    if word.startswith(("-", "##")):
        shared.append("word pieces")
    elif "-" in word.rstrip("-") and any(character.isalpha() for character in word):
        shared.append("words with a hyphen")
    return [Trait("affix", description, "morphology") for description in shared]


def sounds(word: str) -> list[Trait]:
    """Return how a word in lower case begins and ends: one and two letters at the beginning, three at the end."""
    if not word.isalpha() or len(word) < 2:
        return []
    traits = [Trait("sound", f"words that begin with {word[:size]}-", "phonology") for size in (1, 2)]
    if len(word) > 3:
        traits.append(Trait("sound", f"words that rhyme in -{word[-3:]}", "phonology"))
    return traits


def parts(word: str) -> list[str]:
    """Return the parts of four letters of a word in lower case; those that are words make it a compound."""
    return sorted({word[at : at + 4] for at in range(len(word) - 3)}) if word.isalpha() else []


def inside(word: str) -> list[Trait]:
    """Return the pairs of letters in a word in lower case."""
    pairs = {word[at : at + 2] for at in range(len(word) - 1)} if word.isalpha() else set()
    return [Trait("inside", f"words with {pair} in them", "phonology") for pair in sorted(pairs)]
