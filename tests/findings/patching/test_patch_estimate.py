"""First-order estimates: exact on a linear model, right for small changes, and one pass each way for all parts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens.errors import ProbeError
from itlens.hooked.tokens import Forced, forced
from itlens.models import ModelPair
from tests.findings.patching.patch_pairs import PROMPTS, llama, pair_of
from tests.tiny import BACKENDS, hf_in_float64, tiny_tokenizer

ASK: dict[str, Any] = {"responses": "given", "progress": False, "curve": False}


def target_logit(logits: torch.Tensor, one: Forced) -> torch.Tensor:
    """Linear in the last residual stream where no norm stands in between."""
    return logits.gather(-1, torch.tensor(one.targets).expand(logits.shape[0], -1)[..., None]).mean(dim=(1, 2))


def linear_model(seed: int) -> Any:
    """Two layers of attention that weigh all earlier positions alike (no queries), without norms or MLPs."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    cfg = HookedTransformerConfig(
        n_layers=2, d_model=8, n_ctx=128, d_head=4, n_heads=2, d_vocab=300, attn_only=True, normalization_type=None,
        dtype=torch.float64, device="cpu",
    )  # fmt: skip
    model, generator = HookedTransformer(cfg), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            silent = name.endswith(("W_Q", "W_K", "b_Q", "b_K"))
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.0 * drawn if silent else 0.5 * drawn)
    return model


def linear_pair() -> ModelPair:
    base, other = linear_model(0), linear_model(1)
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for layer in range(2):
            tuned.blocks[layer].attn.W_V.copy_(other.blocks[layer].attn.W_V)
            tuned.blocks[layer].attn.b_V.copy_(other.blocks[layer].attn.b_V)
    return itlens.load_pair(base, tuned, tokenizer=tiny_tokenizer(), keep_both=True)


@pytest.mark.parametrize("positions", ["all", "targets", "instruction"])
def test_on_a_linear_model_the_estimate_is_exact(positions: str) -> None:
    ds = itlens.patch(linear_pair(), PROMPTS, metric=target_logit, positions=positions, **ASK)
    assert float(np.abs(ds.effect).max()) > 0.05
    np.testing.assert_allclose(ds.estimated_effect, ds.effect, rtol=0, atol=1e-10)
    assert ds.attrs["rank_correlation"] == pytest.approx(1) and ds.attrs["unit_of_effect"] == "of target_logit"


def test_the_effect_is_what_the_head_writes_on_the_targets() -> None:
    """By hand: the mean over targets of (z_donor - z_receiver) W_O, read by the targets' columns of W_U."""
    pair = linear_pair()
    ds = itlens.patch(pair, PROMPTS[:1], metric=target_logit, layers=1, **ASK)
    (one,) = forced(pair.base, PROMPTS[:1])
    tokens = torch.tensor([one.read])
    z = {
        which: getattr(pair, which).run_with_cache(tokens)[1]["blocks.1.attn.hook_z"][0].detach()
        for which in ("base", "tuned")
    }
    change = (z["tuned"] - z["base"])[list(one.positions)]
    columns = pair.base.W_U[:, list(one.targets)].detach()
    expected = torch.einsum("phd,hdm,mp->h", change, pair.base.blocks[1].attn.W_O.detach(), columns) / len(one.targets)
    np.testing.assert_allclose(ds.effect[0, 0], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("what", ["head", "mlp", "resid"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_for_small_changes_the_estimate_is_right(backend: str, what: str) -> None:
    base, tuned, generator = llama(), llama(), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if ".layers." in name and parameter.dim() == 2:
                parameter += 1e-6 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    with hf_in_float64(base) if backend == "bridge" else nullcontext():
        ds = itlens.patch(pair_of(base, tuned, backend=backend), PROMPTS[:2], what=what, **ASK)
    size = float(np.abs(ds.effect).max())
    assert size > 1e-8
    np.testing.assert_allclose(ds.estimated_effect, ds.effect, rtol=0, atol=1e-3 * size)


def test_all_parts_take_one_pass_of_the_donor_and_one_each_way_of_the_receiver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = pair_of(llama(), llama(1))
    passes = {"base": 0, "tuned": 0, "back": 0}

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            passes[name] += 1
            return real(*args, **options)

        return run

    for name in ("base", "tuned"):
        model = getattr(pair, name)
        monkeypatch.setattr(model, "forward", counted(name, model.forward))
    monkeypatch.setattr(torch.autograd, "grad", counted("back", torch.autograd.grad))
    ds = itlens.patch(pair, PROMPTS[:1], exact=False, **ASK)
    assert passes == {"base": 1, "tuned": 1, "back": 1}
    assert "effect" not in ds and ds.estimated_effect.shape == (1, 2, 4)


def test_what_cannot_be_estimated_says_so() -> None:
    pair = pair_of(llama(), llama(1))

    def choice(logits: torch.Tensor, one: Forced) -> torch.Tensor:
        return (logits.argmax(-1) == torch.tensor(one.targets)).double().mean(-1)

    with pytest.raises(ProbeError, match="choice has no gradient, so it cannot be estimated: use estimate=False"):
        itlens.patch(pair, PROMPTS[:1], metric=choice, **ASK)
    assert "effect" in itlens.patch(pair, PROMPTS[:1], metric=choice, estimate=False, **ASK)
    with pytest.raises(ProbeError, match="Nothing is left to compute"):
        itlens.patch(pair, PROMPTS[:1], what="weights", exact=False, **ASK)
