"""The header of a .gguf file, read here a second time: what transformers takes from it is compared with this.

The format (version 2 and 3, little-endian): magic, version, number of tensors, number of values; then each value as
key, type and content; then each tensor as name, dimensions, type and offset; then the data, aligned. Reading it takes
a tenth of a second with the vocabulary of a large model, of which only the length is kept.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from itlens.errors import ModelError
from itlens.foreign import foreign
from itlens.models.locate import Located

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_FLOAT32 = 0  # the type of a tensor that is not quantised
_KEPT = 1024  # numbers of an array; longer ones (scores, types of tokens) are passed over
_PREFIX = "general.architecture"


@dataclass(frozen=True)
class GgufHeader:
    """What a .gguf file says of itself.

    values: by key; a list of texts is only its length. tensors: name -> (elements, type, offset in the data).
    """

    path: Path
    values: dict[str, Any]
    tensors: dict[str, tuple[int, int, int]]
    data: int

    def setting(self, key: str, default: Any = None) -> Any:
        """Return a value of the file's own architecture, such as "rope.freq_base"."""
        return self.values.get(f"{self.values.get(_PREFIX)}.{key}", default)

    def floats(self, tensor: str) -> np.ndarray:
        """Return a float32 tensor, flat. Raises ModelError for another type or one that lies outside the file."""
        count, kind, offset = self.tensors[tensor]
        with foreign(ModelError, f"The tensor {tensor} of {self.path.name} cannot be read"):
            if kind != _FLOAT32:
                raise ValueError(f"it has type {kind}, where float32 was expected")
            return np.fromfile(self.path, dtype="<f4", count=count, offset=self.data + offset)


def read_header(place: Located) -> GgufHeader:
    """Return the header of a place's .gguf file. Raises ModelError for a file that is not whole."""
    path = place.folder / str(place.gguf)
    with (
        foreign(ModelError, f"The config of {place.name} cannot be read"),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return _parsed(path, _Cursor(content))


class _Cursor:
    """Reads one value after another; `struct` refuses what lies beyond the end."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self.place = content, 0

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(f"<{form}", self._content, self.place)
        self.place += struct.calcsize(form)
        return value

    def bytes(self, size: int) -> bytes:
        end = self.place + size
        if end > len(self._content):
            raise ValueError("the file ends inside its header")
        taken = self._content[self.place : end]
        self.place = end
        return taken

    def text(self) -> str:
        return self.bytes(self.number("Q")).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        return self._array() if kind == _ARRAY else self.number(_SCALARS[kind])

    def _array(self) -> Any:
        kind, count = self.number("I"), self.number("Q")
        if kind in _SCALARS:
            size = struct.calcsize(_SCALARS[kind])
            if count > _KEPT:
                self.place += size * count
                return count
            return [self.number(_SCALARS[kind]) for _ in range(count)]
        for _ in range(count):
            self.value(kind)
        return count


def _parsed(path: Path, cursor: _Cursor) -> GgufHeader:
    if cursor.bytes(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version, tensor_count, value_count = cursor.number("I"), cursor.number("Q"), cursor.number("Q")
    if version not in (2, 3):
        raise ValueError(f"it is of version {version}; expected 2 or 3, little-endian")
    values = {}
    for _ in range(value_count):
        key = cursor.text()
        values[key] = cursor.value(cursor.number("I"))
    tensors = {}
    for _ in range(tensor_count):
        name = cursor.text()
        sizes = [cursor.number("Q") for _ in range(cursor.number("I"))]
        kind, offset = cursor.number("I"), cursor.number("Q")
        tensors[name] = (int(np.prod(sizes, dtype=object)), kind, offset)
    alignment = values.get("general.alignment", 32)
    return GgufHeader(path, values, tensors, -(-cursor.place // alignment) * alignment)
