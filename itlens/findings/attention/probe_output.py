"""What each head writes when it reads a word: the OV half of a head, in words.

1. Read: a word's vector v is the mean of W_E's rows over the tokens of " " + word, times the gain of the norm before
attention. 2. Write: u is the mean of W_U's columns over the same tokens, times the gain of the final norm. 3. The score
of output word o for input word i is v_i W_V W_O u_o (Elhage et al. 2021, "A mathematical framework for transformer
circuits"), with the gain of a norm after attention between W_O and u (Gemma 2 and 3): the direct effect on o's logit,
up to the scale of the norms, of a head that attends to i alone. A query head uses its group's value head. Biases, which
are the same for every input word, are left out.

COPYING is sum(Re(lambda)) / sum(|lambda|) over the eigenvalues of the words x words matrix of scores, from -1 to 1:
positive when reading a word raises that word. The nonzero eigenvalues are those of a d_head x d_head matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from itlens.errors import ProbeError
from itlens.findings.attention.probe_tables import HeadGrid, join_tables, table_attrs, word_categories
from itlens.models import HookedModel
from itlens.models.precision import exact, exact_device
from itlens.models.running import own_precision
from itlens.progress import late_bar
from itlens.selection import Numbers, whole_number
from itlens.vocabulary import Vocabulary, WordVectors
from itlens.vocabulary.word_vectors import VectorsLike, VocabularyLike, loaded_vectors, loaded_vocabulary
from itlens.weights import AttentionWeights, Weights, weights_of
from itlens.weights.words import TopWords, WordRows, known_tokens


@own_precision()
def ov_word_pairs(
    model_or_weights: HookedModel | Weights,
    vocab: VocabularyLike = "builtin",
    *,
    vectors: VectorsLike | None = None,
    layers: Numbers = None,
    heads: Numbers = None,
    inputs: int | Sequence[str] = 1000,
    top_k: int = 10,
    progress: bool = True,
) -> pd.DataFrame:
    """Return the output words that each head raises most when it reads a word; see the module.

    model_or_weights: from `load_model`, or a `Weights`. vocab: the output words, and the first `inputs` of them (or the
    words listed) the input words: "builtin", a file, or a `Vocabulary`. vectors: "builtin", a file, or `WordVectors`
    add a column `relatedness`, the cosine of both words' vectors (NaN where one has none); None: no such column.
    top_k: output words per input word, by score; equal scores in the vocabulary's order.

    The table has columns layer, head, input, rank (1 = highest), output (words; categorical over the vocabulary), score
    (logits, up to the scale of the norms). attrs: model and settings. Raises ProbeError.
    """
    top_k = whole_number("top_k", top_k, 1)
    vocabulary = loaded_vocabulary(vocab)
    related_by = None if vectors is None else loaded_vectors(vectors, vocabulary)
    related = None if related_by is None else _Related(vocabulary, related_by)
    words = _Words(weights_of(model_or_weights), vocabulary)
    grid = HeadGrid.of(words.weights, layers, heads)
    read = words.inputs(inputs)
    settings = {} if related_by is None else {"vectors": related_by.fingerprint, "vectors_name": related_by.name}
    attrs = words.attrs("ov_word_pairs", grid, top_k=top_k, inputs=len(read), **settings)
    tables = []
    with late_bar("output words", show=progress) as tell:
        for done, layer in enumerate(grid.layers, start=1):
            attention = words.weights.attention(layer)
            for head in grid.heads:
                table = _top_table(words, _Circuit(attention, head, words), layer, head, read, top_k)
                tables.append(table if related is None else table.assign(relatedness=related.cosines(table)))
            tell(done, len(grid.layers))
    return join_tables(tables, attrs)


@own_precision()
def ov_copying(
    model_or_weights: HookedModel | Weights,
    vocab: VocabularyLike = "builtin",
    *,
    layers: Numbers = None,
    heads: Numbers = None,
) -> pd.DataFrame:
    """Return how far each head copies what it reads, over the words of the vocabulary; see the module.

    vocab: "builtin", a file, or a `Vocabulary`. The table has columns layer, head, copying (-1 to 1; NaN for a head
    that writes nothing). Raises ProbeError.
    """
    words = _Words(weights_of(model_or_weights), loaded_vocabulary(vocab))
    grid = HeadGrid.of(words.weights, layers, heads)
    rows, together = [], words.together()
    for layer in grid.layers:
        attention = words.weights.attention(layer)
        rows += [(layer, head, _Circuit(attention, head, words).copying(together, layer)) for head in grid.heads]
    table = pd.DataFrame(rows, columns=["layer", "head", "copying"]).astype({"layer": np.int16, "head": np.int16})
    return join_tables([table], words.attrs("ov_copying", grid))


class _Words:
    """The vocabulary on both sides of a model."""

    def __init__(self, weights: Weights, vocab: Vocabulary) -> None:
        self.weights, self.vocab = weights, vocab
        self._tokens = known_tokens(weights, vocab)
        width = 3 * 8 * weights.facts["d_head"]
        self.read = WordRows(weights, self._tokens, "input", per_word=width)
        self.write = WordRows(weights, self._tokens, "output", per_word=width)
        self.read.block = self.write.block = min(self.read.block, self.write.block)  # free memory changes in between

    def attrs(self, probe: str, grid: HeadGrid, **settings: object) -> dict[str, object]:
        unknown = int((~self._tokens.known).sum())
        return table_attrs(probe, self.weights, self.vocab, grid, unknown_to_tokenizer=unknown, **settings)

    def together(self) -> Float[Tensor, "d_model d_model"]:
        """Sum over words of u v^T, float64: what every head's circuit sees of the vocabulary."""
        width = self.weights.facts["d_model"]
        device = exact_device(self.read.device)
        total = torch.zeros(width, width, dtype=torch.float64, device=device)
        for (block, read), (_, write) in zip(self.read.blocks(), self.write.blocks(), strict=True):
            count = self.read.sharing.sizes[block].to(device)
            total += (exact(write) * count[:, None]).T @ exact(read)
        return total

    def inputs(self, inputs: int | Sequence[str]) -> Int[np.ndarray, " inputs"]:
        """Places, among the words that the tokenizer knows, of the input words. Raises ProbeError."""
        if isinstance(inputs, bool) or not isinstance(inputs, (str, Iterable)):
            first = np.flatnonzero(self.read.words < whole_number("inputs", inputs, 1))
            if not first.size:
                raise ProbeError(
                    f"The tokenizer knows none of the first {inputs} words; give a higher inputs=, or words."
                )
            return first
        listed = [inputs] if isinstance(inputs, str) else list(inputs)
        place = {self.vocab.words[word]: i for i, word in enumerate(self.read.words.tolist())}
        missing = [word for word in listed if word not in place]
        if missing or not listed:
            shown = ", ".join(map(repr, missing[:5])) or "no word"
            raise ProbeError(f"inputs names {shown}; expected words of the vocabulary that the tokenizer knows.")
        return np.array(sorted({place[word] for word in listed}))


