"""Pairs of tiny models that differ in known places, and prompts with given responses."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch

import itlens
from itlens.models import ModelPair
from itlens.prompts import Prompt
from tests.tiny import tiny_hf_model, tiny_tokenizer

TEXTS = {
    "Translate the dog. A river flows.": (" yes", "Translate the dog."),
    "List three fruits: apple, pear.": (" plum", "List three fruits"),
    "What is the plural of mouse?": (" Mice.", "What is the plural"),
    "Rewrite it so that it's polite: go!": (" went", "Rewrite it"),
    "Answer with no: is 17 a prime?": (" No it is", "Answer with no"),
    "The opposite of hot is cold.": (" see, saw", "opposite"),
}
PROMPTS = [
    Prompt(text, instruction=span, response=response, id=f"p{number}", group="ab"[number % 2])
    for number, (text, (response, span)) in enumerate(TEXTS.items())
]
FULL_HEADS = {"num_key_value_heads": 4}  # as many as heads
HEAD_SIZE = 12


def pair_of(base: Any, tuned: Any, *, backend: str = "hooked", dtype: str = "float64", **options: Any) -> ModelPair:
    """A pair of Hugging Face models, both kept."""
    same = {"tokenizer": tiny_tokenizer(), "backend": backend, "dtype": dtype, "check": False, "keep_both": True}
    return itlens.load_pair(base, tuned, **(same | options))


def llama(seed: int = 0, **options: Any) -> Any:
    return tiny_hf_model("llama", seed, dtype=torch.float64, **options)


def changed_heads(
    base: Any, heads: Iterable[tuple[int, int]], projections: Iterable[str] = ("v_proj",), scale: float = 1.0
) -> Any:
    """A copy of a llama whose (layer, head) have other weights in these projections, by Gaussian noise."""
    tuned, generator = copy.deepcopy(base), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for layer, head in heads:
            for name in projections:
                weight = getattr(tuned.model.layers[layer].self_attn, name).weight
                own = slice(head * HEAD_SIZE, (head + 1) * HEAD_SIZE)
                part = weight[:, own] if name == "o_proj" else weight[own]
                part += scale * torch.randn(part.shape, generator=generator, dtype=part.dtype)
    return tuned


def with_blocks_of(base: Any, other: Any, *, kept: Iterable[str] = ()) -> Any:
    """A copy of `base` with the blocks of `other`, but for the parameters whose names hold one of `kept`."""
    tuned = copy.deepcopy(base)
    theirs = dict(other.named_parameters())
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if ".layers." in name and not any(part in name for part in kept):
                parameter.copy_(theirs[name])
    return tuned
