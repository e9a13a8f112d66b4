"""The donor's WEIGHTS of one part in the receiver: put in for a run, and taken out again bit by bit.

head    W_Q, W_O and b_Q of a head; its W_K, W_V, b_K, b_V as well where no other head shares them
group   all heads that share a key-value head (grouped-query attention), with that head's W_K, W_V, b_K, b_V
mlp     all parameters of the feed-forward layer
layer   all parameters of the block: attention, feed-forward layer and norms

What no head has to itself (b_O, norms of queries and keys) belongs to "layer" alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from itlens.errors import ProbeError
from itlens.probes.patches.cache import DiskArrays
from itlens.probes.patches.parts import Part, Parts
from itlens.probes.patches.runs import Counter, Receiver, Set

_OF_QUERIES = ("W_Q", "W_O", "b_Q")
_OF_KEYS = ("W_K", "W_V", "b_K", "b_V")


def save_weights(model: Any, parts: Parts, folder: DiskArrays) -> None:
    """The donor's weights of all layers that are asked for, one layer in memory at a time."""
    for layer in parts.layers:
        for name, weight in _tensors(model, layer, parts).items():
            folder.put(f"{layer}.{name}", weight)


def _tensors(model: Any, layer: int, parts: Parts) -> dict[str, torch.Tensor]:
    """The parameters of a layer's parts, as views into the model: writing into them changes it."""
    block = model.blocks[layer]
    if parts.unit in ("mlp", "layer"):
        return {name: tensor.detach() for name, tensor in _module(block, parts, layer).named_parameters()}
    names = (*_OF_QUERIES, *(_OF_KEYS if parts.unit == "group" or parts.shared == 1 else ()))
    own = {parameter.untyped_storage().data_ptr() for parameter in block.parameters()}
    found: dict[str, torch.Tensor] = {}
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
        found[name] = tensor.detach()
    return found


def _module(block: Any, parts: Parts, layer: int) -> Any:
    module = block if parts.unit == "layer" else getattr(block, "mlp", None)
    if module is None:
        raise ProbeError(f"Layer {layer} has no feed-forward layer whose weights could be patched.")
    return module


def _index(name: str, part: Part, parts: Parts) -> Any:
    """Where in a parameter a part lies."""
    if part.head is None:
        return ...
    if parts.unit == "head" or name in _OF_KEYS:
        return slice(part.head, part.head + 1)
    return slice(part.head * parts.shared, (part.head + 1) * parts.shared)


def part_weights(
    model: Any, part: Part, parts: Parts, folder: DiskArrays
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The model's own and the donor's weights of a part, tensor by tensor."""
    for name, tensor in _tensors(model, part.layer, parts).items():
        where = _index(name, part, parts)
        yield tensor[where], folder.get(f"{part.layer}.{name}")[where]


@contextmanager
def swapped(model: Any, asked: Set, parts: Parts, folder: DiskArrays) -> Iterator[None]:
    """The donor's weights of a set of parts in the model; its own, to the bit, afterwards, also after Ctrl-C."""
    with ExitStack() as undo, torch.no_grad():
        for layer in sorted({part.layer for part in asked}):
            tensors = _tensors(model, layer, parts)
            for name, tensor in tensors.items():
                given = folder.get(f"{layer}.{name}")
                for part in (part for part in asked if part.layer == layer):
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
        """The metric (prompt, set) of some prompts under each set; a set is put in once for all prompts."""
        for number in numbers:
            self.receiver.own(number)  # reads the receiver as it is, before anything is put in
        out = np.full((len(numbers), len(sets)), np.nan)
        for column, asked in enumerate(sets):
            first = min((part.layer for part in asked), default=0)
            with swapped(self.receiver.model, asked, self.parts, self.folder):
                for row, number in enumerate(numbers):
                    out[row, column] = self.receiver.run(number, 1, [], first)[0]
            tell(len(numbers))
        return out
