"""Two-layer models whose next token hangs on the last one only, with every logit written out; and made-up results.

Both layers write nothing (their output weights are zero), so that the residual stream is the embedding. Each token has
a row: its embedding is sqrt(32) in that dimension and 0 elsewhere, whose RMS norm is itself, and W_U holds the logits
of that row divided by sqrt(32).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr

import itlens
from itlens.models import ModelPair
from tests.tiny import tiny_hf_model, tiny_tokenizer

WIDTH = 32
NEVER = -60.0  # the logit of a token that is never written
TOKENIZER = tiny_tokenizer(vocab=259)  # single bytes only
END = 2


def id_of(letter: str) -> int:
    """The id of a letter; "." stands for the end of the text."""
    return END if letter == "." else TOKENIZER(letter, add_special_tokens=False)["input_ids"][0]


def chain(rows: Mapping[str, Mapping[str, float]]) -> Any:
    """A model with these probabilities of the next letter after each letter; the row "" is that of all other tokens."""
    model = tiny_hf_model("llama", dtype=torch.float64, num_key_value_heads=4, rms_norm_eps=1e-30)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        model.lm_head.weight.fill_(NEVER / math.sqrt(WIDTH))
        model.model.embed_tokens.weight[:, 0] = math.sqrt(WIDTH)
        for dimension, (letter, following) in enumerate(sorted(rows.items())):
            if letter:
                model.model.embed_tokens.weight[id_of(letter)] = 0.0
                model.model.embed_tokens.weight[id_of(letter), dimension] = math.sqrt(WIDTH)
            for other, probability in following.items():
                model.lm_head.weight[id_of(other), dimension] = math.log(probability) / math.sqrt(WIDTH)
    return model


def pair_of_chains(base: Any, tuned: Any, *, backend: str = "hooked") -> ModelPair:
    """A pair that both stay in memory."""
    same: dict[str, Any] = {"tokenizer": TOKENIZER, "backend": backend, "dtype": "float64", "check": False}
    return itlens.load_pair(base, tuned, keep_both=True, **same)


def made_shift(rank: np.ndarray, kl: np.ndarray | None = None, *, kinds: Any = None, tokens: Any = None) -> xr.Dataset:
    """A result of `itlens.token_shift` with these ranks (prompt, position), NaN past a response's end."""
    known = np.isfinite(rank)
    shape = rank.shape

    def texts(given: Any, default: str) -> np.ndarray:
        return np.where(known, default if given is None else np.asarray(given, dtype=object), "").astype(object)

    numbers = {
        "rank": rank,
        "rank_tuned": np.where(known, 1.0, np.nan),
        "p_base": np.where(known, 1 / (1 + rank), np.nan),
        "p_tuned": np.where(known, 0.9, np.nan),
        "kl": np.where(known, np.log(rank), np.nan) if kl is None else kl,
    }
    choices = np.full((*shape, 5), "", dtype=object)
    choices[known] = [" the", " a", "<b>", "$x$", "\n"]
    length = known.sum(axis=1)
    place = np.where(known, np.arange(shape[1]), -1)
    texts_of = {
        "prompt_text": ["Say <i>it</i>.\nAnswer:"] * shape[0],
        "response_text": ["w" * count for count in length],
        "finish": ["length"] * shape[0],
        "tokens_digest": [f"{number:016x}" for number in range(shape[0])],
        "group": ["ab"[number % 2] for number in range(shape[0])],
    }
    return xr.Dataset(
        {name: (("prompt", "position"), values) for name, values in numbers.items()}
        | {
            "token": (("prompt", "position"), texts(tokens, "w")),
            "kind": (("prompt", "position"), texts(kinds, "content word")),
            "token_id": (("prompt", "position"), np.where(known, 7, -1)),
            "start": (("prompt", "position"), place),
            "stop": (("prompt", "position"), place + known),
            "base_top": (("prompt", "position", "choice"), choices),
            "base_top_p": (("prompt", "position", "choice"), np.where(known[..., None], 0.1, np.nan) * np.ones(5)),
        },
        coords={
            "prompt": np.array([f"p{number}" for number in range(shape[0])], dtype=object),
            "position": np.arange(shape[1]),
            "choice": np.arange(1, 6),
            "length": ("prompt", length),
            **{name: ("prompt", np.array(values, dtype=object)) for name, values in texts_of.items()},
        },
        attrs={"probe": "token_shift", "base_model": "org/base", "tuned_model": "org/tuned", "responses": "tuned"},
    )
