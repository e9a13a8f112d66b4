"""Word pairs that each attention head relates, from its QK weights (Wu et al. 2024, section 4; finding 2).

1. A word's vector is the mean of W_E's rows over the tokens of " " + word (`word_rows`). 2. Per head, with the gain g
of the norm before attention: queries H_q = V diag(g) W_Q and keys H_k = V diag(g) W_K (words x d_head); a query head
reads its group's key head; no rotary position is applied. 3. The energy of a dimension is the sum over words of
H_q^2 + H_k^2. 4. Per dimension, the `top_k` words by |H_q| and the `top_k` by |H_k| (of equal values, the more frequent
words). 5. A pair (q, k), q != k, is kept when the two words are related (`relatedness`) and H_q[q] H_k[k] > 0. 6. Pairs
are ranked by their cosine; equal ones by query, then key, in the vocabulary's order.

What is left out, since no word owns it: the bias of a LayerNorm and those of queries and keys. They add one constant
per dimension to all words, on the scale of NORMALISED vectors, while word vectors are not normalised. The norms that
some models (Qwen 3, Gemma 3) apply to queries and keys themselves are left out too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from itlens.errors import ProbeError
from itlens.probes.grid import Numbers, chosen, finite, refuse_kind, whole_number
from itlens.probes.words.qk_search import ROWS, Search
from itlens.probes.words.relatedness import Relatedness
from itlens.probes.words.word_pair_table import energy_table, join_tables, pair_table, table_attrs
from itlens.probes.words.word_rows import WordRows, known_tokens
from itlens.progress import late_bar
from itlens.vocabulary import Vocabulary, WordVectors
from itlens.weights import Weights, weights_of


class QKLayer(NamedTuple):
    """The word pairs and the energies of one layer."""

    layer: int
    pairs: pd.DataFrame
    energy: pd.DataFrame


def qk_word_pairs(
    model_or_weights: Any,
    vocab: Vocabulary,
    *,
    vectors: WordVectors,
    layers: Numbers = None,
    heads: Numbers = None,
    top_k: int = 100,
    deviations: float = 1.96,
    baseline: int = 3000,
    signed: bool = True,
    progress: bool = True,
) -> pd.DataFrame:
    """The pairs of related words that each head's query and key weights bring together; see the module.

    model_or_weights: from `load_model`, or a `Weights`. vocab: words in order of frequency. vectors: tell which words
    are related. layers, heads: numbers; default all. top_k: words per dimension and side. deviations, baseline: of the
    relatedness threshold. signed: keep a pair only where query and key activation have the same sign. progress: a bar
    when it takes long.

    Returns a table with a row per pair: layer, head, dim, rank (1 = highest cosine of its dimension), query, key
    (words; categorical over the vocabulary), relatedness (cosine), query_activation, key_activation (products of raw
    embeddings and weights: no unit). Rows go by layer, head, the dimensions from high to low energy (`qk_energy`), and
    rank. attrs: model, settings, the grid of layers and heads, and how many words the tokenizer or the vectors do not
    know: those are never paired. Memory grows with the pairs, not with heads times words. Raises ProbeError.
    """
    options: dict[str, Any] = {"top_k": top_k, "deviations": deviations, "baseline": baseline, "signed": signed}
    found = qk_layers(
        model_or_weights, vocab, vectors=vectors, layers=layers, heads=heads, progress=progress, **options
    )
    return join_layers(list(found))[0]


def qk_energy(
    model_or_weights: Any, vocab: Vocabulary, *, layers: Numbers = None, heads: Numbers = None
) -> pd.DataFrame:
    """The energy of each head dimension: the sum over words of squared query and key activations.

    Returns a table: layer, head, dim, energy (float64), order (1 = the head's highest). Raises ProbeError.
    """
    weights = weights_of(model_or_weights)
    asked = _Grid.of(weights, layers, heads)
    tokens = known_tokens(weights, vocab)
    rows = _rows(weights, tokens)
    attrs = table_attrs("qk_energy", weights, vocab, asked.layers, asked.heads, unknown_to_tokenizer=_unknown(tokens))
    tables = []
    for layer in asked.layers:
        search = Search(weights.attention(layer), asked.heads, weights.facts, k=1)
        search.read(rows, layer)
        tables.append(energy_table(layer, asked.heads, search.energies()))
    return join_tables(tables, attrs)


def qk_layers(
    model_or_weights: Any,
    vocab: Vocabulary,
    *,
    vectors: WordVectors,
    layers: Numbers = None,
    heads: Numbers = None,
    top_k: int = 100,
    deviations: float = 1.96,
    baseline: int = 3000,
    signed: bool = True,
    progress: bool = False,
) -> Iterator[QKLayer]:
    """`qk_word_pairs` and `qk_energy` a layer at a time, for those who write each layer when it is done.

    Arguments are checked, and words looked up, before the first layer is asked for.
    """
    refuse_kind("vectors", vectors, WordVectors)
    top_k, baseline = whole_number("top_k", top_k, 1), whole_number("baseline", baseline, 1)
    deviations = finite("deviations", deviations, "of standard deviations, 1.96 in the paper")
    weights = weights_of(model_or_weights)
    asked = _Grid.of(weights, layers, heads)
    tokens = known_tokens(weights, vocab)
    rows = _rows(weights, tokens)
    related = Relatedness(vocab, vectors, deviations=deviations, baseline=baseline, device=rows.device)
    attrs = table_attrs(
        "qk_word_pairs", weights, vocab, asked.layers, asked.heads, unknown_to_tokenizer=_unknown(tokens),
        unknown_to_vectors=int((~related.known).sum()), vectors=vectors.fingerprint, vectors_name=vectors.name,
        top_k=top_k, deviations=deviations, baseline=baseline, signed=signed,
    )  # fmt: skip
    if not (tokens.known & related.known).any():
        raise ProbeError("No word of the vocabulary is known to both the tokenizer and the word vectors.")

    def run() -> Iterator[QKLayer]:
        with late_bar("word pairs", show=progress) as tell:
            for done, layer in enumerate(asked.layers, start=1):
                search = Search(weights.attention(layer), asked.heads, weights.facts, k=top_k)
                search.read(rows, layer)
                energies = search.energies()
                pairs = pair_table(layer, asked.heads, search.pairs(related, rows, signed), energies, vocab.words)
                own: dict[Any, Any] = attrs | {"layers": [layer]}
                pairs.attrs = dict(own)
                energy = energy_table(layer, asked.heads, energies)
                energy.attrs = own | {"probe": "qk_energy"}
                yield QKLayer(layer, pairs, energy)
                tell(done, len(asked.layers))

    return run()


def join_layers(found: list[QKLayer]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of pairs and of energies of all layers, in the order of the layers. Raises ProbeError for none."""
    if not found:
        raise ProbeError("join_layers got no layers; expected what qk_layers gives.")
    found = sorted(found, key=lambda part: part.layer)
    layers = [part.layer for part in found]
    pairs, energies = [part.pairs for part in found], [part.energy for part in found]
    return (
        join_tables(pairs, pairs[0].attrs | {"layers": layers}),
        join_tables(energies, energies[0].attrs | {"layers": layers}),
    )


class _Grid(NamedTuple):
    layers: list[int]
    heads: list[int]

    @classmethod
    def of(cls, weights: Weights, layers: Numbers, heads: Numbers) -> _Grid:
        facts = weights.facts
        return cls(chosen("layer", layers, facts["layers"]), chosen("head", heads, facts["heads"]))


def _rows(weights: Weights, tokens: Any) -> WordRows:
    """The words' vectors, in blocks sized for the activations of one head (values, sizes and what is gathered)."""
    return WordRows(weights, tokens, "input", per_word=3 * 8 * max(ROWS, weights.facts["d_head"]))


def _unknown(tokens: Any) -> int:
    return int((~tokens.known).sum())
