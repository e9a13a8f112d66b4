"""The donor's weights of single heads, all heads of a layer in one batch instead of one run each.

In its own layer a head's weights change what that head writes, and nothing else. So, layer by layer:
1. With the donor's weights of all asked heads put in, one layer is run on the receiver's residual stream: z' (head).
   What a head emits depends on no other head's weights, so z' of a head is what it emits with its weights alone.
2. In row h of a batch the receiver, as it is, goes on from z'_h in place of z_h, and z'_h (W_O'_h - W_O_h) is added to
   what attention writes, before any norm that follows: z'_h W_O'_h in place of z_h W_O_h.
A head whose weights are the receiver's own, bit by bit, is not run: it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from itlens.probes.patches.parts import Part, Parts
from itlens.probes.patches.runs import Counter, Set, starts_inside
from itlens.probes.patches.weights import WeightPatches, part_weights, swapped


def heads_apart(model: Any, parts: Parts) -> bool:
    """Whether heads can be patched in one batch: runs can begin at a layer, and no norm joins the heads' queries."""
    if parts.unit not in ("head", "group") or not starts_inside(model):
        return False
    norms = [getattr(model.blocks[layer].attn, "q_norm", None) for layer in parts.layers]
    return all(norm is None or norm.w.numel() == model.cfg.d_head for norm in norms)


@dataclass(frozen=True)
class HeadWeightPatches(WeightPatches):
    """`WeightPatches` of heads (or groups of heads); sets of several parts are put in one after another, as there."""

    def __call__(self, numbers: Sequence[int], sets: Sequence[Set], tell: Counter) -> np.ndarray:
        """The metric (prompt, set) of some prompts under each set."""
        out = np.full((len(numbers), len(sets)), np.nan)
        several = [column for column, asked in enumerate(sets) if len(asked) != 1]
        if several:
            out[:, several] = super().__call__(numbers, [sets[column] for column in several], tell)
        for layer in sorted({asked[0].layer for asked in sets if len(asked) == 1}):
            columns = [column for column, asked in enumerate(sets) if len(asked) == 1 and asked[0].layer == layer]
            parts = [sets[column][0] for column in columns]
            for row, number in enumerate(numbers):
                out[row, columns] = self._of_layer(number, layer, parts)
                tell(len(columns))
        return out

    def _of_layer(self, number: int, layer: int, parts: list[Part]) -> np.ndarray:
        out = np.full(len(parts), self.receiver.own(number))
        changed = [place for place, part in enumerate(parts) if self._differs(part)]
        if changed:
            z = self._emitted(number, layer, [parts[place] for place in changed])
            step = self._step(layer)
        size = self.receiver.rows(number)
        for start in range(0, len(changed), size):
            rows = changed[start : start + size]
            heads = [self._heads(parts[place]) for place in rows]
            name = f"blocks.{layer}.attn.hook_z"
            with _added(self.receiver.model.blocks[layer].attn, _written(z, step, heads)):
                out[rows] = self.receiver.run(number, len(rows), [(name, _putting(z, heads))], layer)
        return out

    def _heads(self, part: Part) -> slice:
        head = 0 if part.head is None else part.head
        shared = self.parts.shared if self.parts.unit == "group" else 1
        return slice(head * shared, (head + 1) * shared)

    def _differs(self, part: Part) -> bool:
        """Whether any weight of a part is not the receiver's own."""
        found = part_weights(self.receiver.model, part, self.parts, self.folder)
        return any(not torch.equal(own, given.to(own)) for own, given in found)

    def _emitted(self, number: int, layer: int, parts: list[Part]) -> torch.Tensor:
        """z' (position, head, d_head): what the heads emit with the donor's weights on what the receiver gives them."""
        kept: list[torch.Tensor] = []

        def keep(value: torch.Tensor, hook: Any) -> None:
            kept.append(value[0].detach().clone())

        model, start = self.receiver.model, self.receiver.residual(number, layer)
        with swapped(model, parts, self.parts, self.folder):
            model.run_with_hooks(
                start, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", keep)], start_at_layer=layer, stop_at_layer=layer + 1
            )
        return kept[0]

    def _step(self, layer: int) -> torch.Tensor:
        """W_O' - W_O (head, d_head, d_model)."""
        own = self.receiver.model.blocks[layer].attn.W_O.detach()
        return self.folder.get(f"{layer}.W_O").to(own) - own


def _written(z: torch.Tensor, step: torch.Tensor, heads: list[slice]) -> torch.Tensor:
    """z' (W_O' - W_O) of each row's heads, (row, position, d_model)."""
    return torch.stack([torch.einsum("phd,hdm->pm", z[:, row], step[row]) for row in heads])


def _putting(z: torch.Tensor, heads: list[slice]) -> Any:
    def put(value: torch.Tensor, hook: Any) -> torch.Tensor:
        changed = value.clone()
        for row, where in enumerate(heads):
            changed[row, :, where] = z[:, where].to(value.dtype)
        return changed

    return put


@contextmanager
def _added(attention: Any, term: torch.Tensor) -> Iterator[None]:
    """This term added to what an attention layer returns, before anything that follows it in its block."""
    handle = attention.register_forward_hook(lambda module, given, value: value + term.to(value.dtype))
    try:
        yield
    finally:
        handle.remove()
