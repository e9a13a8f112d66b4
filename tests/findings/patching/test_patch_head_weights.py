"""Weights of heads patched in one batch give what putting in one head's weights after another gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens.findings.patching import probe as patching
from itlens.findings.patching.probe_parts import parts_of
from itlens.findings.patching.probe_weights import HeadWeightPatches, heads_apart
from tests.findings.patching.patch_pairs import FULL_HEADS, PROMPTS, changed_heads, llama, pair_of
from tests.tiny import tiny_hf_model

ASKED: dict[str, Any] = {"what": "weights", "responses": "given", "curve": False, "estimate": False, "progress": False}
ARCHITECTURES = ("llama", "qwen3", "gpt2", "gpt_neox", "gemma2", "gemma3")


def models(architecture: str) -> list[Any]:
    return [tiny_hf_model(architecture, seed, dtype=torch.float64) for seed in (1, 2)]


@pytest.mark.parametrize("unit", ["head", "group"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_in_a_batch_as_one_at_a_time(architecture: str, unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, asked = pair_of(*models(architecture)), {**ASKED, "unit": unit}
    batched = itlens.patch(pair, PROMPTS[:2], **asked)
    one_row = itlens.patch(pair, PROMPTS[:2], batch_size=1, **asked)
    monkeypatch.setattr(patching, "heads_apart", lambda model, parts: False)
    alone = itlens.patch(pair, PROMPTS[:2], **asked)
    assert float(np.abs(alone["effect"]).min()) > 1e-6
    for found in (batched, one_row):
        np.testing.assert_allclose(found["effect"], alone["effect"], atol=1e-10, rtol=1e-9)


def test_every_run_goes_through_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """One run per layer and prompt, not one per head."""
    runs = []
    kept = HeadWeightPatches._of_layer
    monkeypatch.setattr(HeadWeightPatches, "_of_layer", lambda *given: runs.append(given[1:3]) or kept(*given))
    itlens.patch(pair_of(*models("llama")), PROMPTS[:2], **ASKED)
    assert sorted(runs) == [(number, layer) for number in (0, 1) for layer in (0, 1)]


@pytest.mark.parametrize("heads", [{}, FULL_HEADS])
def test_heads_whose_weights_are_the_same_have_no_effect_at_all(heads: dict[str, int]) -> None:
    base = llama(**heads)
    tuned = changed_heads(base, [(1, 2)], ("q_proj", "o_proj"))
    effect = itlens.patch(pair_of(base, tuned, dtype="float32"), PROMPTS[:2], **ASKED)["effect"].values
    assert (effect[:, 1, 2] != 0).all()
    effect[:, 1, 2] = 0
    assert (effect == 0).all()


def test_heads_that_one_norm_joins_are_patched_one_at_a_time() -> None:
    model = itlens.load_model(models("qwen3")[0], tokenizer=pair_of(*models("llama")).base.tokenizer, check=False)
    parts = parts_of(model.cfg, "weights", "head", None, None)
    assert heads_apart(model, parts)
    model.blocks[1].attn.q_norm.w = torch.nn.Parameter(torch.ones(model.cfg.n_heads * model.cfg.d_head))
    assert not heads_apart(model, parts)
    assert not heads_apart(model, parts_of(model.cfg, "weights", "mlp", None, None))
