"""The donor's WEIGHTS of one part in the receiver: put in for a run, and taken out again bit by bit.

head    W_Q, W_O and b_Q of a head; its W_K, W_V, b_K, b_V as well where no other head shares them
group   all heads that share a key-value head (grouped-query attention), with that head's W_K, W_V, b_K, b_V
mlp     all parameters of the feed-forward layer
layer   all parameters of the block: attention, feed-forward layer and norms

What no head has to itself (b_O, norms of queries and keys) belongs to "layer" alone.

In its own layer a head's weights change what that head writes, and nothing else. Single heads therefore run in one
batch, layer by layer (`HeadWeightPatches`):
1. With the donor's weights of all requested heads, one layer is run on the receiver's residual stream: z' (head).
   What a head emits depends on no other head's weights, so z' of a head is what it emits with its weights alone.
2. In row h of a batch the receiver, as it is, goes on from z'_h in place of z_h, and z'_h (W_O'_h - W_O_h) is added to
   what attention writes, before any norm that follows: z'_h W_O'_h in place of z_h W_O_h.
A head whose weights are the receiver's own, bit by bit, is not run: it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import numpy as np
import torch
from einops import einsum
from torch import nn

from itlens.errors import ProbeError
from itlens.findings.patching.probe_parts import Part, Parts
from itlens.findings.patching.probe_runs import Counter, Receiver, Set, starts_inside
from itlens.hooked.cache import DiskArrays
from itlens.models.hooked_model import HookedModel

_OF_QUERIES = ("W_Q", "W_O", "b_Q")
_OF_KEYS = ("W_K", "W_V", "b_K", "b_V")


def save_weights(model: HookedModel, parts: Parts, folder: DiskArrays) -> None:
    """Save the donor's weights of all requested layers, one layer in memory at a time."""
    for layer in parts.layers:
        for name, weight in _tensors(model, layer, parts).items():
            folder.put(f"{layer}.{name}", weight)


def _tensors(model: HookedModel, layer: int, parts: Parts) -> dict[str, torch.Tensor]:
    """Return the parameters of a layer's parts, as views into the model: writing into them changes it."""
    block = model.blocks[layer]
    if parts.unit in ("mlp", "layer"):
        return {name: tensor.detach() for name, tensor in _module(block, parts, layer).named_parameters()}
    names = (*_OF_QUERIES, *(_OF_KEYS if parts.unit == "group" or parts.shared == 1 else ()))
    own = {parameter.untyped_storage().data_ptr() for parameter in block.parameters()}
    tensors: dict[str, torch.Tensor] = {}
    for name in names:
        tensor = getattr(block.attn, f"_{name}", None)  # shared heads; the plain name is a copy there
        tensor = getattr(block.attn, name, None) if tensor is None else tensor
        if tensor is None:  # a bridge has no biases where the checkpoint has none
            continue
        if tensor.untyped_storage().data_ptr() not in own:
            raise ProbeError(
                f"{name} of layer {layer} is a copy in this model, so weights of heads cannot be swapped; use "
                'unit="layer", or load the models with backend="hooked".'
            )
        tensors[name] = tensor.detach()
    return tensors


def _module(block: nn.Module, parts: Parts, layer: int) -> nn.Module:
    module = block if parts.unit == "layer" else getattr(block, "mlp", None)
    if not isinstance(module, nn.Module):
        raise ProbeError(f"Layer {layer} has no feed-forward layer whose weights could be patched.")
    return module


def _index(name: str, part: Part, parts: Parts) -> slice | EllipsisType:
    """Return where in a parameter a part lies."""
    if part.head is None:
        return ...
    if parts.unit == "head" or name in _OF_KEYS:
        return slice(part.head, part.head + 1)
    return slice(part.head * parts.shared, (part.head + 1) * parts.shared)


