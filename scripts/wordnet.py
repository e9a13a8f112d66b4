"""WordNet 3.0's database files, as far as `build_words.py` needs them: lemmas, base forms, examples, tag counts.

The folder is that of Debian's package `wordnet-base` (/usr/share/wordnet), or `dict/` of Princeton's own archive:
data.{noun,verb,adj,adv}, {noun,verb,adj,adv}.exc and cntlist.rev. The formats are those of the manual pages wndb(5WN)
and cntlist(5WN), the endings those of morphy(7WN).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

KINDS = ("noun", "verb", "adj", "adv")
_BY_NUMBER = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}
_ENDINGS = {
    "noun": "s: ses:s xes:x zes:z ches:ch shes:sh men:man ies:y",
    "verb": "s: ies:y es:e es: ed:e ed: ing:e ing:",
    "adj": "er: est: er:e est:e",
    "adv": "",
}
ENDINGS = {kind: [tuple(pair.split(":")) for pair in pairs.split()] for kind, pairs in _ENDINGS.items()}


class WordNet:
    """Lemmas by kind, in the spelling of the data files (`Bob`, `DNA`), and what is said of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spellings: dict[str, dict[str, set[str]]] = {kind: defaultdict(set) for kind in KINDS}
        self.examples: dict[str, list[str]] = defaultdict(list)
        for kind in KINDS:
            for lemmas, gloss in self._synsets(kind):
                for lemma in lemmas:
                    self.spellings[kind][lemma.lower()].add(lemma)
                    if kind == "verb":
                        self.examples[lemma.lower()] += re.findall(r'"([^"]+)"', gloss)
        self.irregular = {kind: self._irregular(kind) for kind in KINDS}
        self.tags = self._tags()

    def bases(self, word: str, kind: str) -> list[str]:
        """The lemmas of this kind that a word is a form of: itself, irregular forms, then regular endings."""
        lemmas = self.spellings[kind]
        found = [word] if word in lemmas else []
        found += [base for base in self.irregular[kind].get(word, ()) if base in lemmas]
        for ending, instead in ENDINGS[kind]:
            base = word[: len(word) - len(ending)] + instead
            if word.endswith(ending) and len(word) > len(ending) and base in lemmas:
                found.append(base)
        return list(dict.fromkeys(found))

    def verb_share(self, word: str) -> tuple[int, float]:
        """How often the lemma is tagged as a verb in the sense-tagged texts, and which share of its tags that is."""
        tags = self.tags[word]
        return tags["verb"], tags["verb"] / max(1, sum(tags.values()))

    def has_example(self, verb: str) -> bool:
        """Whether an example of one of the verb's synsets uses the verb itself, in any form."""
        return any(
            verb in self.bases(token, "verb")
            for example in self.examples[verb]
            for token in re.findall(r"[a-z'-]+", example.lower())
        )

    def _lines(self, name: str) -> list[str]:
        lines = (self.folder / name).read_text(encoding="utf-8").splitlines()
        return [line for line in lines if not line.startswith("  ")]  # the licence stands in front, indented

    def _synsets(self, kind: str) -> Iterator[tuple[list[str], str]]:
        for line in self._lines(f"data.{kind}"):
            head, _, gloss = line.partition(" | ")
            fields = head.split(" ")
            lemmas = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            yield [re.sub(r"\(\w+\)$", "", lemma) for lemma in lemmas], gloss

    def _irregular(self, kind: str) -> dict[str, list[str]]:
        forms: dict[str, list[str]] = defaultdict(list)
        for line in self._lines(f"{kind}.exc"):
            form, *bases = line.split()
            forms[form] += bases
        return forms

    def _tags(self) -> dict[str, Counter[str]]:
        tags: dict[str, Counter[str]] = defaultdict(Counter)
        for line in self._lines("cntlist.rev"):
            key, _, count = line.split()
            lemma, _, rest = key.partition("%")
            tags[lemma][_BY_NUMBER[rest[0]]] += int(count)
        return tags
