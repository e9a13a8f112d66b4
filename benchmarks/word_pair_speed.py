"""How fast are word pairs? Ratios against the released code's way, measured in one run on the same weights and words.

Without arguments: a random Llama of SmolLM2-135M's shape, 26,000 words of one token each, and vectors drawn around the
built-in ones. With --model, --vocabulary and --vectors: real ones.

  released    for each head: the whole vocabulary is sorted for every dimension, as strings; the cosines of each top
              word and each word's threshold (cosines with the first 3,000 words, kept in a dictionary) are computed
              word by word; word vectors are looked up for free. Rewritten from a description, not the code itself
  itlens      what `itlens.qk_word_pairs` does for one head, its thresholds included when cold

Cold is the first head; warm is a further head, when the released way has the thresholds of ALL words. Both ways start
from the words' model vectors. Their pairs are compared, dimension by dimension; words that hold "=" or "|" are left out
of the whole run, since the released way's texts cannot carry them. Then all heads, with the share of the time that is
spent in matrix products and the peak of resident memory (Linux), and the time for half of the words and of the layers.
--seven-b N: N layers of LLaMA-7B's shape (32 layers of 32 heads of 128 dimensions, float16), streamed as random weights
one layer at a time, and what 32 such layers would take.

    python benchmarks/word_pair_speed.py [--rounds 5] [--threads 2] [--model DIR --vocabulary FILE --vectors FILE]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from attribution_speed import shape_135m, word_tokenizer
from compare_memory import reset_peak, status
from transformers import LlamaForCausalLM

import itlens
from itlens import Vocabulary, WordVectors
from itlens.findings.attention.probe import qk_layers
from itlens.findings.attention.probe_search import Relatedness, Search
from itlens.findings.attention.probe_tables import pair_table
from itlens.weights import AttentionWeights, MlpWeights, ModelWeights
from itlens.weights.words import WordRows, known_tokens

BASELINE, DEVIATIONS = 3000, 1.96
Pairs = list[set[tuple[str, str]]]


class Released:
    """The released code's way, rewritten: strings, sorts of everything, thresholds and pairs word by word."""

    def __init__(self, words: list[str], vectors: dict[str, np.ndarray]) -> None:
        self.words, self.vectors, self.limits = words, vectors, {}
        self.place = {word: number for number, word in enumerate(words)}
        self.first = torch.from_numpy(np.array([vectors[word] for word in words[:BASELINE] if word in vectors]))

    def limit(self, word: str) -> float:
        if word not in self.limits:
            cosines = torch.cosine_similarity(self.first, torch.from_numpy(self.vectors[word])[None])
            self.limits[word] = float(cosines.mean() + DEVIATIONS * cosines.std(correction=0))
        return self.limits[word]

    def head(self, query: np.ndarray, key: np.ndarray, top_k: int) -> list[str]:
        """A text per dimension, "write=story|||write=letter", of the pairs by their cosine."""
        texts = []
        for dim in range(query.shape[1]):
            ranked = [[self.words[i] for i in np.argsort(-np.abs(side[:, dim]))] for side in (query, key)]
            top_q, top_k_words = ([word for word in side[:top_k] if word in self.vectors] for side in ranked)
            keys = torch.from_numpy(np.array([self.vectors[word] for word in top_k_words]))
            found = []
            for a in top_q:
                near = torch.cosine_similarity(keys, torch.from_numpy(self.vectors[a])[None]).numpy()
                for j in np.flatnonzero(near > max(self.limit(a), 0)):
                    b = top_k_words[j]
                    same_sign = query[self.place[a], dim] * key[self.place[b], dim] > 0
                    if a != b and near[j] > self.limit(b) and same_sign:
                        found.append((near[j], f"{a}={b}"))
            texts.append("|||".join(pair for _, pair in sorted(found, reverse=True)))
        return texts


