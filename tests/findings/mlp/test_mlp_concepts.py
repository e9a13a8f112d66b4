"""Concepts of feed-forward layers: against a float64 SVD of Hugging Face weights, by hand, ties, blocks, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import itlens
from itlens import Vocabulary
from itlens.errors import ModelError, ProbeError
from itlens.findings.mlp import probe_floor as noise_floor
from itlens.findings.mlp.probe import mlp_layers
from itlens.findings.mlp.vectors import VECTORS, component_count, join_mlp_layers
from itlens.weights import AttentionWeights, MlpWeights, ModelWeights
from itlens.weights import words as word_rows
from tests.probes import word_reference as reference
from tests.probes.word_reference import WORDS
from tests.tiny import BACKENDS, tiny_hf_model, tiny_tokenizer


@pytest.fixture(scope="module")
def vocab() -> Vocabulary:
    return Vocabulary(WORDS)


def array(tensor: Any) -> np.ndarray:
    return tensor.detach().double().numpy()


def neurons_of(hf: Any, layer: int, kind: str) -> np.ndarray:
    """Vectors of neurons with the gains folded in, (d_mlp, d_model), as Hugging Face spells each architecture."""
    family = hf.config.model_type
    if family == "gpt2":
        block = hf.transformer.h[layer]
        gain = array(block.ln_2.weight)
        return {"value": array(block.mlp.c_proj.weight), "key": array(block.mlp.c_fc.weight).T * gain}[kind]
    if family == "gpt_neox":
        block = hf.gpt_neox.layers[layer]
        gain = array(block.post_attention_layernorm.weight)
        key, value = array(block.mlp.dense_h_to_4h.weight) * gain, array(block.mlp.dense_4h_to_h.weight).T
        return {"value": value, "key": key}[kind]
    block, gemma3, gemma = hf.model.layers[layer], family.startswith("gemma3"), family.startswith("gemma")
    norm = block.pre_feedforward_layernorm if gemma3 else block.post_attention_layernorm
    gain = array(norm.weight) + gemma  # Gemma stores gains less one
    after = array(block.post_feedforward_layernorm.weight) + 1 if gemma3 else 1.0
    rows = {"key": array(block.mlp.up_proj.weight) * gain, "gate": array(block.mlp.gate_proj.weight) * gain}
    return {**rows, "value": array(block.mlp.down_proj.weight).T * after}[kind]


def concepts_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions and shares of variance, by a float64 SVD."""
    _, sizes, directions = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    return directions, np.square(sizes) / np.square(sizes).sum()


def words_of(direction: np.ndarray, vectors: list[np.ndarray], k: int) -> list[tuple[str, float]]:
    scores = [float(direction @ v / np.sqrt(v @ v)) for v in vectors]
    order = sorted(range(len(scores)), key=lambda i: (-abs(scores[i]), i))[:k]
    return [(WORDS[i], scores[i]) for i in order]


def word_vectors(hf: Any, tokenizer: Any, kind: str) -> list[np.ndarray]:
    matrix = array(hf.get_output_embeddings().weight) if kind == "value" else reference.embedding(hf)
    return reference.means(matrix, WORDS, tokenizer)


def in_float64(architecture: str, backend: Any = "hooked") -> Any:
    """Products of other sizes round otherwise: in float64 that never decides between two different words."""
    hf = tiny_hf_model(architecture, dtype=torch.float64)
    return itlens.load_model(hf, tokenizer=tiny_tokenizer(), backend=backend, dtype="float64")


def assert_same(one: xr.Dataset, other: xr.Dataset) -> None:
    """Words exactly, numbers up to what rounds otherwise in another run of the same routine."""
    assert (one["word"] == other["word"]).all() and one["word"].size == other["word"].size
    xr.testing.assert_allclose(one.drop_vars("word"), other.drop_vars("word"), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "gemma", "gemma3"])
