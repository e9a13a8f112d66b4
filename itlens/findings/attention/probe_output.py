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
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from itlens.errors import ProbeError
from itlens.findings.attention.probe import LayerSearch
from itlens.findings.attention.probe_tables import HeadGrid, join_tables, table_attrs, word_categories
from itlens.models import HookedModel
from itlens.models.precision import exact, exact_device
from itlens.models.running import own_precision
from itlens.progress import late_bar
from itlens.selection import Numbers, whole_number
from itlens.vocabulary import Vocabulary, WordTokens, WordVectors
from itlens.vocabulary.verbs import instruction_verbs
from itlens.vocabulary.word_vectors import VectorsLike, VocabularyLike, loaded_vectors, loaded_vocabulary
from itlens.weights import AttentionWeights, Weights, weights_of
from itlens.weights.words import TopWords, WordRows, known_tokens

_SCORES = 1 << 19  # of one head and one block of words, for all input words


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
    writing = LayerWriting(
        model_or_weights, vocab, vectors=vectors, layers=layers, heads=heads, inputs=inputs, top_k=top_k
    )
    tables = []
    with late_bar("output words", show=progress) as tell:
        for done, layer in enumerate(writing.layers, start=1):
            tables.append(writing.layer(layer))
            tell(done, len(writing.layers))
    return join_tables(tables, writing.attrs)


