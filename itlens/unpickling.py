"""Unpickling without trust: lists, dictionaries, texts, numbers and numpy arrays of numbers, and nothing else.

Seven names of numpy, those that pickled arrays and numbers need, are resolved to plain Python stand-ins of this module;
any other name raises. Neither numpy's own unpickling nor any other function is ever reached, whatever the data asks
for, the stand-ins cannot be changed by the data, and an array is checked against its bytes before it is made.
"""

from __future__ import annotations

import io
import pickle
import re
from math import prod
from typing import Any

import numpy as np

from itlens.errors import StoreError

_DTYPE = re.compile(r"[<>|=]?[fiub][1248]")
_ERRORS = (
    *(pickle.UnpicklingError, EOFError, ImportError, MemoryError, RecursionError),
    *(AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError),
)


def unpickle(data: bytes) -> Any:
    """The object that `data` holds; a dictionary's own values that are arrays come as numpy arrays.

    Raises StoreError for broken data, and for data that asks for anything but plain numbers.
    """
    try:
        loaded = _Unpickler(io.BytesIO(data)).load()
        if isinstance(loaded, dict):
            return {key: value.array if isinstance(value, _Array) else value for key, value in loaded.items()}
        return loaded.array if isinstance(loaded, _Array) else loaded
    except _ERRORS as error:
        raise StoreError(
            f"The pickle cannot be read ({error}): only lists, texts, numbers and numpy arrays of numbers are allowed, "
            "and nothing of it was run."
        ) from error


class _Array:
    """Stands in for numpy.ndarray while unpickling: takes the state of one, checks it, and makes the array."""

    array: np.ndarray = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")


class _Dtype:
    """Stands in for numpy.dtype: plain numbers only, no objects, no fields."""

    def __init__(self, spec: Any, *_: Any) -> None:
        if not isinstance(spec, str) or not _DTYPE.fullmatch(spec):
            raise pickle.UnpicklingError(f"the number type {spec!r} is not allowed")
        self.dtype = np.dtype(spec)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("the byte order of a number type is broken")
        self.dtype = self.dtype.newbyteorder(state[1])


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(data, (bytes, bytearray)) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("an array is not made of plain numbers")
    if not all(type(n) is int and n >= 0 for n in shape) or prod(shape) * dtype.dtype.itemsize != len(data):
        raise pickle.UnpicklingError(f"an array of shape {shape} does not fit its {len(data)} bytes")
    return np.frombuffer(bytes(data), dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


class _Function:
    """A name of the allow-list. It has no attributes that a pickle could set, and is no class that it could make."""

    __slots__ = ("_kind",)

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function cannot be changed")

    def __call__(self, *args: Any) -> Any:
        if self._kind == "array":
            return _Array()
        if self._kind == "dtype":
            return _Dtype(*args)
        if self._kind == "buffer":
            made = _Array()
            made.array = _array(*args)
            return made
        if self._kind == "scalar":
            return _array(args[1], args[0], (), "C")[()].item()
        raise pickle.UnpicklingError("numpy.ndarray cannot be called")


_ALLOWED = {
    (module, name): kind
    for modules, name, kind in (
        (("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct", "array"),
        (("numpy.core.multiarray", "numpy._core.multiarray"), "scalar", "scalar"),
        (("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer", "buffer"),
        (("numpy",), "ndarray", "class"),
        (("numpy",), "dtype", "dtype"),
    )
    for module in modules
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        kind = _ALLOWED.get((module, name))
        if kind is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")
        return _Function(kind)
