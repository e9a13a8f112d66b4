"""Tiny models and prompts for the tests of activations, and every position's activations as plain arrays."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch

import itlens
from tests.tiny import tiny_hf_model, tiny_tokenizer

PROMPTS = [
    itlens.Prompt(
        "Translate the dog into French now. A river flows.",
        instruction="Translate the dog into French",
        context="A river",
        response=" yes, cat dog",
        id="a",
        group="words",
    ),
    itlens.Prompt("List three animals.", instruction="List three", response=" Cat, dog", id="b", group="lists"),
]


def tiny(architecture: str, backend: str = "hooked", dtype: str = "float32", **overrides: Any) -> Any:
    """A loaded tiny model; in float64 the weights are the float32 ones, exactly."""
    return itlens.load_model(
        tiny_hf_model(architecture, **overrides), tokenizer=tiny_tokenizer(), backend=backend, dtype=dtype
    )


@cache
def shared(architecture: str, backend: str = "hooked", dtype: str = "float32") -> Any:
    """The same, loaded once: for tests that change nothing of it."""
    return tiny(architecture, backend, dtype)


def seen(model: Any, ids: Any, *names: str) -> dict[str, np.ndarray]:
    """The activations of one text at hook points, without the batch."""
    kept: dict[str, np.ndarray] = {}

    def keeper(name: str) -> Any:
        def keep(value: torch.Tensor, hook: Any) -> None:
            kept[name] = value[0].detach().double().numpy()

        return keep

    with torch.no_grad():
        model.run_with_hooks(torch.tensor([ids]), fwd_hooks=[(name, keeper(name)) for name in names])
    return kept
