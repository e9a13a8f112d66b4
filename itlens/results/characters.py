"""Characters that span several tokens, each shown once: emoji, Chinese or Thai letters are often three or four byte
tokens.

All pieces of a character have its range of the text. The FIRST of them shows the character; the others show none, and
are known by their place: piece 2 of 4. What is cut inside a character (a response that ends too early) has no
character: its tokens stay as they are written, such as "<0xF0>".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

BROKEN = "\ufffd"  # what bytes that are no whole character decode to
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True)
class ShownToken:
    """A token as a reader sees it.

    text: its characters; "" for a further piece of a character. piece, pieces: which of how many tokens of one
    character, 1 of 1 for any other. character: what the pieces make, "" where pieces is 1.
    """

    text: str
    piece: int = 1
    pieces: int = 1
    character: str = ""

    @property
    def inline(self) -> str:
        """Its text in a row of tokens: a further piece is its number, ₂, so that it can carry a colour."""
        return self.text if self.piece == 1 else str(self.piece).translate(_SUBSCRIPTS)

    @property
    def place(self) -> str:
        """Which piece it is, in words; "" for a token of whole characters."""
        return "" if self.pieces == 1 else f"piece {self.piece} of {self.pieces} of {self.character}"


def own_characters(text: str, ranges: Sequence[tuple[int, int]]) -> list[str]:
    """Return for each token the characters of its range that no token before it has: the others are shown already."""
    own, claimed = [], 0
    for start, stop in ranges:
        own.append(text[max(start, claimed) : stop])
        claimed = max(claimed, stop)
    return own


def shown_tokens(result: xr.Dataset, axis: str) -> list[ShownToken]:
    """Return the source or target tokens of an attribution, each character once; tokens without ranges as they are."""
    tokens = [str(token) for token in result[f"{axis}_token"].values]
    text = result.attrs.get("prompt_text" if axis == "source" else "response_text")
    if text is None or f"{axis}_start" not in result.coords or f"{axis}_stop" not in result.coords:
        return [ShownToken(token) for token in tokens]
    starts, stops = (np.asarray(result[f"{axis}_{edge}"].values).tolist() for edge in ("start", "stop"))
    ranges = list(zip(starts, stops, strict=True))
    shown: list[ShownToken] = []
    own = own_characters(str(text), ranges)
    for group in _groups(ranges, own):
        character = own[group[0]]
        if len(group) == 1 or BROKEN in character:
            shown += [ShownToken(tokens[i]) for i in group]
        else:
            name = character.strip() or character
            shown += [ShownToken(character if i == group[0] else "", i - group[0] + 1, len(group), name) for i in group]
    return shown


def _groups(ranges: Sequence[tuple[int, int]], own: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each character together: one with characters of its own, and those that have no others."""
    groups: list[list[int]] = []
    for i, (start, stop) in enumerate(ranges):
        if groups and not own[i] and stop > start:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups
