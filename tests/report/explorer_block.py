"""The block of places that a page holds, read as assets/explorer_data.js reads it."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from itlens.report.explorer import NO_HEAD
from tests.report.pages import unpacked_bytes

TYPES = {"uint": "u", "int": "i", "float": "f"}
FIELDS = ("value", "base", "tuned", "low", "high", "p")


def block_of(html: str) -> str:
    """The packed block of a page."""
    (block,) = re.findall(r'<script type="[^"]*" id="itlens-places">([^<]*)</script>', html)
    return str(block)


def opened(block: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the columns."""
    content = unpacked_bytes(block)
    start = 4 + int.from_bytes(content[:4], "little")
    header = json.loads(content[4:start])
    columns = {}
    for name, kind, width, count in header["columns"]:
        planes = np.frombuffer(content, np.uint8, width * count, start).reshape(width, count)
        columns[name] = planes.T.copy().view(f"<{TYPES[kind]}{width}").ravel()
        start += width * count
    assert start == len(content)
    return header, columns


def places_in(block: str) -> list[dict[str, Any]]:
    """All places, in order: chapter, layer, head, what, part, text, numbers, base, tuned."""
    header, columns = opened(block)
    texts = header["texts"]
    lists = {side: _lists(side, header, columns) for side in ("base", "tuned")}
    places, line = [], 0
    for i in range(columns["place.layer"].size):
        at = {name: int(columns[f"place.{name}"][i]) for name in ("chapter", "layer", "head", "numbers")}
        place: dict[str, Any] = {
            "chapter": header["chapters"][at["chapter"]]["name"],
            "layer": at["layer"],
            "head": None if at["head"] == NO_HEAD else at["head"],
            **{name: texts[columns[f"place.{name}"][i]] for name in ("what", "part", "text")},
        }
        place["numbers"] = []
        for row in range(line, line + at["numbers"]):
            named = {name: texts[columns[f"number.{name}"][row]] for name in ("name", "unit")}
            place["numbers"].append(named | {field: float(columns[f"number.{field}"][row]) for field in FIELDS})
        line += at["numbers"]
        places.append(place | {side: next(lists[side]) for side in lists})
    return places


def _lists(side: str, header: dict[str, Any], columns: dict[str, np.ndarray]) -> Any:
    def get(name: str) -> np.ndarray:
        return columns[f"{side}.{name}"]

    headings = [name.removeprefix(f"{side}.has.") for name in columns if name.startswith(f"{side}.has.")]
    used, number, entry, word = dict.fromkeys(headings, 0), 0, 0, 0
    for size in get("size").tolist():
        if size < 0:
            yield None
            continue
        width = int(get("width")[number])
        flat = [header["words"][each] for each in get("word")[word : word + size * width]]
        found: dict[str, Any] = {}
        for heading in headings:
            if get(f"has.{heading}")[number]:
                found[heading] = get(f"column.{heading}")[used[heading] : used[heading] + size].tolist()
                used[heading] += size
        yield {
            "words": flat if width == 1 else list(zip(flat[::2], flat[1::2], strict=True)),
            "columns": found,
            "alone": [bool(mark) for mark in get("alone")[entry : entry + size]],
            "total": int(get("total")[number]),
            "label": header["texts"][get("label")[number]],
        }
        number, entry, word = number + 1, entry + size, word + size * width
