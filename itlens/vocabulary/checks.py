"""What words must be before anything is computed from them, and the built-in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from itlens.errors import ResultError

BUILTIN = "builtin"
BUILTIN_FILE = Path(__file__).parents[1] / "data" / "builtin_words.npz"


def checked_words(words: Iterable[str], what: str) -> list[str]:
    """Return the words as plain strings, just as they were given.

    Raises ResultError for a single string, for no words at all, for something that is not a string, and for a word
    that no file could hold (a NUL, or half a surrogate pair); `what` names the list in the message.
    """
    if isinstance(words, (str, bytes)) or not isinstance(words, Iterable):
        raise ResultError(f"{what} takes a list of words, not {_short(words)}: put the words into a list.")
    given = list(words)
    if not given:
        raise ResultError(f"{what} was given an empty list of words; expected one word at least.")
    for number, word in enumerate(given):
        if not isinstance(word, str):
            raise ResultError(f"{what}: word {number} (from 0) is {_short(word)}, not a string; give strings only.")
    _check_text(given, what)
    return [str(word) for word in given]


def check_size(size: int | None) -> None:
    """Raise ResultError unless `size` is None or a whole number of at least 1."""
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ResultError(f"size is {size!r}; expected a whole number of at least 1, or None for all words.")


def words_fingerprint(words: Sequence[str], *arrays: Any) -> str:
    """ "sha256:" and 16 hexadecimal digits over the words in their order, and over arrays (their shapes and bytes)."""
    digest = hashlib.sha256(json.dumps(list(words)).encode("ascii"))
    for array in arrays:
        digest.update(str(array.shape).encode("ascii"))
        digest.update(array.data)
    return f"sha256:{digest.hexdigest()[:16]}"


def _check_text(words: list[str], what: str) -> None:
    joined = "\n".join(words)  # one pass over millions of words; the word at fault is looked for only when there is one
    if _is_text(joined):
        return
    number, word = next((number, word) for number, word in enumerate(words) if not _is_text(word))
    raise ResultError(f"{what}: word {number} (from 0), {word!r}, holds a NUL or half a character; leave it out.")


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
