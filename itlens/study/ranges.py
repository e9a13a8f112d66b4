"""The ranges of a study's numbers, for what is asked and for what a run folder says (so: without torch)."""

from __future__ import annotations

from numbers import Real
from typing import Any

from itlens.errors import ProbeError

_LOWEST = {"levels": 1, "threshold": 0, "seed": 0, "limit": 1, "max_new_tokens": 1, "batch_size": 1}
_LOWEST |= {"top_k": 1, "components": 1, "resamples": 0, "concept_words": 1, "labelled": 1, "sample": 1}
_OPTIONAL = ("limit", "batch_size", "components")


def refuse_numbers(**numbers: Any) -> None:
    """Raise ProbeError for a number that is too low or no whole one; `threshold` must not exceed `levels`."""
    for name, value in numbers.items():
        if value is None and name in _OPTIONAL:
            continue
        if name == "p":
            if isinstance(value, bool) or not isinstance(value, Real) or not 1 <= float(value) < float("inf"):
                raise ProbeError(f"p={value!r}; expected a number of at least 1 (the power of the importance density).")
        elif isinstance(value, bool) or not isinstance(value, int) or value < _LOWEST[name]:
            raise ProbeError(f"{name}={value!r}; expected a whole number of at least {_LOWEST[name]}.")
    if "levels" in numbers and numbers["threshold"] > numbers["levels"]:
        raise ProbeError(f"threshold={numbers['threshold']} is higher than levels={numbers['levels']}.")