class Case:
    """A model, words and vectors, with the words' model vectors at hand."""

    def __init__(self, model: Any, vocab: Vocabulary, vectors: WordVectors, top_k: int) -> None:
        self.weights, self.vocab, self.vectors, self.top_k = ModelWeights(model), vocab, vectors, top_k
        self.rows = WordRows(self.weights, known_tokens(self.weights, vocab), "input", per_word=8192)
        self.V = torch.cat([vectors for _, vectors in self.rows.blocks()])
        self.words = [vocab.words[i] for i in self.rows.words]
        places = vectors.rows(self.words)
        self.known = {w: vectors.vectors[i] for w, i in zip(self.words, places, strict=True) if i >= 0}

    def released(self, way: Released, layer: int, head: int) -> list[str]:
        attention, facts = self.weights.attention(layer), self.weights.facts
        key_head = head // (facts["heads"] // facts["key_value_heads"])
        query, key = (
            (self.V @ (attention.gain[:, None] * weight)).numpy()
            for weight in (attention.W_Q[head], attention.W_K[key_head])
        )
        return way.head(query, key, self.top_k)

    def related(self) -> Relatedness:
        return Relatedness(
            self.vocab, self.vectors, deviations=DEVIATIONS, baseline=BASELINE, device=torch.device("cpu")
        )

    def itlens(self, related: Relatedness, layer: int, head: int) -> Any:
        search = Search(self.weights.attention(layer), [head], self.weights.facts, k=self.top_k)
        search.read(self.rows, layer)
        return pair_table(layer, [head], search.pairs(related, self.rows, True), search.energies(), self.vocab.words)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    out = run()
    return time.perf_counter() - start, out


def per_dimension(table: Any, dims: int) -> Pairs:
    found: Pairs = [set() for _ in range(dims)]
    for dim, query, key in zip(table["dim"], table["query"], table["key"], strict=True):
        found[dim].add((query, key))
    return found


def parsed(texts: list[str]) -> Pairs:
    return [{tuple(pair.split("=")) for pair in text.split("|||") if pair} for text in texts]  # type: ignore[misc]


def one_head(case: Case, rounds: int) -> float:
    """Cold and warm, in turns; returns the released way's seconds for a further head."""
    times: dict[str, list[float]] = {
        name: [] for name in ("cold released", "cold itlens", "warm released", "warm itlens")
    }
    full, related, different = Released(case.words, case.known), case.related(), 0
    for word in case.known:
        full.limit(word)
    for turn in range(rounds):
        where = (turn * 7) % case.weights.facts["layers"], turn % case.weights.facts["heads"]
        ways: dict[str, Callable[[], Any]] = {
            "cold released": lambda where=where: case.released(Released(case.words, case.known), *where),
            "cold itlens": lambda where=where: case.itlens(case.related(), *where),
            "warm released": lambda where=where: case.released(full, *where),
            "warm itlens": lambda where=where: case.itlens(related, *where),
        }
        found = {}
        for name, run in ways.items():
            seconds, found[name] = timed(run)
            times[name].append(seconds)
        ours = per_dimension(found["warm itlens"], case.weights.facts["d_head"])
        different += sum(len(a ^ b) for a, b in zip(parsed(found["warm released"]), ours, strict=True))
        print(f"L{where[0]}H{where[1]}: {sum(map(len, ours))} pairs; in one way only, so far: {different}")
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    print(f"\n{'one head':<12}{'released':>12}{'itlens':>12}{'ratio':>9}   medians of {rounds}")
    for kind in ("cold", "warm"):
        theirs, ours = medians[f"{kind} released"], medians[f"{kind} itlens"]
        print(f"{kind:<12}{theirs * 1e3:>9.0f} ms{ours * 1e3:>9.1f} ms{theirs / ours:>8.1f}x")
    return medians["warm released"]