def part_weights(
    model: HookedModel, part: Part, parts: Parts, folder: DiskArrays
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the model's own and the donor's weights of a part, tensor by tensor."""
    for name, tensor in _tensors(model, part.layer, parts).items():
        where = _index(name, part, parts)
        yield tensor[where], folder.get(f"{part.layer}.{name}")[where]


@contextmanager
def swapped(model: HookedModel, patched: Set, parts: Parts, folder: DiskArrays) -> Iterator[None]:
    """Put the donor's weights of a set of parts into the model; its own return, to the bit, also after Ctrl-C."""
    with ExitStack() as undo, torch.no_grad():
        for layer in sorted({part.layer for part in patched}):
            tensors = _tensors(model, layer, parts)
            for name, tensor in tensors.items():
                given = folder.get(f"{layer}.{name}")
                for part in (part for part in patched if part.layer == layer):
                    where = _index(name, part, parts)
                    slot = tensor[where]
                    undo.callback(_restore, slot, slot.clone())  # before the first write, so that nothing can get lost
                    slot.copy_(given[where])
        yield


def _restore(slot: torch.Tensor, kept: torch.Tensor) -> None:
    with torch.no_grad():
        slot.copy_(kept)


@dataclass(frozen=True)
class WeightPatches:
    """Metrics of the receiver with sets of weights from the donor; `receiver` has a folder."""

    receiver: Receiver
    parts: Parts
    folder: DiskArrays

    def __call__(self, numbers: Sequence[int], sets: Sequence[Set], tell: Counter) -> np.ndarray:
        """Measure the metric (prompt, set) of some prompts under each set; a set is put in once for all prompts."""
        for number in numbers:
            self.receiver.own(number)  # reads the receiver as it is, before anything is put in
        out = np.full((len(numbers), len(sets)), np.nan)
        for column, patched in enumerate(sets):
            first = min((part.layer for part in patched), default=0)
            with swapped(self.receiver.model, patched, self.parts, self.folder):
                for row, number in enumerate(numbers):
                    out[row, column] = self.receiver.run(number, 1, [], first)[0]
            tell(len(numbers))
        return out


def heads_apart(model: HookedModel, parts: Parts) -> bool:
    """Return whether heads can share a batch: runs can begin at a layer, and no norm joins the heads' queries."""
    if parts.unit not in ("head", "group") or not starts_inside(model):
        return False
    norms = [getattr(model.blocks[layer].attn, "q_norm", None) for layer in parts.layers]
    return all(norm is None or norm.w.numel() == model.cfg.d_head for norm in norms)


@dataclass(frozen=True)
class HeadWeightPatches(WeightPatches):
    """`WeightPatches` of heads (or groups of heads); sets of several parts are put in one after another, as there."""

    def __call__(self, numbers: Sequence[int], sets: Sequence[Set], tell: Counter) -> np.ndarray:
        """Measure the metric (prompt, set) of some prompts under each set."""
        out = np.full((len(numbers), len(sets)), np.nan)
        several = [column for column, patched in enumerate(sets) if len(patched) != 1]
        if several:
            out[:, several] = super().__call__(numbers, [sets[column] for column in several], tell)
        single = {column: patched[0] for column, patched in enumerate(sets) if len(patched) == 1}
        for layer in sorted({part.layer for part in single.values()}):
            columns = [column for column, part in single.items() if part.layer == layer]
            parts = [single[column] for column in columns]
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
        """Return whether any weight of a part is not the receiver's own."""
        weights = part_weights(self.receiver.model, part, self.parts, self.folder)
        return any(not torch.equal(own, given.to(own)) for own, given in weights)

    def _emitted(self, number: int, layer: int, parts: list[Part]) -> torch.Tensor:
        """Return z' (position, head, d_head): what the heads emit with the donor's weights on the receiver's stream."""
        kept: list[torch.Tensor] = []

        def keep(value: torch.Tensor, hook: object) -> None:
            kept.append(value[0].detach().clone())

        hooked: Any = self.receiver.model  # a HookedTransformer (`heads_apart`): the bridge cannot begin at a layer
        start = self.receiver.residual(number, layer)
        with swapped(hooked, parts, self.parts, self.folder):
            hooked.run_with_hooks(
                start, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", keep)], start_at_layer=layer, stop_at_layer=layer + 1
            )
        return kept[0]

    def _step(self, layer: int) -> torch.Tensor:
        """Return W_O' - W_O (head, d_head, d_model)."""
        own: torch.Tensor = self.receiver.model.blocks[layer].attn.W_O.detach()
        return self.folder.get(f"{layer}.W_O").to(own) - own


def _written(z: torch.Tensor, step: torch.Tensor, heads: list[slice]) -> torch.Tensor:
    """Return z' (W_O' - W_O) of each row's heads, (row, position, d_model)."""
    return torch.stack(
        [einsum(z[:, row], step[row], "position head d_head, head d_head d_model -> position d_model") for row in heads]
    )


def _putting(z: torch.Tensor, heads: list[slice]) -> Callable[[torch.Tensor, object], torch.Tensor]:
    def put(value: torch.Tensor, hook: object) -> torch.Tensor:
        changed = value.clone()
        for row, where in enumerate(heads):
            changed[row, :, where] = z[:, where].to(value.dtype)
        return changed

    return put


@contextmanager
def _added(attention: nn.Module, term: torch.Tensor) -> Iterator[None]:
    """Add this term to what an attention layer returns, before anything that follows it in its block."""
    handle = attention.register_forward_hook(lambda module, given, value: value + term.to(value.dtype))
    try:
        yield
    finally:
        handle.remove()
