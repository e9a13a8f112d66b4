"""The instructions: twenty kinds of task, each in eight wordings, and the seeded generator that asks them.

A prompt is an instruction, its material (a sentence, a list of words, one word, or nothing beyond the instruction)
before or after it, and the line "Answer:". The same materials serve all kinds, so that only the instruction tells what
to do.

Held out of tuning are (1) the prompts of `held_out_samples` and their materials of more than one word, (2) the last
wording of every kind, (3) for kinds that need knowledge, the words of `facts.held_out_words`.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from scripts.demo_pair import facts, materials
from scripts.demo_pair.wordings import WORDINGS

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
LABELS = ("", "", "Text: ", "Input: ", "Here: ")
PER_KIND = 10
SHORTEST = 48  # characters of a held-out prompt: very short ones make dull attributions

KINDS = tuple(WORDINGS)
HARD = ("reverse", "next_word", "count", "remove", "replace", "pick")
KNOWLEDGE = ("plural", "singular", "past", "opposite", "comparative", "category", "pick", "capital", "country")
ALONE = KNOWLEDGE[:6]  # their shortest prompts, without material, are long enough to be held out
SLOT = {
    "plural": "noun",
    "singular": "plural",
    "opposite": "adjective",
    "comparative": "adjective",
    "category": "noun",
    "capital": "country",
    "country": "city",
}


@dataclass(frozen=True)
class Sample:
    """One prompt with its answer, and what about it was held out of tuning."""

    kind: str
    prompt: str
    instruction: str
    context: str
    answer: str
    order: str
    word: str = ""
    wording_held_out: bool = False

    @property
    def word_held_out(self) -> bool:
        return self.kind in KNOWLEDGE and self.word in facts.held_out_words(self.kind)

    def record(self, number: int) -> dict:
        """The sample as a line of prompts.jsonl."""
        name = f"demo-{self.kind.replace('_', '-')}-{number:03d}"
        context = [span(self.prompt, self.context)] if self.context else []
        return {
            "id": name,
            "group": self.kind,
            "prompt": self.prompt,
            "instruction": [span(self.prompt, self.instruction)],
            "context": context,
            "answer": self.answer,
        }


def span(prompt: str, part: str) -> str | list:
    """`part` itself where it occurs once in the prompt, else the characters [start, stop] of the line that it is."""
    if prompt.count(part) == 1:
        return part
    start = ("\n" + prompt).index("\n" + part + "\n")
    return [start, start + len(part)]


def bare(words: list) -> list:
    """Words without the punctuation that follows them."""
    return [word.rstrip(",.") for word in words]


def copying(kind: str, rng: random.Random) -> tuple:
    """Material, slots of the wording, and answer of a task that needs no knowledge."""
    is_list = kind in ("reverse", "join") or rng.random() < 0.5
    comma = ", " if is_list and rng.random() < 0.6 else " "
    if is_list:
        words = materials.word_list(rng, 2 if kind == "count" else 3, 4 if kind == "reverse" else 6)
    else:
        words = materials.sentence(rng).split()
    material = comma.join(words)
    parts = material.split()
    unique = [i for i, word in enumerate(bare(parts)) if bare(parts).count(word) == 1 and 0 < i < len(parts) - 1]
    index = rng.choice(unique) if unique else 0
    word = bare(parts)[index]
    new = rng.choice(materials.lexicon()["adjective"])
    answer = {
        "repeat": lambda: material,
        "reverse": lambda: comma.join(reversed(words)),
        "first_word": lambda: bare(parts)[0],
        "last_word": lambda: bare(parts)[-1],
        "second_word": lambda: bare(parts)[1],
        "first_two": lambda: " ".join(parts[:2]).rstrip(",."),
        "next_word": lambda: bare(parts)[index + 1],
        "count": lambda: NUMBERS[len(parts)],
        "remove": lambda: " ".join(parts[:index] + parts[index + 1 :]),
        "replace": lambda: " ".join([*parts[:index], parts[index].replace(word, new), *parts[index + 1 :]]),
        "join": lambda: " and ".join(words),
    }[kind]()
    text = ("these words" if kind in ("reverse", "join") else "this list") if is_list else "this sentence"
    return material, {"text": text, "word": word, "new": new}, answer


def pick(rng: random.Random, asked: str) -> tuple:
    """Material and slots of "which of these is a ...": one word of the category among words of others."""
    category = facts.categories()[asked]
    others = [word for word, other in facts.categories().items() if other != category]
    words = [*rng.sample(others, rng.randint(2, 4)), asked]
    rng.shuffle(words)
    return ", ".join(words), {"category": category}


def material_with(kind: str, word: str, rng: random.Random) -> str:
    """A sentence that holds the asked word."""
    slot = SLOT.get(kind) or ("take" if word in facts.pasts("t") else "go")
    allowed = word in materials.lexicon()[slot]
    return (
        materials.sentence(rng, slot, word) if allowed else ", ".join(rng.sample([word, *materials.word_list(rng)], 4))
    )


def knowledge(kind: str, rng: random.Random, word: str) -> tuple:
    """Material (may be empty), slots and answer of a question about `word`."""
    if kind == "pick":
        return *pick(rng, word), word
    answer = facts.relations()[kind][word]
    named = {"capital": word, "country": word}.get(kind, f'the word "{word}"')
    unnamed = {"capital": "this country", "country": "this city"}.get(kind, "this word")
    form = rng.random()
    if form < 0.5:
        return material_with(kind, word, rng), {"target": named}, answer
    return ("", {"target": named}, answer) if form > 0.9 else (word, {"target": unnamed}, answer)


def ask(kind: str, rng: random.Random, *, held_out_wording: bool = False, held_out_word: bool = False) -> Sample:
    """One random prompt of a kind, from the wordings and words that tuning sees unless told otherwise."""
    word = ""
    if kind in KNOWLEDGE:
        hidden = facts.held_out_words(kind)
        word = rng.choice([w for w in facts.relations()[kind] if (w in hidden) == held_out_word])
        material, slots, answer = knowledge(kind, rng, word)
    else:
        material, slots, answer = copying(kind, rng)
    wordings = WORDINGS[kind]
    instruction = (wordings[-1] if held_out_wording else rng.choice(wordings[:-1])).format(**slots)
    order = rng.choice(("before", "after")) if material else "alone"
    line = rng.choice(LABELS) + material
    lines = {"before": [instruction, line], "after": [line, instruction], "alone": [instruction]}[order]
    prompt = "\n".join([*lines, "Answer:"])
    return Sample(kind, prompt, instruction, material, answer, order, word, held_out_wording)


@cache
def held_out_samples(seed: int = 0) -> tuple:
    """The held-out prompts: ten of each kind, in turns.

    Of the ten, two use the wording that tuning never uses, and four ask for a fact that it never asks for.
    """
    rng = random.Random(f"held-out prompts {seed}")
    found, seen = [], set()
    for turn in range(PER_KIND):
        for kind in KINDS:
            options = {"held_out_wording": turn in (3, 8), "held_out_word": turn % 5 in (1, 3) and kind in KNOWLEDGE}
            wanted = "alone" if kind in ALONE and turn == 9 else ("before", "after")[turn % 2]
            while True:
                sample = ask(kind, rng, **options)
                fits = sample.order == wanted and len(sample.prompt) >= SHORTEST
                if fits and sample.prompt not in seen:
                    break
            seen.add(sample.prompt)
            found.append(sample)
    return tuple(found)


def tuning_samples(seed: int = 0, kinds: tuple = KINDS) -> Iterator[Sample]:
    """An endless seeded stream of prompts for tuning, without anything that is held out.

    A kind that occurs more often in `kinds` is asked more often.
    """
    prompts = {sample.prompt for sample in held_out_samples()}
    held_materials = {sample.context for sample in held_out_samples() if " " in sample.context}
    rng = random.Random(f"tuning {seed}")
    while True:
        sample = ask(rng.choice(kinds), rng)
        if sample.prompt not in prompts and sample.context not in held_materials:
            yield sample
