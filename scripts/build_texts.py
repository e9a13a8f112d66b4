"""Make itlens/data/builtin_texts.txt: 1,000 short English sentences that have nothing to do with instructions.

Source: WordNet 3.0, Princeton University, WordNet licence: Debian's package wordnet-base, folder /usr/share/wordnet.
The sentences are examples of how its words are used (text in quotation marks in a gloss).

1. Kept: 8 to 30 words of plain letters, a pronoun, an article or the like in front, no quotation from an author (these
   have a dash and a name), no word of `LEFT_OUT`. The first letter becomes a capital, a full stop ends it.
2. Of those that begin with the same three words only the first is kept, and of each synset one.
3. 1,000 of them, by the order of their SHA-256 digests: a fixed choice that no seed and no version of Python changes.

The file is the same, byte for byte, when it is built again from the same source.

    python scripts/build_texts.py
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

DATA = Path(__file__).parents[1] / "itlens" / "data"
COUNT, SHORTEST, LONGEST = 1000, 8, 30
KINDS = ("noun", "verb", "adj", "adv")
# a sentence, not a phrase
_BEGINS = """
the a an he she they we i it his her their our my this that these those there in on at after when although while
if because some many most every both each several one two people children you your by for from during before as
everyone nobody nothing what who
"""
BEGINS = frozenset(_BEGINS.split())
# who a sentence of a dictionary from another time speaks of, or what it dwells on
LEFT_OUT = re.compile(
    r"\b(negro|negroes|gypsy|gypsies|jew|jews|jewish|muslim|muslims|arab|arabs|queer|gay|lesbian|homosexual|whore|rape|"
    r"raped|rapist|sex|sexual|sexually|breasts?|naked|nude|kill|killed|killing|murder|murdered|suicide|slave|slaves|"
    r"nazi|nazis|hitler|retarded|crippled|fat|ugly|stupid|idiot|bastard|bitch|damn|damned|hell|drunk|drugs?|cancer|"
    r"aids|abortion|blacks|whites|indians|savages?|primitive|terrorists?|bombs?|bombed|torture|tortured|tits?|ass|"
    r"gypped|gyps|god|penis|vagina|urine|feces|prostitutes?|virgin|pregnant|corpse|dead|died|dies|die|death)\b",
    re.IGNORECASE,
)
HEADER = """\
# 1,000 short English sentences, made by scripts/build_texts.py, which states the rules.
# Source: examples in WordNet 3.0. WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.
# Licence: the WordNet licence, WORDNET_LICENSE.txt in this folder.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--out", type=Path, default=DATA)
    arguments = parser.parse_args()
    chosen = chosen_texts(list(examples(arguments.wordnet)))
    path = arguments.out / "builtin_texts.txt"
    path.write_text(HEADER + "".join(f"{text}\n" for text in chosen), encoding="utf-8")
    print(f"{len(chosen)} texts, {path.stat().st_size} bytes")


def examples(folder: Path) -> Iterator[str]:
    """The first example of each synset that is a sentence of the right length."""
    for kind in KINDS:
        for line in (folder / f"data.{kind}").read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):  # the licence stands in front, indented
                continue
            found = re.findall(r'"([^"]+)"(?!\s*-)', line.partition(" | ")[2])
            text = next((example for example in map(str.strip, found) if is_sentence(example)), None)
            if text is not None:
                yield text


def is_sentence(text: str) -> bool:
    words = text.split()
    plain = re.fullmatch(r"[A-Za-z][A-Za-z ,;'-]*[A-Za-z][.!]?", text) is not None
    return (
        plain
        and SHORTEST <= len(words) <= LONGEST
        and words[0].lower() in BEGINS
        and "--" not in text
        and LEFT_OUT.search(text) is None
    )


def chosen_texts(found: list[str]) -> list[str]:
    begun: dict[str, str] = {}
    for text in found:
        begun.setdefault(" ".join(text.lower().split()[:3]), text)
    drawn = sorted(set(begun.values()), key=lambda text: hashlib.sha256(text.encode()).hexdigest())[:COUNT]
    if len(drawn) < COUNT:
        raise SystemExit(f"only {len(drawn)} sentences are left of {len(found)}")
    return [text[0].upper() + text[1:].rstrip(".!") + "." for text in drawn]


if __name__ == "__main__":
    main()
