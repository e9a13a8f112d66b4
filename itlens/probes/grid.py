"""What a probe is asked for: which layers and heads, and things of the right kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from itlens.errors import ProbeError

Numbers = Iterable[int] | int | None


def chosen(name: str, asked: Any, count: int) -> list[int]:
    """The numbers asked for, ascending and each once; None for all `count`. `name` is "layer" or "head".

    Raises ProbeError for anything but whole numbers from 0 to count - 1; the message says the range.
    """
    if asked is None:
        return list(range(count))
    listed = list(asked) if isinstance(asked, Iterable) and not isinstance(asked, (str, bytes)) else [asked]
    if not listed:
        raise ProbeError(f"{name}s is empty; expected numbers from 0 to {count - 1}, or None for all.")
    for number in listed:
        whole = hasattr(number, "__index__") and not isinstance(number, bool)
        if not whole or not 0 <= int(number) < count:
            raise ProbeError(f"{name} {number!r} is not there; the model has {name}s 0 to {count - 1}.")
    return sorted({int(number) for number in listed})


def refuse_kind(name: str, given: Any, kind: type) -> None:
    """Raise ProbeError for an argument that is of another class."""
    if not isinstance(given, kind):
        raise ProbeError(f"{name} is a {type(given).__name__}; expected an itlens.{kind.__name__}.")
