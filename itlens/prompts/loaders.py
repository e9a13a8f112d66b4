"""Where prompts come from: texts, built-in prompts, those of the embedded pair, JSONL files, the paper's TSV files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from itlens.errors import PromptError
from itlens.prompts.formats import format_prompts
from itlens.prompts.jsonl import read_jsonl, write_jsonl
from itlens.prompts.paper import read_paper_tsv
from itlens.prompts.prompt import Prompt
from itlens.prompts.spans import quote

if TYPE_CHECKING:
    from itlens.tokenization import Tokenizer

PromptsLike: TypeAlias = Prompt | str | Iterable[Prompt | str]  # what `as_prompts` takes

_PACKAGE = Path(__file__).parents[1]
_SHOWN = 5  # ids that an error names
NAMED = {
    "builtin": _PACKAGE / "data" / "builtin_prompts.jsonl",
    "demo": _PACKAGE / "demo" / "prompts.jsonl",
}


def as_prompts(given: PromptsLike, *, instruction_required: bool = False) -> list[Prompt]:
    """Return the prompts that a caller gave, each with an id of its own.

    given: a `Prompt`, a text, or several of them. A prompt without an id is named by its place: "prompt-0001". A text
    is a prompt, never the name of a file (see `load_prompts`). Raises PromptError: no prompts, anything that is neither
    a Prompt nor a text, one id twice, and (instruction_required) a prompt without an instruction.
    """
    prompts = [prompt if isinstance(prompt, Prompt) else Prompt(prompt) for prompt in _listed(given)]
    prompts = [prompt if prompt.id else prompt.replace(id=f"prompt-{n:04d}") for n, prompt in enumerate(prompts, 1)]
    known: set[str] = set()
    for prompt in prompts:
        if prompt.id in known:
            raise PromptError(f"Two prompts have the id {prompt.id!r}; give every prompt its own id.")
        known.add(prompt.id)
    bare = [prompt.id for prompt in prompts if not prompt.instruction]
    if instruction_required and bare:
        shown = ", ".join(bare[:_SHOWN]) + (" ..." if len(bare) > _SHOWN else "")
        raise PromptError(f'{len(bare)} prompts have no instruction ({shown}); add the field "instruction" to each.')
    return prompts


def _listed(given: Any) -> list[Prompt | str]:
    expected = "expected an itlens.Prompt, a text, or several of them (itlens.load_prompts reads a file)"
    if isinstance(given, (Prompt, str)):
        return [given]
    if not isinstance(given, Iterable) or isinstance(given, (Mapping, bytes)):
        raise PromptError(f"prompts is a {type(given).__name__}; {expected}.")
    listed = list(given)
    if not listed:
        raise PromptError(f"There are no prompts; {expected}.")
    wrong = next((prompt for prompt in listed if not isinstance(prompt, (Prompt, str))), None)
    if wrong is not None or None in listed:
        raise PromptError(f"prompts holds a {type(wrong).__name__}; {expected}.")
    return listed


def load_prompts(
    path_or_name: str | os.PathLike[str],
    *,
    limit: int | None = None,
    format: str = "raw",
    tokenizer: Tokenizer | None = None,
) -> list[Prompt]:
    """Return the prompts of a file or of a named set, in the file's order.

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
    """Raise PromptError for equal ids: results are kept by id, so two prompts with one id would overwrite each
    other."""
    first: dict[str, int] = {}
    for line, prompt in numbered:
        if prompt.id and first.setdefault(prompt.id, line) != line:
            raise PromptError(
                f"{path}, line {line}: the id {quote(prompt.id)} is that of line {first[prompt.id]} already; "
                "give every prompt its own id."
            )
