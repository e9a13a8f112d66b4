"""All places of a page as one compressed block, which assets/explorer.js opens when it is first needed.

Words are written once, the most frequent first, and lists of words refer to them by number; names and units are written
once too. Scores keep 3 significant digits, other numbers 5: the mantissa's bits beyond that are zero, and the bytes of
a column are sorted by their place in the number, which is what makes them small (270 heads with 300 pairs and 30 layers
with 300 concepts, of both models: about 3 MB). The block is: the length of the header (4 bytes), the header as JSON,
and the columns that it lists; gzip, base 85.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, TypeAlias

import numpy as np
from markupsafe import Markup

from itlens.report.blocks import Panel
from itlens.report.environment import anchor
from itlens.report.explorer_places import Place, PlaceNumber, PlaceWords
from itlens.report.page import letters

VERSION = 1  # of the block, for assets/explorer.js
NO_HEAD = 65535
_SCORE_DIGITS, _NUMBER_DIGITS = 3, 5
_FIELDS = tuple(field.name for field in fields(PlaceNumber) if field.type == "float | None")
_SIDES = ("base", "tuned")
Columns: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True)
class Chapter:
    """The places of one finding. name: of its section (the anchor). heading: what it is about."""

    name: str
    heading: str
    places: Sequence[Place]


@dataclass(frozen=True, repr=False)
class Explorer(Panel):
    """The panels of all heads and layers, and the search of words, in the bar of a page.

    chapters: by finding, in the order of the page. base, tuned: names of the models.
    """

    template: ClassVar[str] = "explorer.html"
    styles: ClassVar[tuple[str, ...]] = ("explorer.css",)
    scripts: ClassVar[tuple[str, ...]] = ("explorer_data.js", "explorer.js")

    chapters: Sequence[Chapter]
    base: str = ""
    tuned: str = ""

    @property
    def prompts(self) -> list[str]:
        """Ids of the prompts whose panels show a place."""
        return list(dict.fromkeys(id for each in self.chapters for place in each.places for id in place.shown_on))

    @property
    def packed(self) -> Markup:
        """All places, for the page."""
        return Markup(packed_places(self.chapters, self.base, self.tuned))


def packed_places(chapters: Sequence[Chapter], base: str = "", tuned: str = "") -> str:
    """Return all places as text for a page. base, tuned: names of the models."""
    texts, columns = _Texts(), Columns()
    words = _vocabulary(chapters)
    numbered = [(number, place) for number, chapter in enumerate(chapters) for place in chapter.places]
    columns |= {
        "place.chapter": _whole(number for number, _ in numbered),
        "place.layer": _whole(place.layer for _, place in numbered),
        "place.head": _whole(NO_HEAD if place.head is None else place.head for _, place in numbered),
        "place.numbers": _whole(len(place.numbers) for _, place in numbered),
        "place.shown": _whole(len(place.shown_on) for _, place in numbered),
        "shown.prompt": _whole(texts.number(id) for _, place in numbered for id in place.shown_on),
    }
    for name in ("what", "part", "text"):
        columns[f"place.{name}"] = _whole(texts.number(getattr(place, name)) for _, place in numbered)
    columns |= _numbers([line for _, place in numbered for line in place.numbers], texts)
    for side in _SIDES:
        columns |= _lists([getattr(place, side) for _, place in numbered], side, words, texts)
    return _packed(
        {
            "version": VERSION,
            "models": {"base": base, "tuned": tuned},
            "chapters": [{"name": anchor(chapter.name), "heading": chapter.heading} for chapter in chapters],
            "words": list(words),
            "texts": texts.listed,
        },
        columns,
    )


class _Texts:
    """Texts by number, each once; "" is number 0."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {"": 0}

    def number(self, text: str) -> int:
        return self._numbers.setdefault(str(text), len(self._numbers))

    @property
    def listed(self) -> list[str]:
        return list(self._numbers)


def _vocabulary(chapters: Iterable[Chapter]) -> dict[str, int]:
    """The words of all places by number, the most frequent first."""
    counts: Counter[str] = Counter()
    for chapter in chapters:
        for place in chapter.places:
            for side in (place.base, place.tuned):
                if side is not None:
                    counts.update(_flat(side.words))
    return {word: number for number, (word, _) in enumerate(counts.most_common())}