def all_heads(case: Case, model: Any, released: float) -> None:
    """Seconds for every head, memory, and how it scales."""
    facts = case.weights.facts

    def run(layers: int, words: int) -> int:
        vocab = Vocabulary(case.vocab.words[:words])
        return sum(
            len(p.pairs) for p in qk_layers(model, vocab, vectors=case.vectors, layers=range(layers), top_k=case.top_k)
        )

    layers, words = facts["layers"], len(case.vocab)
    run(1, words)
    before = status("VmRSS:")
    reset_peak()
    seconds, count = timed(lambda: run(layers, words))
    peak = status("VmHWM:")
    heads = layers * facts["heads"]
    print(f"\nall {heads} heads, {words} words: {seconds:.1f} s ({seconds / heads * 1e3:.1f} ms a head), {count} pairs")
    print(f"a head of all of them against the released way's further head: {released * heads / seconds:.1f}x")
    print(f"memory: peak {peak / 1e9:.2f} GB, {(peak - before) / 1e9:.2f} GB above the process with its model")
    for name, part in (("half of the layers", (layers // 2, words)), ("half of the words", (layers, words // 2))):
        print(f"{name}: {timed(lambda part=part: run(*part))[0] / seconds:.2f} of the time")
    found = qk_layers(model, case.vocab, vectors=case.vectors, layers=range(min(4, layers)), top_k=case.top_k)
    next(found)  # the words are looked up for the first layer
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        wall, _ = timed(lambda: list(found))
    products = sum(e.self_cpu_time_total for e in profile.key_averages() if e.key in ("aten::mm", "aten::bmm"))
    print(f"matrix products: {products / 1e6 / wall:.0%} of the time of a layer")


class SevenB:
    """LLaMA-7B's shape as a stream of random layers: an `itlens.weights.Weights` without a model."""

    def __init__(self) -> None:
        self.facts = {"layers": 32, "heads": 32, "key_value_heads": 32, "d_model": 4096, "d_head": 128}
        self.facts["vocabulary"] = 49_152
        self.attrs, self.tokenizer = {"model": "7B shape", "dtype": "float16"}, word_tokenizer()
        self._embedding = torch.randn(49_152, 4096, dtype=torch.float16)

    def attention(self, layer: int) -> AttentionWeights:
        W = torch.randn(4, 32, 4096, 128, dtype=torch.float16)
        one = torch.ones(4096, dtype=torch.float16)
        return AttentionWeights(W[0], W[1], W[2], W[3].transpose(1, 2), one, one)

    def mlp(self, layer: int) -> MlpWeights:
        raise NotImplementedError("word pairs need no feed-forward layer")

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self._embedding[ids]

    def unembed(self, ids: torch.Tensor) -> torch.Tensor:
        return self._embedding[ids]

    def final_gain(self) -> torch.Tensor:
        return torch.ones(4096, dtype=torch.float16)


def seven_b(layers: int, words: int, top_k: int) -> None:
    """Seconds and memory for some layers of a 7B model."""
    weights, vocab = SevenB(), Vocabulary([f"w{number}" for number in range(2, words + 2)])
    reset_peak()
    before = status("VmRSS:")
    start, lapse, pairs = time.perf_counter(), [], 0
    found = qk_layers(weights, vocab, vectors=vectors_for(vocab.words), layers=range(layers), top_k=top_k)
    for part in found:
        lapse.append(time.perf_counter() - start)
        pairs, start = pairs + len(part.pairs), time.perf_counter()
    later = statistics.median(lapse[1:] or lapse)
    print(f"\n7B shape, {words} words: first layer {lapse[0]:.1f} s, a further one {later:.1f} s, {pairs} pairs")
    print(f"32 layers would take {(lapse[0] + 31 * later) / 60:.1f} minutes")
    print(f"memory above the embedding: {(status('VmHWM:') - before) / 1e9:.2f} GB")


def synthetic(words: int, layers: int) -> tuple[Any, Vocabulary, WordVectors]:
    """A random model and one-token words."""
    torch.manual_seed(0)
    model = itlens.load_model(LlamaForCausalLM(shape_135m(layers)).eval(), tokenizer=word_tokenizer(), check=False)
    names = [f"w{number}" for number in range(2, words + 2)]
    return model, Vocabulary(names), vectors_for(names)


def vectors_for(names: Sequence[str]) -> WordVectors:
    """The built-in vectors under other names; beyond their number, means of two of them."""
    own = WordVectors.load("builtin").vectors
    a, b = np.random.default_rng(0).integers(0, len(own), (2, max(0, len(names) - len(own))))
    return WordVectors(names, np.concatenate([own, (own[a] + own[b]) / 2])[: len(names)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", type=int, default=26_000)
    parser.add_argument("--top-k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--seven-b", type=int, default=0, metavar="N", help="also N layers of LLaMA-7B's shape")
    parser.add_argument("--model")
    parser.add_argument("--vocabulary", default="builtin")
    parser.add_argument("--vectors", default="builtin")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    if args.model:
        model = itlens.load_model(args.model, check=False)
        words = (word for word in Vocabulary.load(args.vocabulary) if not set(word) & set("=|"))
        vocab, vectors = Vocabulary(islice(words, args.words)), WordVectors.load(args.vectors)
    else:
        model, vocab, vectors = synthetic(args.words, args.layers)
    case = Case(model, vocab, vectors, args.top_k)
    print(f"{len(vocab)} words, top {args.top_k}, {args.threads} threads")
    all_heads(case, model, one_head(case, args.rounds))
    if args.seven_b:
        del case, model
        seven_b(args.seven_b, args.words, args.top_k)


if __name__ == "__main__":
    main()
