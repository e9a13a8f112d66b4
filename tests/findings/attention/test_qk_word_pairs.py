"""Word pairs of attention heads: against explicit loops on Hugging Face weights, ties, blocks, backends, bad input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import itlens
from itlens import Vocabulary, WordVectors
from itlens.errors import ItlensError, ProbeError
from itlens.findings.attention.probe import join_layers, qk_layers
from itlens.findings.attention.probe_search import Relatedness, Search
from itlens.weights import AttentionWeights, MlpWeights, ModelWeights, weights_of
from itlens.weights import words as word_rows
from itlens.weights.words import TopWords, largest
from tests.probes import word_reference as reference
from tests.probes.word_reference import WORDS
from tests.tiny import BACKENDS, tiny_hf_model, tiny_tokenizer

FOUR = ("llama", "gpt2", "gpt_neox", "gemma3")
UNKNOWN = WORDS[7]
SETTINGS: dict[str, Any] = {"top_k": 12, "deviations": 0.8, "baseline": 60}


@pytest.fixture(scope="module")
def vocab() -> Vocabulary:
    return Vocabulary(WORDS)


@pytest.fixture(scope="module")
def vectors() -> WordVectors:
    generator = np.random.default_rng(3)
    known = [word for word in WORDS if word != UNKNOWN]
    return WordVectors(known, generator.normal(size=(len(known), 6)).astype(np.float32))


def in_float64(architecture: str, tokenizer: Any, backend: Any = "hooked") -> Any:
    """Products of other sizes round otherwise: in float64 that never decides between two different words."""
    hf = tiny_hf_model(architecture, vocab=max(300, len(tokenizer)), dtype=torch.float64)
    return itlens.load_model(hf, tokenizer=tokenizer, backend=backend, dtype="float64")


def as_dict(vectors: WordVectors) -> dict[str, np.ndarray]:
    return {word: row.astype(np.float64) for word, row in zip(vectors.words, vectors.vectors, strict=True)}


def listed(table: pd.DataFrame, layer: int, head: int) -> dict[int, list[tuple[str, str, float]]]:
    own = table[(table["layer"] == layer) & (table["head"] == head)]
    found: dict[int, list[tuple[str, str, float]]] = {}
    for row in own.itertuples():
        found.setdefault(int(row.dim), []).append((str(row.query), str(row.key), float(row.relatedness)))
        assert row.rank == len(found[int(row.dim)]), "ranks count from 1 within a dimension"
    return found


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("architecture", FOUR)
def test_every_head_has_the_pairs_of_explicit_loops(
    architecture: str, signed: bool, vocab: Vocabulary, vectors: WordVectors
) -> None:
    tokenizer = tiny_tokenizer()
    hf, model = tiny_hf_model(architecture, dtype=torch.float64), in_float64(architecture, tokenizer)
    table = itlens.qk_word_pairs(model, vocab, vectors=vectors, signed=signed, **SETTINGS)
    inputs = reference.means(reference.embedding(hf), WORDS, tokenizer)
    known = as_dict(vectors)
    limits = reference.thresholds(WORDS, known, SETTINGS["deviations"], SETTINGS["baseline"])
    count = 0
    for layer in range(hf.config.num_hidden_layers):
        for head in range(4):
            maps = reference.head_of(hf, layer, head)
            query, key = [v @ maps.query for v in inputs], [v @ maps.key for v in inputs]
            expected = reference.pairs_of(query, key, WORDS, known, limits, top_k=12, signed=signed)
            got = listed(table, layer, head)
            for dim, pairs in expected.items():
                assert [p[:2] for p in got.get(dim, [])] == [p[:2] for p in pairs], (layer, head, dim)
                np.testing.assert_allclose(
                    [p[2] for p in got.get(dim, [])], [p[2] for p in pairs], atol=1e-6, err_msg=str((layer, head, dim))
                )
                count += len(pairs)
            energy = sum(np.square(q) + np.square(k) for q, k in zip(query, key, strict=True))
            shown = list(got)
            assert shown == sorted(shown, key=lambda dim: -energy[dim]), "dimensions go from high to low energy"
            own = itlens.qk_energy(model, vocab, layers=layer, heads=head)
            np.testing.assert_allclose(own["energy"], energy, rtol=1e-5)
            assert own.sort_values("order")["dim"].tolist() == np.argsort(-energy).tolist()
    assert count == len(table) > 500
    once = table.assign(pair=[frozenset(pair) for pair in zip(table["query"], table["key"], strict=True)])
    assert (once.groupby("pair")["relatedness"].nunique() == 1).all(), "(a, b) and (b, a) are equal, not nearly"
    assert UNKNOWN not in set(table["query"]) | set(table["key"]), "a word without a vector is never paired"
    assert table.attrs["unknown_to_vectors"] == 1 and table.attrs["unknown_to_tokenizer"] == 0


@pytest.mark.parametrize("architecture", FOUR)
def test_activations_are_those_of_the_words(architecture: str, vocab: Vocabulary, vectors: WordVectors) -> None:
    hf, tokenizer = tiny_hf_model(architecture), tiny_tokenizer()
    table = itlens.qk_word_pairs(itlens.load_model(hf, tokenizer=tokenizer), vocab, vectors=vectors, **SETTINGS)
    inputs = dict(zip(WORDS, reference.means(reference.embedding(hf), WORDS, tokenizer), strict=True))
    for row in table.iloc[:: max(1, len(table) // 60)].itertuples():
        maps = reference.head_of(hf, int(row.layer), int(row.head))
        assert row.query_activation == pytest.approx((inputs[row.query] @ maps.query)[row.dim], rel=1e-4, abs=1e-5)
        assert row.key_activation == pytest.approx((inputs[row.key] @ maps.key)[row.dim], rel=1e-4, abs=1e-5)
        assert row.query_activation * row.key_activation > 0


@pytest.mark.parametrize("architecture", [*FOUR, "gemma", "gemma2", "qwen3", "opt"])
def test_both_backends_find_the_same(architecture: str, vocab: Vocabulary, vectors: WordVectors) -> None:
    tokenizer = tiny_tokenizer()
    tables = [
        itlens.qk_word_pairs(in_float64(architecture, tokenizer, backend), vocab, vectors=vectors, **SETTINGS)
        for backend in BACKENDS
    ]
    exact = ["layer", "head", "dim", "rank", "query", "key"]
    pd.testing.assert_frame_equal(tables[0][exact], tables[1][exact])
    pd.testing.assert_frame_equal(tables[0].drop(columns=exact), tables[1].drop(columns=exact), rtol=1e-4)
    assert tables[1].attrs["backend"] == "bridge"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_half_precision_weights_are_multiplied_in_float32(
    architecture: str, dtype: str, vocab: Vocabulary, vectors: WordVectors
) -> None:
    """Loops in float64 over the rounded weights give the same pairs: no product is rounded to half."""
    hf, tokenizer = tiny_hf_model(architecture).to(getattr(torch, dtype)), tiny_tokenizer()
    model = itlens.load_model(hf, tokenizer=tokenizer, dtype=dtype, check=False)
    table = itlens.qk_word_pairs(model, vocab, vectors=vectors, **SETTINGS)
    inputs = reference.means(reference.embedding(hf), WORDS, tokenizer)
    known = as_dict(vectors)
    limits = reference.thresholds(WORDS, known, SETTINGS["deviations"], SETTINGS["baseline"])
    for head in range(4):
        maps = reference.head_of(hf, 1, head)
        query, key = [v @ maps.query for v in inputs], [v @ maps.key for v in inputs]
        expected = reference.pairs_of(query, key, WORDS, known, limits, top_k=12)
        got = listed(table, 1, head)
        assert {dim: [p[:2] for p in pairs] for dim, pairs in got.items()} == {
            dim: [p[:2] for p in pairs] for dim, pairs in expected.items() if pairs
        }


def test_float64_models_are_computed_in_float64(vocab: Vocabulary) -> None:
    model = itlens.load_model(tiny_hf_model("llama", dtype=torch.float64), tokenizer=tiny_tokenizer(), dtype="float64")
    assert itlens.mean_vectors(model, vocab).dtype == torch.float64
    half = itlens.load_model(tiny_hf_model("llama"), tokenizer=tiny_tokenizer(), dtype="bfloat16")
    assert itlens.mean_vectors(half, vocab).dtype == torch.float32


def test_mean_vectors_of_both_sides(vocab: Vocabulary) -> None:
    hf, tokenizer = tiny_hf_model("gpt2"), tiny_tokenizer()
    model = itlens.load_model(hf, tokenizer=tokenizer)
    for side, matrix in (
        ("input", hf.get_input_embeddings().weight),
        ("output", hf.get_output_embeddings().weight),
    ):
        got = itlens.mean_vectors(model, vocab, embedding=side)
        expected = reference.means(matrix.detach().double().numpy(), WORDS, tokenizer)
        np.testing.assert_allclose(got.numpy(), np.array(expected), atol=1e-6)
    with pytest.raises(ProbeError, match="embedding='left'; expected one of input, output"):
        itlens.mean_vectors(model, vocab, side="left")


@pytest.mark.parametrize("kind", ["bytes", "metaspace"])
def test_blocks_of_words_change_nothing(
    kind: str, vocab: Vocabulary, vectors: WordVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny_tokenizer(kind)
    model = in_float64("llama", tokenizer)
    whole = itlens.qk_word_pairs(model, vocab, vectors=vectors, **SETTINGS)
    monkeypatch.setattr(word_rows, "_LARGEST", 7)
    for free in (1 << 40, 0):  # all words kept between layers; nothing kept, the smallest blocks
        monkeypatch.setattr(word_rows, "free_bytes", lambda device, free=free: free)
        blocks = itlens.qk_word_pairs(model, vocab, vectors=vectors, **SETTINGS)
        exact = ["layer", "head", "dim", "rank", "query", "key"]
        pd.testing.assert_frame_equal(whole[exact], blocks[exact])


def test_what_is_held_does_not_grow_with_the_vocabulary(vocab: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = ModelWeights(itlens.load_model(tiny_hf_model("llama"), tokenizer=tiny_tokenizer()))
    tokens = vocab.token_ids(weights.tokenizer)
    monkeypatch.setattr(word_rows, "free_bytes", lambda device: 100_000)
    rows = word_rows.WordRows(weights, tokens, "input", per_word=0)
    sizes = [vectors.shape[0] for _, vectors in rows.blocks()]
    assert max(sizes) == 64 and sum(sizes) == 150, "blocks of the smallest size"
    assert [len(vectors) for vectors in rows._kept or []] == sizes, "19 kB fit into a quarter of 100 kB: kept"
    monkeypatch.setattr(word_rows, "free_bytes", lambda device: 10_000)
    assert word_rows.WordRows(weights, tokens, "input", per_word=0)._kept is None


class TestTies:
    def test_of_equal_values_the_first_words_are_taken(self) -> None:
        sizes = torch.tensor([[1.0, 3.0, 2.0, 2.0, 2.0, 0.0], [5.0, 5.0, 5.0, 5.0, 5.0, 5.0]])
        assert largest(sizes, 3).tolist() == [[1, 2, 3], [0, 1, 2]]
        assert largest(sizes, 6).tolist() == largest(sizes, 9).tolist() == [[0, 1, 2, 3, 4, 5]] * 2

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 20])
    @pytest.mark.parametrize("absolute", [True, False])
    def test_blocks_agree_with_a_stable_sort(self, size: int, absolute: bool) -> None:
        values = torch.randint(-3, 4, (8, 40), generator=torch.Generator().manual_seed(1)).float()
        top = TopWords(6, absolute=absolute)
        for start in range(0, 40, size):
            top.add(values[:, start : start + size], start)
            assert sum(part.shape[1] for part in top._words) <= 4 * 6, "candidates are merged on the way"
        words, found = top.best()
        sizes = values.abs() if absolute else values
        expected = np.sort(np.argsort(-sizes.numpy(), axis=1, kind="stable")[:, :6], axis=1)
        assert words.numpy().tolist() == expected.tolist()
        assert found.tolist() == np.take_along_axis(values.numpy(), expected, 1).tolist()

    def test_equal_words_and_equal_cosines_come_in_the_order_of_the_vocabulary(self) -> None:
        """Integer weights: every activation and cosine is exact, and most are equal."""
        hf, tokenizer = tiny_hf_model("llama"), tiny_tokenizer()
        with torch.no_grad():
            for parameter in hf.parameters():
                parameter.copy_(parameter.sign() if parameter.dim() > 1 else torch.ones_like(parameter))
        single = list(Vocabulary.of_tokenizer(tokenizer).words)[:60]
        corners = np.array([[(i >> bit & 1) * 2 - 1 for bit in range(4)] for i in range(16)], dtype=np.float32)
        vectors = WordVectors(single, corners[np.arange(len(single)) % 16])
        table = itlens.qk_word_pairs(
            itlens.load_model(hf, tokenizer=tokenizer), Vocabulary(single), vectors=vectors, top_k=9, deviations=0.5
        )
        inputs = reference.means(reference.embedding(hf), single, tokenizer)
        known = as_dict(vectors)
        limits = reference.thresholds(single, known, 0.5, 3000)
        for head in range(4):
            maps = reference.head_of(hf, 1, head)
            query, key = [v @ maps.query for v in inputs], [v @ maps.key for v in inputs]
            expected = reference.pairs_of(query, key, single, known, limits, top_k=9)
            got = listed(table, 1, head)
            assert {d: [p[:2] for p in pairs] for d, pairs in expected.items() if pairs} == {
                d: [p[:2] for p in pairs] for d, pairs in got.items()
            }


class TestRelatedness:
    def test_thresholds_are_mean_and_population_std(self, vocab: Vocabulary, vectors: WordVectors) -> None:
        related = Relatedness(vocab, vectors, deviations=1.96, baseline=60, device=torch.device("cpu"))
        expected = reference.thresholds(WORDS, as_dict(vectors), 1.96, 60)
        got = dict(zip(WORDS, related.thresholds.tolist(), strict=True))
        assert got.pop(UNKNOWN) == np.inf
        assert got == pytest.approx({word: max(0.0, limit) for word, limit in expected.items()}, abs=1e-12)

    def test_a_planted_pair_at_the_threshold_stays_out_and_just_above_is_in(self) -> None:
        """Baseline e1, e2: a word at angle t has cosines cos t, sin t; with deviations 0 the limit is their mean."""
        e1, e2 = [1.0, 0.0], [0.0, 1.0]
        # "a" at 45 degrees: limit sqrt(1/2). "on" has exactly that cosine with it, "above" a little more.
        words = ["e1", "e2", "a", "above", "below"]
        angles = np.deg2rad([45.0, 0.2, -0.2])
        rows = np.array([e1, e2, *([np.cos(t), np.sin(t)] for t in angles)], dtype=np.float64)
        vectors = WordVectors(words, rows.astype(np.float32))
        related = Relatedness(Vocabulary(words), vectors, deviations=0.0, baseline=2, device=torch.device("cpu"))
        assert related.thresholds[:3] == pytest.approx([0.5, 0.5, np.sqrt(0.5)], abs=1e-7)
        found = related.pairs(torch.tensor([[2] * 5]), torch.tensor([[0, 1, 2, 3, 4]]))
        assert set(found.key.tolist()) == {3} and set(found.key_place.tolist()) == {3}, (
            "e1 and e2 stand exactly at the limit, below under it, a is the word itself"
        )

    def test_words_without_direction_are_related_to_none(self) -> None:
        vectors = WordVectors(["a", "b", "zero"], np.array([[1, 0], [1, 0.1], [0, 0]], dtype=np.float32))
        words = Vocabulary(["a", "b", "zero", "unknown"])
        related = Relatedness(words, vectors, deviations=-10.0, baseline=10, device=torch.device("cpu"))
        every = torch.arange(4)[None]
        found = related.pairs(every, every)
        assert set(zip(found.query.tolist(), found.key.tolist(), strict=True)) == {(0, 1), (1, 0)}
        assert related.known.tolist() == [True, True, False, False]


def test_layers_and_heads_are_a_part_of_the_whole(vocab: Vocabulary, vectors: WordVectors) -> None:
    model = in_float64("llama", tiny_tokenizer())
    whole = itlens.qk_word_pairs(model, vocab, vectors=vectors, **SETTINGS)
    part = itlens.qk_word_pairs(model, vocab, vectors=vectors, layers=[1], heads=(3, 1), **SETTINGS)
    expected = whole[(whole["layer"] == 1) & whole["head"].isin([1, 3])].reset_index(drop=True)
    exact = ["layer", "head", "dim", "rank", "query", "key"]
    pd.testing.assert_frame_equal(part[exact], expected[exact])
    assert part.attrs["layers"] == [1] and part.attrs["heads"] == [1, 3]
    assert whole.attrs["layers"] == [0, 1] and whole.attrs["heads"] == [0, 1, 2, 3]
    streamed = list(qk_layers(model, vocab, vectors=vectors, **SETTINGS))
    assert [part.layer for part in streamed] == [0, 1] == [part.pairs.attrs["layers"][0] for part in streamed]
    pairs, energy = join_layers(streamed[::-1])
    pd.testing.assert_frame_equal(pairs, whole)
    assert pairs.attrs == whole.attrs
    pd.testing.assert_frame_equal(energy, itlens.qk_energy(model, vocab), rtol=1e-6)


def test_the_table_says_where_it_comes_from(vocab: Vocabulary, vectors: WordVectors) -> None:
    model = itlens.load_model(tiny_hf_model("llama"), tokenizer=tiny_tokenizer())
    table = itlens.qk_word_pairs(model, vocab, vectors=vectors, **SETTINGS)
    expected = {"probe": "qk_word_pairs", "n_layers": 2, "n_heads": 4, "n_key_value_heads": 2, "d_head": 12}
    expected |= {"vocabulary": vocab.fingerprint, "vectors": vectors.fingerprint, "vocabulary_size": 150, "top_k": 12}
    expected |= {"deviations": 0.8, "baseline": 60, "signed": 1, "architecture": "LlamaForCausalLM"}
    assert {name: table.attrs[name] for name in expected} == expected
    assert list(table["query"].cat.categories) == WORDS == list(table["key"].cat.categories)
    kinds = {"layer": "int16", "head": "int16", "dim": "int16", "rank": "int32", "relatedness": "float32"}
    assert {name: str(table[name].dtype) for name in kinds} == kinds


def test_a_table_comes_back_from_a_file_as_it_was(vocab: Vocabulary, vectors: WordVectors, tmp_path: Path) -> None:
    model = itlens.load_model(tiny_hf_model("llama"), tokenizer=tiny_tokenizer())
    table = itlens.qk_word_pairs(model, vocab, vectors=vectors, **SETTINGS)
    back = itlens.load(itlens.save(table, tmp_path / "pairs.parquet"))
    pd.testing.assert_frame_equal(back, table)
    assert back.attrs == table.attrs and {"=", "|"} <= set("".join(back["query"]))


class Streamed:
    """Weights that hold no model: what a checkpoint on disk would give, a layer at a time."""

    def __init__(self, model: Any) -> None:
        own = ModelWeights(model)
        self.facts, self.attrs, self.tokenizer = own.facts, own.attrs, own.tokenizer
        self.read: list[int] = []
        self._own = own

    def attention(self, layer: int) -> AttentionWeights:
        self.read.append(layer)
        return self._own.attention(layer)

    def mlp(self, layer: int) -> MlpWeights:
        raise AssertionError("QK needs no feed-forward layer")

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self._own.embed(ids)

    def unembed(self, ids: torch.Tensor) -> torch.Tensor:
        raise AssertionError("QK needs no output side")

    def final_gain(self) -> torch.Tensor:
        raise AssertionError("QK needs no output side")


def test_weights_are_asked_for_a_layer_at_a_time(vocab: Vocabulary, vectors: WordVectors) -> None:
    model = itlens.load_model(tiny_hf_model("llama"), tokenizer=tiny_tokenizer())
    weights = Streamed(model)
    found = qk_layers(weights, vocab, vectors=vectors, **SETTINGS)
    assert weights.read == []
    next(found)
    assert weights.read == [0], "the second layer is not read before it is asked for"
    pd.testing.assert_frame_equal(
        itlens.qk_word_pairs(weights, vocab, vectors=vectors, **SETTINGS),
        itlens.qk_word_pairs(model, vocab, vectors=vectors, **SETTINGS),
    )
    with pytest.raises(
        ItlensError, match=r"weights_of got 'gpt2' as the model; expected .* itlens.load_model\('gpt2'\)"
    ):
        weights_of("gpt2")


def test_no_stacked_weights_are_made(vocab: Vocabulary, vectors: WordVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformer_lens import HookedTransformer

    def stacked(self: Any) -> None:
        raise AssertionError("model.W_Q copies every layer")

    model = itlens.load_model(tiny_hf_model("llama"), tokenizer=tiny_tokenizer())
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        monkeypatch.setattr(HookedTransformer, name, property(stacked))
    assert len(itlens.qk_word_pairs(model, vocab, vectors=vectors, **SETTINGS))


class TestBadInput:
    @pytest.fixture()
    def model(self) -> Any:
        return itlens.load_model(tiny_hf_model("llama"), tokenizer=tiny_tokenizer())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"layers": 2}, r"layer 2 is not there; the model has layers 0 to 1\."),
            ({"layers": [0, -1]}, r"layer -1 is not there; the model has layers 0 to 1\."),
            ({"heads": [4]}, r"head 4 is not there; the model has heads 0 to 3\."),
            ({"heads": [True]}, r"head True is not there"),
            ({"layers": []}, r"layers is empty; expected numbers from 0 to 1, or None for all\."),
            ({"top_k": 0}, r"top_k=0; expected a whole number of at least 1\."),
            ({"baseline": -1}, r"baseline=-1; expected a whole number of at least 1\."),
            ({"deviations": float("nan")}, r"deviations=nan; expected a number"),
        ],
    )
    def test_options(
        self, model: Any, vocab: Vocabulary, vectors: WordVectors, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ProbeError, match=message):
            itlens.qk_word_pairs(model, vocab, vectors=vectors, **options)

    def test_words_that_nobody_knows(self, model: Any, vocab: Vocabulary, vectors: WordVectors) -> None:
        other = WordVectors(["Haus", "Hund"], np.eye(2, dtype=np.float32))
        with pytest.raises(ProbeError, match=r"vectors know none of the 150 words .*theirs is 'Haus'"):
            itlens.qk_word_pairs(model, vocab, vectors=other)
        late = WordVectors([WORDS[100], WORDS[101]], np.eye(2, dtype=np.float32))
        with pytest.raises(ProbeError, match=r"None of the first 50 words .* larger baseline="):
            itlens.qk_word_pairs(model, vocab, vectors=late, baseline=50)

    def test_a_tokenizer_that_knows_no_word(self, vectors: WordVectors) -> None:
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        words = Tokenizer(models.WordLevel({"<unk>": 0, "x": 1}, unk_token="<unk>"))
        words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        own = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
        model = itlens.load_model(tiny_hf_model("llama"), tokenizer=own)
        with pytest.raises(ProbeError, match=r"The tokenizer knows none of the 2 words"):
            itlens.qk_word_pairs(model, Vocabulary(["house", "dog"]), vectors=vectors)
        some = Vocabulary(["house", "x", WORDS[0]])
        with pytest.raises(ProbeError, match="No word of the vocabulary is known to both"):
            itlens.qk_word_pairs(model, some, vectors=WordVectors(["house"], np.ones((1, 2), dtype=np.float32)))

    def test_no_tokenizer(self, vocab: Vocabulary, vectors: WordVectors) -> None:
        bare = itlens.load_model(tiny_hf_model("llama"), tokenizer=False, check=False)
        with pytest.raises(ProbeError, match="The model has no tokenizer, and words need one"):
            itlens.qk_word_pairs(bare, vocab, vectors=vectors)

    def test_things_of_another_kind(self) -> None:
        """In a process of its own: here the tests' type checker would speak first."""
        script = """
import itlens
from itlens.selection import chosen, finite, refuse_kind, whole_number
for call in (
    lambda: refuse_kind("vocab", ["a"], itlens.Vocabulary),
    lambda: refuse_kind("vectors", {"a": [1.0]}, itlens.WordVectors),
    lambda: whole_number("top_k", 1.5, 1),
    lambda: finite("deviations", "2", "of standard deviations"),
    lambda: chosen("head", "0", 4),
):
    try:
        call()
    except itlens.ItlensError as error:
        print(error)
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == [
            "vocab is a list; expected an itlens.Vocabulary.",
            "vectors is a dict; expected an itlens.WordVectors.",
            "top_k=1.5; expected a whole number of at least 1.",
            "deviations='2'; expected a number (of standard deviations).",
            "head '0' is not there; the model has heads 0 to 3.",
        ]

    def test_weights_that_are_not_finite(self, vocab: Vocabulary, vectors: WordVectors) -> None:
        model = itlens.load_model(tiny_hf_model("llama"), tokenizer=tiny_tokenizer())
        model.blocks[1].attn.W_Q.data[2, 3, 4] = float("nan")
        with pytest.raises(ProbeError, match="activations of layer 1 are not finite"):
            itlens.qk_word_pairs(model, vocab, vectors=vectors)
        with pytest.raises(ProbeError, match="activations of layer 1 are not finite"):
            itlens.qk_energy(model, vocab)


def test_the_search_takes_the_key_head_of_the_group() -> None:
    """Six query heads on two key heads: heads 0-2 read the first, 3-5 the second; only the keys differ."""
    weights = torch.randn(1, 4, 2).expand(6, 4, 2)
    keys = torch.stack([torch.zeros(4, 2), torch.ones(4, 2)])
    attention = AttentionWeights(weights, keys, keys, weights.transpose(1, 2), torch.ones(4), torch.ones(4))
    energies = {}
    for heads in ([0, 1, 2, 3, 4, 5], [2, 3]):
        search = Search(attention, heads, {"heads": 6, "key_value_heads": 2}, k=1)
        search.read_block(torch.eye(4), 0)
        energies[len(heads)] = search.energies()
    assert torch.allclose(energies[6][:3], energies[6][:1]) and torch.allclose(energies[6][3:], energies[6][:1] + 4)
    assert torch.equal(energies[2], energies[6][[2, 3]])
