"""Where prompts come from: the built-in set, the set of the embedded pair, JSONL files, and the paper's TSV files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from itlens.errors import PromptError
from itlens.prompts.formats import format_prompts
from itlens.prompts.jsonl import read_jsonl, write_jsonl
from itlens.prompts.paper import read_paper_tsv
from itlens.prompts.prompt import Prompt
from itlens.prompts.spans import quote

_PACKAGE = Path(__file__).parents[1]
NAMED = {
    "builtin": _PACKAGE / "data" / "builtin_prompts.jsonl",
    "demo": _PACKAGE / "demo" / "prompts.jsonl",
}


def load_prompts(
    path_or_name: str | os.PathLike[str],
    *,
    limit: int | None = None,
    format: str = "raw",
    tokenizer: Any = None,
) -> list[Prompt]:
    """The prompts of a file or of a named set, in the file's order.

    path_or_name: "builtin" (our own prompts in many task families, in turns, so that any first part is balanced),
    "demo" (what the embedded pair was made for), a `.tsv` file of the paper (see `paper`), or a JSONL file with the
    fields id, group, prompt, instruction, context, response, rating, answer, of which only prompt is required. A file
    that is itself called "demo" is reached as "./demo". limit: keep the first so many (the whole file is checked all
    the same). format, tokenizer: as in `format_prompts`. Raises PromptError with the file and the line at fault.
    """
    path = _path(path_or_name)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise PromptError(f"The limit must be a whole number of at least 1, or None for all prompts, not {limit!r}.")
    numbered = read_paper_tsv(path) if path.suffix.lower() == ".tsv" else read_jsonl(path)
    _check_ids(numbered, path)
    return format_prompts([prompt for _, prompt in numbered][:limit], format, tokenizer)


def save_prompts(prompts: Iterable[Prompt], path: str | os.PathLike[str]) -> None:
    """Write prompts as JSONL (atomically; folders are made) so that `load_prompts(path)` gives equal ones.

    Raises PromptError for no prompts, for two prompts with one id, and for a `.tsv` path; StoreError when the file
    cannot be written.
    """
    target, given = Path(path), list(prompts)
    if not given:
        raise PromptError(f"There are no prompts to write to {target}.")
    if target.suffix.lower() == ".tsv":
        raise PromptError(
            f"Prompts are written as JSON lines, and {target} would be read as the paper's TSV; use .jsonl."
        )
    for prompt in given:
        if not isinstance(prompt, Prompt):
            raise PromptError(f"save_prompts takes Prompt objects, not a {type(prompt).__name__}.")
    _check_ids(list(enumerate(given, start=1)), target)
    write_jsonl(given, target)


def _path(path_or_name: Any) -> Path:
    if not isinstance(path_or_name, (str, os.PathLike)) or not str(path_or_name):
        raise PromptError(f'Give a prompt file, "builtin" or "demo"; got {quote(repr(path_or_name), 60)}.')
    return NAMED.get(str(path_or_name)) or Path(path_or_name)


def _check_ids(numbered: list[tuple[int, Prompt]], path: Path) -> None:
    """Results are kept by id, so two prompts with one id would overwrite each other."""
    first: dict[str, int] = {}
    for line, prompt in numbered:
        if prompt.id and first.setdefault(prompt.id, line) != line:
            raise PromptError(
                f"{path}, line {line}: the id {quote(prompt.id)} is that of line {first[prompt.id]} already; "
                "give every prompt its own id."
            )
