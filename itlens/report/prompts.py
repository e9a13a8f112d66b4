"""The chapter of prompts as data: every prompt with its text, both answers, its numbers, and panels of its own.

What the page holds, so that 200 prompts cost well under a megabyte and nothing is decoded before somebody looks:
1. one JSON of all prompts (ids, groups, texts in pieces, answers in pieces, numbers), gzip and base 85;
2. of prompts with panels (coloured tokens, attention patterns) the panels' HTML, as their templates draw it, gzip and
   base 85, `TOGETHER` prompts in a block. `MOST_BYTES` of them at the most, those of the prompts that changed most
   first; the page says how many.

assets/prompts.js draws the chapter from there. All texts are made visible here (`itlens.report.text`), and are never
markup: the script sets them as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

import pandas as pd

from itlens.report import text
from itlens.report.blocks import Panel
from itlens.report.numbers import is_number
from itlens.report.page import packed

MOST_BYTES = 1_200_000  # of packed panels in a page
TOGETHER = 20  # prompts whose panels are packed in one block: what they share is stored once, half of all
MOST_TEXT = 1_500_000  # of packed texts; beyond, the page has the beginnings
BEGINNING = 160  # characters of a prompt in a list
_LONGEST_DIFF = 1500  # words of an answer that are compared
# letters that are written without spaces are compared one by one
_ALONE = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+(?:['’][^\W{_ALONE}]+)*|[^\w\s]")

Piece = tuple[str, bool]


@dataclass(frozen=True)
class PromptAnswer:
    """What a model answered. text: of the answer. end: how it ended, in words; "" where that is not known."""

    text: str
    end: str = ""


@dataclass(frozen=True)
class PromptEntry:
    """One prompt. pieces: its text in pieces, each with the kinds of span ("instruction", "context") that it lies in.

    answers: by side ("base", "tuned"), or of "given" alone: a response that the prompt brought.
    """

    id: str
    group: str
    pieces: Sequence[tuple[str, Sequence[str]]]
    answers: Mapping[str, PromptAnswer] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptNumber:
    """A number by prompt. values: by prompt id, of base and tuned; None where there is none. about: what it is of."""

    name: str
    about: str
    values: Mapping[str, tuple[float | None, float | None]]


@dataclass(frozen=True)
class PromptsChapter:
    """Every prompt of a study.

    numbers: the first is what the chapter is sorted by at first. note: what the reader must know of the answers.
    panels: called with a prompt's id; called at all only while there is room for more. first: ids of prompts whose
    panels are needed elsewhere in the page, and get room before the others.
    """

    entries: Sequence[PromptEntry]
    numbers: Sequence[PromptNumber] = ()
    base: str = ""
    tuned: str = ""
    note: str = ""
    panels: Callable[[str], Sequence[Panel]] = lambda id: ()
    first: Sequence[str] = ()


@dataclass(frozen=True)
class DrawnPrompts:
    """The chapter for its template. data: packed JSON. views: (numbers of prompts, packed JSON of their panels' HTML by
    number). styles, scripts: assets of the panels. count: of prompts."""

    count: int
    data: str
    views: Sequence[tuple[Sequence[int], str]]
    styles: Sequence[str]
    scripts: Sequence[str]


def draw_prompts(
    chapter: PromptsChapter,
    draw: Callable[[Panel], str],
    *,
    most_bytes: int = MOST_BYTES,
    most_text: int = MOST_TEXT,
) -> DrawnPrompts:
    """Return the chapter as its template needs it. draw: returns a panel's HTML."""
    views: dict[int, str] = {}
    panels_drawn: list[Panel] = []
    room, wanted, shown = most_bytes, 0, 0
    for place in _by_change(chapter):
        if room <= 0:
            wanted += 1
            continue
        panels = chapter.panels(chapter.entries[place].id)
        if not panels:
            continue
        wanted += 1
        view = "".join(draw(panel) for panel in panels)
        room -= len(_packed(view))
        if room >= 0 or not views:
            shown += 1
            views[place] = view
            panels_drawn += panels
    content = prompts_json(chapter)
    content["cut"] = _cut(shown, wanted)
    data = _packed(content)
    if len(data) > most_text:
        content["prompts"], content["short"] = _shortened(content["prompts"], len(data), most_text)
        data = _packed(content)
    return DrawnPrompts(
        len(chapter.entries),
        data,
        _together(views),
        list(dict.fromkeys(name for panel in panels_drawn for name in panel.styles)),
        list(dict.fromkeys(name for panel in panels_drawn for name in panel.scripts)),
    )


def _together(views: Mapping[int, str]) -> list[tuple[Sequence[int], str]]:
    """Panels of so many prompts in a block, packed."""
    places = sorted(views)
    blocks = [places[start : start + TOGETHER] for start in range(0, len(places), TOGETHER)]
    return [(block, _packed({str(place): views[place] for place in block})) for block in blocks]


def prompts_json(chapter: PromptsChapter) -> dict[str, object]:
    """Return what the page's script reads: {"numbers": [...], "prompts": [...], "base", "tuned", "note"}.

    A prompt is {"id", "name" (the id with signs, where these differ), "group",
    "text": [[piece, kinds], ...], "answers": {side: {"end", "text": [piece, ...]}},
    "values": [[base, tuned], ...]}. The pieces of an answer alternate: what both answers share, what only this one has,
    and so on.
    """
    return {
        "base": text.with_signs(chapter.base),
        "tuned": text.with_signs(chapter.tuned),
        "note": chapter.note,
        "numbers": [{"name": number.name, "about": number.about} for number in chapter.numbers],
        "prompts": [_prompt_json(entry, chapter.numbers) for entry in chapter.entries],
    }


