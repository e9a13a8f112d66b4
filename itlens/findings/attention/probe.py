"""Word pairs that each attention head relates, from its QK weights (Wu et al. 2024, section 4; finding 2).

1. A word's vector is the mean of W_E's rows over the tokens of " " + word (`word_rows`). 2. Per head, with the gain g
of the norm before attention: queries H_q = V diag(g) W_Q and keys H_k = V diag(g) W_K (words x d_head); a query head
reads its group's key head; no rotary position is applied. 3. The energy of a dimension is the sum over words of
H_q^2 + H_k^2. 4. Per dimension, the `top_k` words by |H_q| and the `top_k` by |H_k| (of equal values, the more frequent
words). 5. A pair (q, k), q != k, is kept when the two words are related (`relatedness`) and H_q[q] H_k[k] > 0. 6. Pairs
are ranked by their cosine; equal ones by query, then key, in the vocabulary's order.

What is left out, since it belongs to no word: the bias of a LayerNorm and those of queries and keys. They add one
constant per dimension to all words, on the scale of NORMALISED vectors, while word vectors are not normalised. The
norms that some models (Qwen 3, Gemma 3) apply to queries and keys themselves are left out too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from itlens.errors import ProbeError
from itlens.findings.attention.probe_search import ROWS, Relatedness, Search
from itlens.findings.attention.probe_tables import HeadGrid, energy_table, join_tables, pair_table, table_attrs
from itlens.models import HookedModel
from itlens.models.running import own_precision
from itlens.progress import late_bar
from itlens.selection import Numbers, finite, whole_number
from itlens.vocabulary import WordTokens
from itlens.vocabulary.word_vectors import VectorsLike, VocabularyLike, loaded_vectors, loaded_vocabulary
from itlens.weights import AttentionWeights, Weights, weights_of
from itlens.weights.words import WordRows, known_tokens


@own_precision()
def qk_word_pairs(
    model_or_weights: HookedModel | Weights,
    vocab: VocabularyLike = "builtin",
    *,
    vectors: VectorsLike = "builtin",
    layers: Numbers = None,
    heads: Numbers = None,
    top_k: int = 100,
    deviations: float = 1.96,
    baseline: int = 3000,
    signed: bool = True,
    progress: bool = True,
) -> pd.DataFrame:
    """Return the pairs of related words that each head's query and key weights bring together; see the module.

    model_or_weights: from `load_model`, or a `Weights`. vocab: words from frequent to rare: "builtin", a file, or a
    `Vocabulary`. vectors: say which words are related: "builtin", a file, or `WordVectors`. layers, heads: numbers;
    default all. top_k: words per dimension, as queries and as keys. deviations, baseline: of the relatedness threshold.
    signed: keep a pair only where query and key activation have the same sign. progress: a bar when it takes long.

    The table has a row per pair: layer, head, dim, rank (1 = highest cosine of its dimension), query, key (words;
    categorical over the vocabulary), relatedness (cosine), query_activation, key_activation (products of raw embeddings
    and weights: no unit). Rows are sorted by layer, head, energy of the dimension (`qk_energy`, high to low), and rank.
    attrs: model, settings, the grid of layers and heads, and how many words the tokenizer or the vectors do not know:
    those are never paired. Memory grows with the pairs, not with heads times words. Raises ProbeError.
    """
    settings: dict[str, Any] = {"top_k": top_k, "deviations": deviations, "baseline": baseline, "signed": signed}
    results = qk_layers(
        model_or_weights, vocab, vectors=vectors, layers=layers, heads=heads, progress=progress, **settings
    )
    return join_layers(list(results))[0]


@own_precision()
def qk_energy(
    model_or_weights: HookedModel | Weights,
    vocab: VocabularyLike = "builtin",
    *,
    layers: Numbers = None,
    heads: Numbers = None,
) -> pd.DataFrame:
    """Return the energy of each head dimension: the sum over words of squared query and key activations.

    vocab: "builtin", a file, or a `Vocabulary`. The table has columns layer, head, dim, energy (float64), order (1 =
    the head's highest). Raises ProbeError.
    """
    weights, vocabulary = weights_of(model_or_weights), loaded_vocabulary(vocab)
    grid = HeadGrid.of(weights, layers, heads)
    tokens = known_tokens(weights, vocabulary)
    rows = _rows(weights, tokens)
    attrs = table_attrs("qk_energy", weights, vocabulary, grid, unknown_to_tokenizer=_unknown(tokens))
    tables = []
    for layer in grid.layers:
        search = Search(weights.attention(layer), grid.heads, weights.facts, k=1)
        search.read(rows, layer)
        tables.append(energy_table(layer, grid.heads, search.energies()))
    return join_tables(tables, attrs)


def qk_layers(
    model_or_weights: HookedModel | Weights,
    vocab: VocabularyLike = "builtin",
    *,
    vectors: VectorsLike = "builtin",
    layers: Numbers = None,
    heads: Numbers = None,
    top_k: int = 100,
    deviations: float = 1.96,
    baseline: int = 3000,
    signed: bool = True,
    progress: bool = False,
) -> Iterator[QKLayer]:
    """Yield `qk_word_pairs` and `qk_energy` a layer at a time, for callers that write each layer when it is done.

    Arguments are checked, and words looked up, before the first layer is requested.
    """
    search = LayerSearch(
        model_or_weights, vocab, vectors=vectors, layers=layers, heads=heads, top_k=top_k, deviations=deviations,
        baseline=baseline, signed=signed,
    )  # fmt: skip
    return _each_layer(search, progress)


def _each_layer(search: LayerSearch, progress: bool) -> Iterator[QKLayer]:
    with late_bar("word pairs", show=progress) as tell:
        for done, layer in enumerate(search.layers, start=1):
            yield search.layer(layer)
            tell(done, len(search.layers))


class QKLayer(NamedTuple):
    """The word pairs and the energies of one layer."""

    layer: int
    pairs: pd.DataFrame
    energy: pd.DataFrame


class LayerSearch:
    """The search of one model, prepared once: the words' vectors in the model, and which words are related.

    Arguments are those of `qk_word_pairs`. layers: numbers of the layers to search, ascending. tokens: of the words.
    """

    layers: Sequence[int]
    tokens: WordTokens

    def __init__(
        self,
        model_or_weights: HookedModel | Weights,
        vocab: VocabularyLike = "builtin",
        *,
        vectors: VectorsLike = "builtin",
        layers: Numbers = None,
        heads: Numbers = None,
        top_k: int = 100,
        deviations: float = 1.96,
        baseline: int = 3000,
        signed: bool = True,
    ) -> None:
        self._top_k, baseline = whole_number("top_k", top_k, 1), whole_number("baseline", baseline, 1)
        deviations = finite("deviations", deviations, "of standard deviations, 1.96 in the paper")
        vocabulary = loaded_vocabulary(vocab)
        related_by = loaded_vectors(vectors, vocabulary)
        self._weights, self._words, self._signed = weights_of(model_or_weights), vocabulary.words, signed
        grid = HeadGrid.of(self._weights, layers, heads)
        self.layers, self._heads = grid
        self.tokens = tokens = known_tokens(self._weights, vocabulary)
        self._rows = _rows(self._weights, tokens)
        self._related = Relatedness(
            vocabulary, related_by, deviations=deviations, baseline=baseline, device=self._rows.device
        )
        self._attrs = table_attrs(
            "qk_word_pairs", self._weights, vocabulary, grid, unknown_to_tokenizer=_unknown(tokens),
            unknown_to_vectors=int((~self._related.known).sum()), vectors=related_by.fingerprint,
            vectors_name=related_by.name, top_k=self._top_k, deviations=deviations, baseline=baseline, signed=signed,
        )  # fmt: skip
        if not (tokens.known & self._related.known).any():
            raise ProbeError("No word of the vocabulary is known to both the tokenizer and the word vectors.")

    def layer(self, layer: int, attention: AttentionWeights | None = None) -> QKLayer:
        """Return the pairs and energies of one layer. attention: its weights, where they are at hand.

        Raises ProbeError where its activations are not finite.
        """
        attention = self._weights.attention(layer) if attention is None else attention
        search = Search(attention, self._heads, self._weights.facts, k=self._top_k)
        search.read(self._rows, layer)
        energies = search.energies()
        kept = search.pairs(self._related, self._rows, self._signed)
        pairs = pair_table(layer, self._heads, kept, energies, self._words)
        own: dict[Any, Any] = self._attrs | {"layers": [layer]}
        pairs.attrs = dict(own)
        energy = energy_table(layer, self._heads, energies)
        energy.attrs = own | {"probe": "qk_energy"}
        return QKLayer(layer, pairs, energy)


def join_layers(results: Sequence[QKLayer]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return one table of pairs and one of energies, in the order of the layers. Raises ProbeError for no layers."""
    if not results:
        raise ProbeError("join_layers got no layers; expected what qk_layers gives.")
    ordered = sorted(results, key=lambda result: result.layer)
    layers = {"layers": [result.layer for result in ordered]}
    pairs, energies = [result.pairs for result in ordered], [result.energy for result in ordered]
    return join_tables(pairs, pairs[0].attrs | layers), join_tables(energies, energies[0].attrs | layers)


def _rows(weights: Weights, tokens: WordTokens) -> WordRows:
    """The words' vectors, in blocks sized for the activations of one head (values, sizes and what is gathered)."""
    return WordRows(weights, tokens, "input", per_word=3 * 8 * max(ROWS, weights.facts["d_head"]))


def _unknown(tokens: WordTokens) -> int:
    return int((~tokens.known).sum())
