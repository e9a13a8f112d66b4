"""One layer's search: which words stand highest in each head dimension, and which of them are related.

The steps are those of `itlens.probes.attention`. Words' vectors come in blocks and heads a few at a time, so that what
is held is a block's activations and, of everything read so far, the top words of each dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from itlens.errors import ProbeError
from itlens.probes.words.relatedness import Relatedness
from itlens.probes.words.top_words import TopWords
from itlens.probes.words.word_rows import WordRows, wide_dtype
from itlens.weights import AttentionWeights

ROWS = 128


class Search:
    """The top words of every dimension of one layer: queries of the asked heads, keys of the key heads they read."""

    def __init__(self, attention: AttentionWeights, heads: list[int], facts: dict[str, Any], k: int) -> None:
        group = facts["heads"] // facts["key_value_heads"]
        key_heads = sorted({head // group for head in heads})
        self._key_of = [len(heads) + key_heads.index(head // group) for head in heads]  # keys stand below all queries
        maps = torch.cat([attention.W_Q[heads], attention.W_K[key_heads]])
        self._d_head = maps.shape[2]
        # the gain of a half-precision model is folded in float32: a product rounded to half would reorder words
        rows = (maps.transpose(1, 2).to(wide_dtype(maps.dtype)) * attention.gain).flatten(0, 1)
        # a few heads at a time: enough rows for a fast product, few enough for their activations to stay in the cache
        self._parts = rows.split(max(1, ROWS // self._d_head) * self._d_head)
        self._top = [TopWords(k, absolute=True) for _ in self._parts]
        self._energy = torch.zeros(len(rows), dtype=torch.float64)

    def read(self, rows: WordRows, layer: int) -> None:
        """Go through all words. Raises ProbeError for a layer whose activations are not finite."""
        for block, vectors in rows.blocks():
            self.read_block(vectors, block.start, rows.sharing.more(block))
        if not bool(torch.isfinite(self._energy).all()):
            raise ProbeError(f"Query or key activations of layer {layer} are not finite; check the model's weights.")

    def read_block(
        self, vectors: Float[Tensor, "block d_model"], first: int, more: tuple[Tensor, Tensor] | None = None
    ) -> None:
        """One block of vectors: first, first + 1, ... more: see `Sharing.more`."""
        sizes, further = [], []
        for top, part in zip(self._top, self._parts, strict=True):
            activations = part @ vectors.T
            sizes.append(torch.linalg.vector_norm(activations, dim=1))
            top.add(activations, first)
            further.append(_further(activations, more))
        self._energy += torch.cat(sizes).cpu().double().square() + torch.cat(further).cpu()

    def energies(self) -> Float[Tensor, "heads d_head"]:
        """Sums of squared activations per head and dimension, over queries and keys."""
        energies = self._by_head(self._energy)
        return energies[: len(self._key_of)] + energies[self._key_of]

    def pairs(self, related: Relatedness, rows: WordRows, signed: bool) -> list[dict[str, Tensor]]:
        """Per head: dim, query, key (vocabulary indices), cosine and activations of the kept pairs."""
        known = torch.as_tensor(rows.words, device=rows.device)
        words, values = (
            self._by_head(torch.cat(part)) for part in zip(*(top.best(rows.sharing) for top in self._top), strict=True)
        )
        return [
            _kept(related, known[words[head]], known[words[key]], values[head], values[key], signed)
            for head, key in enumerate(self._key_of)
        ]

    def _by_head(self, part: Tensor) -> Tensor:
        return part.unflatten(0, (-1, self._d_head))


def _further(activations: Float[Tensor, "rows block"], more: tuple[Tensor, Tensor] | None) -> Float[Tensor, " rows"]:
    """Sums of squares of the further words of vectors that several words share."""
    if more is None or not len(more[0]):
        return torch.zeros(len(activations), dtype=torch.float64)
    places, count = more
    return activations[:, places].cpu().double().square() @ count.cpu().double()


def _kept(
    related: Relatedness,
    query: Int[Tensor, "dims k"],
    key: Int[Tensor, "dims k"],
    query_values: Float[Tensor, "dims k"],
    key_values: Float[Tensor, "dims k"],
    signed: bool,
) -> dict[str, Tensor]:
    found = related.pairs(query, key)
    q = query_values[found.dim, found.query_place]
    k = key_values[found.dim, found.key_place]
    keep = q * k > 0 if signed else torch.ones_like(found.dim, dtype=torch.bool)
    named = {"dim": found.dim, "query": found.query, "key": found.key, "cosine": found.cosine, "q": q, "k": k}
    return {name: part[keep].cpu() for name, part in named.items()}