def test_every_concept_is_that_of_a_float64_svd(architecture: str, backend: str, vocab: Vocabulary) -> None:
    hf, tokenizer = tiny_hf_model(architecture, dtype=torch.float64), tiny_tokenizer()
    model = in_float64(architecture, backend)
    for kind in VECTORS[: 3 if architecture not in ("gpt2", "gpt_neox") else 2]:
        ds = itlens.mlp_concepts(model, vocab, vectors=kind, top_k=9)
        vectors = word_vectors(hf, tokenizer, kind)
        assert dict(ds.sizes) == {
            "layer": hf.config.num_hidden_layers, "component": 32, "rank": 9, "d_model": 32,
        }  # fmt: skip
        for layer in ds["layer"].values.tolist():
            rows = neurons_of(hf, layer, kind)
            directions, explained = concepts_of(rows)
            own = ds.sel(layer=layer)
            np.testing.assert_allclose(own["explained"], explained, rtol=1e-6)
            assert float(own["total_variance"]) == pytest.approx(np.square(rows - rows.mean(0)).sum(), rel=1e-6)
            assert int(own["rows"]) == 56
            for got, expected, words, scores in zip(
                own["direction"].values, directions, own["word"].values, own["score"].values, strict=True
            ):
                assert got[np.abs(got).argmax()] > 0
                angle = 2 * np.arcsin(min(1, np.linalg.norm(got - expected * np.sign(got @ expected)) / 2))
                assert angle < 1e-4
                named = words_of(expected, vectors, 9)
                assert [word for word, _ in named] == words.tolist()
                np.testing.assert_allclose([abs(score) for _, score in named], scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "opt", "gemma", "gemma2", "gemma3", "qwen3"])
def test_both_backends_read_the_same_layer(architecture: str) -> None:
    read = [
        ModelWeights(itlens.load_model(tiny_hf_model(architecture), tokenizer=tiny_tokenizer(), backend=backend)).mlp(1)
        for backend in BACKENDS
    ]
    for name in ("W_in", "W_gate", "W_out", "gain", "out_gain"):
        one, other = (getattr(mlp, name) for mlp in read)
        assert (one is None) == (other is None), name
        if one is not None:
            torch.testing.assert_close(one, other, msg=name)


class Made:
    """Weights by hand: d_model 4, one-hot words of a tokenizer that writes one token each."""

    def __init__(self, W_out: np.ndarray, words: np.ndarray, **other: Any) -> None:
        self.tokenizer = tiny_tokenizer()
        self.names = list(Vocabulary.of_tokenizer(self.tokenizer).words)[: len(words)]
        self.facts = {"layers": 1, "d_model": W_out.shape[1], "vocabulary": 600}
        self.attrs = {"model": "made"}
        self._table = torch.zeros(600, W_out.shape[1], dtype=torch.float64)
        for name, row in zip(self.names, words, strict=True):
            self._table[self.tokenizer(" " + name, add_special_tokens=False)["input_ids"][0]] = torch.tensor(row)
        self._W_out = torch.tensor(W_out, dtype=torch.float64)
        self._other = other

    def attention(self, layer: int) -> AttentionWeights:
        raise AssertionError("no attention is needed")

    def mlp(self, layer: int) -> MlpWeights:
        one = torch.ones(self._W_out.shape[1], dtype=torch.float64)
        W_in = self._W_out.T
        return MlpWeights(
            **({"W_in": W_in, "W_gate": None, "W_out": self._W_out, "gain": one, "out_gain": one} | self._other)
        )

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self._table[ids]

    def unembed(self, ids: torch.Tensor) -> torch.Tensor:
        return self._table[ids]

    def final_gain(self) -> torch.Tensor:
        raise AssertionError("the final norm is not folded in")


EYE = np.eye(4)
# Neurons at 5 +- 3 on axis 2, +- 2 on axis 0, +- 1 on axis 3: sums of squares 18, 8, 2 of 28; the mean goes away
BY_HAND = np.array([[0, 0, 3, 0], [0, 0, -3, 0], [2, 0, 0, 0], [-2, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, -1]]) + 5.0


