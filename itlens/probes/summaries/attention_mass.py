"""Where each head looks while the model writes: attention mass by class of token, and entropy.

For a head's pattern p[q, k] (softmax over keys k <= q), means over the target positions q:
1. mass[c] = sum of p[q, k] over the keys k of class c. Over the classes it sums to 1.
2. lift[c] = mean mass[c] / mean share[c], share[c] = the part of the keys k <= q that is of class c. 1 is what uniform
   attention would give; mass alone favours classes of many tokens.
3. entropy = - sum_k p log p, nats; entropy_share = entropy / log(number of keys k <= q), 0 (one key) to 1 (uniform).
   A position that can read one key only has no entropy_share.

A class of which no target can read a token is NaN. Keys that a sliding window hides count as readable, with mass 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int

from itlens.probes.running.forced import CLASSES, Forced
from itlens.probes.running.hooking import Hook
from itlens.probes.summaries.summary import at_layers, stacked, target_positions, wide


def class_columns(one: Forced, device: torch.device) -> Int[torch.Tensor, "key token_class"]:
    """1 where a token that is read is of a class, else 0."""
    return torch.nn.functional.one_hot(torch.as_tensor(one.classes.astype(np.int64), device=device), len(CLASSES))


def class_shares(one: Forced) -> Float[np.ndarray, " token_class"]:
    """The mean over targets of each class's part of the tokens that can be read there."""
    counts = np.cumsum(np.eye(len(CLASSES))[one.classes], axis=0)
    readable = counts[list(one.positions)]
    return (readable / readable.sum(axis=1, keepdims=True)).mean(axis=0)


def attention_statistics(
    pattern: Float[torch.Tensor, "head query key"],
    queries: Int[torch.Tensor, " target"],
    columns: Int[torch.Tensor, "key token_class"],
) -> dict[str, torch.Tensor]:
    """mass (head, token_class), entropy (nats) and entropy_share (head): means over `queries`; see the module."""
    picked = wide(pattern[:, queries])
    entropy = torch.special.entr(picked).sum(-1)
    keys = (queries + 1).to(entropy.dtype)
    share = torch.where(keys > 1, entropy / keys.log(), torch.nan)
    return {
        "attention_mass": (picked @ columns.to(picked.dtype)).mean(1),
        "attention_entropy": entropy.mean(1),
        "attention_entropy_share": share.nanmean(1),
    }


class AttentionMass:
    """The summary "attention"; see the module."""

    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "attention_mass": ("layer", "head", "token_class"),
        "attention_lift": ("layer", "head", "token_class"),
        "attention_entropy": ("layer", "head"),
        "attention_entropy_share": ("layer", "head"),
    }
    names: ClassVar[Mapping[str, str]] = {
        "attention_mass": "attention mass",
        "attention_lift": "attention mass relative to uniform attention",
        "attention_entropy": "entropy of attention (nats)",
        "attention_entropy_share": "entropy of attention relative to uniform attention",
    }

    def __init__(self, model: Any) -> None:
        self._model = model
        self._kept: dict[int, dict[str, torch.Tensor]] = {}

    def hooks(self, one: Forced) -> list[Hook]:
        """Patterns of all layers, reduced where they arise."""
        self._kept = {}
        queries = target_positions(self._model, one)
        columns = class_columns(one, queries.device)

        def keep(layer: int, value: torch.Tensor) -> None:
            self._kept[layer] = attention_statistics(value[0], queries, columns)

        return at_layers(self._model, "attn.hook_pattern", keep)

    def values(self, one: Forced, logits: torch.Tensor) -> dict[str, np.ndarray]:
        """The statistics on (layer, head[, token_class])."""
        measured = next(iter(self._kept.values()))
        found = {name: stacked({layer: part[name] for layer, part in self._kept.items()}) for name in measured}
        share = class_shares(one)
        found["attention_mass"][..., share == 0] = np.nan
        with np.errstate(invalid="ignore"):
            found["attention_lift"] = found["attention_mass"] / share
        return found
