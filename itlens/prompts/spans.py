"""Spans: character ranges (start, stop) of a text, given as ranges or as substrings.

Resolved spans lie inside the text, hold more than white space, are sorted, and share no character with one another:
spans of one kind that overlap are merged, spans that only touch stay apart. So no character is ever counted twice.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import Any

from itlens.errors import PromptError

Span = tuple[int, int]
SpanLike = str | Sequence[int]
SpansLike = SpanLike | Iterable[SpanLike]

# Bounds on what difflib compares: its cost grows with the product, and a message needs no more.
_COMPARED_TEXT, _COMPARED_PART = 20_000, 1_000


def quote(value: str, width: int = 80) -> str:
    """Return the text in double quotes on one line, cut to about `width` characters: for messages."""
    return json.dumps(value if len(value) <= width else value[: width - 1] + "…", ensure_ascii=False)


def resolve_spans(given: Any, text: str, where: str) -> tuple[Span, ...]:
    """Return the ranges that `given` means in `text`; `where` opens the message of an error ('Prompt "a":
    instruction').

    `given` is a substring, a (start, stop) pair, or several of either; None means none. A substring that occurs
    several times means its first occurrence. Raises PromptError.
    """
    return merge_spans(_resolve(one, text, where) for one in _listed(given, where))


def merge_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return sorted spans without shared characters; those that only touch stay apart."""
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)


def nearest_text(part: str, text: str) -> tuple[Span, float] | None:
    """Return the range of `text` most like `part`, widened to whole words, and how alike (0..1); None if nothing is."""
    part, text = part[:_COMPARED_PART], text[:_COMPARED_TEXT]
    matcher = SequenceMatcher(None, _folded(text), _folded(part), autojunk=False)
    anchor = matcher.find_longest_match()
    if anchor.size < min(3, len(part)):
        return None
    start = max(0, anchor.a - anchor.b)
    stop = min(len(text), anchor.a - anchor.b + len(part))
    while start > 0 and not text[start - 1].isspace() and not text[start].isspace():
        start -= 1
    while stop < len(text) and not text[stop].isspace() and not text[stop - 1].isspace():
        stop += 1
    while start < stop and text[start].isspace():
        start += 1
    while stop > start and text[stop - 1].isspace():
        stop -= 1
    likeness = SequenceMatcher(None, _folded(text[start:stop]), _folded(part), autojunk=False).ratio()
    return (start, stop), likeness


def _folded(text: str) -> str:
    # Character by character: lower() of a whole text may change its length, and with it every position.
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)


def _listed(given: Any, where: str) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, str):
        return [given]
    if isinstance(given, (dict, set, frozenset, bytes)) or not isinstance(given, Iterable):
        raise PromptError(
            f"{where} is of the type {type(given).__name__}; give a substring, (start, stop), or a list of them."
        )
    items = list(given)
    if len(items) == 2 and all(_whole(item) is not None for item in items):
        return [items]
    return items


def _resolve(span: Any, text: str, where: str) -> Span:
    start, stop = _find(span, text, where) if isinstance(span, str) else _range(span, text, where)
    if not text[start:stop].strip():
        raise PromptError(f"{where} span ({start}, {stop}) holds only white space; a span must hold words.")
    return start, stop


def _find(part: str, text: str, where: str) -> Span:
    if not part:
        raise PromptError(f'{where} span is "", the empty text; give words of the prompt, or leave the span out.')
    start = text.find(part)
    if start < 0:
        raise PromptError(f"{where} {quote(part)} does not occur in the prompt; {_hint(part, text)}")
    return start, start + len(part)


def _hint(part: str, text: str) -> str:
    near = nearest_text(part, text)
    if near is None or near[1] < 0.5:
        return f"nothing there is like it. The prompt begins {quote(text)}."
    (start, stop), _ = near
    return f"the nearest text there is {quote(text[start:stop])}. Write it as the prompt has it."


def _range(span: Any, text: str, where: str) -> Span:
    ends = [_whole(end) for end in span] if isinstance(span, Iterable) else []
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        raise PromptError(f"{where} span {quote(repr(span))} is neither a substring nor a pair (start, stop).")
    start, stop = ends[0], ends[1]
    if not 0 <= start < stop <= len(text):
        raise PromptError(
            f"{where} span ({start}, {stop}) does not fit; 0 <= start < stop <= {len(text)} (the prompt's length) "
            "must hold."
        )
    return start, stop


def _whole(value: Any) -> int | None:
    if isinstance(value, (bool, str)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
