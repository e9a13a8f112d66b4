"""One layer's search: which words are strongest in each head dimension, and which of them are related.

The steps are those of `probe`. Words' vectors come in blocks and heads a few at a time, so that what is held is a
block's activations and, of everything read so far, the top words of each dimension.

Two different words are RELATED when the cosine of their word vectors is above 0 and above mean + `deviations` x std of
the cosines of EACH of the two with the first `baseline` words of the vocabulary (population std; Wu et al. 2024,
section 4). Mean and std of a word u follow from the baseline's mean vector m and covariance C (u.m and sqrt(u.C.u)), so
that no words x baseline matrix is made. Products are float32; where one comes near a threshold it is computed again in
float64. A word without a vector, or with a zero vector, is related to none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from itlens.errors import ProbeError
from itlens.models.precision import exact
from itlens.vocabulary import Vocabulary, WordVectors
from itlens.weights import AttentionWeights
from itlens.weights.words import TopWords, WordRows, wide_dtype

ROWS = 128  # of W_Q and W_K multiplied at a time
_ROUNDING = 1e-5  # how near a threshold a cosine is computed again
_COSINES = 1 << 24  # computed at a time
_PAIRS = 1 << 15  # the same, of pairs


class Search:
    """The top words of every dimension of one layer: queries of the chosen heads, keys of the key heads they read."""

    def __init__(self, attention: AttentionWeights, heads: list[int], facts: Mapping[str, int], k: int) -> None:
        group = facts["heads"] // facts["key_value_heads"]
        key_heads = sorted({head // group for head in heads})
        self._key_of = [len(heads) + key_heads.index(head // group) for head in heads]  # keys come after all queries
        maps = torch.cat([attention.W_Q[heads], attention.W_K[key_heads]])
        self._d_head = maps.shape[2]
        # the gain of a half-precision model is folded in float32: a product rounded to half would reorder words
        columns = rearrange(maps, "head d_model d_head -> head d_head d_model")
        rows = (columns.to(wide_dtype(maps.dtype)) * attention.gain).flatten(0, 1)
        # a few heads at a time: enough rows for a fast product, few enough for their activations to stay in the cache
        self._blocks = torch.split(rows, max(1, ROWS // self._d_head) * self._d_head)
        self._top = [TopWords(k, absolute=True) for _ in self._blocks]
        self._energy = torch.zeros(len(rows), dtype=torch.float64)

    def read(self, rows: WordRows, layer: int) -> None:
        """Read all words. Raises ProbeError for a layer whose activations are not finite."""
        for block, vectors in rows.blocks():
            self.read_block(vectors, block.start, rows.sharing.more(block))
        if not bool(torch.isfinite(self._energy).all()):
            raise ProbeError(f"Query or key activations of layer {layer} are not finite; check the model's weights.")

    def read_block(
        self, vectors: Float[Tensor, "block d_model"], first: int, more: tuple[Tensor, Tensor] | None = None
    ) -> None:
        """One block of vectors: first, first + 1, ... more: see `Sharing.more`."""
        sizes, further = [], []
        for top, block in zip(self._top, self._blocks, strict=True):
            activations = block @ vectors.T
            sizes.append(torch.linalg.vector_norm(activations, dim=1))
            top.add(activations, first)
            further.append(_further(activations, more))
        self._energy += torch.cat(sizes).cpu().double().square() + torch.cat(further).cpu()

    def energies(self) -> Float[Tensor, "heads d_head"]:
        """Return the sums of squared activations per head and dimension, over queries and keys."""
        energies = self._by_head(self._energy)
        return energies[: len(self._key_of)] + energies[self._key_of]

    def pairs(self, related: Relatedness, rows: WordRows, signed: bool) -> list[dict[str, Tensor]]:
        """Return, per head, dim, query, key (vocabulary indices), cosine and activations of the kept pairs."""
        known = torch.as_tensor(rows.words, device=rows.device)
        words, values = (
            self._by_head(torch.cat(best)) for best in zip(*(top.best(rows.sharing) for top in self._top), strict=True)
        )
        return [
            _kept(related, known[words[head]], known[words[key]], values[head], values[key], signed)
            for head, key in enumerate(self._key_of)
        ]

    def _by_head(self, rows: Tensor) -> Tensor:
        return rearrange(rows, "(head d_head) ... -> head d_head ...", d_head=self._d_head)


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
    pairs = related.pairs(query, key)
    q = query_values[pairs.dim, pairs.query_place]
    k = key_values[pairs.dim, pairs.key_place]
    keep = q * k > 0 if signed else torch.ones_like(pairs.dim, dtype=torch.bool)
    columns = {"dim": pairs.dim, "query": pairs.query, "key": pairs.key, "cosine": pairs.cosine, "q": q, "k": k}
    return {name: values[keep].cpu() for name, values in columns.items()}


class Related(NamedTuple):
    """Pairs that are related: their dimension, words, places among the dimension's words, and cosines."""

    dim: Int[Tensor, " pairs"]
    query: Int[Tensor, " pairs"]
    key: Int[Tensor, " pairs"]
    query_place: Int[Tensor, " pairs"]
    key_place: Int[Tensor, " pairs"]
    cosine: Float[Tensor, " pairs"]


