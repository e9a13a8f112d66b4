"""The run-time type checker of the test run: arrays and tables in the numeric modules' annotations are enforced.

Everything else that a caller can get wrong (a model, a choice, a number, a prompt) is refused by the package's own
sentences, which a test must see instead of a type checker's; mypy reads those annotations.

jaxtyping's import hook makes the checks of a function when it is defined, in milliseconds: for a hook on activations,
which is defined inside another function, at every call of that one. `install` makes them at a function's first call,
once for all definitions of the same code, and leaves a function alone whose annotations name no array.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial, wraps
from types import CodeType, FunctionType
from typing import Any, TypeVar, get_args

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, install_import_hook

# `p: float` takes 4, as PEP 484 says
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_jaxtyped = jaxtyping.jaxtyped
_ARRAYS = ("numpy", "torch", "xarray", "pandas")
_enforced: dict[CodeType, Callable[..., Any] | None] = {}  # None: no array is named
_called = threading.local()  # its `function` is the one whose arguments have just been checked

Function = TypeVar("Function", bound=Callable[..., Any])


def install(modules: Sequence[str]) -> None:
    """Enforce the annotations of modules that are imported from now on."""
    jaxtyping.jaxtyped = _at_the_first_call  # the decorator that the hook writes into the modules, by this name
    install_import_hook(modules, f"{__name__}.check")


def check(function: Function) -> Function:
    """Enforce the annotations of one function that name an array or a table. jaxtyping has resolved them before."""
    if not _names_arrays(function):
        return function
    hints = function.__annotations__
    function.__annotations__ = {name: hint if _of_arrays(hint) else Any for name, hint in hints.items()}
    return _check(function)


def _names_arrays(function: Callable[..., Any]) -> bool:
    return any(map(_of_arrays, function.__annotations__.values()))


def _of_arrays(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return str(getattr(hint, "__module__", "")).split(".")[0] in _ARRAYS or any(map(_of_arrays, get_args(hint)))


def _at_the_first_call(function: Any = None, *, typechecker: Any) -> Any:
    """Decorate as `jaxtyping.jaxtyped` does, but make the checks when a function of this code is first called."""
    if function is None:
        return partial(_at_the_first_call, typechecker=typechecker)
    if not isinstance(function, FunctionType):  # a class
        return _jaxtyped(function, typechecker=typechecker)
    code = function.__code__

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if code not in _enforced:
            _enforced[code] = _with_checks(function, typechecker)
        enforced = _enforced[code]
        if enforced is None:
            return function(*args, **kwargs)
        _called.function = function
        return enforced(*args, **kwargs)

    return call


def _with_checks(function: FunctionType, typechecker: Any) -> Callable[..., Any] | None:
    """Checks of the arguments and the result around whichever function of this code is called; None if none is due."""
    due: list[bool] = []

    def noting(resolved: Any) -> Any:
        due.append(_names_arrays(resolved))
        return typechecker(resolved)

    def of_this_code(*args: Any, **kwargs: Any) -> Any:
        return _called.function(*args, **kwargs)

    # annotations are resolved in the globals of the function that is decorated
    own = FunctionType(of_this_code.__code__, function.__globals__ | {"_called": _called})
    enforced: Callable[..., Any] = _jaxtyped(wraps(function)(own), typechecker=noting)
    return enforced if any(due) else None