class TestByHand:
    def test_concepts_shares_and_words(self) -> None:
        # words: axis 0, minus axis 1, three times axis 2, axes 2 and 3 in equal parts
        made = Made(BY_HAND, np.array([EYE[0], -EYE[1], 3 * EYE[2], EYE[2] + EYE[3]]))
        a, b, c, d = made.names
        ds = itlens.mlp_concepts(made, Vocabulary(made.names), components=3, top_k=2)
        np.testing.assert_allclose(ds["direction"][0], EYE[[2, 0, 3]], atol=1e-7)
        np.testing.assert_allclose(ds["explained"][0], np.array([18, 8, 2]) / 28, rtol=1e-12)
        assert float(ds["total_variance"][0]) == pytest.approx(28) and int(ds["rows"][0]) == 6
        assert ds["word"][0].values.tolist() == [[c, d], [a, b], [d, a]]
        np.testing.assert_allclose(ds["score"][0], [[1, 0.5**0.5], [1, 0], [0.5**0.5, 0]], atol=1e-7)

    def test_poles_of_a_component(self) -> None:
        made = Made(BY_HAND, np.array([EYE[2] + EYE[0], -EYE[2], EYE[1], -2 * EYE[2] + EYE[1]]))
        a, b, c, d = made.names
        ds = itlens.mlp_concepts(made, Vocabulary(made.names), components=1, top_k=2, signed=True)
        assert ds["word"].dims == ("layer", "component", "pole", "rank") and ds["pole"].values.tolist() == ["+", "-"]
        assert ds["word"][0, 0].values.tolist() == [[a, c], [b, d]]
        np.testing.assert_allclose(ds["score"][0, 0], [[0.5**0.5, 0], [1, 2 / 5**0.5]], atol=1e-7)

    def test_equal_scores_come_in_the_order_of_the_vocabulary(self) -> None:
        made = Made(BY_HAND, np.array([EYE[0], EYE[2], -EYE[2], 5 * EYE[2], EYE[0], EYE[2]]))
        for names in (made.names, made.names[::-1]):
            ds = itlens.mlp_concepts(made, Vocabulary(names), components=1, top_k=3)
            equal = [made.names[i] for i in (1, 2, 3, 5)]
            assert ds["word"][0, 0].values.tolist() == [name for name in names if name in equal][:3]
            assert ds["score"][0, 0].values.tolist() == [1, 1, 1]

    def test_words_without_direction_are_never_concept_words(self) -> None:
        made = Made(BY_HAND, np.array([0 * EYE[0], EYE[0], 0 * EYE[0], EYE[1]]))
        ds = itlens.mlp_concepts(made, Vocabulary(made.names), components=2, top_k=4)
        assert ds.sizes["rank"] == 2, "no more words than there are"
        assert set(ds["word"].values.ravel()) == {made.names[1], made.names[3]}
        assert ds.attrs["without_direction"] == 2
        empty = Made(BY_HAND, np.zeros((3, 4)))
        with pytest.raises(ProbeError, match="All 3 words that the tokenizer knows have output vectors of zero length"):
            itlens.mlp_concepts(empty, Vocabulary(empty.names), components=2)

    def test_gains_are_folded_on_both_sides(self) -> None:
        # a gain of 10 on axis 0 lifts it over axis 2, a gain of 0 takes axis 2 away
        gain = torch.tensor([10.0, 1, 1, 1], dtype=torch.float64)
        words = EYE[:3]
        key = itlens.mlp_concepts(made := Made(BY_HAND, words, gain=gain), Vocabulary(made.names), vectors="key")
        np.testing.assert_allclose(key["explained"][0, :3], np.array([800, 18, 2]) / 820, rtol=1e-12)
        value = itlens.mlp_concepts(
            made := Made(BY_HAND, words, out_gain=torch.tensor([1.0, 1, 0, 1], dtype=torch.float64)),
            Vocabulary(made.names),
        )
        np.testing.assert_allclose(value["explained"][0, :2], [0.8, 0.2], rtol=1e-12)
        assert key["word"][0, 0, 0] == value["word"][0, 0, 0] == made.names[0]

    def test_signs_and_order_of_neurons_change_nothing(self) -> None:
        generator = np.random.default_rng(0)
        rows, words = generator.normal(size=(40, 6)), generator.normal(size=(8, 6))
        base = itlens.mlp_concepts(made := Made(rows, words), Vocabulary(made.names), top_k=4)
        for changed in (-rows, rows[generator.permutation(40)]):
            xr.testing.assert_allclose(base, itlens.mlp_concepts(Made(changed, words), Vocabulary(made.names), top_k=4))

    def test_a_single_neuron(self) -> None:
        made = Made(BY_HAND, np.array([EYE[2], EYE[0] - EYE[2], -2 * EYE[1], 0 * EYE[1]]))
        a, b, c, _ = made.names
        table = itlens.neuron_words(made, Vocabulary(made.names), 0, [0, 2], top_k=2)
        # neuron 0 is (5, 5, 8, 5), neuron 2 is (7, 5, 5, 5)
        assert table["neuron"].tolist() == [0, 0, 2, 2] and table["rank"].tolist() == [1, 2, 1, 2]
        assert table["word"].tolist() == [a, c, a, c]
        np.testing.assert_allclose(table["score"], [8, -5, 5, -5])
        assert itlens.neuron_words(made, Vocabulary([b]), 0, 0)["score"].tolist() == pytest.approx([-3 / 2**0.5])
        assert table.attrs["probe"] == "neuron_words" and table.attrs["d_mlp"] == 6


