"""The logit lens: what the model would say if it stopped after a layer (nostalgebraist 2020).

For each layer's residual stream x at a target position (the model's own final norm, unembedding and, where it has one,
soft cap c tanh(logit / c)):
1. logits = unembed(ln_final(x)), log p = log_softmax(logits) in at least float32;
2. logprob: log p of the response token (nats); rank: 1 + the number of tokens with a higher logit (1 = on top);
3. entropy of p, nats; kl = KL(p of the last layer || p), nats, 0 at the last layer;
4. agreement: whether the last layer's top token is on top here;
5. commitment: the first layer with agreement; commitment_stays: the first layer from which on all have it.
Per prompt: means over the targets that are read (`lens_places`); of the rank, the median.

The whole vocabulary is only held for a few positions at a time (`POSITION_BYTES`). That the last layer's logits are the
model's own is checked at the first target of every prompt.

At how many targets the lens reads (`lens_count`): reading every layer costs products with W_U that grow with layers and
vocabulary, on a small model with a large vocabulary many times its forward pass. So by default a few of the positions
that predict are read, evenly spread from the first to the last: as many as cost about half a forward pass, at least 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int

from itlens.errors import ProbeError
from itlens.hooked.hooks import Hook, at_layers, target_positions, wide
from itlens.hooked.tokens import Forced
from itlens.models.hooked_model import HookedModel
from itlens.models.precision import as_numbers

Count: TypeAlias = Literal["all"] | int | None  # of targets that are read

SHARE = 0.5  # of a forward pass
LEAST = 2  # targets
POSITION_BYTES = 1 << 23  # of one array of logits; four such arrays are alive at a time
_STATISTICS = ("logprob", "rank", "entropy", "kl", "agreement")


def lens_logits(
    model: HookedModel, resid: Float[torch.Tensor, "target d_model"]
) -> Float[torch.Tensor, "target d_vocab"]:
    """Return what the model's own final norm and unembedding make of a residual stream, in at least float32."""
    logits = wide(model.unembed(model.ln_final(resid[None]))[0])
    cap = getattr(model.cfg, "output_logits_soft_cap", None)
    capped: torch.Tensor = cap * torch.tanh(logits / cap) if cap is not None and cap > 0 else logits
    return capped


class Final(NamedTuple):
    """The last layer's distribution at some positions: probabilities, entropy (nats) and top token."""

    p: Float[torch.Tensor, "target d_vocab"]
    entropy: Float[torch.Tensor, " target"]
    top: Int[torch.Tensor, " target"]

    @classmethod
    def of(cls, logits: torch.Tensor) -> Final:
        """Make it from logits (target, d_vocab)."""
        p = logits.softmax(1)
        return cls(p, torch.special.entr(p).sum(1), logits.argmax(1))


def lens_statistics(
    logits: Float[torch.Tensor, "layer target d_vocab"], final: Final, targets: Int[torch.Tensor, " target"]
) -> Float[torch.Tensor, "layer statistic target"]:
    """Return logprob, rank, entropy, kl and agreement (1 or 0) of each layer and position.

    With total = log sum exp logit: entropy = total - sum p logit, KL = total - sum f logit - entropy of f. Passes over
    the vocabulary are what a lens costs next to its matrix product, so that none is made twice.
    """
    own = logits.gather(-1, targets.expand(len(logits), -1)[..., None])
    rank = 1 + (logits > own).sum(-1)
    highest, top = logits.max(-1)
    weight = (logits - highest[..., None]).exp_()
    scale = weight.sum(-1)
    total = highest + scale.log()
    entropy = total - torch.linalg.vecdot(weight, logits) / scale
    kl = (total - torch.linalg.vecdot(final.p, logits) - final.entropy).clamp(min=0.0)
    return torch.stack([own[..., 0] - total, rank.to(kl.dtype), entropy, kl, (top == final.top).to(kl.dtype)], dim=1)


