"""What a probe is asked for: which layers and heads, and things of the right kind."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from operator import index
from typing import Any

from itlens.errors import ProbeError

Numbers = Iterable[int] | int | None


def chosen(name: str, asked: Any, count: int) -> list[int]:
    """The numbers asked for, ascending and each once; None for all `count`. `name` is "layer" or "head".

    Raises ProbeError for anything but whole numbers from 0 to count - 1; the message says the range.
    """
    if asked is None:
        return list(range(count))
    single = whole(asked) is not None or isinstance(asked, (str, bytes)) or not isinstance(asked, Iterable)
    listed = [asked] if single else list(asked)
    if not listed:
        raise ProbeError(f"{name}s is empty; expected numbers from 0 to {count - 1}, or None for all.")
    numbers = [whole(number) for number in listed]
    for given, number in zip(listed, numbers, strict=True):
        if number is None or not 0 <= number < count:
            raise ProbeError(f"{name} {given!r} is not there; the model has {name}s 0 to {count - 1}.")
    return sorted({number for number in numbers if number is not None})


def whole(number: Any) -> int | None:
    """A whole number of any kind (Python's, numpy's, a tensor's) as an int; None for anything else, and for bools."""
    if isinstance(number, bool):
        return None
    try:
        return index(number)
    except TypeError:
        return None


def whole_number(name: str, number: Any, least: int) -> int:
    """The number as an int. Raises ProbeError for anything but a whole number of at least `least`."""
    found = whole(number)
    if found is None or found < least:
        raise ProbeError(f"{name}={number!r}; expected a whole number of at least {least}.")
    return found


def finite(name: str, number: Any, meaning: str) -> float:
    """The number as a float. Raises ProbeError for anything but a finite number; `meaning` says what is expected."""
    if isinstance(number, bool) or not isinstance(number, Real) or not abs(float(number)) < float("inf"):
        raise ProbeError(f"{name}={number!r}; expected a number ({meaning}).")
    return float(number)


def refuse_kind(name: str, given: Any, kind: type) -> None:
    """Raise ProbeError for an argument that is of another class."""
    if not isinstance(given, kind):
        raise ProbeError(f"{name} is a {type(given).__name__}; expected an itlens.{kind.__name__}.")