class LayerWriting:
    """What the heads of one model write, prepared once: the vectors of the input words, and those of all output words.

    Arguments are those of `ov_word_pairs`. tokens: of the vocabulary, where they are at hand. layers: numbers of the
    layers, ascending. attrs: of the table of all.
    """

    layers: Sequence[int]
    attrs: dict[str, object]

    def __init__(
        self,
        model_or_weights: HookedModel | Weights,
        vocab: VocabularyLike = "builtin",
        *,
        vectors: VectorsLike | None = None,
        layers: Numbers = None,
        heads: Numbers = None,
        inputs: int | Sequence[str] = 1000,
        top_k: int = 10,
        tokens: WordTokens | None = None,
    ) -> None:
        self._top_k = whole_number("top_k", top_k, 1)
        vocabulary = loaded_vocabulary(vocab)
        related_by = None if vectors is None else loaded_vectors(vectors, vocabulary)
        self._related = None if related_by is None else _Related(vocabulary, related_by)
        weights = weights_of(model_or_weights)
        grid = HeadGrid.of(weights, layers, heads)
        self.layers, self._heads = grid
        self._words = _Words(weights, vocabulary, inputs, tokens)
        read = self._words.read
        self._vectors = torch.cat([block for _, block in read.blocks()])
        self._categories = word_categories(vocabulary.words)
        write = self._words.write
        write.block = min(write.block, max(64, _SCORES // len(self._vectors)))  # scores that stay in the cache
        settings = {} if related_by is None else {"vectors": related_by.fingerprint, "vectors_name": related_by.name}
        self.attrs = self._words.attrs("ov_word_pairs", grid, top_k=self._top_k, inputs=len(read.words), **settings)

    def layer(self, layer: int, attention: AttentionWeights | None = None) -> pd.DataFrame:
        """Return the table of one layer. attention: its weights, where they are at hand.

        Raises ProbeError where scores are not finite.
        """
        words = self._words
        attention = words.weights.attention(layer) if attention is None else attention
        circuits = [_Circuit(attention, head, words) for head in self._heads]
        values = [circuit.values(self._vectors) for circuit in circuits]
        tops = [TopWords(self._top_k, absolute=False) for _ in circuits]
        for block, vectors in words.write.blocks():
            for circuit, own, top in zip(circuits, values, tops, strict=True):
                top.add(own @ circuit.readers(vectors).T, block.start)
        tables = [self._table(top, layer, head) for head, top in zip(self._heads, tops, strict=True)]
        return join_tables(tables, self.attrs | {"layers": [layer]})

    def _table(self, top: TopWords, layer: int, head: int) -> pd.DataFrame:
        read, write = self._words.read, self._words.write
        places, scores = (best[read.sharing.vector].cpu().numpy() for best in top.best(write.sharing))
        if not np.isfinite(scores).all():
            raise ProbeError(f"Output scores of layer {layer}, head {head} are not finite; check the model's weights.")
        order = np.argsort(-scores, axis=1, kind="stable")
        places, scores = np.take_along_axis(places, order, 1), np.take_along_axis(scores, order, 1)
        count, width = places.shape
        table = pd.DataFrame(
            {
                "layer": np.full(count * width, layer, dtype=np.int16),
                "head": np.full(count * width, head, dtype=np.int16),
                "input": pd.Categorical.from_codes(np.repeat(read.words, width), dtype=self._categories),
                "rank": np.tile(np.arange(1, width + 1, dtype=np.int32), count),
                "output": pd.Categorical.from_codes(write.words[places.ravel()], dtype=self._categories),
                "score": scores.ravel().astype(np.float32),
            }
        )
        return table if self._related is None else table.assign(relatedness=self._related.cosines(table))


class BothHalves:
    """What the heads of one model relate and what they write, a layer at a time; each layer's weights are read once.

    search: of word pairs. count: the input words are so many of the most frequent words that the tokenizer knows, and
    the instruction verbs (`input_words`); 0: what heads write is left out. top_k: output words per input word.
    """

    def __init__(self, source: Weights, vocabulary: Vocabulary, search: LayerSearch, *, count: int, top_k: int) -> None:
        self._source, self._search = source, search
        self._writing: LayerWriting | None = None
        if count:
            inputs = input_words(vocabulary, search.tokens.known, count)
            self._writing = LayerWriting(source, vocabulary, inputs=inputs, top_k=top_k, tokens=search.tokens)

    @own_precision()
    def layer(self, layer: int) -> dict[str, pd.DataFrame]:
        """Return "pairs" and "energy" (see `LayerSearch`), and "written" (see `ov_word_pairs`), of one layer."""
        attention = self._source.attention(layer)
        related = self._search.layer(layer, attention)
        tables = {"pairs": related.pairs, "energy": related.energy}
        return tables if self._writing is None else tables | {"written": self._writing.layer(layer, attention)}


def input_words(vocabulary: Vocabulary, known: Bool[np.ndarray, " words"], count: int) -> list[str]:
    """Return the first `count` known words, and the instruction verbs among the known ones.

    known: of each word of the vocabulary, whether the tokenizer knows it.
    """
    places = np.flatnonzero(known).tolist()
    verbs = set(instruction_verbs())
    later = [vocabulary.words[place] for place in places[count:] if vocabulary.words[place] in verbs]
    return [vocabulary.words[place] for place in places[:count]] + later


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
    """The vocabulary on both sides of a model: what is read (the input words; None: all), and all that is written."""

    def __init__(
        self,
        weights: Weights,
        vocab: Vocabulary,
        inputs: int | Sequence[str] | None = None,
        tokens: WordTokens | None = None,
    ) -> None:
        self.weights, self.vocab = weights, vocab
        self._tokens = known_tokens(weights, vocab) if tokens is None else tokens
        self.final = weights.final_gain()
        width = 3 * 8 * weights.facts["d_head"]
        read = self._tokens if inputs is None else replace(self._tokens, known=self._chosen(inputs))
        self.read = WordRows(weights, read, "input", per_word=width)
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

    def _chosen(self, inputs: int | Sequence[str]) -> Bool[np.ndarray, " words"]:
        """Which words of the vocabulary are input words. Raises ProbeError."""
        known, chosen = self._tokens.known, np.zeros(len(self.vocab), dtype=bool)
        if isinstance(inputs, bool) or not isinstance(inputs, (str, Iterable)):
            first = whole_number("inputs", inputs, 1)
            chosen[:first] = known[:first]
            if not chosen.any():
                raise ProbeError(
                    f"The tokenizer knows none of the first {inputs} words; give a higher inputs=, or words."
                )
            return chosen
        listed = [inputs] if isinstance(inputs, str) else list(inputs)
        place = {self.vocab.words[word]: word for word in np.flatnonzero(known).tolist()}
        missing = [word for word in listed if word not in place]
        if missing or not listed:
            shown = ", ".join(map(repr, missing[:5])) or "no word"
            raise ProbeError(f"inputs names {shown}; expected words of the vocabulary that the tokenizer knows.")
        chosen[[place[word] for word in listed]] = True
        return chosen


class _Circuit:
    """One head's OV circuit, as the two maps to its d_head dimensions."""

    def __init__(self, attention: AttentionWeights, head: int, words: _Words) -> None:
        group = attention.W_Q.shape[0] // attention.W_V.shape[0]
        dtype = words.read.dtype
        self._into = (attention.gain[:, None] * attention.W_V[head // group].to(dtype)).to(dtype)
        self._out = (attention.W_O[head].to(dtype) * attention.out_gain * words.final).T.to(dtype)

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
