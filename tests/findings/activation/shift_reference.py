"""What the tests of `activation_shift` compare: a pair with one change, the same numbers by plain loops."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import jensenshannon

import itlens
from itlens.hooked.tokens import CLASSES, Forced
from tests.tiny import tiny_hf_model, tiny_tokenizer

PROMPTS = [
    itlens.Prompt(
        "Translate the dog. A river flows.", instruction="Translate the dog.", response=" yes, a dog", id="a"
    ),
    itlens.Prompt(
        "List three animals, and the plural of mouse.", instruction="List", response=" mice", id="b", group="g"
    ),
    itlens.Prompt("The fox jumps over it", context="The fox", response=" and sleeps by the river", id="c", group="g"),
]


def load(network: Any, backend: str = "hooked", dtype: str = "float64") -> Any:
    return itlens.load_model(network, tokenizer=tiny_tokenizer(), backend=backend, dtype=dtype)


def network(architecture: str = "llama", seed: int = 0, dtype: torch.dtype = torch.float64, **overrides: Any) -> Any:
    return tiny_hf_model(architecture, seed, dtype=dtype, **overrides)


def altered(model: Any, alter: Any) -> Any:
    """A copy of a Hugging Face model, changed by `alter`."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        alter(twin)
    return twin


def cached(model: Any, one: Forced, *names: str) -> list[torch.Tensor]:
    """Activations without the batch, and the logits."""
    with torch.no_grad():
        logits, cache = model.run_with_cache(torch.tensor([one.read]))
    return [*(cache[name][0] for name in names), logits[0]]


def of_class(one: Forced, name: str) -> list[int]:
    everything = range(len(one.read))
    if name in ("all", "rest"):
        return list(everything)[1 if name == "rest" else 0 :]
    return [place for place in everything if CLASSES[one.classes[place]] == name]


def by_loops(base: torch.Tensor, tuned: torch.Tensor, places: list[int]) -> dict[str, float]:
    """relative_change, cosine and norm_ratio over some tokens; vectors (token, feature)."""
    if not places:
        return dict.fromkeys(("relative_change", "cosine", "norm_ratio"), np.nan)
    a, b = base.numpy()[places], tuned.numpy()[places]
    norm = np.linalg.norm
    cosines = [float(x @ y / (norm(x) * norm(y))) for x, y in zip(a, b, strict=True)]
    size = sum(float(norm(x)) for x in a)
    return {
        "relative_change": sum(float(norm(y - x)) for x, y in zip(a, b, strict=True)) / size,
        "cosine": float(np.mean(cosines)),
        "norm_ratio": sum(float(norm(y)) for y in b) / size,
    }


def divergence(base: torch.Tensor, tuned: torch.Tensor, places: list[int]) -> float:
    """The mean Jensen-Shannon divergence of rows of two patterns (query, key) of one head."""
    rows = [jensenshannon(base[place].numpy(), tuned[place].numpy()) ** 2 for place in places]
    return float(np.mean(rows))
