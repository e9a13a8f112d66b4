"""The words of the largest activations, exactly, a block of words at a time.

Among equal values the word that comes first in the vocabulary wins, whatever the blocks. Words that share a vector
(`shared_vectors`) have one value, given once.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from itlens.probes.words.shared_vectors import Sharing

_MERGE = 4  # times k candidates are held at most, however many blocks there are


class TopWords:
    """The `k` words of the largest value (or, with absolute=True, of the largest |value|) of each row."""

    def __init__(self, k: int, *, absolute: bool) -> None:
        self._k, self._absolute = k, absolute
        self._values: list[Tensor] = []
        self._words: list[Tensor] = []

    def add(self, values: Float[Tensor, "rows words"], first: int) -> None:
        """One block: values of the words first, first + 1, ..."""
        places = largest(self._sizes(values), self._k)
        self._values.append(values.gather(1, places))
        self._words.append(places + first)
        if sum(part.shape[1] for part in self._words) > _MERGE * self._k:
            self._merge()

    def best(self, sharing: Sharing | None = None) -> tuple[Int[Tensor, "rows k"], Float[Tensor, "rows k"]]:
        """Words, ascending, and their values; fewer than k columns when there are fewer words.

        sharing: where values were those of vectors, the words that have them.
        """
        self._merge()
        words, values = self._words[0], self._values[0]
        if sharing is None or sharing.count == sharing.words:
            return words, values
        # the k best words are among those of the k best vectors, since vectors are numbered by their first word
        words, values = sharing.words_of(words, values, self._k)
        sizes = self._sizes(values).masked_fill(words == sharing.words, -torch.inf)
        places = largest(sizes, min(self._k, sharing.words))
        return words.gather(1, places), values.gather(1, places)

    def _merge(self) -> None:
        values, words = torch.cat(self._values, 1), torch.cat(self._words, 1)
        if len(self._values) > 1:  # candidates stand in the order of the vocabulary, so that places break ties
            places = largest(self._sizes(values), self._k)
            values, words = values.gather(1, places), words.gather(1, places)
        self._values, self._words = [values], [words]

    def _sizes(self, values: Tensor) -> Tensor:
        return values.abs() if self._absolute else values


def largest(sizes: Float[Tensor, "rows columns"], k: int) -> Int[Tensor, "rows k"]:
    """The columns of the k largest values of each row, ascending; of equal values the first columns."""
    columns = sizes.shape[1]
    if columns <= k:
        return torch.arange(columns, device=sizes.device).expand(sizes.shape[0], columns)
    values, places = sizes.topk(k + 1, dim=1)
    kept = places[:, :k].clone()
    # topk picks any of equal values: only a tie across the boundary changes the set
    for row in (values[:, k - 1] == values[:, k]).nonzero().flatten().tolist():
        limit = values[row, k - 1]
        above, equal = (sizes[row] > limit).nonzero().flatten(), (sizes[row] == limit).nonzero().flatten()
        kept[row] = torch.cat([above, equal[: k - len(above)]])
    return kept.sort(1).values
