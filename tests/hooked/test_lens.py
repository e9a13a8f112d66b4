"""The logit lens: its last layer is the model's own output, its others are the model without its later layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens.errors import ProbeError
from itlens.hooked import lens
from itlens.hooked.hooks import token_logprobs
from itlens.hooked.lens import lens_count, spread
from itlens.hooked.tokens import Forced, forced
from tests.findings.activation.activation_models import PROMPTS, shared
from tests.tiny import BACKENDS


def own_logprobs(model: Any, one: Forced, stop: int | None = None) -> np.ndarray:
    """log p (target, token) of the model's own run, in which layers after `stop` write nothing."""

    def silence(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return torch.zeros_like(value)

    later = range(model.cfg.n_layers if stop is None else stop + 1, model.cfg.n_layers)
    hooks = [(f"blocks.{layer}.{name}", silence) for layer in later for name in ("hook_attn_out", "hook_mlp_out")]
    with torch.no_grad():
        logits = model.run_with_hooks(torch.tensor([one.read]), fwd_hooks=hooks)
    return torch.log_softmax(logits[0, list(one.positions)].double(), -1).numpy()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "gemma3"])
def test_the_last_layer_is_the_models_own_output(architecture: str, backend: str) -> None:
    model = shared(architecture, backend)
    ds = itlens.activations(model, PROMPTS, hooks="lens", lens_positions="all")
    for one in forced(model, PROMPTS):
        last = ds.sel(prompt=one.id).isel(layer=-1)
        with torch.no_grad():
            own = token_logprobs(model(torch.tensor([one.read]))[:, list(one.positions)], torch.tensor(one.targets))
        assert last.lens_logprob.item() == pytest.approx(own.mean().item(), abs=1e-5)
        assert last.lens_kl == 0 and last.lens_agreement == 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_a_layer_is_the_model_that_stops_there(architecture: str, backend: str) -> None:
    """Every statistic, by loops over the log-probabilities of runs in which later layers write nothing."""
    model = shared(architecture, backend)
    ds = itlens.activations(model, PROMPTS[0], hooks="lens", lens_positions="all").isel(prompt=0)
    (one,) = forced(model, PROMPTS[0])
    final = own_logprobs(model, one)
    tops: list[np.ndarray] = []
    for layer in range(model.cfg.n_layers):
        logp, at = own_logprobs(model, one, layer), ds.sel(layer=layer)
        places = range(len(one.targets))
        ranks = [1 + sum(logp[m] > logp[m, one.targets[m]]) for m in places]
        kl = [sum(np.exp(final[m]) * (final[m] - logp[m])) for m in places]
        tops.append(logp.argmax(1))
        assert at.lens_logprob.item() == pytest.approx(np.mean([logp[m, one.targets[m]] for m in places]), abs=1e-4)
        assert at.lens_rank.item() == np.median(ranks)
        assert at.lens_entropy.item() == pytest.approx(-(np.exp(logp) * logp).sum(1).mean(), abs=1e-4)
        assert at.lens_kl.item() == pytest.approx(np.mean(kl), abs=1e-4)
        assert at.lens_agreement.item() == pytest.approx(np.mean(tops[-1] == final.argmax(1)))
    right = [[bool(top[m] == final[m].argmax()) for top in tops] for m in range(len(one.targets))]
    first = [row.index(True) for row in right]
    stays = [next(start for start in range(len(row)) if all(row[start:])) for row in right]
    assert ds.lens_commitment.item() == pytest.approx(np.mean(first))
    assert ds.lens_commitment_stays.item() == pytest.approx(np.mean(stays))


def test_commitment_by_hand() -> None:
    agreement = np.array([[1, 0, 0, 1], [1, 0, 1, 0], [1, 0, 0, 1], [1, 1, 1, 1]])
    first, stays = lens.commitment(agreement)
    assert first.tolist() == [0, 3, 1, 0] and stays.tolist() == [0, 3, 3, 2]


def test_few_positions_at_a_time_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = shared("llama")
    whole = itlens.activations(model, PROMPTS, hooks="lens", lens_positions="all")
    held: list[int] = []
    read = lens.lens_logits

    def noted(given: Any, resid: torch.Tensor) -> torch.Tensor:
        held.append(len(resid))
        return read(given, resid)

    monkeypatch.setattr(lens, "POSITION_BYTES", 2 * 4 * model.cfg.d_vocab)
    monkeypatch.setattr(lens, "lens_logits", noted)
    cut = itlens.activations(model, PROMPTS, hooks="lens", lens_positions="all")
    assert max(held) == 2
    for name in whole.data_vars:
        np.testing.assert_allclose(cut[name], whole[name], atol=1e-5)


def test_a_model_that_does_more_after_its_last_layer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = shared("gemma2")
    assert model.cfg.output_logits_soft_cap > 0
    monkeypatch.setattr(lens, "lens_logits", lambda given, resid: given.unembed(given.ln_final(resid[None]))[0] * 1.1)
    with pytest.raises(ProbeError, match="does not end in its own logits"):
        itlens.activations(model, PROMPTS, hooks="lens", lens_positions="all")


def test_a_few_places_are_read_by_default_and_numbers_are_theirs() -> None:
    """Half a pass of 135M parameters: 48 + 48 tokens, 30 layers, vocabulary of 49,152."""
    sizes = {"read": 95, "width": 576, "vocabulary": 49_152, "layers": 30, "blocks": 106_000_000}
    assert lens_count(None, 48, **sizes) == 7  # 95 (106 + 28.3) / 2 / (30 * 28.3)
    assert lens_count(None, 48, readings=2, **sizes) == 3 and lens_count(None, 5, **sizes) == 5
    assert lens_count(None, 48, **sizes | {"vocabulary": 10**8}) == 2 and lens_count(None, 1, **sizes) == 1
    assert lens_count("all", 48, **sizes) == 48 and lens_count(9, 5, **sizes) == 5
    assert spread(7, 3).tolist() == [0, 3, 6] and spread(7, 1).tolist() == [3] and spread(2, 2).tolist() == [0, 1]

    model, prompt = shared("llama"), PROMPTS[0].replace(response=" yes, no, plum, went")
    (one,) = forced(model, prompt)
    count = len(one.targets)
    few, whole = (itlens.activations(model, prompt, hooks="lens", lens_positions=n) for n in (3, "all"))
    assert few.lens_positions.item() == 3 and whole.lens_positions.item() == count > 3
    places = spread(count, 3)
    logp = own_logprobs(model, one)[places, np.array(one.targets)[places]]
    assert few.lens_logprob.isel(prompt=0, layer=-1).item() == pytest.approx(logp.mean(), abs=1e-5)
    middle = itlens.activations(model, prompt, hooks="lens", lens_positions=1)
    at = int(spread(count, 1)[0])
    assert middle.lens_logprob.isel(prompt=0, layer=-1).item() == pytest.approx(
        own_logprobs(model, one)[at, one.targets[at]], abs=1e-5
    )
    assert few.attrs["lens_positions"] == "3" and "lens_positions" not in itlens.activations(model, prompt, hooks="mlp")
    with pytest.raises(ProbeError, match="lens_positions"):
        itlens.activations(model, prompt, lens_positions=0)
