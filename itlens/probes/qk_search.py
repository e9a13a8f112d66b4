"""One layer's search: which words stand highest in each head dimension, and which of them are related.

The steps are those of `itlens.probes.attention`. Words come in blocks and heads a few at a time, so that what is held
is a block's activations and, of everything read so far, the top words of each dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from itlens.errors import ProbeError
from itlens.probes.relatedness import Relatedness
from itlens.probes.top_words import TopWords
from itlens.probes.word_rows import WordRows
from itlens.weights import AttentionWeights

ROWS = 128


class Search:
    """The top words of every dimension of one layer: queries of the asked heads, keys of the key heads they read."""

    def __init__(self, attention: AttentionWeights, heads: list[int], facts: dict[str, Any], k: int) -> None:
        group = facts["heads"] // facts["key_value_heads"]
        key_heads = sorted({head // group for head in heads})
        self._key_of = [key_heads.index(head // group) for head in heads]
        self._query = _Side(attention.W_Q[heads], attention.gain, k)
        self._key = _Side(attention.W_K[key_heads], attention.gain, k)

    def read(self, rows: WordRows, layer: int) -> None:
        """Go through all words. Raises ProbeError for a layer whose activations are not finite."""
        for block, vectors in rows.blocks():
            self._query.read(vectors, block.start)
            self._key.read(vectors, block.start)
        if not bool(torch.isfinite(self.energies()).all()):
            raise ProbeError(f"Query or key activations of layer {layer} are not finite; check the model's weights.")

    def energies(self) -> Float[Tensor, "heads d_head"]:
        """Per head and dimension, over queries and keys."""
        return (self._query.energies() + self._key.energies()[self._key_of]).cpu()

    def pairs(self, related: Relatedness, rows: WordRows, signed: bool) -> list[dict[str, Tensor]]:
        """Per head: dim, query, key (vocabulary indices), cosine and activations of the kept pairs."""
        words = torch.as_tensor(rows.words, device=rows.device)
        (query, query_values), (key, key_values) = self._query.best(), self._key.best()
        return [
            _kept(related, words[query[head]], words[key[of]], query_values[head], key_values[of], signed)
            for head, of in enumerate(self._key_of)
        ]


class _Side:
    """The top words of the queries, or of the keys, of some heads."""

    def __init__(self, weight: Float[Tensor, "heads d_model d_head"], gain: Float[Tensor, " d_model"], k: int) -> None:
        self._d_head = weight.shape[2]
        rows = (weight.transpose(1, 2) * gain).flatten(0, 1)
        # a few heads at a time: enough rows for a fast product, few enough for their activations to stay in the cache
        self._parts = rows.split(max(1, ROWS // self._d_head) * self._d_head)
        self._top = [TopWords(k, absolute=True) for _ in self._parts]
        self._energy = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)

    def read(self, vectors: Float[Tensor, "words d_model"], first: int) -> None:
        """One block of words."""
        sizes = []
        for top, part in zip(self._top, self._parts, strict=True):
            activations = part.to(vectors.dtype) @ vectors.T
            sizes.append(torch.linalg.vector_norm(activations, dim=1))
            top.add(activations, first)
        self._energy += torch.cat(sizes).double().square()

    def energies(self) -> Float[Tensor, "heads d_head"]:
        """Sums of squared activations."""
        return self._energy.unflatten(0, (-1, self._d_head))

    def best(self) -> tuple[Int[Tensor, "heads d_head k"], Float[Tensor, "heads d_head k"]]:
        """Words, as places among the known ones, and their activations."""
        words, values = zip(*(top.best() for top in self._top), strict=True)
        return torch.cat(words).unflatten(0, (-1, self._d_head)), torch.cat(values).unflatten(0, (-1, self._d_head))


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