def test_neurons_of_a_model_are_those_of_hugging_face(vocab: Vocabulary) -> None:
    hf, tokenizer = tiny_hf_model("gemma3"), tiny_tokenizer()
    model = itlens.load_model(hf, tokenizer=tokenizer)
    for kind in VECTORS:
        table = itlens.neuron_words(model, vocab, 1, range(5, 9), vectors=kind, top_k=6)
        vectors, rows = word_vectors(hf, tokenizer, kind), neurons_of(hf, 1, kind)
        for neuron, own in table.groupby("neuron"):
            expected = words_of(rows[neuron], vectors, 6)
            assert own["word"].tolist() == [word for word, _ in expected]
            np.testing.assert_allclose(own["score"], [score for _, score in expected], rtol=1e-4, atol=1e-4)


def test_blocks_of_words_change_nothing(vocab: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    model = in_float64("llama")
    whole = [itlens.mlp_concepts(model, vocab, top_k=7, signed=signed) for signed in (False, True)]
    monkeypatch.setattr(word_rows, "_LARGEST", 7)
    for free in (1 << 40, 0):
        monkeypatch.setattr(word_rows, "free_bytes", lambda device, free=free: free)
        for signed, expected in enumerate(whole):
            ds = itlens.mlp_concepts(model, vocab, top_k=7, signed=bool(signed))
            assert (ds["word"] == expected["word"]).all()
            np.testing.assert_allclose(ds["score"], expected["score"], rtol=1e-5, atol=1e-6)


def test_a_part_of_the_whole_and_layers_one_at_a_time(vocab: Vocabulary) -> None:
    model = in_float64("gemma3")
    whole = itlens.mlp_concepts(model, vocab, components=8, top_k=5)
    assert_same(itlens.mlp_concepts(model, vocab, components=8, top_k=5, layers=[2, 0]), whole.sel(layer=[0, 2]))
    parts = list(mlp_layers(model, vocab, components=8, top_k=5))
    assert [part.attrs["layers"] for part in parts] == [[0], [1], [2]]
    joined = join_mlp_layers(parts[::-1])
    assert_same(joined, whole)
    assert joined.attrs == whole.attrs
    fewer = itlens.mlp_concepts(model, vocab, components=3, top_k=5)
    assert_same(fewer.drop_vars("following"), whole.isel(component=slice(3)).drop_vars("following"))
    np.testing.assert_allclose(fewer["following"], whole["explained"][:, 3])
    np.testing.assert_allclose(itlens.mlp_concepts(model, vocab, components=32)["following"], 0, atol=1e-15)
    with pytest.raises(ProbeError, match="join_mlp_layers got no layers"):
        join_mlp_layers([])


def test_the_result_says_where_it_comes_from_and_survives_a_file(vocab: Vocabulary, tmp_path: Path) -> None:
    model = itlens.load_model(tiny_hf_model("llama"), tokenizer=tiny_tokenizer())
    ds = itlens.mlp_concepts(model, vocab, vectors="key", components=12, top_k=4, signed=True, resamples=2)
    expected = {"probe": "mlp_concepts", "vectors": "key", "components": 12, "top_k": 4, "signed": 1, "n_layers": 2}
    expected |= {"d_model": 32, "d_mlp": 56, "vocabulary": vocab.fingerprint, "vocabulary_size": 150, "resamples": 2}
    expected |= {"layers": [0, 1], "unknown_to_tokenizer": 0, "architecture": "LlamaForCausalLM", "seed": 0}
    assert {name: ds.attrs[name] for name in expected} == expected
    kinds = {"score": "float32", "direction": "float32", "explained": "float64", "total_variance": "float64"}
    assert {name: str(ds[name].dtype) for name in kinds} == kinds and ds["word"].dtype == object
    again = itlens.load(itlens.save(ds, tmp_path / "concepts.nc"))
    xr.testing.assert_equal(again, ds)
    assert again.attrs == ds.attrs


class TestNoiseFloor:
    def test_it_is_the_overlap_with_drawn_rows(self, vocab: Vocabulary) -> None:
        hf = tiny_hf_model("llama")
        ds = itlens.mlp_concepts(
            itlens.load_model(hf, tokenizer=tiny_tokenizer()), vocab, components=20, resamples=3, seed=5
        )
        assert ds["k"].values.tolist() == [10, 20] and ds["floor"].dims == ("layer", "k", "draw")
        rows = neurons_of(hf, 1, "value")
        generator = np.random.default_rng([5, 1])
        for draw in range(3):
            drawn = rows[generator.integers(0, 56, 56)]
            for k in (10, 20):
                cosines = np.linalg.svd(concepts_of(rows)[0][:k] @ concepts_of(drawn)[0][:k].T, compute_uv=False)
                own = ds.sel(layer=1, k=k, draw=draw)
                assert float(own["floor"]) == pytest.approx(np.square(cosines).mean(), abs=1e-9)
                assert float(own["floor_angle"]) == pytest.approx(np.arccos(np.minimum(cosines, 1)).mean(), abs=1e-6)

    @pytest.mark.parametrize("angle", [1e-9, 1e-5, 0.3])
    def test_small_angles_are_not_lost_in_cosines(self, angle: float) -> None:
        basis = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0]
        turned = basis[:10].copy()
        turned[3] = np.cos(angle) * basis[3] + np.sin(angle) * basis[20]
        _, angles = noise_floor._compared(torch.tensor(basis[:10]), torch.tensor(turned), rank=40)
        assert angles == [pytest.approx(angle / 10, rel=1e-4)]

    def test_a_draw_has_no_floor_beyond_the_rows_that_it_holds(self) -> None:
        rows = np.random.default_rng(0).normal(size=(65, 128))  # a draw holds about 41 of them
        made = Made(rows, np.eye(128)[:5])
        ds = itlens.mlp_concepts(made, Vocabulary(made.names), components=60, resamples=4)
        assert ds["k"].values.tolist() == [10, 50, 60]
        assert np.isfinite(ds["floor"].sel(k=10)).all() and np.isnan(ds[["floor", "floor_angle"]].sel(k=[50, 60])).all()

    def test_planted_axes_stand_firm_and_noise_does_not(self) -> None:
        generator = np.random.default_rng(1)
        noise = generator.normal(size=(400, 30))
        planted = noise * np.where(np.arange(30) < 10, 20.0, 1.0)
        floors = [
            itlens.mlp_concepts(made := Made(rows, np.eye(30)[:5]), Vocabulary(made.names), components=10, resamples=5)
            for rows in (planted, noise)
        ]
        assert float(floors[0]["floor"].min()) > 0.99
        assert 10 / 30 < float(floors[1]["floor"].mean()) < 0.9
        assert "floor" not in itlens.mlp_concepts(made, Vocabulary(made.names), components=10)


