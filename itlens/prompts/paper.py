"""The paper's TSV files: prompts with annotated instructions (Wu et al., NAACL 2024, released data set).

Two layouts, distinguished by their header: `ID, Prompt, Response, Instruct&Context`, where Response is a reference, and
`File, Model, Prompt, Reference, Instruct, Response, Rating`, where Rating judges the model's Response. Fields are
split at tabs alone; a quote is an ordinary character and a doubled one means one; `/n` and `/t` mean line end and tab.

1. An annotation is cut at `&&&` into instruction and context, each of them at `|||` into parts.
2. Each part is found in the prompt; where its white space, quotes, dashes, case or a few letters differ, the likest
   place is taken and a PromptWarning counts it.
3. The prompt is split into sentences: after . ! ? : (and closing quotes) before white space, and at line ends.
4. The instruction is every sentence that shares a character with one of its parts, once, without a leading
   "Input:". The context is its parts as they are.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from itlens.errors import PromptError
from itlens.prompts.jsonl import read_lines
from itlens.prompts.prompt import Prompt
from itlens.prompts.spans import Span, nearest_text, quote

_LAYOUTS = (
    ("ID", "Prompt", "Response", "Instruct&Context"),
    ("File", "Model", "Prompt", "Instruct", "Response", "Rating"),
)
_SENTENCE_END = re.compile(r"[.!?:]+[\"'”’)\]]*(?=\s|$)|\n")
_INPUT = re.compile(r"Input:\s*")
_LIKE_ENOUGH = 0.85
_STRAIGHT = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "`": "'", "–": "-", "—": "-", "−": "-"})


class PromptWarning(UserWarning):
    """Something in a prompt file was read with a guess; the message says what and how often."""


def read_paper_tsv(path: Path) -> list[tuple[int, Prompt]]:
    """Return the prompts of one of the paper's TSV files with their line numbers; the group comes from the id.

    References become `answer`. In the layout with ratings, the rated Response becomes `response`, and a rating of -1
    (not judged) None. Raises PromptError with file and line; warns of annotations that were matched loosely.
    """
    (_, header), *lines = read_lines(path)
    columns = header.split("\t")
    if not any(set(layout) <= set(columns) for layout in _LAYOUTS):
        raise PromptError(
            f"{path} is not a TSV file of the paper: its header is {quote(header)} where "
            f"{' or '.join(', '.join(layout) for layout in _LAYOUTS)} is expected; other prompts are read from .jsonl."
        )
    if not lines:
        raise PromptError(f"{path} holds a header and no prompts.")
    found, loose = [], []
    for number, line in lines:
        where, cells = f"{path}, line {number}", line.split("\t")
        if len(cells) != len(columns):
            raise PromptError(f"{where}: {len(cells)} columns where the header has {len(columns)}.")
        prompt, guesses = _prompt(dict(zip(columns, map(decode, cells), strict=True)), where)
        found.append((number, prompt))
        loose += [prompt.id] if guesses else []
    if loose:
        warnings.warn(
            f"{path}: the annotations of {len(loose)} of {len(found)} prompts do not stand in their prompts letter by "
            f"letter and were placed where they fit best ({', '.join(loose[:5])}{' ...' if len(loose) > 5 else ''}).",
            PromptWarning,
            stacklevel=3,
        )
    return found


def decode(cell: str) -> str:
    """Return what a cell means: `/n` a line end, `/t` a tab, a doubled quote one; quotes around a whole quoted cell
    go."""
    inner = cell[1:-1]
    # A CSV writer puts quotes around a cell only when there are quotes to double in it; other quotes are the author's.
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and '""' in inner and '"' not in inner.replace('""', ""):
        cell = inner
    return cell.replace('""', '"').replace("/n", "\n").replace("/t", "\t")


def sentences(text: str) -> list[Span]:
    """Return the ranges of the sentences of a text: split after . ! ? : before white space, and at line ends;
    trimmed."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    pieces = zip([0, *ends], [*ends, len(text)], strict=True)
    return [span for start, stop in pieces if (span := _trimmed(text, start, stop))]


def widen(text: str, parts: list[Span]) -> list[Span]:
    """Return the whole sentences of the text that hold some of the parts, each once, without a leading "Input:"."""
    held = [(a, b) for a, b in sentences(text) if any(a < stop and start < b for start, stop in parts)]
    cut = [(match.end() if (match := _INPUT.match(text, a, b)) else a, b) for a, b in held]
    return [(a, b) for a, b in cut if a < b]


def group_of(id: str) -> str:
    """Return the group in an id: mtbench_writing_81 -> writing, lima_7 -> lima, anything else -> ""."""
    match = re.fullmatch(r"(?:[^_]+_)*?([^_\d][^_]*)_\d+", id)
    return match[1] if match else ""


def _prompt(cells: dict[str, str], where: str) -> tuple[Prompt, int]:
    rated = "Rating" in cells
    id = (cells["File"].removesuffix(".pkl") if rated else cells["ID"]).strip()
    if not id:
        raise PromptError(f"{where}: the prompt has no id.")
    text, annotation = cells["Prompt"], cells["Instruct" if rated else "Instruct&Context"]
    instruction, _, context = annotation.partition("&&&")
    try:
        places = [[_place(part, text, id) for part in _parts(field)] for field in (instruction, context)]
        prompt = Prompt(
            text,
            instruction=widen(text, [span for span, _ in places[0]]),
            context=[span for span, _ in places[1]],
            response=cells["Response"] if rated else None,
            id=id,
            group=group_of(id),
            rating=_rating(cells["Rating"]) if rated else None,
            answer=cells.get("Reference") if rated else cells["Response"],
        )
    except PromptError as error:
        raise PromptError(f"{where}: {error}") from None
    return prompt, sum(not exact for field in places for _, exact in field)


def _parts(field: str) -> list[str]:
    return [part.strip() for part in field.split("|||") if part.strip()]


def _place(part: str, text: str, id: str) -> tuple[Span, bool]:
    """Return where an annotated part is, and whether it is there letter by letter."""
    start = text.find(part)
    if start >= 0:
        return (start, start + len(part)), True
    plain, origin = _plain(text)
    wanted, _ = _plain(part)
    start = plain.find(wanted)
    if start >= 0:
        return (origin[start], origin[start + len(wanted) - 1] + 1), False
    near = nearest_text(part, text)
    if near is None or near[1] < _LIKE_ENOUGH:
        hint = f"the nearest text there is {quote(text[slice(*near[0])])}" if near else "nothing there is like it"
        raise PromptError(f"Prompt {quote(id)}: the annotation {quote(part)} does not occur in the prompt; {hint}.")
    return near[0], False


def _plain(text: str) -> tuple[str, list[int]]:
    """Return the text with plain quotes and dashes, lower case and single spaces, and where each character came
    from."""
    characters: list[str] = []
    origin: list[int] = []
    for position, character in enumerate(text.translate(_STRAIGHT)):
        character = " " if character.isspace() else character.lower()[0]
        if character != " " or (characters and characters[-1] != " "):
            characters.append(character)
            origin.append(position)
    return "".join(characters), origin


def _rating(cell: str) -> float | None:
    try:
        rating = float(cell)
    except ValueError:
        raise PromptError(f"the rating {quote(cell)} is not a number.") from None
    return None if rating == -1 else rating


def _trimmed(text: str, start: int, stop: int) -> Span | None:
    piece = text[start:stop]
    start += len(piece) - len(piece.lstrip())
    return (start, start + len(piece.strip())) if piece.strip() else None
