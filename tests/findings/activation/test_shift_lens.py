"""The crossed logit lens against plain softmax, the models' own outputs, commitment, and what cannot be read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import itlens
from itlens.errors import ProbeError
from itlens.findings.activation.probe_shift_lens import commitment_layers
from itlens.hooked import readout as readout_module
from itlens.hooked.hooks import run_hooked
from itlens.hooked.tokens import Forced, forced
from tests.findings.activation.shift_reference import PROMPTS, altered, cached, load, network
from tests.tiny import BACKENDS

SIDES = ("base", "tuned")


def lens(pair: Any, **options: Any) -> xr.Dataset:
    asked = {"responses": "given", "hooks": "lens", "lens_positions": "all", "progress": False}
    return itlens.activation_shift(pair, PROMPTS, **asked | options)


def outputs(model: Any, one: Forced) -> torch.Tensor:
    """Log-probabilities at the places that predict."""
    with torch.no_grad():
        logits = run_hooked(model, torch.tensor([one.read]), positions=one.positions)[0]
    return torch.log_softmax(logits.double(), dim=-1)


def kl(p: torch.Tensor, q: torch.Tensor) -> float:
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "gemma3"])
def test_the_last_layer_is_the_output(architecture: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readout_module, "PIECE", 64)  # the vocabulary in several pieces
    pair = [load(network(architecture, seed, torch.float32), backend, "float32") for seed in (0, 1)]
    last = lens(pair).isel(layer=-1)
    for one in forced(pair[0], PROMPTS):
        base, tuned = (outputs(model, one) for model in pair)
        got = last.sel(prompt=one.id)
        np.testing.assert_allclose(got.lens_kl_base_tuned.sel(reading="own"), kl(base, tuned), rtol=1e-4)
        np.testing.assert_allclose(got.lens_kl_tuned_base.sel(reading="own"), kl(tuned, base), rtol=1e-4)
        targets = torch.tensor(one.targets)[:, None]
        for side, values in zip(SIDES, (base, tuned), strict=True):
            cell = got.sel(stream=side, readout=side)
            asked = values.gather(1, targets)
            np.testing.assert_allclose(cell.lens_logprob, asked.mean(), rtol=1e-5)
            assert float(cell.lens_rank) == float(np.median(1 + (values > asked).sum(1).numpy()))


def test_each_stream_is_read_by_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readout_module, "PIECE", 64)
    pair = dict(zip(SIDES, (load(network("gpt2", seed)) for seed in (0, 1)), strict=True))
    found = lens(tuple(pair.values()))
    for one in forced(pair["base"], PROMPTS):
        streams = {side: cached(model, one, "blocks.0.hook_resid_post")[0] for side, model in pair.items()}
        places, targets = list(one.positions), torch.tensor(one.targets)[:, None]
        read = {}
        with torch.no_grad():
            for stream, values in streams.items():
                for side, model in pair.items():
                    logits = model.unembed(model.ln_final(values[None]))[0, places]
                    read[stream, side] = torch.log_softmax(logits, -1)
        got = found.sel(prompt=one.id, layer=0)
        for (stream, side), values in read.items():
            asked = values.gather(1, targets)
            cell = got.sel(stream=stream, readout=side)
            np.testing.assert_allclose(cell.lens_logprob, asked.mean(), atol=1e-9)
            assert float(cell.lens_rank) == float(np.median(1 + (values > asked).sum(1).numpy()))
        for reading, (r, t) in {"own": SIDES, "base": ("base", "base"), "tuned": ("tuned", "tuned")}.items():
            base, tuned = read["base", r], read["tuned", t]
            cell = got.sel(reading=reading)
            np.testing.assert_allclose(cell.lens_kl_base_tuned, kl(base, tuned), atol=1e-9)
            np.testing.assert_allclose(cell.lens_kl_tuned_base, kl(tuned, base), atol=1e-9)


def test_equal_readouts_are_read_once_with_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    base = network()

    def alter(model: Any) -> None:
        model.model.layers[0].mlp.down_proj.weight *= 1.2

    pair = load(base), load(altered(base, alter))
    short = lens(pair)
    monkeypatch.setattr("itlens.findings.activation.probe_shift.same_readout", lambda one, other: False)
    xr.testing.assert_allclose(short, lens(pair), rtol=1e-10, atol=1e-10)
    kls = short.lens_kl_base_tuned
    np.testing.assert_allclose(kls.sel(reading="own"), kls.sel(reading="tuned"), atol=1e-12)
    assert (kls > 0).all()


def test_only_the_unembedding_differs() -> None:
    """Streams are the same, so that nothing is apart once both are read by one readout."""
    base = network()

    def alter(model: Any) -> None:
        model.lm_head.weight[:, :5] *= 2

    kls = lens((load(base), load(altered(base, alter)))).lens_kl_base_tuned
    np.testing.assert_allclose(kls.sel(reading=["base", "tuned"]), 0.0, atol=1e-12)
    assert (kls.sel(reading="own") > 1e-3).all()


def test_large_logits_do_not_overflow() -> None:
    base = network("gpt2", 0, torch.float32)

    def alter(model: Any) -> None:
        model.transformer.ln_f.weight *= 300

    found = lens((load(base, dtype="float32"), load(altered(base, alter), dtype="float32")))
    assert all(np.isfinite(value).all() for value in found.data_vars.values())


def test_commitment_by_hand() -> None:
    top = np.array([[[7, 1], [5, 1], [7, 2], [7, 1], [7, 1]]])  # (model, layer, position)
    first, stays = commitment_layers(top)
    assert first.tolist() == [[0, 0]] and stays.tolist() == [[2, 3]]


def test_positions_are_spread_and_counted() -> None:
    pair = load(network(seed=0)), load(network(seed=1))
    counts = [len(one.targets) for one in forced(pair[0], PROMPTS)]
    assert lens(pair).lens_positions.values.tolist() == counts
    assert lens(pair, lens_positions=2).lens_positions.values.tolist() == [2, 2, 2]
    few = lens(pair, lens_positions=None).lens_positions.values
    assert (few >= 2).all() and (few <= counts).all()
    with pytest.raises(ProbeError, match="lens_positions"):
        lens(pair, lens_positions=0)


def test_a_model_whose_last_step_is_of_another_kind_is_refused() -> None:
    model = load(network())
    model.unembed.hook_in.add_perma_hook(lambda value, hook: value / 3)
    with pytest.raises(ProbeError, match=r'logit lens does not reproduce .* leave "lens" out'):
        lens((model, load(network(seed=1))))