class TestBadInput:
    @pytest.fixture(scope="class")
    def model(self) -> Any:
        return itlens.load_model(tiny_hf_model("gpt2"), tokenizer=tiny_tokenizer())

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"vectors": "left"}, "vectors='left'; expected one of value, key, gate"),
            ({"vectors": "gate"}, 'vectors="gate": the feed-forward layer 0 has no W_gate'),
            ({"layers": 2}, "layer 2 is not there; the model has layers 0 to 1"),
            ({"layers": []}, "layers is empty"),
            ({"layers": -1}, "layer -1 is not there; the model has layers 0 to 1"),
            ({"components": 33}, "components=33; the 56 centred vectors of width 32 have a rank of at most 32"),
            ({"components": 0}, "components=0; expected a whole number of at least 1"),
            ({"components": True}, "components=True; expected a whole number"),
            ({"top_k": 0}, "top_k=0; expected a whole number of at least 1"),
            ({"resamples": -1}, "resamples=-1; expected a whole number of at least 0"),
            ({"seed": -1}, "seed=-1; expected a whole number"),
        ],
    )
    def test_settings(self, settings: dict[str, Any], message: str, model: Any, vocab: Vocabulary) -> None:
        with pytest.raises(ProbeError, match=message.replace("(", r"\(")):
            mlp_layers(model, vocab, **settings)

    def test_other_things_than_models_layers_and_neurons(self, model: Any, vocab: Vocabulary) -> None:
        with pytest.raises(ModelError, match=r"got .* as the model; expected a loaded model"):
            itlens.mlp_concepts("gpt2", vocab)
        with pytest.raises(ProbeError, match="Layer 1: neuron 56 is not there; the model has neurons 0 to 55"):
            itlens.neuron_words(model, vocab, 1, 56)
        with pytest.raises(ProbeError, match="layer 2 is not there; the model has layers 0 to 1"):
            itlens.neuron_words(model, vocab, 2, 5)

    def test_whole_numbers_of_any_kind(self) -> None:
        for number in (3, np.int64(3), np.uint8(3), torch.tensor(3)):
            count = component_count(number, 56, 32)
            assert count == 3 and type(count) is int
        assert component_count(None, 1000, 400) == 300 and component_count(None, None, None) == 300
        for odd in (3.0, np.float64(3), "3", True, np.bool_(True)):
            with pytest.raises(ProbeError, match="expected a whole number of at least 1"):
                component_count(odd, 56, 32)

    def test_few_neurons_limit_the_rank(self) -> None:
        made = Made(BY_HAND[:3], EYE)
        vocab = Vocabulary(made.names)
        assert itlens.mlp_concepts(made, vocab).sizes["component"] == 2, "by default, what there is"
        with pytest.raises(ProbeError, match="components=3; the 3 centred vectors of width 4 have a rank of at most 2"):
            itlens.mlp_concepts(made, vocab, components=3)

    def test_equal_neurons_and_numbers_that_are_none(self) -> None:
        made = Made(np.ones((6, 4)), EYE)
        with pytest.raises(ProbeError, match="All vectors of layer 0 are the same; they have no components"):
            itlens.mlp_concepts(made, Vocabulary(made.names))
        made = Made(np.full((6, 4), np.nan), EYE)
        with pytest.raises(ProbeError, match="The value vectors of layer 0 are not finite"):
            itlens.mlp_concepts(made, Vocabulary(made.names))
        made = Made(BY_HAND, np.full((4, 4), np.inf))
        with pytest.raises(ProbeError, match="The vectors of some words are not finite"):
            itlens.mlp_concepts(made, Vocabulary(made.names))

    def test_mixtures_of_experts_are_named(self, vocab: Vocabulary) -> None:
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        cfg = HookedTransformerConfig(
            n_layers=1, d_model=32, n_ctx=16, d_head=8, n_heads=4, d_mlp=24, d_vocab=300, act_fn="silu",
            gated_mlp=True, num_experts=4, experts_per_token=2, normalization_type="RMS", device="cpu",
        )  # fmt: skip
        model = HookedTransformer(cfg)
        model.tokenizer = tiny_tokenizer()
        with pytest.raises(ModelError, match=r"Layer 0 .* is a mixture of 4 experts"):
            itlens.mlp_concepts(model, vocab)

    @pytest.mark.parametrize("architecture", ["Mixtral", "Qwen2Moe", "Olmoe"])
    def test_mixtures_of_experts_of_hugging_face(self, architecture: str, vocab: Vocabulary) -> None:
        """The bridge loads them; TransformerLens builds none of them from a config, and says so in one sentence."""
        import transformers

        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
        sizes |= {"num_key_value_heads": 2, "vocab_size": 300, "eos_token_id": 2}
        kinds = {"num_local_experts" if architecture == "Mixtral" else "num_experts": 4, "num_experts_per_tok": 2}
        config = getattr(transformers, f"{architecture}Config")(**sizes, **kinds)
        name = f"{architecture}ForCausalLM"
        config.architectures = [name]
        hf = getattr(transformers, name)(config).eval()
        bridge = itlens.load_model(hf, tokenizer=tiny_tokenizer(), backend="bridge")
        for ask in (lambda: itlens.mlp_concepts(bridge, vocab), lambda: itlens.neuron_words(bridge, vocab, 0, 1)):
            with pytest.raises(ModelError, match=f"Layer 0 of {name} is a mixture of 4 experts; expected one"):
                ask()
        with pytest.raises(ModelError, match=f"^TransformerLens cannot load {name}: {name} not found\\.$"):
            itlens.load_model(hf, tokenizer=tiny_tokenizer())

    def test_a_model_without_feed_forward_layers(self, vocab: Vocabulary) -> None:
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        cfg = HookedTransformerConfig(
            n_layers=1, d_model=32, n_ctx=16, d_head=8, n_heads=4, d_vocab=300, attn_only=True, device="cpu"
        )
        model = HookedTransformer(cfg)
        model.tokenizer = tiny_tokenizer()
        with pytest.raises(ModelError, match=r"Layer 0 .* has no feed-forward layer with W_in and W_out"):
            itlens.mlp_concepts(model, vocab)


def test_the_table_of_neurons_survives_a_file(vocab: Vocabulary, tmp_path: Path) -> None:
    model = itlens.load_model(tiny_hf_model("llama"), tokenizer=tiny_tokenizer())
    table = itlens.neuron_words(model, vocab, 0, None, vectors="gate", top_k=3)
    assert len(table) == 56 * 3
    again = itlens.load(itlens.save(table, tmp_path / "neurons.parquet"))
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
