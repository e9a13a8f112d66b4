"""Words as a model reads and writes them: the mean of W_E's rows (or W_U's columns) over a word's tokens.

A word is tokenised as " " + word, as it is within a text (`Vocabulary.token_ids`). Words of the same tokens, up to
their order and to repetition of the whole ("ha", "haha"), have one vector, and it is computed once: what follows from
it is then one number for all of them, and does not depend on how sums and products round at one place or another.
Vectors are handled in blocks, so that memory does not grow with the vocabulary: where all of them fit in a share of the
free memory they are computed once, else each time they are gone through.

Shared vectors are numbered by the first word that has them, so that their order is that of the vocabulary wherever no
word shares one. `TopWords` finds the words of the largest activations exactly, a block of words at a time: among equal
values the word that comes first in the vocabulary wins, whatever the blocks, and a shared value is given once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from math import gcd
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from itlens.errors import ProbeError
from itlens.models.hooked_model import HookedModel
from itlens.models.memory import free_bytes
from itlens.selection import refuse_kind
from itlens.vocabulary import Vocabulary, WordTokens
from itlens.weights import Weights, weights_of

Embedding: TypeAlias = Literal["input", "output"]  # W_E, W_U

EMBEDDINGS: tuple[Embedding, ...] = get_args(Embedding)
_SHARE = 0.25  # of the free memory, for the rows of all words
_BLOCK_SHARE = 0.1  # of the free memory, for what is computed of one block
_LARGEST = 1 << 15  # words; larger blocks are no faster
_MERGE = 4  # times k candidates are held at most, however many blocks there are


def mean_vectors(
    model_or_weights: HookedModel | Weights,
    vocab: Vocabulary,
    *,
    embedding: Embedding = "input",
    side: Embedding | None = None,
) -> Float[Tensor, "words d_model"]:
    """Return the vector of each word: the mean over its tokens of W_E's rows ("input") or W_U's columns ("output").

    float32 (float64 of a float64 model), on the model's device, not normalised and without any norm's gain; NaN for a
    word that the tokenizer does not know. Raises ProbeError.
    """
    weights = weights_of(model_or_weights, "mean_vectors")
    tokens = known_tokens(weights, vocab)
    rows = WordRows(weights, tokens, side or embedding, per_word=0)
    out = torch.full((len(vocab), weights.facts["d_model"]), torch.nan, dtype=rows.dtype, device=rows.device)
    known = torch.as_tensor(rows.words, device=rows.device)
    for block, vectors in rows.blocks():
        own = (rows.sharing.vector >= block.start) & (rows.sharing.vector < block.stop)
        out[known[own]] = vectors[rows.sharing.vector[own] - block.start]
    return out


def known_tokens(weights: Weights, vocab: Vocabulary) -> WordTokens:
    """Return the vocabulary's tokens. Raises ProbeError where there is no tokenizer, or none of the words is known to
    it."""
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
    """Return what is computed in: float32, or float64 for float64 weights."""
    return torch.promote_types(dtype, torch.float32)


class WordRows:
    """The vectors of the words that the tokenizer knows, block by block.

    words: their indices in the vocabulary, ascending. sharing: which of them share a vector; a block's slice refers to
    its vectors. per_word: bytes that the caller computes per vector of a block.
    """

    def __init__(self, weights: Weights, tokens: WordTokens, embedding: Embedding, *, per_word: int) -> None:
        if embedding not in EMBEDDINGS:
            raise ProbeError(f"embedding={embedding!r}; expected one of {', '.join(EMBEDDINGS)}.")
        self._read: Callable[[Tensor], Tensor] = weights.embed if embedding == "input" else weights.unembed
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
        """Yield (slice of the vectors, these vectors) in order."""
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


def shared_vectors(
    tokens: WordTokens, words: Int[np.ndarray, " words"]
) -> tuple[Int[np.ndarray, " words"], Int[np.ndarray, " pieces"], Int[np.ndarray, " bounds"]]:
    """Return the number of each word's vector, and the tokens of each vector: ids[start[v] : start[v + 1]],
    ascending."""
    number: dict[tuple[int, ...], int] = {}
    bounds = zip(tokens.start[words].tolist(), tokens.start[words + 1].tolist(), strict=True)
    ids = tokens.ids.tolist()
    vector = [number.setdefault(_mixture(ids[first:last]), len(number)) for first, last in bounds]
    start = np.concatenate([[0], np.cumsum([len(mixture) for mixture in number])]).astype(np.int64)
    flat = np.array([token for mixture in number for token in mixture], dtype=np.int64)
    return np.array(vector, dtype=np.int64), flat, start


def _mixture(ids: list[int]) -> tuple[int, ...]:
    """Return the tokens in order, each as often as its share of the mean asks for."""
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
        """Return the places within a block of the vectors that several words share, and how many further words each
        has."""
        beyond = self.sizes[block] - 1
        places = beyond.nonzero().flatten()
        return places, beyond[places]

    def words_of(
        self, vectors: Int[Tensor, "rows found"], values: Float[Tensor, "rows found"], k: int
    ) -> tuple[Int[Tensor, "rows candidates"], Float[Tensor, "rows candidates"]]:
        """Return the first k words of each vector, ascending in each row, with the vectors' values.

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


class TopWords:
    """The `k` words of the largest value (or, with absolute=True, of the largest |value|) of each row."""

    def __init__(self, k: int, *, absolute: bool) -> None:
        self._k, self._absolute = k, absolute
        self._values: list[Tensor] = []
        self._words: list[Tensor] = []

    def add(self, values: Float[Tensor, "rows words"], first: int) -> None:
        """Return one block: values of the words first, first + 1, ..."""
        places = largest(self._sizes(values), self._k)
        self._values.append(values.gather(1, places))
        self._words.append(places + first)
        if sum(part.shape[1] for part in self._words) > _MERGE * self._k:
            self._merge()

    def best(self, sharing: Sharing | None = None) -> tuple[Int[Tensor, "rows k"], Float[Tensor, "rows k"]]:
        """Return the words, ascending, and their values; fewer than k columns when there are fewer words.

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
        if len(self._values) > 1:  # candidates are in the order of the vocabulary, so that places break ties
            places = largest(self._sizes(values), self._k)
            values, words = values.gather(1, places), words.gather(1, places)
        self._values, self._words = [values], [words]

    def _sizes(self, values: Tensor) -> Tensor:
        return values.abs() if self._absolute else values


def largest(sizes: Float[Tensor, "rows columns"], k: int) -> Int[Tensor, "rows k"]:
    """Return the columns of the k largest values of each row, ascending; of equal values the first columns."""
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
