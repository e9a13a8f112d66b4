"""Verbs of instructions and other verbs, with how frequent they are (Wu et al. 2024, finding 2).

The 38 instruction verbs are the paper's. The general verbs are verbs of WordNet 3.0 with an example of their use that
people mainly use as verbs, without auxiliaries and without the instruction verbs; `scripts/build_words.py` makes the
list and states the rule. Ranks are those of GloVe 6B's word list, which is in order of frequency.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import MappingProxyType

from itlens.errors import ResultError

_FILE = Path(__file__).parents[1] / "data" / "builtin_verbs.tsv"

_PAPER = """
    translate explain summarize retrieve revise generate describe classify create evaluate correct develop identify
    analyze compose demonstrate interpret design solve follow clarify say help act recommend estimate edit format
    repeat write give find make have tell output predict detect
"""
INSTRUCTION_VERBS = tuple(_PAPER.split())


def instruction_verbs() -> tuple[str, ...]:
    """Return the paper's 38 instruction verbs, in its order; all of them are in the built-in vocabulary."""
    return INSTRUCTION_VERBS


def general_verbs() -> tuple[str, ...]:
    """Return the general verbs, from frequent to rare: none is an instruction verb, all are in the built-in
    vocabulary."""
    return tuple(verb for verb, (_, kind) in _table().items() if kind == "general")


def verb_frequencies() -> dict[str, float]:
    """Return the relative frequency of every verb of both lists: 1 / its rank in GloVe 6B's list of words (Zipf's law).

    GloVe's list has no counts; random verb sets "of the same frequency" need the order and a scale, and no more.
    """
    return {verb: 1.0 / rank for verb, (rank, _) in _table().items()}


def lemmas_of(words: Iterable[str], verbs: Iterable[str]) -> dict[str, str]:
    """Return the words that are a form of one of the verbs, with that verb: {"wrote": "write", "write": "write"}.

    Forms are looked up, lower-cased, in the dictionary of lemminflect (extra "lemmas"); nothing is guessed for a word
    that it does not have. A word that is itself one of the verbs stays itself ("found", when "found" is a verb of the
    list); else the first of its lemmas that is one counts. Raises ResultError when lemminflect is not installed.
    """
    try:
        from lemminflect import getAllLemmas
    except ImportError as error:
        raise ResultError(
            "Counting inflected forms with their lemma needs lemminflect: pip install 'itlens[lemmas]', or leave "
            "lemmas=True out."
        ) from error
    wanted = set(verbs)
    found: dict[str, str] = {}
    for word in words:
        form = word.lower()
        candidates = (form, *getAllLemmas(form, upos="VERB").get("VERB", ()))
        verb = next((candidate for candidate in candidates if candidate in wanted), None)
        if verb is not None:
            found[word] = verb
    return found


@cache
def _table() -> MappingProxyType[str, tuple[int, str]]:
    """Return verb -> (rank, kind), from frequent to rare."""
    _, *lines = _FILE.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    return MappingProxyType({verb: (int(rank), kind) for verb, rank, kind in rows})
