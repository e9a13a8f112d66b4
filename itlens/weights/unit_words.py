"""The words nearest to a direction: v . w / |w| for word vectors w, of a model's embedding or unembedding.

A word whose vector is zero has no direction and is left out. Words come in blocks (`WordRows`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from itlens.errors import ProbeError
from itlens.vocabulary import Vocabulary
from itlens.weights import Weights
from itlens.weights.words import TopWords, WordRows, known_tokens

POLES = ("+", "-")


class NearestWords(NamedTuple):
    """Words and scores of each direction (and pole, where both are requested), strongest first."""

    words: np.ndarray
    scores: np.ndarray


class UnitWords:
    """A vocabulary's words as directions: of a model's embedding ("input") or unembedding ("output")."""

    def __init__(
        self, weights: Weights, vocab: Vocabulary, side: Literal["input", "output"], *, directions: int
    ) -> None:
        tokens = known_tokens(weights, vocab)
        self.unknown = int((~tokens.known).sum())
        width = 4 * 8 * directions
        self.rows = WordRows(weights, tokens, side, per_word=width)
        norms = self._norms()
        zero = self.rows.words[(norms == 0)[self.rows.sharing.vector].cpu().numpy()]
        self.without_direction = len(zero)
        if len(zero):
            known = tokens.known.copy()
            known[zero] = False
            if not known.any():
                raise ProbeError(f"All {len(zero)} words that the tokenizer knows have {side} vectors of zero length.")
            self.rows = WordRows(weights, replace(tokens, known=known), side, per_word=width)
            norms = norms[norms > 0]
        self._sizes = norms
        self._texts = np.array(vocab.words, dtype=object)

    def _norms(self) -> Float[Tensor, " vectors"]:
        norms = torch.cat([torch.linalg.vector_norm(vectors, dim=1) for _, vectors in self.rows.blocks()])
        if not bool(torch.isfinite(norms).all()):
            raise ProbeError("The vectors of some words are not finite; check the model's embeddings.")
        return norms

    def absolute(self, directions: Float[Tensor, "rows d_model"], k: int) -> NearestWords:
        """Return the k words of the largest |v . w / |w||, and these sizes. Equal ones in the vocabulary's order."""
        nearest = self.signed(directions, k)
        return NearestWords(nearest.words, np.abs(nearest.scores))

    def signed(self, directions: Float[Tensor, "rows d_model"], k: int) -> NearestWords:
        """Return the same words; scores keep their sign."""
        top = TopWords(k, absolute=True)
        for block, products in self._products(directions):
            top.add(products, block.start)
        return self._sorted(top, absolute=True)

    def poles(self, directions: Float[Tensor, "rows d_model"], k: int) -> NearestWords:
        """Return, on (rows, pole, rank), the k words that each direction and its opposite point at."""
        tops = [TopWords(k, absolute=False) for _ in POLES]
        for block, products in self._products(directions):
            tops[0].add(products, block.start)
            tops[1].add(-products, block.start)
        poles = [self._sorted(top, absolute=False) for top in tops]
        return NearestWords(*(np.stack(values, axis=1) for values in zip(*poles, strict=True)))

    def _products(self, directions: Tensor) -> Iterator[tuple[slice, Tensor]]:
        directions = directions.to(self.rows.dtype).to(self.rows.device)
        for block, vectors in self.rows.blocks():
            yield block, (directions @ vectors.T) / self._sizes[block]

    def _sorted(self, top: TopWords, *, absolute: bool) -> NearestWords:
        places, values = (best.cpu().numpy() for best in top.best(self.rows.sharing))
        # the words come in the vocabulary's order, so that a stable sort leaves equal scores in it
        order = np.argsort(-(np.abs(values) if absolute else values), axis=1, kind="stable")
        places, values = np.take_along_axis(places, order, 1), np.take_along_axis(values, order, 1)
        return NearestWords(self._texts[self.rows.words[places]], values.astype(np.float32))
