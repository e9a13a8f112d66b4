"""Weights are changed in place, everywhere or in one part, and put back bit by bit, on both classes of models."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import itlens
from itlens.findings.detector import Unit
from itlens.planted.altering import Altered, Edit, distinct_tensors, root_mean_square
from itlens.planted.plants import PLANTS, Ground, strength_of
from tests.tiny import BACKENDS, tiny_folder, tiny_hf_model, tiny_tokenizer

ARCHITECTURES = ("llama", "gpt2", "gpt_neox", "gemma2")
TOKENS = torch.tensor([[1, 40, 41, 42, 43, 44]])


def loaded(architecture: str = "llama", backend: str = "hooked") -> object:
    model = tiny_hf_model(architecture, seed=3)
    return itlens.load_model(model, tokenizer=tiny_tokenizer(), backend=backend, check=False)


def ground(model: object, noise: float = 0.01) -> Ground:
    neurons = model.blocks[0].mlp.W_out.shape[0]
    posts = {layer: torch.linspace(0.1, 1, neurons) for layer in range(model.cfg.n_layers)}
    return Ground(model, noise, posts, torch.linspace(-1, 1, model.cfg.d_model))


def bits(model: object) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def place_for(kind: str) -> Place:
    return {"head": Unit(1, 3), "layer": Unit(1, -1), "token": Unit(-1, 42)}[kind]


def same(model: object, kept: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(parameter, kept[name]) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_plant_reaches_the_forward_pass_and_leaves_no_trace(architecture: str, backend: str) -> None:
    """Writing into a copy that the model hands out would change nothing: then this fails."""
    model = loaded(architecture, backend)
    kept, altered = bits(model), Altered(model)
    with torch.no_grad():
        before = model(TOKENS).clone()
        for plant in PLANTS.values():
            edits = plant.edits(ground(model), place_for(plant.kind), 64.0, (0,))
            with altered.plant(edits):
                assert not torch.equal(model(TOKENS), before), plant.name
                assert not same(model, kept), plant.name
            assert same(model, kept), plant.name
        with altered.noise(0.01, 0), altered.plant(edits):
            assert not torch.equal(model(TOKENS), before)
        assert same(model, kept) and torch.equal(model(TOKENS), before)


@pytest.mark.parametrize("plant", PLANTS.values(), ids=list(PLANTS))
def test_both_classes_of_models_get_the_same_plant(plant: object) -> None:
    logits = []
    for backend in BACKENDS:
        model = loaded("llama", backend)
        with torch.no_grad(), Altered(model).plant(plant.edits(ground(model), place_for(plant.kind), 30.0, (1,))):
            logits.append(model(TOKENS))
    torch.testing.assert_close(*logits, atol=2e-4, rtol=2e-4)


def test_noise_has_the_stated_size_on_every_tensor_once(tmp_path: Path) -> None:
    model = itlens.load_model(tiny_folder(tmp_path, "qwen3"), check=False)  # embeddings are tied
    kept = distinct_tensors(model)
    before = {name: tensor.clone() for name, tensor in kept.items()}
    assert ("unembed.W_U" in kept) + ("embed.W_E" in kept) == 1
    with Altered(model).noise(0.05, 7):
        for name, tensor in kept.items():
            share = float((tensor - before[name]).norm()) / max(float(before[name].norm()), 1e-30)
            expected = 0.05 if float(before[name].norm()) else 0.0
            assert share == pytest.approx(expected, rel=4 / math.sqrt(2 * tensor.numel())), name


def test_noise_depends_on_its_seed_alone() -> None:
    made = []
    for seed in ((1, 2), (1, 2), (1, 3)):
        model = loaded()
        with Altered(model).noise(0.01, *seed):
            made.append(bits(model))
    first, again, other = (one["embed.W_E"] for one in made)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("plant", PLANTS.values(), ids=list(PLANTS))
def test_strength_is_the_norm_in_units_of_the_noise(plant: object) -> None:
    model = loaded()
    on = ground(model)
    for strength in (1.0, 8.0):
        (edit,) = plant.edits(on, place_for(plant.kind), strength, (0,))
        wholes = {
            "scaled_head": model.blocks[1].attn.W_O,
            "rank_one_qk": model.blocks[1].attn.W_Q,
            "token_bias": model.W_U,
        }
        whole = wholes.get(plant.name, model.W_E if plant.kind == "token" else edit.weights)
        noise = on.noise * root_mean_square(whole) * math.sqrt(edit.weights.numel())
        assert float(edit.delta.norm()) == pytest.approx(strength * noise, rel=1e-4)
        assert strength_of(on, whole, edit) == pytest.approx(strength, rel=1e-4)


def test_a_rotation_keeps_lengths_and_stops_at_a_right_angle() -> None:
    model = loaded()
    (edit,) = PLANTS["rotated_values"].edits(ground(model), Unit(1, -1), 20.0, (0,))
    turned = edit.weights + edit.delta
    torch.testing.assert_close(turned @ turned.T, edit.weights @ edit.weights.T, atol=1e-3, rtol=1e-4)
    most = PLANTS["rotated_values"].edits(ground(model), Unit(1, -1), 1e6, (0,))[0]
    further = PLANTS["rotated_values"].edits(ground(model), Unit(1, -1), 1e7, (0,))[0]
    torch.testing.assert_close(most.delta, further.delta)


def test_rank_one_terms_have_rank_one() -> None:
    model = loaded()
    for name, place in (("rank_one_qk", Unit(0, 2)), ("residual_direction", Unit(0, -1))):
        (edit,) = PLANTS[name].edits(ground(model), place, 10.0, (0,))
        values = torch.linalg.svdvals(edit.delta.double())
        assert values[1] < 1e-5 * values[0]


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_pair_of_one_model_is_base_and_tuned_in_turns(noise: float) -> None:
    model = loaded()
    kept, altered = bits(model), Altered(model)
    edits = PLANTS["scaled_head"].edits(ground(model), Unit(0, 1), 50.0, (0,))
    with altered.noise(noise, 0), altered.plant(edits):
        planted = bits(model)
        with altered.pair() as pair:
            assert same(pair.tuned, planted)
            assert same(pair.base, kept)
            assert same(pair.tuned, planted)
            assert same(pair.base, kept)
        assert same(model, planted)
        with pytest.raises(KeyboardInterrupt), altered.pair() as pair:
            _ = pair.base
            raise KeyboardInterrupt
        assert same(model, planted)
    assert same(model, kept)


def test_weights_that_are_copies_are_refused() -> None:
    model = loaded()
    copied = model.blocks[0].attn.W_O.detach().clone()
    with pytest.raises(itlens.ModelError, match="copies"), Altered(model).plant([Edit(copied, copied)]):
        pass