def _flat(words: Sequence[str] | Sequence[tuple[str, str]]) -> Iterable[str]:
    return (text for word in words for text in ((word,) if isinstance(word, str) else word))


def _numbers(lines: Sequence[PlaceNumber], texts: _Texts) -> Columns:
    columns = {
        f"number.{name}": _whole(texts.number(getattr(line, name)) for line in lines) for name in ("name", "unit")
    }
    for name in _FIELDS:
        values = [getattr(line, name) for line in lines]
        columns[f"number.{name}"] = _rounded([np.nan if value is None else value for value in values], _NUMBER_DIGITS)
    return columns


def _lists(lists: Sequence[PlaceWords | None], side: str, words: dict[str, int], texts: _Texts) -> Columns:
    """The words of one model. size: -1 where a place has no list; width: 1 for words, 2 for pairs."""
    there = [each for each in lists if each is not None]
    headings = list(dict.fromkeys(heading for each in there for heading in each.columns))
    columns = {
        "size": np.array([-1 if each is None else len(each.words) for each in lists], dtype=np.int32),
        "width": _whole(2 if each.words and not isinstance(each.words[0], str) else 1 for each in there),
        "total": _whole(len(each.words) if each.total is None else each.total for each in there),
        "label": _whole(texts.number(each.label) for each in there),
        "word": _whole(words[text] for each in there for text in _flat(each.words)),
        "alone": _whole(
            bool(mark) for each in there for mark in (each.alone if len(each.alone) else [False] * len(each.words))
        ),
    }
    for heading in headings:
        having = [each.columns[heading] for each in there if heading in each.columns]
        columns[f"has.{heading}"] = _whole(heading in each.columns for each in there)
        columns[f"column.{heading}"] = _rounded([value for values in having for value in values], _SCORE_DIGITS)
    return {f"{side}.{name}": values for name, values in columns.items()}


def _whole(values: Iterable[int]) -> np.ndarray:
    """Whole numbers from 0 as the smallest type that holds them."""
    numbers = np.fromiter(values, dtype=np.int64)
    largest = int(numbers.max(initial=0))
    return numbers.astype(np.uint8 if largest < 2**8 else np.uint16 if largest < 2**16 else np.uint32)


def _rounded(values: Sequence[float], digits: int) -> np.ndarray:
    """Numbers with so many significant digits, which printing them with as many gives back; float32."""
    numbers = np.asarray(values, dtype=np.float64)
    sizes = np.abs(numbers)
    counts = np.isfinite(numbers) & (sizes > 0)
    step = np.power(10.0, np.floor(np.log10(sizes, where=counts, out=np.zeros(sizes.shape))) - digits + 1)
    rounded = np.where(counts, np.rint(numbers / step) * step, numbers).astype(np.float32)
    # float32 has 23 bits of mantissa; 10 ** digits needs fewer
    spare = np.uint32(23 - int(np.ceil(digits * np.log2(10))) - 1)
    bits = rounded.view(np.uint32)
    half = np.uint32(1) << (spare - np.uint32(1)) if spare else np.uint32(0)
    cut = ((bits + half) >> spare) << spare
    return np.where(np.isfinite(rounded), cut, bits).astype(np.uint32).view(np.float32)


_TYPES = {"u": "uint", "i": "int", "f": "float"}


def _packed(header: dict[str, object], columns: Columns) -> str:
    listed = [[name, _TYPES[values.dtype.kind], values.itemsize, values.size] for name, values in columns.items()]
    top = json.dumps(header | {"columns": listed}, separators=(",", ":")).encode("ascii")
    # all first bytes of a column, then all second ones: what is alike stands together
    planes = [
        values.astype(values.dtype.newbyteorder("<")).view(np.uint8).reshape(values.size, values.itemsize).T
        for values in columns.values()
    ]
    content = len(top).to_bytes(4, "little") + top + b"".join(plane.tobytes() for plane in planes)
    return letters(gzip.compress(content, 9, mtime=0))
