"""Which words are related: the cosine of their word vectors, against each word's own threshold.

Two different words are related when their cosine is above 0 and above mean + `deviations` x std of the cosines of EACH
of the two with the first `baseline` words of the vocabulary (population std; Wu et al. 2024, section 4). Mean and std
of a word u follow from the baseline's mean vector m and covariance C (u.m and sqrt(u.C.u)), so that no words x
baseline matrix is made. Products are float32; where one comes near a threshold it is computed again in float64. A
word without a vector, or with a zero vector, is related to none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from itlens.errors import ProbeError
from itlens.vocabulary import Vocabulary, WordVectors

_ROUNDING = 1e-5  # how near
_COSINES = 1 << 24  # computed at a time
_PAIRS = 1 << 15


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
        """The related pairs of query word and key word in each dimension; a word is not related to itself."""
        step = max(1, _COSINES // (query.shape[1] * key.shape[1]))
        parts = [self._pairs(query[i : i + step], key[i : i + step], i) for i in range(0, len(query), step)]
        return Related(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

    def _pairs(self, query: Int[Tensor, "dims k"], key: Int[Tensor, "dims k"], first: int) -> Related:
        cosines = self._units[query] @ self._units[key].transpose(1, 2)
        limits = torch.maximum(self._thresholds[query][:, :, None], self._thresholds[key][:, None, :])
        cosines -= limits
        dim, i, j = (cosines > -_ROUNDING).nonzero(as_tuple=True)
        over = cosines[dim, i, j]
        found = Related(dim + first, query[dim, i], key[dim, j], i, j, over)
        keep = (over > 0) & (found.query != found.key)
        near = (over.abs() <= _ROUNDING).nonzero().flatten()
        keep[near] = self._exactly_related(found.query[near], found.key[near])
        found = Related(*(part[keep] for part in found))
        return found._replace(cosine=self._cosines(found.query, found.key))

    def _cosines(self, query: Int[Tensor, " pairs"], key: Int[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        """Again, pair by pair: a block of products rounds (a, b) and (b, a) in ways of its own, and they are equal."""
        parts = zip(query.split(_PAIRS), key.split(_PAIRS), strict=True)
        return torch.cat([(self._units[one] * self._units[other]).sum(1) for one, other in parts])

    def _limits(self, units: Float[Tensor, "words d"], known: Bool[Tensor, " words"]) -> Float[Tensor, " words"]:
        """mean + deviations * std, at least 0, in the precision of `units`; infinity for unknown words."""
        center, covariance = self._center.to(units.dtype), self._covariance.to(units.dtype)
        variance = ((units @ covariance) * units).sum(1).clamp_min(0)
        limits = units @ center + self._deviations * variance.sqrt()
        return limits.clamp_min(0).masked_fill(~known, torch.inf)

    def _exactly_related(self, query: Int[Tensor, " pairs"], key: Int[Tensor, " pairs"]) -> Bool[Tensor, " pairs"]:
        words, known = (query.cpu(), key.cpu()), torch.from_numpy(self.known)
        q, k = (self._exact_units(side) for side in words)
        limits = torch.maximum(self._limits(q, known[words[0]]), self._limits(k, known[words[1]]))
        return (((q * k).sum(1) > limits) & (words[0] != words[1])).to(query.device)

    def _exact_units(self, words: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        return _units(self._vectors[self._rows[words]].double())


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