class _Circuit:
    """One head's OV circuit, as the two maps to its d_head dimensions."""

    def __init__(self, attention: AttentionWeights, head: int, words: _Words) -> None:
        group = attention.W_Q.shape[0] // attention.W_V.shape[0]
        dtype, final = words.read.dtype, words.weights.final_gain()
        self._into = (attention.gain[:, None] * attention.W_V[head // group].to(dtype)).to(dtype)
        self._out = (attention.W_O[head].to(dtype) * attention.out_gain * final).T.to(dtype)

    def values(self, vectors: Float[Tensor, "words d_model"]) -> Float[Tensor, "words d_head"]:
        """What reading these words puts into the head."""
        return vectors @ self._into

    def copying(self, together: Float[Tensor, "d_model d_model"], layer: int) -> float:
        """From the eigenvalues of sum over words of reader x value, which are those of the words x words scores."""
        out, into = (exact(half) for half in (self._out, self._into))
        matrix = out.T @ together @ into
        if not bool(torch.isfinite(matrix).all()):
            raise ProbeError(f"Output scores of layer {layer} are not finite; check the model's weights.")
        eigenvalues = torch.linalg.eigvals(matrix.cpu())
        size = float(eigenvalues.abs().sum())
        return float(eigenvalues.real.sum()) / size if size > 0 else float("nan")

    def readers(self, vectors: Float[Tensor, "words d_model"]) -> Float[Tensor, "words d_head"]:
        """What raises these words, seen from the head."""
        return vectors @ self._out


def _top_table(
    words: _Words, circuit: _Circuit, layer: int, head: int, read: Int[np.ndarray, " inputs"], k: int
) -> pd.DataFrame:
    own, back = torch.unique(words.read.sharing.vector[read], return_inverse=True)
    blocks = [circuit.values(v[own[_within(own, block)] - block.start]) for block, v in words.read.blocks()]
    values, top = torch.cat(blocks), TopWords(k, absolute=False)
    for block, vectors in words.write.blocks():
        top.add(values @ circuit.readers(vectors).T, block.start)
    places, scores = (best[back].cpu().numpy() for best in top.best(words.write.sharing))
    if not np.isfinite(scores).all():
        raise ProbeError(f"Output scores of layer {layer}, head {head} are not finite; check the model's weights.")
    order = np.argsort(-scores, axis=1, kind="stable")
    places, scores = np.take_along_axis(places, order, 1), np.take_along_axis(scores, order, 1)
    count, width = places.shape
    known, categories = words.read.words, word_categories(words.vocab.words)
    return pd.DataFrame(
        {
            "layer": np.full(count * width, layer, dtype=np.int16),
            "head": np.full(count * width, head, dtype=np.int16),
            "input": pd.Categorical.from_codes(np.repeat(known[read], width), dtype=categories),
            "rank": np.tile(np.arange(1, width + 1, dtype=np.int32), count),
            "output": pd.Categorical.from_codes(known[places.ravel()], dtype=categories),
            "score": scores.ravel().astype(np.float32),
        }
    )


def _within(vectors: Int[Tensor, " some"], block: slice) -> Bool[Tensor, " some"]:
    inside: Tensor = (vectors >= block.start) & (vectors < block.stop)
    return inside


class _Related:
    """The cosine of two words' vectors, by their places in the vocabulary; NaN where one of them has no vector."""

    def __init__(self, vocabulary: Vocabulary, vectors: WordVectors) -> None:
        rows = vectors.rows(vocabulary.words)
        known = rows >= 0
        self._units = np.full((len(rows), vectors.vectors.shape[1]), np.nan, dtype=np.float32)
        own = vectors.vectors[rows[known]]
        self._units[known] = own / np.linalg.norm(own, axis=1, keepdims=True)

    def cosines(self, table: pd.DataFrame) -> Float[np.ndarray, " rows"]:
        """For the input and output word of each row."""
        read, written = (self._units[table[name].cat.codes.to_numpy()] for name in ("input", "output"))
        cosines: np.ndarray = np.einsum("rd,rd->r", read, written)
        return cosines
