"""Adapters of the kinds that PEFT saves, with updates that are not zero, and where two `Weights` differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from itlens.models.quiet import quiet
from itlens.weights import Weights
from tests.tiny import tiny_hf_model

IDS = torch.tensor([5, 3, 250, 3, 299])
ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "o_proj", "down_proj", "gate_proj"]},
    "dora": {"r": 2, "target_modules": ["k_proj", "up_proj"], "use_dora": True},
    "embedding": {"r": 2, "target_modules": ["q_proj", "embed_tokens"]},
    "patterns": {
        "r": 2,
        "target_modules": ["q_proj", "k_proj", "up_proj"],
        "rank_pattern": {"q_proj": 4, "layers.1.mlp.up_proj": 1},
        "alpha_pattern": {"k_proj": 32},
        "use_rslora": True,
    },
    "transposed": {"r": 2, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True},
    "whole modules": {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
}


def adapter(folder: Path, architecture: str, **settings: Any) -> Path:
    peft = pytest.importorskip("peft", reason="the peft extra is not installed")
    torch.manual_seed(7)
    wrapped = peft.get_peft_model(tiny_hf_model(architecture), peft.LoraConfig(**settings))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name or "lora_embedding_B" in name:
                parameter.normal_(0, 0.5)
            elif "modules_to_save" in name:
                parameter.add_(0.3)
    with quiet():
        wrapped.save_pretrained(folder)
    return folder


def parameters(weights: Weights) -> Iterator[tuple[str, Tensor | None]]:
    """Everything that a probe can read, by name."""
    for layer in range(weights.facts["layers"]):
        for half in (weights.attention(layer), weights.mlp(layer)):
            for field in dataclasses.fields(half):
                yield f"{type(half).__name__} {layer} {field.name}", getattr(half, field.name)
    yield "embed", weights.embed(IDS)
    yield "unembed", weights.unembed(IDS)
    yield "final gain", weights.final_gain()


def differences(ours: Weights, theirs: Weights) -> list[str]:
    pairs = zip(parameters(ours), parameters(theirs), strict=True)
    return [name for (name, own), (_, other) in pairs if not same(own, other)]


def same(own: Tensor | None, other: Tensor | None) -> bool:
    if own is None or other is None:
        return own is other
    return own.dtype == other.dtype and torch.equal(own, other)
