"""Prompts as JSON lines: one object a line, read with the line number in every message, written atomically."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from itlens.errors import PromptError
from itlens.files import write_bytes
from itlens.prompts.prompt import Prompt
from itlens.prompts.spans import quote

# Field of the file -> field of Prompt, in the order of writing.
_FIELDS = {
    "id": "id",
    "group": "group",
    "prompt": "text",
    "instruction": "instruction",
    "context": "context",
    "response": "response",
    "rating": "rating",
    "answer": "answer",
}
_BOM = b"\xef\xbb\xbf"


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file that are not blank, with their numbers (from 1); no line ends, no BOM."""
    try:
        raw = path.read_bytes().removeprefix(_BOM)
    except FileNotFoundError:
        raise PromptError(
            f'There is no prompt file {path}{_similar(path)}; give a file, "builtin" or "demo".'
        ) from None
    except IsADirectoryError:
        raise PromptError(f"{path} is a folder; give a prompt file (.jsonl or .tsv) in it.") from None
    except (OSError, ValueError) as error:
        raise PromptError(f"The prompt file {quote(str(path))} cannot be read ({error}).") from error
    if b"\0" in raw:
        raise PromptError(f"{path} is a binary file (or UTF-16 text); prompts are read from UTF-8 text.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PromptError(
            f"{path}, line {line}: byte 0x{raw[error.start]:02x} is not UTF-8 text; give a text file saved as UTF-8."
        ) from None
    # Not splitlines(): JSON strings may hold U+2028 and other separators that it would cut at.
    lines = [(number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), start=1)]
    kept = [(number, line) for number, line in lines if line.strip()]
    if not kept:
        raise PromptError(f"{path} is empty; expected at least one prompt.")
    yield from kept


def read_jsonl(path: Path) -> list[tuple[int, Prompt]]:
    """Return the prompts of a JSONL file with their line numbers; a prompt without an id becomes "<stem>-0001" and so
    on."""
    found: list[tuple[int, Prompt]] = []
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        fields = _fields(_parse(line, where), where)
        if fields.get("id") is None:
            fields["id"] = f"{path.stem}-{len(found) + 1:04d}"
        elif isinstance(fields["id"], int) and not isinstance(fields["id"], bool):
            fields["id"] = str(fields["id"])
        try:
            found.append((number, Prompt(**fields)))
        except PromptError as error:
            raise PromptError(f"{where}: {error}") from None
    return found


def write_jsonl(prompts: list[Prompt], path: Path) -> None:
    """Write the prompts atomically, spans as (start, stop). Raises StoreError when the file cannot be written."""
    write_bytes(path, jsonl_bytes(prompts))


def jsonl_bytes(prompts: Iterable[Prompt]) -> bytes:
    """Return what `write_jsonl` writes."""
    text = "".join(json.dumps(_record(prompt), ensure_ascii=False) + "\n" for prompt in prompts)
    return text.encode("utf-8", errors="backslashreplace")


def _record(prompt: Prompt) -> dict[str, Any]:
    values = {field: getattr(prompt, name) for field, name in _FIELDS.items()}
    # An empty id is written as such: for an absent one, loading would make one up.
    return {field: value for field, value in values.items() if value is not None and value != ()}


def _parse(line: str, where: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) != len(pairs):
            twice = next(name for name in record if sum(name == other for other, _ in pairs) > 1)
            raise PromptError(f"{where}: the field {quote(twice)} is given more than once.")
        return record

    try:
        record = json.loads(line, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        detail = getattr(error, "msg", str(error))
        column = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise PromptError(
            f'{where}: broken JSON ({detail}{column}); each line must be one object such as {{"prompt": "..."}}.'
        ) from None
    if not isinstance(record, dict):
        raise PromptError(f'{where}: a {_json_kind(record)} stands where an object such as {{"prompt": "..."}} must.')
    return record


def _fields(record: dict[str, Any], where: str) -> dict[str, Any]:
    for name in record:
        if name not in _FIELDS:
            close = get_close_matches(name.lower(), _FIELDS, n=1)
            hint = f"; did you mean {quote(close[0])}?" if close else "."
            raise PromptError(f"{where}: unknown field {quote(name)}{hint} Known fields are {', '.join(_FIELDS)}.")
    if record.get("prompt") is None:
        raise PromptError(f'{where}: the field "prompt" is missing; it holds the text that the model reads.')
    return {_FIELDS[name]: value for name, value in record.items() if value is not None}


def _json_kind(value: Any) -> str:
    if value is None:
        return "null"
    return {list: "list", str: "string", bool: "truth value"}.get(type(value), "number")


def _similar(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    close = get_close_matches(path.name, names, n=1, cutoff=0.75)
    return f" (there is {path.parent / close[0]})" if close else ""