def _packed(content: Mapping[str, object] | str) -> str:
    """Return JSON, packed. Half of a surrogate pair is an escape there."""
    compact = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return packed(compact.encode("utf-8", "backslashreplace").decode())


def changed_words(base: str, tuned: str) -> tuple[list[str], list[str]]:
    """Return both texts in pieces that alternate: shared, its own, shared ... (the first may be ""); joined, they are
    the texts.

    Words are compared (letter by letter where a script has no spaces), not the white space between them; of texts of
    more than 1,500 words the rest counts as its own.
    """
    words = [list(_words(each)) for each in (base, tuned)]
    shared: list[list[bool]] = [[False] * len(each) for each in words]
    texts = [[word for word, _ in each[:_LONGEST_DIFF]] for each in words]
    for block in SequenceMatcher(None, texts[0], texts[1], autojunk=False).get_matching_blocks():
        for k in range(block.size):
            shared[0][block.a + k] = shared[1][block.b + k] = True
    of_base, of_tuned = (
        _alternating(each, words, same) for each, words, same in zip((base, tuned), words, shared, strict=True)
    )
    return of_base, of_tuned


def _words(content: str) -> Iterator[tuple[str, int]]:
    """Yield each word and where it starts."""
    return ((found.group(), found.start()) for found in _WORD.finditer(content))


def _alternating(content: str, words: Sequence[tuple[str, int]], shared: Sequence[bool]) -> list[str]:
    """Return a text in alternating pieces; white space before a word of its own stays with what is shared."""
    pieces, start, own = [], 0, False
    for k, ((_, place), same) in enumerate(zip(words, shared, strict=True)):
        if own == (not same):
            continue
        # a run of own words ends with its last word, so that marks do not hang over into the next line
        stop = place if not own else words[k - 1][1] + len(words[k - 1][0])
        pieces.append(content[start:stop])
        start, own = stop, not own
    if own:
        stop = words[-1][1] + len(words[-1][0])
        pieces.append(content[start:stop])
        start = stop
    pieces.append(content[start:])
    return pieces


def _by_change(chapter: PromptsChapter) -> list[int]:
    """Return the places of all prompts: `first`, then those with the largest difference of the first number."""
    values = chapter.numbers[0].values if chapter.numbers else {}
    first = {*chapter.first}

    def change(place: int) -> tuple[bool, float]:
        id = chapter.entries[place].id
        base, tuned = values.get(id, (None, None))
        return id not in first, -abs(tuned - base) if base is not None and tuned is not None else 0.0

    return sorted(range(len(chapter.entries)), key=change)


def _prompt_json(entry: PromptEntry, numbers: Sequence[PromptNumber]) -> dict[str, object]:
    answers: dict[str, object] = {}
    base, tuned = entry.answers.get("base"), entry.answers.get("tuned")
    if base is not None and tuned is not None:
        marked = changed_words(base.text, tuned.text)
        for side, answer, pieces in zip(("base", "tuned"), (base, tuned), marked, strict=True):
            answers[side] = {"end": answer.end, "text": [_lines(piece) for piece in pieces]}
    else:
        answers = {side: {"end": answer.end, "text": [_lines(answer.text)]} for side, answer in entry.answers.items()}
    name = text.with_signs(entry.id)
    return {
        "id": entry.id,
        **({} if name == entry.id else {"name": name}),
        "group": text.with_signs(entry.group),
        "text": [[_lines(piece), list(kinds)] for piece, kinds in entry.pieces],
        "answers": answers,
        "values": [[_short_number(value) for value in number.values.get(entry.id, ())] for number in numbers],
    }


def _short_number(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _lines(content: str) -> str:
    """Return a text with signs, line ends kept."""
    return "\n".join(text.with_signs(line) for line in content.replace("\r\n", "\n").split("\n"))


def _cut(shown: int, wanted: int) -> str:
    if shown == wanted:
        return ""
    return (
        f"The page has room for the tokens of {shown} of {wanted} prompts: those that changed most. "
        "itlens.views.token_pair draws the others."
    )


def _shortened(prompts: object, size: int, most: int) -> tuple[list[dict[str, object]], str]:
    """Return the prompts with as many whole ones as there is room for, and a sentence on the others."""
    assert isinstance(prompts, list)
    whole = int(len(prompts) * most / size)
    short = []
    for prompt in prompts[whole:]:
        beginning = "".join(piece for piece, _ in prompt["text"])[:BEGINNING]
        short.append({**prompt, "text": [[beginning, []]], "answers": {}, "short": True})
    said = (
        f"The page has room for {whole} of {len(prompts)} prompts with their answers; of the others it has the "
        "beginning. All are in prompts.jsonl and responses/ of the run folder."
    )
    return [*prompts[:whole], *short], said


def numbers_by_prompt(table: pd.DataFrame, about: str) -> list[PromptNumber]:
    """Return the numbers of a table with the columns model ("base", "tuned"), id, group, and numbers."""
    found = []
    for name in table.columns:
        if name in ("model", "id", "group") or not pd.api.types.is_numeric_dtype(table[name]):
            continue
        sides = {
            side: dict(zip(rows["id"].astype(str), map(_plain, rows[name]), strict=True))
            for side in ("base", "tuned")
            for rows in [table[table["model"] == side]]
        }
        ids: Iterable[str] = dict.fromkeys([*sides["base"], *sides["tuned"]])
        values = {id: (sides["base"].get(id), sides["tuned"].get(id)) for id in ids}
        found.append(PromptNumber(str(name).replace("_", " "), about, values))
    return found


def _plain(value: object) -> float | None:
    return float(value) if is_number(value) else None  # type: ignore[arg-type]
