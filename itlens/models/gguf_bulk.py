"""Read .gguf files in seconds: transformers and its gguf package with the slow steps replaced while a file is read.

The gguf package makes three numpy objects for each text of a vocabulary, and transformers decodes each of them in
turn, and asks for the table of tensor names once for every module of the model. With 262,144 texts that takes two
minutes, most of it for nothing. Here

1. an array of texts or numbers is cut from the mapped file in one pass (`_BulkReader`, the gguf package's own reader
   but for arrays); what it holds for each value is what the original holds;
2. a text is decoded at once (`_parsed`);
3. the table of tensor names of an architecture is made once.

What is read is the same, value by value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from itlens.models.quiet import building, replaced

_TEXT, _ARRAY = 8, 9
_LENGTH = struct.Struct("<Q")


@contextmanager
def read_in_bulk() -> Iterator[None]:
    """Read .gguf files fast inside; one thread at a time. Without the gguf package nothing is changed."""
    with ExitStack() as stack:
        stack.enter_context(building())
        try:
            import gguf
        except ImportError:
            yield
            return
        from transformers import modeling_gguf_pytorch_utils as loader

        stack.enter_context(replaced(gguf, "GGUFReader", _reader()))
        stack.enter_context(replaced(gguf, "get_tensor_name_map", _name_map))
        if hasattr(loader, "_gguf_parse_value"):
            stack.enter_context(replaced(loader, "_gguf_parse_value", _parser(loader._gguf_parse_value)))
        yield


@lru_cache(maxsize=4)
def _name_map(architecture: Any, layers: int) -> Any:
    from gguf.tensor_mapping import get_tensor_name_map

    return get_tensor_name_map(architecture, layers)


@lru_cache(maxsize=1)
def _reader() -> type:
    from gguf import GGUFReader, GGUFValueType

    class _BulkReader(GGUFReader):
        """The gguf package's reader; arrays in one pass."""

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if int(raw_type) != _ARRAY or self.byte_order != "I":
                return super()._get_field_parts(orig_offs, raw_type)
            raw_kind, length = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
            kind, count = GGUFValueType(int(raw_kind[0])), int(length[0])
            start, content = orig_offs + 12, self.data.view(np.ndarray)
            if kind == _TEXT:
                values, end = _texts(content, start, count)
            elif kind in self.gguf_scalar_to_np and count:
                values, end = _numbers(content, start, count, np.dtype(self.gguf_scalar_to_np[kind]))
            else:
                return super()._get_field_parts(orig_offs, raw_type)
            types = [GGUFValueType.ARRAY, *([kind] if count else [])]
            return end - orig_offs, [raw_kind, length, *values], list(range(2, 2 + count)), types

    return _BulkReader


def _texts(content: np.ndarray, start: int, count: int) -> tuple[list[np.ndarray], int]:
    """Return the bytes of each text of an array, and where the array ends."""
    values, unpack, held = [], _LENGTH.unpack_from, content.data
    for _ in range(count):
        begin = start + 8
        start = begin + unpack(held, start)[0]
        values.append(content[begin:start])
    if start > len(content):
        raise ValueError("the file ends inside its header")
    return values, start


def _numbers(content: np.ndarray, start: int, count: int, kind: np.dtype) -> tuple[list[np.ndarray], int]:
    """Return each number of an array, and where the array ends."""
    end = start + count * kind.itemsize
    if end > len(content):
        raise ValueError("the file ends inside its header")
    numbers = content[start:end].view(kind)
    return [numbers[place : place + 1] for place in range(count)], end


def _parser(original: Any) -> Any:
    """Return transformers' function from the parts of a value to the value, with texts decoded at once."""

    def parsed(value: Any, kind: Any) -> Any:
        kinds = kind if isinstance(kind, list) else [kind]
        if kinds[-1] == _TEXT and (len(kinds) == 1 or (len(kinds) == 2 and kinds[0] == _ARRAY)):
            return bytes(value).decode()
        return original(value, kind)

    return parsed
