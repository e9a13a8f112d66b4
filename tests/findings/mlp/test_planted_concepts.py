"""Probe and diff together where the truth is known: a planted rotation, no change, other spellings, chance."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import itlens
from itlens import Vocabulary
from itlens.diff import concept_changes, concepts
from tests.tiny import tiny_hf_model, tiny_tokenizer

KS = (4, 8, 16)
LAYER = 1
WORDS = ["the", "dog", "fox", "house", "man", "river", "letters", "book", "yes", "no", "and", "write", "see", "saw"]


def probed(hf: Any, kind: str, **options: Any) -> xr.Dataset:
    model = itlens.load_model(copy.deepcopy(hf), tokenizer=tiny_tokenizer(), dtype="float64", check=False)
    return itlens.mlp_concepts(model, Vocabulary(WORDS), vectors=kind, top_k=5, **options)


@pytest.fixture(scope="module")
def base() -> Any:
    return tiny_hf_model("llama", dtype=torch.float64, num_hidden_layers=3)


def turn(hf: Any, kind: str, inside: int, outside: int, angle: float) -> Any:
    """The model with the vectors of one layer's neurons turned in the plane of two of their components."""
    tuned = copy.deepcopy(hf)
    block = tuned.model.layers[LAYER]
    matrix = {"value": "down_proj", "key": "up_proj", "gate": "gate_proj"}[kind]
    weight = getattr(block.mlp, matrix).weight
    gain = torch.ones(32, dtype=torch.float64) if kind == "value" else block.post_attention_layernorm.weight.detach()
    rows = (weight.detach().T if kind == "value" else weight.detach() * gain).clone()
    components = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh
    one, other = components[inside], components[outside]
    in_plane = torch.stack([one, other])
    givens = torch.tensor([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    rotation = torch.eye(32, dtype=torch.float64) + in_plane.T @ (givens - torch.eye(2)) @ in_plane
    with torch.no_grad():
        turned = rows @ rotation
        weight.copy_(turned.T if kind == "value" else turned / gain)
    return tuned


@pytest.mark.parametrize("angle", [0.003, 0.3, 1.2])
@pytest.mark.parametrize("kind", ["value", "key", "gate"])
def test_a_planted_rotation_comes_back_in_its_layer_and_only_there(base: Any, kind: str, angle: float) -> None:
    tuned = turn(base, kind, 2, 10, angle)
    found = concepts(probed(base, kind), probed(tuned, kind), ks=KS)
    assert not found["degenerate"].any()
    for k in KS:
        angles = found["angle"].sel(k=k).values[:, :k]
        crosses = k <= 10  # the plane of components 2 and 10 lies within the first 16
        assert angles[LAYER, -1] == pytest.approx(angle if crosses else 0, abs=1e-3 if crosses else 1e-6)
        assert angles[LAYER, :-1].max() < 1e-6 and angles[[0, 2]].max() < 1e-6
    np.testing.assert_allclose(found["overlap"].sel(k=4, layer=LAYER), 1 - np.sin(angle) ** 2 / 4, atol=1e-6)
    moved = 1 - found["overlap"].sel(layer=[0, 2])
    assert float(np.abs(moved).max()) < 1e-9
    other = "key" if kind == "value" else "value"
    assert float(concepts(probed(base, other), probed(tuned, other), ks=KS)["angle"].max()) < 1e-6, "nothing else moved"


def test_a_rotation_is_found_in_float32(base: Any) -> None:
    tuned = turn(base, "value", 2, 10, 0.1)
    models = [
        itlens.load_model(copy.deepcopy(hf).float(), tokenizer=tiny_tokenizer(), check=False) for hf in (base, tuned)
    ]
    found = concepts(*(itlens.mlp_concepts(model, Vocabulary(WORDS), top_k=5) for model in models), ks=4)
    np.testing.assert_allclose(found["angle"].max(("k", "index")), [0, 0.1, 0], atol=1e-5)


@pytest.mark.parametrize("kind", ["value", "key", "gate"])
def test_identical_models_show_nothing(base: Any, kind: str) -> None:
    one, other = probed(base, kind, resamples=2), probed(base, kind, resamples=2)
    found = concepts(one, other, ks=(10, 32))
    assert found["k"].values.tolist() == [10] and found["floor_base"].notnull().all()
    assert float(found["angle"].max()) < 1e-9 and not found["below_floor"].any()
    np.testing.assert_allclose(found["overlap"], 1, atol=1e-12)
    assert (found["floor_base"] < 1 - 1e-6).all(), "resampled rows do turn"
    assert set(concept_changes(one, other)["status"]) == {"kept"}


def permuted(hf: Any) -> None:
    for number, block in enumerate(hf.model.layers):
        order = torch.randperm(56, generator=torch.Generator().manual_seed(number))
        for name in ("gate_proj", "up_proj"):
            getattr(block.mlp, name).weight.data = getattr(block.mlp, name).weight.data[order]
        block.mlp.down_proj.weight.data = block.mlp.down_proj.weight.data[:, order]


def flipped(hf: Any) -> None:
    """All signs of a gated layer's keys and values: it computes the same."""
    for block in hf.model.layers:
        block.mlp.up_proj.weight.data *= -1
        block.mlp.down_proj.weight.data *= -1


@pytest.mark.parametrize("change", [permuted, flipped])
def test_other_spellings_of_the_same_network_change_nothing(base: Any, change: Callable[[Any], None]) -> None:
    tuned = copy.deepcopy(base)
    change(tuned)
    ids = torch.arange(5, 17)[None]
    torch.testing.assert_close(tuned(ids).logits, base(ids).logits)
    assert not torch.equal(tuned.model.layers[0].mlp.down_proj.weight, base.model.layers[0].mlp.down_proj.weight)
    for kind in ("value", "key", "gate"):
        one, other = probed(base, kind), probed(tuned, kind)
        assert float(concepts(one, other, ks=KS)["angle"].max()) < 1e-9
        assert (one["word"] == other["word"]).all()
        np.testing.assert_allclose(one["direction"], other["direction"], atol=1e-6)


@pytest.mark.long
def test_independent_models_stand_within_the_null_band() -> None:
    """95 % of the overlaps, and of the single angles, are expected inside.

    Gains are ones: where they differ, key vectors lie along some axes more than along others in every model.
    """
    overlaps, angles = [], []
    for seed in (1, 2, 3, 4):
        pair = [tiny_hf_model("llama", s, dtype=torch.float64, num_hidden_layers=3) for s in (seed, seed + 10)]
        for block in (block for hf in pair for block in hf.model.layers):
            block.post_attention_layernorm.weight.data.fill_(1.0)
        for kind in ("value", "key"):
            found = concepts(*(probed(hf, kind) for hf in pair), ks=KS, draws=500)
            overlaps.append((found["overlap"] >= found["random_low"]) & (found["overlap"] <= found["random_high"]))
            within = (found["angle"] >= found["random_angle_low"] - 1e-9) & (
                found["angle"] <= found["random_angle_high"] + 1e-9
            )
            angles.append(within.values[found["angle"].notnull().values])
    assert np.mean(overlaps) > 0.85 and np.concatenate(angles).mean() > 0.88
