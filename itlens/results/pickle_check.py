"""Look through a pickle before anything of it is built: a few bytes can ask for gigabytes, or end the process.

The operations are followed on a stack of stand-ins that know only their kind and depth. What plain data needs is
allowed; refused are other operations, and
1. a memo index beyond the number of operations (the memo is a list: 7 bytes would take 4 GB),
2. anything nested deeper than 20 (reading it back recurses),
3. a key that is no text (hashing nested tuples recurses, and takes 2 ** depth steps),
4. a container that is changed after it was put into another: only so can data contain itself.
"""

from __future__ import annotations

import pickletools
from collections.abc import Sequence
from dataclasses import dataclass

_DEEPEST = 20
_TEXTS = {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_PLAIN = {
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE", "GLOBAL"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_OF_MARK = {"TUPLE", "LIST"}
_NOTHING = {"PROTO", "FRAME", "STOP"}


@dataclass
class _Item:
    """What stands on the stack. inside: it was put into another."""

    depth: int = 1
    text: bool = False
    inside: bool = False


class _Stack:
    """The stack and the memo of a pickle that is being read."""

    def __init__(self) -> None:
        self.items: list[_Item | None] = []  # None: a mark
        self.memo: dict[int, _Item] = {}

    def push(self, item: _Item) -> None:
        self.items.append(item)

    def pop(self) -> _Item:
        item = self.items.pop() if self.items else None
        if item is None:
            raise ValueError("its operations do not fit together")
        return item

    def pop_to_mark(self) -> list[_Item]:
        above: list[_Item] = []
        while self.items and (item := self.items.pop()) is not None:
            above.append(item)
        return above[::-1]

    def top(self) -> _Item:
        self.push(item := self.pop())
        return item

    def fill(self, container: _Item, content: Sequence[_Item]) -> None:
        """Put items into a container."""
        if container.inside or any(item is container for item in content):
            raise ValueError("a list or dictionary contains itself")
        for item in content:
            item.inside = True
            container.depth = max(container.depth, item.depth + 1)
        if container.depth > _DEEPEST:
            raise ValueError(f"it is nested deeper than {_DEEPEST}")


def check_pickle(data: bytes) -> None:
    """Raise ValueError, or KeyError for a part that is not there, unless a pickle is flat enough to be read."""
    stack = _Stack()
    for number, (operation, argument, _) in enumerate(pickletools.genops(data)):
        name = operation.name
        if name in _TEXTS or name in _PLAIN:
            stack.push(_Item(text=name in _TEXTS))
        elif name == "MARK":
            stack.items.append(None)
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            place = len(stack.memo) if name == "MEMOIZE" else int(str(argument))
            if place > number:
                raise ValueError(f"it numbers its parts up to {place:,} after {number:,} operations")
            stack.memo[place] = stack.top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.push(stack.memo[int(str(argument))])
        elif name not in _NOTHING:
            _combine(stack, name)


def _combine(stack: _Stack, name: str) -> None:
    """Follow an operation that puts items of the stack together."""
    if name in _TUPLES or name in _OF_MARK:
        content = stack.pop_to_mark() if name in _OF_MARK else [stack.pop() for _ in range(_TUPLES[name])]
        made = _Item()
        stack.fill(made, content)
        stack.push(made)
    elif name in ("APPEND", "BUILD"):
        content = [stack.pop()]
        stack.fill(stack.top(), content)
    elif name == "APPENDS":
        content = stack.pop_to_mark()
        stack.fill(stack.top(), content)
    elif name in ("SETITEM", "SETITEMS", "DICT"):
        content = [stack.pop() for _ in range(2)][::-1] if name == "SETITEM" else stack.pop_to_mark()
        if not all(key.text for key in content[::2]):
            raise ValueError("a key is no text")
        if name == "DICT":
            stack.push(_Item())
        stack.fill(stack.top(), content)
    elif name in ("REDUCE", "STACK_GLOBAL"):
        for _ in range(2):
            stack.pop()
        stack.push(_Item())
    else:
        raise ValueError(f"the operation {name} is not allowed")
