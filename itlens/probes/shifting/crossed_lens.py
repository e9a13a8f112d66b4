"""The logit lens of two models on the same tokens: each residual stream read by each model's own last step.

For stream s and readout r (base or tuned) p[s, r] = softmax(readout_r(x_s))  (logit lens: nostalgebraist 2020)
1. KL(base || tuned) and KL(tuned || base), nats, in three readings: "own" compares p[base, base] with p[tuned, tuned];
   "base" p[base, base] with p[tuned, base], where the readout is the same and only the stream differs; "tuned"
   p[base, tuned] with p[tuned, tuned].
2. Of each p[s, r]: log-probability (nats) and rank (1 = top) of one token per row, and the token on top.
The vocabulary is walked once, in pieces: with a running maximum m, z = sum_v e^(l_v - m) and, against other logits l',
k = sum_v e^(l_v - m) (l_v - l'_v), rescaled whenever m grows; KL = k/z - (m + log z) + (m' + log z').
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int

from itlens.probes.running.readout import Readout

SIDES = ("base", "tuned")
READINGS = {"own": ("base", "tuned"), "base": ("base", "base"), "tuned": ("tuned", "tuned")}  # readout of each stream
Cell = tuple[str, str]  # stream, readout
CELLS: tuple[Cell, ...] = tuple((stream, readout) for stream in SIDES for readout in SIDES)


class _Running:
    """What is carried from piece to piece of one p[s, r]."""

    def __init__(self, own: torch.Tensor, others: list[Cell]) -> None:
        rows = own.shape[0]
        self.own = own  # the asked token's logit
        self.most = own.new_full((rows,), -torch.inf)
        self.top = torch.zeros(rows, dtype=torch.long, device=own.device)
        self.total = own.new_zeros(rows, dtype=torch.float64)
        self.against = {other: self.total.clone() for other in others}
        self.above = torch.zeros_like(self.top)

    def add(self, start: int, cell: Cell, logits: Mapping[Cell, torch.Tensor], ids: torch.Tensor) -> None:
        mine = logits[cell]
        most = mine.amax(dim=1)
        higher = (most > self.most).nonzero()[:, 0]  # few, after the first pieces; looking for places is slow
        self.top[higher] = mine[higher].argmax(dim=1) + start
        most = torch.maximum(most, self.most)
        shrink = (self.most - most).double().exp()
        weight = (mine - most[:, None]).exp_()
        self.total = self.total * shrink + weight.sum(1)
        for other, sum_ in self.against.items():
            self.against[other] = sum_ * shrink + torch.linalg.vecdot(weight, mine - logits[other])
        self.most = most
        higher_than_own = torch.gt(mine, self.own[:, None], out=torch.empty_like(mine))  # truth values add up slowly
        self.above += higher_than_own.sum(1).long()
        inside = (ids >= start) & (ids < start + mine.shape[1])
        at = (ids - start).clamp(0, mine.shape[1] - 1)[:, None]
        self.above -= (inside & (mine.gather(1, at)[:, 0] > self.own)).long()  # its own logit, rounded otherwise

    @property
    def log_total(self) -> torch.Tensor:
        return self.most.double() + self.total.log()


def crossed_lens(
    streams: Mapping[str, Float[torch.Tensor, "row d_model"]],
    readouts: Mapping[str, Readout],
    ids: Int[torch.Tensor, " row"],
    *,
    same: bool = False,
) -> dict[str, torch.Tensor]:
    """The numbers of the module for rows of both residual streams (keys "base" and "tuned").

    ids: the token that is asked for in each row. same: the two readouts are equal, which halves the work.
    Returns kl_base_tuned, kl_tuned_base (reading, row), in the order of READINGS; logprob, rank, top
    (stream, readout, row).
    """
    asked = {(s, r): (s, "base" if same else r) for s, r in CELLS}
    cells = sorted(set(asked.values()))
    normed = {(s, r): readouts[r].normalised(streams[s]) for s, r in cells}
    pairs = {name: (asked["base", r], asked["tuned", t]) for name, (r, t) in READINGS.items()}
    met = {cell: sorted({b if a == cell else a for a, b in pairs.values() if cell in (a, b)}) for cell in cells}
    running = {cell: _Running(readouts[cell[1]].of_ids(normed[cell], ids), met[cell]) for cell in cells}
    read = {readout for _, readout in cells}
    for parts in zip(*(readouts[name].pieces() for name in sorted(read)), strict=True):
        weights = dict(zip(sorted(read), parts, strict=True))
        logits = {(s, r): readouts[r].logits(normed[s, r], *weights[r][1:]) for s, r in cells}
        for cell in cells:
            running[cell].add(weights[cell[1]][0].start, cell, logits, ids)
    return _numbers(running, pairs, asked)


def _numbers(
    running: Mapping[Cell, _Running], pairs: Mapping[str, tuple[Cell, Cell]], asked: Mapping[Cell, Cell]
) -> dict[str, torch.Tensor]:
    def divergence(one: Cell, other: Cell) -> torch.Tensor:
        mine = running[one]
        kl = mine.against[other] / mine.total - mine.log_total + running[other].log_total
        return kl.clamp(min=0.0)  # rounding of equal distributions

    def on_cells(values: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(values).reshape(len(SIDES), len(SIDES), -1)

    listed = [running[asked[cell]] for cell in CELLS]
    return {
        "kl_base_tuned": torch.stack([divergence(base, tuned) for base, tuned in pairs.values()]),
        "kl_tuned_base": torch.stack([divergence(tuned, base) for base, tuned in pairs.values()]),
        "logprob": on_cells([one.own.double() - one.log_total for one in listed]),
        "rank": on_cells([one.above + 1 for one in listed]),
        "top": on_cells([one.top for one in listed]),
    }
