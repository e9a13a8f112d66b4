"""Words, their tokens, their vectors, and verbs, for the word-pair probes. Names load on first use.

`Vocabulary` is a list of words, `WordVectors` says how related two words are; the verb lists are those of finding 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.lazy import lazy_names

_HOME = {
    "Vocabulary": "itlens.vocabulary.words",
    "WordTokens": "itlens.vocabulary.tokens",
    "WordVectors": "itlens.vocabulary.word_vectors",
    "general_verbs": "itlens.vocabulary.verbs",
    "instruction_verbs": "itlens.vocabulary.verbs",
    "lemmas_of": "itlens.vocabulary.verbs",
    "verb_frequencies": "itlens.vocabulary.verbs",
}

__all__ = [
    "Vocabulary",
    "WordTokens",
    "WordVectors",
    "general_verbs",
    "instruction_verbs",
    "lemmas_of",
    "verb_frequencies",
]


__getattr__, __dir__ = lazy_names(__name__, _HOME)

if TYPE_CHECKING:
    from itlens.vocabulary.tokens import WordTokens
    from itlens.vocabulary.verbs import general_verbs, instruction_verbs, lemmas_of, verb_frequencies
    from itlens.vocabulary.word_vectors import WordVectors
    from itlens.vocabulary.words import Vocabulary
