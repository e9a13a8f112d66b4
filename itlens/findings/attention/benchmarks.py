"""How fast are word pairs? Against the released way a head at a time, and against the bare matrix products of a layer.

1. One head of the 135M shape, the built-in words. The RELEASED way, rewritten from its description: the whole
   vocabulary is sorted for every dimension; the cosines of each top word and each word's threshold (cosines with the
   first 3,000 words, kept once computed) are taken word by word. Word vectors are looked up for free, and both ways
   start from the words' vectors in the model. COLD is the first head, WARM a further one.
2. A layer of all heads of a large shape, streamed from a checkpoint, over 26,000 words, against the BARE PRODUCTS:
   query and key maps of all heads times the vectors of all words. With the share of the layer's time that is spent in
   matrix products and the selection of the largest values, and the peak of memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from itlens.findings.attention.probe import LayerSearch
from itlens.findings.attention.probe_search import Relatedness, Search
from itlens.findings.attention.probe_tables import pair_table
from itlens.findings.benchmark import Benchmark, Ratio, gigabytes
from itlens.shapes.model_shapes import word_vectors_of
from itlens.shapes.workbench import Workbench
from itlens.vocabulary import Vocabulary
from itlens.weights.words import WordRows, known_tokens

_TOP_K, _BASELINE, _DEVIATIONS = 100, 3000, 1.96
_PRODUCTS, _SELECTION = ("mm", "bmm", "addmm"), ("topk", "sort")
_MOST_BYTES = 6e9


class WordPairSpeed(Benchmark):
    """Word pairs of one head, and of a whole layer."""

    name = "word-pairs"
    measures = "Word pairs of a head against the released way, and of a layer against its bare matrix products"

    def run(self, bench: Workbench) -> Iterator[Ratio]:
        """Yield cold and warm ratios of one head, then the cost of a layer."""
        yield from self._heads(bench)
        yield from self._layer(bench)

    def _heads(self, bench: Workbench) -> Iterator[Ratio]:
        weights, _ = bench.pair(bench.small, 1)
        vocab = Vocabulary(bench.small.words(20_000))
        vectors = word_vectors_of(vocab.words)
        rows = WordRows(weights, known_tokens(weights, vocab), "input", per_word=8192)
        model_vectors = torch.cat([block for _, block in rows.blocks()])[rows.sharing.vector]
        attention, facts = weights.attention(0), weights.facts

        def ours(related: Relatedness, head: int) -> Any:
            search = Search(attention, [head], facts, k=_TOP_K)
            search.read(rows, 0)
            return pair_table(0, [head], search.pairs(related, rows, True), search.energies(), vocab.words)

        def theirs(way: ReleasedWay, head: int) -> Any:
            key_head = head // (facts["heads"] // facts["key_value_heads"])
            maps = (attention.W_Q[head], attention.W_K[key_head])
            query, key = ((model_vectors @ (attention.gain[:, None] * weight)).numpy() for weight in maps)
            return way.pairs_of(query, key)

        def related() -> Relatedness:
            return Relatedness(vocab, vectors, deviations=_DEVIATIONS, baseline=_BASELINE, device=torch.device("cpu"))

        warm, known = ReleasedWay(vocab.words, vectors.vectors), related()
        cold = bench.seconds(lambda: theirs(warm, 0)), bench.seconds(lambda: ours(related(), 0))
        for place in range(len(vocab)):  # a further head of the released way has nearly all thresholds
            warm.limit(place)
        later = bench.in_turns({"theirs": lambda: theirs(warm, 1), "ours": lambda: ours(known, 1)})
        for what, (reference, own) in (("first", cold), ("further", (later["theirs"], later["ours"]))):
            detail = f"{own:.3f} s against {reference:.2f} s, {len(vocab):,} words"
            yield Ratio(f"word pairs, a {what} head, 135M shape", "the released way", reference / own, "higher", None,
                        detail)  # fmt: skip

    def _layer(self, bench: Workbench) -> Iterator[Ratio]:
        weights, _ = bench.pair(bench.large, 1)
        vocab = Vocabulary(bench.large.words(bench.words))
        search = LayerSearch(weights, vocab, vectors=word_vectors_of(vocab.words), top_k=_TOP_K)
        attention = weights.attention(0)
        search.layer(0, attention)  # the words' vectors are read by the first layer
        whole = bench.measured(lambda: search.layer(0, attention))
        bare = self._bare_products(bench, attention, len(vocab))
        profiled, spent = bench.operations(lambda: search.layer(0, attention))
        products, selection = (sum(spent.get(name, 0.0) for name in names) for names in (_PRODUCTS, _SELECTION))
        size = f"a layer of the {bench.large.name}"
        detail = f"{whole.seconds:.1f} s against {bare:.1f} s, {len(vocab):,} words, all {weights.facts['heads']} heads"
        yield Ratio(f"word pairs, {size}", "its bare matrix products", whole.seconds / bare, "lower", 2.5, detail)
        detail = f"products {products:.1f} s and selection {selection:.1f} s of {profiled:.1f} s"
        share = (products + selection) / profiled
        yield Ratio(f"word pairs, products and selection, {size}", "the layer's time", share, "higher", 0.6, detail)
        if whole.memory is not None:
            detail = f"{gigabytes(whole.memory)} above the words' vectors"
            yield Ratio(f"word pairs, memory, {size}", "6 GB", whole.memory / _MOST_BYTES, "lower", 1.0, detail)

    def _bare_products(self, bench: Workbench, attention: Any, words: int) -> float:
        """Return the seconds of the maps of all heads times the vectors of all words, as two plain products."""
        maps = [weight.transpose(1, 2).flatten(0, 1).float() for weight in (attention.W_Q, attention.W_K)]
        vectors = torch.randn(words, maps[0].shape[1])
        return bench.in_turns({"products": lambda: [weight @ vectors.T for weight in maps]})["products"]


class ReleasedWay:
    """The released code's way: sorts of everything, thresholds and cosines word by word, strings as results."""

    def __init__(self, words: Sequence[str], vectors: np.ndarray) -> None:
        self._words, self._vectors = words, torch.from_numpy(vectors)
        self._limits: dict[int, float] = {}

    def limit(self, place: int) -> float:
        """Return the threshold of a word."""
        if place not in self._limits:
            cosines = torch.cosine_similarity(self._vectors[:_BASELINE], self._vectors[place][None])
            self._limits[place] = float(cosines.mean() + _DEVIATIONS * cosines.std(correction=0))
        return self._limits[place]

    def pairs_of(self, query: np.ndarray, key: np.ndarray) -> list[str]:
        """Return a text per dimension, "write=story|||write=letter", of the pairs by their cosine."""
        texts = []
        for dim in range(query.shape[1]):
            top = [np.argsort(-np.abs(values[:, dim]))[:_TOP_K] for values in (query, key)]
            found = []
            for a in top[0]:
                near = torch.cosine_similarity(self._vectors[top[1]], self._vectors[a][None]).numpy()
                for place in np.flatnonzero(near > max(self.limit(int(a)), 0)):
                    b = int(top[1][place])
                    same_sign = query[a, dim] * key[b, dim] > 0
                    if a != b and near[place] > self.limit(b) and same_sign:
                        found.append((float(near[place]), f"{self._words[a]}={self._words[b]}"))
            texts.append("|||".join(pair for _, pair in sorted(found, reverse=True)))
        return texts
