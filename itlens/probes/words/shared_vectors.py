"""Words that share a vector: those whose tokens are the same up to their order and to repetition of the whole.

The mean over (a, b), (b, a) and (a, b, a, b) is the same. Vectors are numbered by the first word that has them, so that
their order is that of the vocabulary wherever no word shares one.
"""

from __future__ import annotations

from collections import Counter
from math import gcd

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from itlens.vocabulary import WordTokens


def shared_vectors(
    tokens: WordTokens, words: Int[np.ndarray, " words"]
) -> tuple[Int[np.ndarray, " words"], Int[np.ndarray, " pieces"], Int[np.ndarray, " bounds"]]:
    """The number of each word's vector, and the tokens of each vector: ids[start[v] : start[v + 1]], ascending."""
    number: dict[tuple[int, ...], int] = {}
    bounds = zip(tokens.start[words].tolist(), tokens.start[words + 1].tolist(), strict=True)
    ids = tokens.ids.tolist()
    vector = [number.setdefault(_mixture(ids[first:last]), len(number)) for first, last in bounds]
    start = np.concatenate([[0], np.cumsum([len(mixture) for mixture in number])]).astype(np.int64)
    flat = np.array([token for mixture in number for token in mixture], dtype=np.int64)
    return np.array(vector, dtype=np.int64), flat, start


def _mixture(ids: list[int]) -> tuple[int, ...]:
    """The tokens in order, each as often as its share of the mean asks for."""
    repeated = gcd(*Counter(ids).values())
    return tuple(sorted(ids)[::repeated])


class Sharing:
    """Which words, by their places, have which vector. Vectors are numbered by their first word.

    vector (words): the number of each word's vector. count: how many vectors there are.
    """

    def __init__(self, vector: Int[Tensor, " words"]) -> None:
        self.vector, self.words = vector, len(vector)
        self.sizes: Int[Tensor, " vectors"] = torch.bincount(vector)
        self.count = len(self.sizes)
        self._tables: dict[int, Tensor] = {}

    def more(self, block: slice) -> tuple[Int[Tensor, " shared"], Int[Tensor, " shared"]]:
        """The places within a block of the vectors that several words share, and how many further words each has."""
        beyond = self.sizes[block] - 1
        places = beyond.nonzero().flatten()
        return places, beyond[places]

    def words_of(
        self, vectors: Int[Tensor, "rows found"], values: Float[Tensor, "rows found"], k: int
    ) -> tuple[Int[Tensor, "rows candidates"], Float[Tensor, "rows candidates"]]:
        """The first k words of each vector, ascending in each row, with the vectors' values.

        At the end of a row there may be places without a word: their word is the number of words.
        """
        members = self._members(k)[vectors]
        words, order = members.flatten(1).sort(1)
        return words, values[:, :, None].expand(members.shape).flatten(1).gather(1, order)

    def _members(self, k: int) -> Int[Tensor, "vectors most"]:
        most = min(int(self.sizes.max()), k)
        if most not in self._tables:
            order = torch.argsort(self.vector, stable=True)
            own = self.vector[order]
            place = torch.arange(self.words, device=own.device) - (torch.cumsum(self.sizes, 0) - self.sizes)[own]
            kept = place < most
            table = torch.full((self.count, most), self.words, device=own.device)
            table[own[kept], place[kept]] = order[kept]
            self._tables[most] = table
        return self._tables[most]
