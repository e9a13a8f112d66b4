"""The words that directions point at: v . w / |w| for the vectors w of words.

A word whose vector is zero has no direction and stands near nothing. Words come in blocks (`WordRows`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from itlens.errors import ProbeError
from itlens.probes.words.top_words import TopWords
from itlens.probes.words.word_rows import WordRows, known_tokens
from itlens.vocabulary import Vocabulary
from itlens.weights import Weights

POLES = ("+", "-")


class Found(NamedTuple):
    """Per direction (and pole, when both are asked for) the words and their scores, strongest first."""

    words: np.ndarray
    scores: np.ndarray


class UnitWords:
    """A vocabulary's words as directions of one side of a model ("input" or "output")."""

    def __init__(self, weights: Weights, vocab: Vocabulary, side: str, *, directions: int) -> None:
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

    def absolute(self, directions: Float[Tensor, "rows d_model"], k: int) -> Found:
        """The k words of the largest |v . w / |w||; `scores` are those sizes. Equal ones in the vocabulary's order."""
        found = self.signed(directions, k)
        return Found(found.words, np.abs(found.scores))

    def signed(self, directions: Float[Tensor, "rows d_model"], k: int) -> Found:
        """The same words; `scores` keep their sign."""
        top = TopWords(k, absolute=True)
        for block, products in self._products(directions):
            top.add(products, block.start)
        return self._sorted(top, absolute=True)

    def poles(self, directions: Float[Tensor, "rows d_model"], k: int) -> Found:
        """(rows, pole, rank): the k words that each direction points at, and those that its opposite does."""
        tops = [TopWords(k, absolute=False) for _ in POLES]
        for block, products in self._products(directions):
            tops[0].add(products, block.start)
            tops[1].add(-products, block.start)
        sides = [self._sorted(top, absolute=False) for top in tops]
        return Found(*(np.stack(parts, axis=1) for parts in zip(*sides, strict=True)))

    def _products(self, directions: Tensor) -> Iterator[tuple[slice, Tensor]]:
        directions = directions.to(self.rows.device, self.rows.dtype)
        for block, vectors in self.rows.blocks():
            yield block, (directions @ vectors.T) / self._sizes[block]

    def _sorted(self, top: TopWords, *, absolute: bool) -> Found:
        places, values = (part.cpu().numpy() for part in top.best(self.rows.sharing))
        # the words come in the vocabulary's order, so that a stable sort leaves equal scores in it
        order = np.argsort(-(np.abs(values) if absolute else values), axis=1, kind="stable")
        places, values = np.take_along_axis(places, order, 1), np.take_along_axis(values, order, 1)
        return Found(self._texts[self.rows.words[places]], values.astype(np.float32))
