"""Make itlens/data/builtin_senses.npz: what the words of English can mean, coarsely (WordNet's supersenses).

Source: WordNet 3.0, Princeton University, WordNet licence: Debian's package wordnet-base, folder /usr/share/wordnet.
A supersense is the lexicographer's file a synset stands in ("noun.food", "verb.motion"; lexnames(5WN)); it also says
the part of speech.

Words: those of builtin_words.npz, and every other lemma of one word that occurs in WordNet's sense-tagged texts or is
a name (of a place, a person, a day), in lower case and sorted.
For each, at most three supersenses, from frequent to rare. A sense weighs as often as it is tagged, and a little more
for coming first (1 / its number), in all parts of speech and base forms of the word; supersenses with less than a
fifth of the weight are left out.

The file is the same, byte for byte, when it is built again from the same sources with the same zlib.

    python scripts/build_senses.py
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from wordnet import KINDS, WordNet

DATA = Path(__file__).parents[1] / "itlens" / "data"
SHARE = 0.2
NONE = 255  # stands where a word has fewer than three supersenses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--out", type=Path, default=DATA)
    arguments = parser.parse_args()
    wordnet, senses = WordNet(arguments.wordnet), read_senses(arguments.wordnet)
    table = {word: found for word in chosen_words(wordnet, senses) if (found := supersenses(word, wordnet, senses))}
    path = arguments.out / "builtin_senses.npz"
    write_table(path, table)
    print(f"{len(table)} words, {path.stat().st_size} bytes")


def read_senses(folder: Path) -> dict[str, dict[str, list[tuple[int, int]]]]:
    """By kind and lemma: (lexicographer's file, how often the sense is tagged), in the order of the senses."""
    tags: Counter[tuple[str, str, int]] = Counter()
    for line in _lines(folder / "cntlist.rev"):
        key, number, count = line.split()
        lemma, _, rest = key.partition("%")
        kind = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}[rest[0]]
        tags[kind, lemma, int(number)] += int(count)
    senses: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for kind in KINDS:
        files = {line.split(" ", 2)[0]: int(line.split(" ", 2)[1]) for line in _lines(folder / f"data.{kind}")}
        senses[kind] = defaultdict(list)
        for line in _lines(folder / f"index.{kind}"):
            lemma, *fields = line.split()
            offsets = fields[-int(fields[1]) :]
            senses[kind][lemma] = [
                (files[offset], tags[kind, lemma, number]) for number, offset in enumerate(offsets, start=1)
            ]
    return senses


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("  ")]


def chosen_words(wordnet: WordNet, senses: dict[str, dict[str, list[tuple[int, int]]]]) -> list[str]:
    """The built-in words and the other lemmas, sorted."""
    with np.load(DATA / "builtin_words.npz") as archive:
        words = set(archive["words"].tobytes().decode("utf-8").split("\n"))
    for kind in KINDS:
        for lemma, found in senses[kind].items():
            spellings = wordnet.spellings[kind][lemma]
            name = kind == "noun" and any(spelling.istitle() for spelling in spellings)
            if lemma.isalpha() and len(lemma) > 2 and (name or sum(count for _, count in found)):
                words.add(lemma)
    return sorted(words)


def supersenses(word: str, wordnet: WordNet, senses: dict[str, dict[str, list[tuple[int, int]]]]) -> list[int]:
    """The numbers of the supersenses, from frequent to rare; none for a word that WordNet does not know."""
    weight: Counter[int] = Counter()
    for kind in KINDS:
        for base in wordnet.bases(word, kind):
            for number, (file, count) in enumerate(senses[kind][base], start=1):
                weight[file] += count + 1 / number
    total = sum(weight.values())
    ranked = sorted(weight.items(), key=lambda item: (-item[1], item[0]))
    return [file for file, share in ranked if share >= SHARE * total][:3]


def write_table(path: Path, table: dict[str, list[int]]) -> None:
    """Words as UTF-8, one a line, and supersenses as uint8 (words, 3). numpy dates the parts of the archive 1980."""
    joined = np.frombuffer("\n".join(table).encode("utf-8"), dtype=np.uint8)
    numbers = np.array([[*found, *[NONE] * 3][:3] for found in table.values()], dtype=np.uint8)
    np.savez_compressed(path, words=joined, supersenses=np.ascontiguousarray(numbers.T))


if __name__ == "__main__":
    main()
