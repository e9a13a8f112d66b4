"""The run-time type checker of the test run: arrays and tables in the numeric modules' annotations are enforced.

Everything else that a caller can get wrong (a model, a choice, a number, a prompt) is refused by the package's own
sentences, which a test must see instead of a type checker's; mypy reads those annotations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

# `p: float` takes 4, as PEP 484 says
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_ARRAYS = ("numpy", "torch", "xarray", "pandas")

Function = TypeVar("Function", bound=Callable[..., Any])


def check(function: Function) -> Function:
    """Enforce the annotations of one function that name an array or a table. jaxtyping has resolved them before."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint if _of_arrays(hint) else Any for name, hint in hints.items()}
    return _check(function)


def _of_arrays(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return str(getattr(hint, "__module__", "")).split(".")[0] in _ARRAYS or any(map(_of_arrays, get_args(hint)))
