"""Texts that are read and not answered: built-in ones, a file with a text a line, a list of your own, or prompts.

The built-in texts are 1,000 short English sentences that have nothing to do with instructions (examples in WordNet,
`itlens/data/README.md`): what differs between two models there is not what the text asks for, since it asks nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from itlens.errors import PromptError
from itlens.files import read_bytes
from itlens.prompts.jsonl import read_lines
from itlens.prompts.loaders import load_prompts
from itlens.prompts.prompt import Prompt

_BUILTIN = Path(__file__).parents[1] / "data" / "builtin_texts.txt"
_COMMENT = "# "  # lines of the built-in file that name its source


class Texts(tuple[str, ...]):
    """Texts in order. name: what they are called; fingerprint: 16 hex digits over all of them."""

    name = "given"

    @property
    def fingerprint(self) -> str:
        """A digest of the texts."""
        joined = "".join(f"{len(text)}:{text}" for text in self)
        return hashlib.sha256(joined.encode("utf-8", errors="surrogatepass")).hexdigest()[:16]


TextsLike: TypeAlias = str | os.PathLike[str] | Iterable[str | Prompt]  # what `as_passages` takes


@dataclass(frozen=True)
class Passage:
    """A text with the id and the group that results name it by; group "" is none."""

    id: str
    group: str
    text: str


def load_texts(path_or_name: str | os.PathLike[str] = "builtin", *, limit: int | None = None) -> Texts:
    """Return the texts of a file, a text a line (empty lines do not count), or the built-in ones.

    path_or_name: "builtin", or a text file (UTF-8). limit: keep the first so many. Raises PromptError for a file that
    is not there, holds no text, or is not UTF-8, and for a limit that is no whole number of at least 1.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise PromptError(f"The limit must be a whole number of at least 1, or None for all texts, not {limit!r}.")
    if not isinstance(path_or_name, (str, os.PathLike)) or not str(path_or_name):
        raise PromptError(f'texts is a {type(path_or_name).__name__}; expected "builtin", a file, or a list of texts.')
    builtin = str(path_or_name) == "builtin"
    path = _BUILTIN if builtin else Path(path_or_name)
    if not path.is_file():
        raise PromptError(
            f'texts={str(path_or_name)!r} is no file; expected "builtin", a file with a text a line, or a list of '
            "texts."
        )
    if not read_bytes(path).strip():
        raise PromptError(f"{path} holds no text; expected a text a line.")
    lines = [line.strip() for _, line in read_lines(path)]
    kept = [line for line in lines if line and not (builtin and line.startswith(_COMMENT))]
    texts = Texts(kept[:limit])
    texts.name = "builtin" if builtin else path.name
    return texts


def loaded_texts(given: object) -> Texts:
    """Return texts that were given as an option: by name or file (`load_texts`), or a list of texts.

    Raises PromptError for anything else, and for no texts.
    """
    if isinstance(given, Texts):
        return given
    if isinstance(given, (str, os.PathLike)):
        return load_texts(given)
    return Texts(passage.text for passage in as_passages(given))


def as_passages(given: Any) -> list[Passage]:
    """Return what a caller gave as texts: "builtin" or a file (`load_texts`; .jsonl and .tsv: `load_prompts`), or texts
    and `Prompt` objects.

    A prompt's text is followed by its response, where it has one, and keeps its id and group; a text is called by its
    place: "text-0001". Raises PromptError for no texts, an empty text, and anything that is neither.
    """
    if isinstance(given, (str, os.PathLike)):
        of_prompts = str(given).lower().endswith((".jsonl", ".tsv"))
        given = load_prompts(given) if of_prompts else load_texts(given)
    if isinstance(given, Prompt):
        given = [given]
    expected = 'expected "builtin", a file, or a list of texts (or of itlens.Prompt objects)'
    if not isinstance(given, Iterable) or isinstance(given, (Mapping, bytes)):
        raise PromptError(f"texts is a {type(given).__name__}; {expected}.")
    passages = [_passage(one, number, expected) for number, one in enumerate(given, start=1)]
    if not passages:
        raise PromptError(f"There are no texts; {expected}.")
    return passages


def _passage(given: object, number: int, expected: str) -> Passage:
    if isinstance(given, Prompt):
        passage = Passage(given.id or f"text-{number:04d}", given.group, given.text + (given.response or ""))
    elif isinstance(given, str):
        passage = Passage(f"text-{number:04d}", "", given)
    else:
        raise PromptError(f"texts holds a {type(given).__name__}; {expected}.")
    if not passage.text:
        raise PromptError(f"The text {passage.id!r} is empty; leave it out, or write something.")
    return passage
