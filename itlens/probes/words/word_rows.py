"""Words as a model reads and writes them: the mean of W_E's rows (or W_U's columns) over a word's tokens.

A word is tokenised as " " + word, as it stands within a text (`Vocabulary.token_ids`). Words of the same tokens, up to
their order and to repetition of the whole ("ha", "haha"), have one vector, and it is computed once: what follows from
it is then one number for all of them, and does not hang on how sums and products round at one place or another.
Vectors are handled in blocks, so that memory does not grow with the vocabulary: where all of them fit in a share of the
free memory they are computed once, else each time they are gone through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from itlens.errors import ProbeError
from itlens.probes.grid import refuse_kind
from itlens.probes.memory import free_bytes
from itlens.probes.words.shared_vectors import Sharing, shared_vectors
from itlens.vocabulary import Vocabulary, WordTokens
from itlens.weights import Weights, weights_of

SIDES = ("input", "output")
_SHARE = 0.25  # of the free memory, for the rows of all words
_BLOCK_SHARE = 0.1  # of the free memory, for what is computed of one block
_LARGEST = 1 << 15  # words; larger blocks are no faster


def mean_vectors(model_or_weights: Any, vocab: Vocabulary, *, side: str = "input") -> Float[Tensor, "words d_model"]:
    """The vector of each word: the mean over its tokens of W_E's rows ("input") or W_U's columns ("output").

    float32 (float64 of a float64 model), on the model's device, not normalised and without any norm's gain; NaN for a
    word that the tokenizer does not know. Raises ProbeError.
    """
    weights = weights_of(model_or_weights)
    tokens = known_tokens(weights, vocab)
    rows = WordRows(weights, tokens, side, per_word=0)
    out = torch.full((len(vocab), weights.facts["d_model"]), torch.nan, dtype=rows.dtype, device=rows.device)
    known = torch.as_tensor(rows.words, device=rows.device)
    for block, vectors in rows.blocks():
        own = (rows.sharing.vector >= block.start) & (rows.sharing.vector < block.stop)
        out[known[own]] = vectors[rows.sharing.vector[own] - block.start]
    return out


def known_tokens(weights: Weights, vocab: Vocabulary) -> WordTokens:
    """The vocabulary's tokens. Raises ProbeError where there is no tokenizer, or none of the words is known to it."""
    refuse_kind("vocab", vocab, Vocabulary)
    if weights.tokenizer is None:
        raise ProbeError("The model has no tokenizer, and words need one; load it with tokenizer=.")
    tokens = vocab.token_ids(weights.tokenizer)
    if not tokens.known.any():
        raise ProbeError(
            f"The tokenizer knows none of the {len(vocab)} words of the vocabulary; give a vocabulary in the language "
            "and script that the model reads."
        )
    highest = int(tokens.ids.max())
    if highest >= weights.facts["vocabulary"]:
        raise ProbeError(
            f"The tokenizer gives the id {highest}; the model's embedding has {weights.facts['vocabulary']} rows: load "
            "the model with its own tokenizer."
        )
    return tokens


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """What is computed in: float32, or float64 for float64 weights."""
    return torch.promote_types(dtype, torch.float32)


class WordRows:
    """The vectors of the words that the tokenizer knows, block by block.

    words: their indices in the vocabulary, ascending. sharing: which of them share a vector; a block's slice refers to
    its vectors. per_word: bytes that the caller computes per vector of a block.
    """

    def __init__(self, weights: Weights, tokens: WordTokens, side: str, *, per_word: int) -> None:
        if side not in SIDES:
            raise ProbeError(f"side={side!r}; expected one of {', '.join(SIDES)}.")
        self._read: Callable[[Tensor], Tensor] = weights.embed if side == "input" else weights.unembed
        self.words = np.flatnonzero(tokens.known)
        vector, self._ids, self._start = shared_vectors(tokens, self.words)
        sample = self._read(torch.as_tensor(tokens.ids[:1]))
        self.dtype = wide_dtype(sample.dtype)
        self.device, width = sample.device, sample.shape[1] * self.dtype.itemsize
        self.sharing = Sharing(torch.as_tensor(vector, device=self.device))
        free = free_bytes(self.device)
        self.block = int(min(_LARGEST, max(64, free * _BLOCK_SHARE // (3 * width + per_word))))
        self._kept: list[Tensor] | None = [] if self.sharing.count * width < free * _SHARE else None

    def blocks(self) -> Iterator[tuple[slice, Float[Tensor, "words d_model"]]]:
        """(slice of the vectors, these vectors) in order."""
        for number, start in enumerate(range(0, self.sharing.count, self.block)):
            block = slice(start, min(start + self.block, self.sharing.count))
            if self._kept is not None and number < len(self._kept):
                yield block, self._kept[number]
                continue
            vectors = self._means(block)
            if self._kept is not None:
                self._kept.append(vectors)
            yield block, vectors

    def _means(self, block: slice) -> Float[Tensor, "vectors d_model"]:
        start = self._start[block.start : block.stop + 1]
        rows = self._read(torch.as_tensor(self._ids[start[0] : start[-1]])).to(self.dtype)
        counts = np.diff(start)
        owner = torch.as_tensor(np.repeat(np.arange(len(counts)), counts), device=self.device)
        sums = torch.zeros(len(counts), rows.shape[1], dtype=self.dtype, device=self.device).index_add_(0, owner, rows)
        return sums / torch.as_tensor(counts, device=self.device)[:, None]
