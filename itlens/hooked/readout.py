"""Keep the last step of a model as numbers on disk (final norm, unembedding, soft cap), to read any residual stream.

logits(x) = cap((norm(x) * gain + bias) W_U + b_U), cap(l) = c tanh(l / c) where the model caps its logits. The other
model of a pair has left memory when its readout is needed, and W_U is read in pieces of the vocabulary.

`RunningSoftmax` is what is carried from piece to piece of one distribution: with a running maximum m,
z = sum_v e^(l_v - m) and, against other logits l', k = sum_v e^(l_v - m) (l_v - l'_v), rescaled whenever m grows;
KL(p || p') = k/z - (m + log z) + (m' + log z').
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int

from itlens.errors import ProbeError
from itlens.hooked.cache import ActivationCache
from itlens.models import HookedModel, source_of
from itlens.models.check import BOUNDS
from itlens.models.precision import exact, exact_device
from itlens.weights import weights_of

PIECE = 1024  # of the vocabulary at a time
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Readout:
    """norm: "LN", "RMS" or "" (none), as TransformerLens names it; cap: 0 for none; file: where W_U (d_vocab, d_model)
    and b_U are kept; size: how much of the vocabulary is read."""

    cache: ActivationCache
    file: str
    norm: str
    eps: float
    cap: float
    gain: Float[torch.Tensor, " d_model"]
    bias: Float[torch.Tensor, " d_model"] | None
    size: int

    def normalised(self, x: Float[torch.Tensor, "row d_model"]) -> Float[torch.Tensor, "row d_model"]:
        """Return what enters the unembedding."""
        if self.norm == "LN":
            x = x - x.mean(-1, keepdim=True)
        if self.norm:
            x = x / (x.square().mean(-1, keepdim=True) + self.eps).sqrt()
        x = x * self.gain.to(x)
        return x if self.bias is None else x + self.bias.to(x)

    def pieces(self) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Yield (which ids, their rows of W_U', their b_U), piece by piece."""
        for start in range(0, self.size, PIECE):
            stop = min(start + PIECE, self.size)
            yield (
                slice(start, stop),
                self.cache.get(self.file, "W_U", start, stop),
                self.cache.get(self.file, "b_U", start, stop),
            )

    def logits(self, normed: torch.Tensor, rows: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Return the logits (row, id) of normalised streams for the ids of a piece."""
        return self.capped(torch.addmm(bias.to(normed), normed, rows.to(normed).T))

    def capped(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the soft cap, where there is one."""
        return self.cap * torch.tanh(logits / self.cap) if self.cap > 0 else logits

    def of_ids(self, normed: torch.Tensor, ids: Int[torch.Tensor, " row"]) -> Float[torch.Tensor, " row"]:
        """Return the logit of one id per row."""
        different, place = ids.unique(return_inverse=True)  # the same few in every layer
        rows, bias = (self.cache.rows(self.file, name, different.tolist()).to(normed) for name in ("W_U", "b_U"))
        return self.capped((normed * rows[place]).sum(-1) + bias[place])


def save_readout(model: HookedModel, cache: ActivationCache, side: str, size: int) -> Readout:
    """Write a model's unembedding into the cache; `size`: the ids that both models have."""
    file, cfg = f"{side}-readout", model.cfg
    W_U, b_U = model.unembed.W_U.detach(), getattr(model.unembed, "b_U", None)
    cache.put(file, "W_U", W_U.T[:size])
    cache.put(file, "b_U", (W_U.new_zeros(W_U.shape[1]) if b_U is None else b_U.detach())[:size])
    kind, bias = str(cfg.normalization_type or ""), getattr(model.ln_final, "b", None)
    return Readout(
        cache=cache,
        file=file,
        norm=kind.removesuffix("Pre"),
        eps=float(cfg.eps),
        cap=float(getattr(cfg, "output_logits_soft_cap", 0.0) or 0.0),
        gain=weights_of(model).final_gain().detach().cpu().clone(),
        bias=None if bias is None else bias.detach().cpu().clone(),
        size=size,
    )


def refuse_other_readout(
    readout: Readout,
    model: HookedModel,
    residual: Float[torch.Tensor, "1 d_model"],
    logits: Float[torch.Tensor, "1 d_vocab"],
    *,
    remedy: str = 'leave "lens" out of hooks=',
) -> None:
    """Raise ProbeError unless the readout of the last residual stream is what the model itself computes.

    remedy: what the error tells the user to do."""
    wide = residual.detach().cpu()
    wide = wide if wide.dtype == torch.float64 else wide.float()
    own = torch.cat([readout.logits(readout.normalised(wide), *piece) for _, *piece in readout.pieces()], dim=1)
    expected = logits[:, : readout.size].detach().cpu().to(own)
    away = float((own - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
    if not away <= BOUNDS[logits.dtype]:
        raise ProbeError(
            f"The logit lens does not reproduce the output of {source_of(model).name} (logits differ by {away:.1e} of "
            f"the largest): its last step is of an unknown kind; {remedy}."
        )


def same_readout(one: Readout, other: Readout) -> bool:
    """Return whether two readouts hold the same numbers, as after tuning with an adapter on the layers."""
    plain = [(it.norm, it.eps, it.cap, it.size, it.bias is None) for it in (one, other)]
    if plain[0] != plain[1] or not torch.equal(one.gain, other.gain):
        return False
    if one.bias is not None and other.bias is not None and not torch.equal(one.bias, other.bias):
        return False
    pairs = zip(one.pieces(), other.pieces(), strict=True)
    return all(torch.equal(a, b) and torch.equal(c, d) for (_, a, c), (_, b, d) in pairs)


class RunningSoftmax(Generic[Key]):
    """One distribution per row, read piece by piece of the vocabulary; see the module.

    own: the logit of one token per row. others: keys of the logits that it is compared with. count: how many of the
    highest logits are kept: `top` (row, count) their ids and `highest` their logits, from high to low.
    """

    def __init__(self, own: Float[torch.Tensor, " row"], others: Sequence[Key], count: int = 1) -> None:
        rows, device = own.shape[0], own.device
        self.own = own
        self.highest = own.new_full((rows, count), -torch.inf)
        self.top = torch.zeros((rows, count), dtype=torch.long, device=device)
        self.total = torch.zeros(rows, dtype=torch.float64, device=exact_device(device))
        self.against = {other: self.total.clone() for other in others}
        self.above = torch.zeros(rows, dtype=torch.long, device=device)

    def add(self, start: int, key: Key, logits: Mapping[Key, torch.Tensor], ids: torch.Tensor) -> None:
        """Read one piece. start: its first id; key: which of `logits` (row, id) are this distribution's; ids: the token
        of each row."""
        mine, before = logits[key], self.highest[:, 0]
        most = torch.maximum(mine.amax(dim=1), before)
        self._keep_highest(start, mine)
        shrink = exact(before - most).exp()
        weight = (mine - most[:, None]).exp_()
        self.total = self.total * shrink + weight.sum(1)
        for other, total in self.against.items():
            self.against[other] = total * shrink + torch.linalg.vecdot(weight, mine - logits[other])
        higher_than_own = torch.gt(mine, self.own[:, None], out=torch.empty_like(mine))  # truth values add up slowly
        self.above += higher_than_own.sum(1).long()
        inside = (ids >= start) & (ids < start + mine.shape[1])
        at = (ids - start).clamp(0, mine.shape[1] - 1)[:, None]
        self.above -= (inside & (mine.gather(1, at)[:, 0] > self.own)).long()  # its own logit, rounded otherwise

    def _keep_highest(self, start: int, mine: torch.Tensor) -> None:
        higher = (mine.amax(dim=1) > self.highest[:, -1]).nonzero()[:, 0]  # few, after the first pieces
        count = self.top.shape[1]
        values, places = mine[higher].topk(min(count, mine.shape[1]), dim=1)
        all_values = torch.cat([self.highest[higher], values], dim=1)
        all_ids = torch.cat([self.top[higher], places + start], dim=1)
        kept = all_values.topk(count, dim=1)
        self.highest = self.highest.index_copy(0, higher, kept.values)
        self.top = self.top.index_copy(0, higher, all_ids.gather(1, kept.indices))

    @property
    def log_total(self) -> torch.Tensor:
        """The log of the sum over the vocabulary of e^logit, by row."""
        return exact(self.highest[:, 0]) + self.total.log()

    @property
    def logprob(self) -> torch.Tensor:
        """The log-probability of each row's token, nats."""
        return exact(self.own) - self.log_total

    @property
    def rank(self) -> torch.Tensor:
        """1 and the number of tokens with a higher logit than each row's token."""
        return self.above + 1

    def divergence(self, key: Key, other: RunningSoftmax[Key]) -> torch.Tensor:
        """KL(this || other) by row, nats. key: of the other's logits."""
        kl = self.against[key] / self.total - self.log_total + other.log_total
        return kl.clamp(min=0.0)  # rounding of equal distributions
