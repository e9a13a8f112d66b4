"""Make itlens/data/task_words.tsv: words of the six tasks of Wu et al. 2024, for `itlens.task_energy`.

Sources: WordNet 3.0, Princeton University, WordNet licence (Debian's package wordnet-base, folder /usr/share/wordnet);
and words written by hand for itlens (HAND). The built-in words (builtin_words.npz) say which words are frequent enough.

1. Of WordNet, a task's synsets are those below the synsets of BELOW (hyponyms, at any depth) and those whose topic
   domain is one of TOPICS. 2. A lemma of one word belongs to a task where the FIRST sense of the lemma, in that part of
   speech, is one of these synsets, and where that part of speech is the one it is tagged as most often (a word without
   any tag does not count): "bank" is no word of rivers. 3. Hand-written words are in by themselves; DROPPED ones, whose
   first sense is not what texts mean, are not. 4. The plural of a word is in where it is built in. 5. A word that two
   tasks claim is in neither, unless it was written by hand for one of them. 6. Of WordNet's words the MOST most
   frequent are kept.

The file has the columns task, source ("hand" or "wordnet") and words (separated by spaces, from frequent to rare); it
is the same, byte for byte, when it is built again from the same sources.

    python scripts/build_task_words.py
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from wordnet import KINDS, WordNet

DATA = Path(__file__).parents[1] / "itlens" / "data"
MOST = 80
LETTER = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}

# A synset is named by its first lemma and the number of the sense of that lemma.
BELOW = {
    "daily": ("clothing.1", "meal.1", "dish.2", "kitchen_utensil.1", "furniture.1", "beverage.1", "home_appliance.1"),
    "literary": ("literary_composition.1", "poem.1", "rhetorical_device.1", "story.2"),
    "professional": ("commercial_document.1", "legal_document.1", "contract.1"),
    "mathematics": ("mathematics.1", "geometry.1", "polygon.1", "mathematical_relation.1", "mathematical_process.1"),
    "coding": ("software.1", "computer.1", "programming_language.1", "programmer.1", "data_structure.1"),
    "translation": ("natural_language.1", "translation.1", "dictionary.1"),
}
TOPICS = {
    "daily": ("cooking.1",),
    "literary": ("poetry.1", "literature.1", "drama.1"),
    "professional": ("commerce.1", "law.2", "commercial_enterprise.2", "economics.1", "finance.1"),
    "mathematics": ("mathematics.1", "statistics.1"),
    "coding": ("computer_science.1", "computer.1"),
    "translation": ("linguistics.1", "grammar.1"),
}
HAND = {
    "daily": """breakfast lunch dinner kitchen cook recipe grocery shopping laundry clean bathroom bedroom sofa garden
        family birthday weekend vacation picnic party neighbor friend hobby exercise gym sleep morning evening bus taxi
        ticket weather umbrella coffee tea sandwich pizza soup salad shirt shoes jacket haircut doctor dentist
        appointment babysitter pet dog cat phone email diary hello thanks sorry congratulations wedding gift""",
    "literary": """novel poem poetry poet verse stanza rhyme metaphor simile narrator protagonist villain hero plot
        fiction fairy tale myth legend dragon castle sorrow longing moonlight whisper twilight shadow melancholy prose
        sonnet haiku ballad lyric elegy satire tragedy comedy playwright novelist chapter epilogue prologue imagery
        allegory fable folklore enchanted haunted dusk dawn silence dream destiny dialogue scene character
        storyteller storytelling romance romantic literary memoir novella anthology quest hero heroine knight princess
        prince kingdom sword witch wizard ghost beloved tears moon stars ocean forest lonely beauty beautiful mysterious
        adventure saga epic oath betrayal revenge journey""",
    "professional": """report memo resume proposal invoice contract agenda meeting manager employee employer client
        customer salary deadline project budget revenue marketing strategy stakeholder compliance audit accountant
        attorney negotiation presentation colleague recruitment qualification applicant interview reference
        department headquarters executive shareholder merger procurement vendor supplier logistics quarterly forecast
        briefing policy procedure regulation consultant certification portfolio""",
    "mathematics": """equation formula algebra geometry calculus theorem proof integer fraction decimal numerator
        denominator polynomial quadratic exponent logarithm derivative integral matrix vector probability variance
        median triangle rectangle circle radius diameter angle hypotenuse perimeter multiply divide subtract addition
        subtraction multiplication division sum quotient remainder ratio percentage arithmetic solve calculate
        coefficient variable prime square cube sine cosine tangent
        mathematical mathematician algebraic geometric geometrical linear nonlinear equal equals greater exponential
        infinity infinite finite symmetry numeric numerical digit digits count counting calculation computation
        rectangular diagonal parallel perpendicular statistic subset theorem lemma axiom hypothesis plus""",
    "coding": """algorithm code coding program programmer programming compiler debug debugging software syntax function
        variable boolean string array loop recursion database query server javascript python java html xml linux unix
        kernel compile interpreter parser runtime api browser login username password byte bytes bug pixel cache
        firmware hardware keyboard developer interface script module repository encryption queue stack binary
        computing developer debugger unix linux windows desktop laptop website url app apps ascii unicode processor
        multithreaded backend frontend implement implementation parameter parameters iteration iterate class object
        pointer integer framework plugin bandwidth router toolkit open-source malware upload download downloads""",
    "translation": """translate translation translator interpreter interpret language languages english french spanish
        german italian portuguese russian chinese japanese korean arabic hindi turkish dutch polish swedish greek latin
        hebrew vietnamese thai indonesian persian urdu bengali bilingual dialect vocabulary grammar phrase idiom verb
        noun adjective pronoun tense plural dictionary glossary linguistic spelling pronunciation transcript subtitle
        multilingual native fluent accent""",
}


DROPPED = """can cap jean stays marc form received derby uniform counter generic altar throne turtle stole mask booth
    cabinet marks act stem marker coordinating southwestern minus mapping wedge commute bench spirits alcohol pew cradle
    patty carved emile mini meal"""


class Synsets:
    """Hyponyms and topic domains of synsets, by (part of speech, offset)."""

    def __init__(self, folder: Path) -> None:
        self.lemmas: dict[tuple[str, str], list[str]] = {}
        self.below: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        self.of_topic: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        self.senses: dict[tuple[str, str], list[str]] = {}
        for kind in KINDS:
            for line in _lines(folder / f"data.{kind}"):
                self._read(LETTER[kind], line.split(" | ")[0].split(" "))
            for line in _lines(folder / f"index.{kind}"):
                lemma, *fields = line.split()
                self.senses[LETTER[kind], lemma] = fields[-int(fields[1]) :]

    def named(self, name: str) -> tuple[str, str]:
        """Return the noun synset of a name such as "poem.1"."""
        lemma, _, number = name.rpartition(".")
        return "n", self.senses["n", lemma][int(number) - 1]

    def of_task(self, task: str) -> set[tuple[str, str]]:
        """Return the synsets of a task; see the module."""
        found, todo = set(), [self.named(name) for name in BELOW[task]]
        while todo:
            synset = todo.pop()
            if synset not in found:
                found.add(synset)
                todo += self.below[synset]
        return found | {synset for name in TOPICS[task] for synset in self.of_topic[self.named(name)]}

    def _read(self, letter: str, fields: list[str]) -> None:
        count = int(fields[3], 16)
        own = letter, fields[0]
        self.lemmas[own] = [lemma.split("(")[0] for lemma in fields[4 : 4 + 2 * count : 2]]
        pointers = fields[4 + 2 * count :]
        for place in range(int(pointers[0])):
            symbol, offset, part, _ = pointers[1 + 4 * place : 5 + 4 * place]
            target = {"s": "a"}.get(part, part), offset
            if symbol == "@":  # instances ("@i") are names of people and places
                self.below[target].append(own)
            elif symbol == ";c":
                self.of_topic[target].append(own)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--out", type=Path, default=DATA)
    arguments = parser.parse_args()
    with np.load(DATA / "builtin_words.npz") as archive:
        words = archive["words"].tobytes().decode("utf-8").split("\n")
    rank = {word: place for place, word in enumerate(words)}
    chosen = task_words(Synsets(arguments.wordnet), WordNet(arguments.wordnet).tags, rank)
    lines = ["task\tsource\twords"]
    for task, sources in chosen.items():
        lines += [f"{task}\t{source}\t{' '.join(found)}" for source, found in sources.items()]
        print(task, {source: len(found) for source, found in sources.items()})
    (arguments.out / "task_words.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def task_words(
    synsets: Synsets, tags: dict[str, Counter[str]], rank: dict[str, int]
) -> dict[str, dict[str, list[str]]]:
    """Return the words of each task and source, from frequent to rare."""
    hand = {task: [word for word in dict.fromkeys(HAND[task].split()) if word in rank] for task in HAND}
    by_hand = Counter(word for found in hand.values() for word in found)
    read = {task: _first_sense_words(synsets, task, tags, rank) for task in HAND}
    claims = Counter(word for found in read.values() for word in found)
    chosen = {}
    for task in HAND:  # plurals of words that are one's own alone
        own = [word for word in hand[task] if by_hand[word] == 1]
        more = [word for word in read[task] if claims[word] == 1 and not by_hand[word]]
        ranked = sorted(more, key=rank.__getitem__)[:MOST]
        chosen[task] = {"hand": sorted(own, key=rank.__getitem__), "wordnet": ranked}
    taken = Counter(word for sources in chosen.values() for found in sources.values() for word in found)
    for sources in chosen.values():
        for found in sources.values():
            plurals = {f"{word}s" for word in found} & rank.keys() - taken.keys()
            found[:] = sorted([*found, *plurals], key=rank.__getitem__)
    return chosen


def _first_sense_words(synsets: Synsets, task: str, tags: dict[str, Counter[str]], rank: dict[str, int]) -> set[str]:
    kinds = {letter: kind for kind, letter in LETTER.items()}
    found = set()
    for synset in synsets.of_task(task):
        for lemma in map(str.lower, synsets.lemmas[synset]):
            letter, offset = synset
            counts = tags.get(lemma, Counter())
            usual = counts[kinds[letter]] and counts[kinds[letter]] == max(counts.values())
            if lemma in rank and lemma not in DROPPED.split() and usual and synsets.senses[letter, lemma][0] == offset:
                found.add(lemma)
    return found


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("  ")]


if __name__ == "__main__":
    main()