def commitment(agreement: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return per target the first layer that agrees, and the first from which on all agree. agreement: (layer,
    target)."""
    agrees = agreement.astype(bool)
    after_last_miss = len(agrees) - np.argmin(agrees[::-1], axis=0)
    return agrees.argmax(axis=0), np.where(agrees.all(axis=0), 0, after_last_miss)


class Lens:
    """The summary "lens"; see the module."""

    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {f"lens_{name}": ("layer",) for name in _STATISTICS} | {
        "lens_commitment": (),
        "lens_commitment_stays": (),
    }
    names: ClassVar[Mapping[str, str]] = {
        "lens_logprob": "logit lens: log-probability of the response token (nats)",
        "lens_rank": "logit lens: median rank of the response token",
        "lens_entropy": "logit lens: entropy (nats)",
        "lens_kl": "logit lens: KL divergence from the final distribution (nats)",
        "lens_agreement": "logit lens: share of positions with the final top token on top",
        "lens_commitment": "first layer with the final top token on top",
        "lens_commitment_stays": "first layer from which the final top token stays on top",
    }

    def __init__(self, model: HookedModel, count: Count = None) -> None:
        self._model, self._count = model, count
        self._blocks = sum(parameter.numel() for parameter in model.blocks.parameters())
        self._resid: dict[int, torch.Tensor] = {}
        self._first = torch.empty(0)

    def places(self, one: Forced) -> np.ndarray:
        """Return which of the targets are read."""
        cfg, targets = self._model.cfg, len(one.targets)
        sizes = {"width": cfg.d_model, "vocabulary": cfg.d_vocab, "layers": cfg.n_layers, "blocks": self._blocks}
        return spread(targets, lens_count(self._count, targets, read=len(one.read), **sizes))

    def hooks(self, one: Forced) -> list[Hook]:
        """Keep the residual stream after each layer, at the targets that are read."""
        self._resid = {}
        where = target_positions(self._model, one)
        read = where[torch.as_tensor(self.places(one), device=where.device)]

        def keep(layer: int, value: torch.Tensor) -> None:
            self._resid[layer] = value[0, read]
            self._first = value[0, where[:1]]  # in the end that of the last layer

        return at_layers(self._model, "hook_resid_post", keep)

    def values(self, one: Forced, logits: torch.Tensor) -> dict[str, np.ndarray]:
        """Return the statistics on (layer), and the layers of commitment."""
        layers = [self._resid[layer] for layer in sorted(self._resid)]
        read = [one.targets[place] for place in self.places(one)]
        targets = torch.tensor(read, dtype=torch.long, device=layers[0].device)
        self._refuse_other_logits(self._first, logits)
        size = max(1, POSITION_BYTES // (self._model.cfg.d_vocab * wide(logits[:0]).element_size()))
        parts = [self._chunk(layers, targets, slice(at, at + size), size) for at in range(0, len(targets), size)]
        table = as_numbers(torch.cat(parts, dim=2))
        means = {f"lens_{name}": table[:, place].mean(axis=1) for place, name in enumerate(_STATISTICS)}
        means["lens_rank"] = np.median(table[:, _STATISTICS.index("rank")], axis=1)
        first, stays = commitment(table[:, _STATISTICS.index("agreement")])
        return means | {"lens_commitment": first.mean(), "lens_commitment_stays": stays.mean()}

    def _chunk(
        self, layers: list[torch.Tensor], targets: torch.Tensor, part: slice, rows: int
    ) -> Float[torch.Tensor, "layer statistic position"]:
        """Return the statistics of some positions in all layers, about `rows` rows of logits at a time: few rows a
        product would read W_U from memory once for every layer."""
        final, ids = Final.of(lens_logits(self._model, layers[-1][part])), targets[part]
        step = max(1, rows // len(ids))
        tables = []
        for at in range(0, len(layers), step):
            resid = torch.stack([layer[part] for layer in layers[at : at + step]])
            logits = lens_logits(self._model, rearrange(resid, "layer target d_model -> (layer target) d_model"))
            logits = rearrange(logits, "(layer target) d_vocab -> layer target d_vocab", target=len(ids))
            tables.append(lens_statistics(logits, final, ids))
        table = torch.cat(tables)
        table[-1, _STATISTICS.index("kl")] = 0.0  # by definition; what rounding leaves would be tested like a finding
        return table

    def _refuse_other_logits(self, last: torch.Tensor, logits: torch.Tensor) -> None:
        read = lens_logits(self._model, last)[0]
        worst = float((read - wide(logits)).abs().max())
        allowed = 1e-3 if logits.dtype in (torch.float32, torch.float64) else 0.1
        if not worst <= allowed * max(1.0, float(read.abs().max())):
            raise ProbeError(
                f"The logit lens of this model does not end in its own logits (they differ by {worst:.3g}): it does "
                'more after its last layer than a norm and an unembedding; leave "lens" out of hooks=.'
            )


def lens_count(
    count: Count, targets: int, *, read: int, width: int, vocabulary: int, layers: int, blocks: int, readings: int = 1
) -> int:
    """Return how many of `targets` places the lens reads. count: None (see the module), "all" or a number.

    read: tokens of the forward pass; blocks: parameters of all blocks; readings: products with W_U per layer, place and
    forward pass.
    """
    if count == "all":
        return targets
    one_pass, one_place = read * (blocks + width * vocabulary), readings * layers * width * vocabulary
    return min(targets, max(LEAST, int(SHARE * one_pass / one_place)) if count is None else count)


def spread(targets: int, count: int) -> np.ndarray:
    """Return `count` of the numbers 0 .. targets - 1, from the first to the last (a single one: the middle)."""
    picks = np.linspace(0, targets - 1, count) if count > 1 else np.array([(targets - 1) / 2] * count)
    return np.round(picks).astype(np.int64)