class Relatedness:
    """Unit vectors (words, d) and thresholds (words) of a vocabulary; a threshold of infinity is a word without vector.

    known: bool (words), which words have a vector.
    """

    def __init__(
        self, vocab: Vocabulary, vectors: WordVectors, *, deviations: float, baseline: int, device: torch.device
    ) -> None:
        rows = vectors.rows(vocab.words)
        self._vectors, self._rows = torch.from_numpy(vectors.vectors), torch.from_numpy(rows)
        units = _units(self._vectors[self._rows])
        self.known = (rows >= 0) & units.any(1).numpy()
        _refuse_unknown(vocab, vectors, self.known)
        reference = self._exact_units(torch.from_numpy(np.flatnonzero(self.known[:baseline])))
        if not len(reference):
            raise ProbeError(
                f"None of the first {min(baseline, len(units))} words of the vocabulary has a vector, and thresholds "
                "are taken from them; give words in order of frequency, or a larger baseline=."
            )
        self._deviations, self._center = deviations, reference.mean(0)
        self._covariance = (reference - self._center).T @ (reference - self._center) / len(reference)
        self._units = units.to(device)
        self._thresholds = self._limits(units, torch.from_numpy(self.known)).to(device)

    @property
    def thresholds(self) -> Float[np.ndarray, " words"]:
        """The cosine that a related word must exceed, per word."""
        every = torch.arange(len(self._rows))
        return self._limits(self._exact_units(every), torch.from_numpy(self.known)).numpy()

    def pairs(self, query: Int[Tensor, "dims k"], key: Int[Tensor, "dims k"]) -> Related:
        """Return the related pairs of query and key word in each dimension; a word is not related to itself."""
        step = max(1, _COSINES // (query.shape[1] * key.shape[1]))
        blocks = [self._pairs(query[i : i + step], key[i : i + step], i) for i in range(0, len(query), step)]
        return Related(*(torch.cat(columns) for columns in zip(*blocks, strict=True)))

    def _pairs(self, query: Int[Tensor, "dims k"], key: Int[Tensor, "dims k"], first: int) -> Related:
        cosines = self._units[query] @ self._units[key].transpose(1, 2)
        limits = torch.maximum(self._thresholds[query][:, :, None], self._thresholds[key][:, None, :])
        cosines -= limits
        dim, i, j = (cosines > -_ROUNDING).nonzero(as_tuple=True)
        over = cosines[dim, i, j]
        near = Related(dim + first, query[dim, i], key[dim, j], i, j, over)
        keep = (over > 0) & (near.query != near.key)
        unsure = (over.abs() <= _ROUNDING).nonzero().flatten()
        keep[unsure] = self._exactly_related(near.query[unsure], near.key[unsure])
        related = Related(*(values[keep] for values in near))
        return related._replace(cosine=self._cosines(related.query, related.key))

    def _cosines(self, query: Int[Tensor, " pairs"], key: Int[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        """Again, pair by pair: a block of products rounds (a, b) and (b, a) in ways of its own, and they are equal."""
        blocks = zip(torch.split(query, _PAIRS), torch.split(key, _PAIRS), strict=True)
        return torch.cat([(self._units[queries] * self._units[keys]).sum(1) for queries, keys in blocks])

    def _limits(self, units: Float[Tensor, "words d"], known: Bool[Tensor, " words"]) -> Float[Tensor, " words"]:
        """mean + deviations * std, at least 0, in the precision of `units`; infinity for unknown words."""
        center, covariance = self._center.to(units.dtype), self._covariance.to(units.dtype)
        variance = ((units @ covariance) * units).sum(1).clamp_min(0)
        limits = units @ center + self._deviations * variance.sqrt()
        return limits.clamp_min(0).masked_fill(~known, torch.inf)

    def _exactly_related(self, query: Int[Tensor, " pairs"], key: Int[Tensor, " pairs"]) -> Bool[Tensor, " pairs"]:
        words, known = (query.cpu(), key.cpu()), torch.from_numpy(self.known)
        q, k = (self._exact_units(indices) for indices in words)
        limits = torch.maximum(self._limits(q, known[words[0]]), self._limits(k, known[words[1]]))
        return (((q * k).sum(1) > limits) & (words[0] != words[1])).to(query.device)

    def _exact_units(self, words: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        return _units(exact(self._vectors[self._rows[words]]))


def _units(vectors: Float[Tensor, "words d"]) -> Float[Tensor, "words d"]:
    """Vectors of length 1; zero vectors stay."""
    sizes = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / sizes.masked_fill(sizes == 0, 1.0)


def _refuse_unknown(vocab: Vocabulary, vectors: WordVectors, known: Bool[np.ndarray, " words"]) -> None:
    if not known.any():
        raise ProbeError(
            f"The word vectors know none of the {len(vocab)} words of the vocabulary (the first is "
            f"{vocab.words[0]!r}, theirs is {vectors.words[0]!r}); give vectors of the same language, with words "
            "written the same way."
        )
