"""Check what a probe is given: layers and heads by number, whole and finite numbers, objects of the right kind."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from operator import index
from typing import Any

from itlens.errors import ProbeError

Numbers = Iterable[int] | int | None


def chosen(name: str, numbers: Numbers, count: int) -> list[int]:
    """Return the chosen numbers, ascending and each once; None for all `count`. `name` is "layer" or "head".

    Raises ProbeError for anything but whole numbers from 0 to count - 1; the message says the range.
    """
    if numbers is None:
        return list(range(count))
    listed: list[Any] = [numbers] if _is_single(numbers) else list(numbers)  # type: ignore[arg-type]
    if not listed:
        raise ProbeError(f"{name}s is empty; expected numbers from 0 to {count - 1}, or None for all.")
    checked = [as_whole(number) for number in listed]
    for given, number in zip(listed, checked, strict=True):
        if number is None or not 0 <= number < count:
            raise ProbeError(f"{name} {given!r} is not there; the model has {name}s 0 to {count - 1}.")
    return sorted({number for number in checked if number is not None})


def _is_single(given: object) -> bool:
    return as_whole(given) is not None or isinstance(given, (str, bytes)) or not isinstance(given, Iterable)


def as_whole(number: object) -> int | None:
    """Return a whole number of any kind (Python's, numpy's, a tensor's) as an int; None for anything else, and for
    bools."""
    if isinstance(number, bool):
        return None
    try:
        return index(number)  # type: ignore[arg-type]
    except TypeError:
        return None


def whole_number(name: str, number: object, least: int) -> int:
    """Return the number as an int. Raises ProbeError for anything but a whole number of at least `least`."""
    checked = as_whole(number)
    if checked is None or checked < least:
        raise ProbeError(f"{name}={number!r}; expected a whole number of at least {least}.")
    return checked


def finite(name: str, number: object, meaning: str) -> float:
    """Return the number as a float. Raises ProbeError for anything but a finite number; `meaning` says what is
    expected."""
    if isinstance(number, bool) or not isinstance(number, Real) or not abs(float(number)) < float("inf"):
        raise ProbeError(f"{name}={number!r}; expected a number ({meaning}).")
    return float(number)


def refuse_kind(name: str, given: object, kind: type[Any]) -> None:
    """Raise ProbeError for an argument that is of another class."""
    if not isinstance(given, kind):
        raise ProbeError(f"{name} is a {type(given).__name__}; expected an itlens.{kind.__name__}.")
