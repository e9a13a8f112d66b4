"""The run-time type checker of the test run: arrays and tables in the numeric modules' annotations are enforced.

Everything else that a caller can get wrong (a model, a choice, a number, a prompt) is refused by the package's own
sentences, which a test must see instead of a type checker's; mypy reads those annotations.

jaxtyping's import hook makes the checks of a function when it is defined, in milliseconds: for a hook on activations,
which is defined inside another function, at every call of that one. `install` makes them at a function's first call,
once for all definitions of the same code, and leaves a function alone whose annotations name no array. It also checks
each argument once; jaxtyping checks those of a function that returns an array a second time, next to what is returned.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial, wraps
from types import CodeType, FunctionType
from typing import Any, TypeVar, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import AbstractArray, TypeCheckError, install_import_hook

# `p: float` takes 4, as PEP 484 says
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_jaxtyped = jaxtyping.jaxtyped
_SIZES = _jaxtyped("context")  # sizes that have a name are one size in a call
_ARRAYS = ("numpy", "torch", "xarray", "pandas")
_enforced: dict[CodeType, Callable[..., Any] | None] = {}  # None: no array is named
_called = threading.local()  # its `function` is the one whose arguments have just been checked

Function = TypeVar("Function", bound=Callable[..., Any])


def install(modules: Sequence[str]) -> None:
    """Enforce the annotations of modules that are imported from now on."""
    jaxtyping.jaxtyped = _at_the_first_call  # the decorator that the hook writes into the modules, by this name
    install_import_hook(modules, f"{__name__}.check")


def check(function: Function) -> Function:
    """Enforce the annotations of one function that name an array or a table. They are types, not texts."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint if _of_arrays(hint) else Any for name, hint in hints.items()}
    return _check(function)


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
            _enforced[code] = _with_checks(function)
        enforced = _enforced[code]
        if enforced is None:
            return function(*args, **kwargs)
        _called.function = function
        try:
            with _SIZES:
                return enforced(*args, **kwargs)
        except BeartypeCallHintViolation as error:
            raise TypeCheckError(str(error)) from None

    return call


def _with_checks(function: FunctionType) -> Callable[..., Any] | None:
    """Checks of the arguments and the result around whichever function of this code is called; None if none is due."""
    hints = {name: _resolved(hint, function.__globals__) for name, hint in function.__annotations__.items()}
    if not any(map(_of_arrays, hints.values())):
        return None

    def of_this_code(*args: Any, **kwargs: Any) -> Any:
        return _called.function(*args, **kwargs)

    of_this_code = wraps(function)(of_this_code)
    of_this_code.__annotations__ = hints
    return check(of_this_code)


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    """The type that an annotation names; Any where a name of it is known to type checkers only."""

    def of_hint() -> None:
        return None

    of_hint.__annotations__ = {"hint": hint}
    try:
        return get_type_hints(of_hint, names, include_extras=True)["hint"]
    except NameError:
        return Any
