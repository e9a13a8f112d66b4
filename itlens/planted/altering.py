"""One model whose weights are changed in place and put back bit by bit: noise everywhere, then a plant in one place.

Tensors that share their memory (tied embeddings, joint projections) are changed once. Writing goes through the views
that both classes of models have (`blocks[l].attn.W_Q` ...), so it works for shared keys and values and for transposed
storage (`itlens.models.layout`) alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from itlens.errors import ModelError
from itlens.models import ModelPair
from itlens.models.compatibility import PairReport


class Edit(NamedTuple):
    """A change of one part of the weights: `part` is a view that writes through, `delta` what is added to it."""

    part: Tensor
    delta: Tensor


class Altered:
    """A model that can be given noise and plants, and is itself again afterwards.

    Memory: while there is noise, a second copy of the weights (what is put back); without noise only of the parts that
    a plant changes.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.report: PairReport | None = None
        self._tensors = distinct_tensors(model)
        self._changes: list[list[_Kept]] = []

    @contextmanager
    def noise(self, size: float, *seed: int) -> Iterator[None]:
        """Normal noise on every entry of every tensor, of the deviation `size` x the tensor's root mean square.

        A tensor's noise thus has the Frobenius norm size |W|. It depends on the seed and the tensor's name alone. A
        tensor of zeros (a bias that is not used) has no size and gets none.
        """
        with self._changed() as kept:
            for name, tensor in self._tensors.items() if size else ():
                scale = size * root_mean_square(tensor)
                if scale > 0:
                    kept.append(_Kept(tensor, tensor.clone()))
                    tensor.add_(_normal(tensor, name, *seed) * scale)
            yield

    @contextmanager
    def plant(self, edits: Sequence[Edit]) -> Iterator[None]:
        """These changes on top of what the weights are now. Raises ModelError for a part that cannot be written to."""
        owned = {tensor.untyped_storage().data_ptr() for tensor in self._tensors.values()}
        if any(edit.part.untyped_storage().data_ptr() not in owned for edit in edits):
            raise ModelError("This model hands out copies of its weights, so that nothing can be planted into it.")
        with self._changed() as kept:
            for edit in edits:
                kept.append(_Kept(edit.part, edit.part.clone()))
                edit.part.add_(edit.delta.to(edit.part))
            yield

    @contextmanager
    def pair(self) -> Iterator[PlantedPair]:
        """The model as it was (base) and as it is now (tuned), for pair probes; both are the one model in turns."""
        made = PlantedPair(self)
        try:
            yield made
        finally:
            made.turn("tuned")

    def exchange(self, *, back: bool) -> None:
        """Put every change aside, or (`back`) in place again."""
        for kept in self._changes if back else reversed(self._changes):
            for one in kept:
                one.exchange()

    @contextmanager
    def _changed(self) -> Iterator[list[_Kept]]:
        kept: list[_Kept] = []
        self._changes.append(kept)
        try:
            yield kept
        finally:
            for one in kept:
                one.part.copy_(one.other)
            self._changes.remove(kept)


class PlantedPair(ModelPair):
    """A `ModelPair` of one model: reading `.base` puts its changes aside, reading `.tuned` puts them in place again.

    What was read before must not be used after the other was read: it is the same object.
    """

    def __init__(self, altered: Altered) -> None:
        super().__init__(altered.model, altered.model)
        self._altered, self._now = altered, "tuned"

    def turn(self, which: str) -> None:
        """Make the model the base or the tuned one."""
        if which != self._now:
            self._altered.exchange(back=which == "tuned")
            self._now = which

    def check(self) -> PairReport:
        """See `ModelPair.check`; tokens and shapes of a model and itself are looked through once."""
        if self._altered.report is None:
            self._altered.report = super().check()
        return self._altered.report

    def _model(self, which: str) -> Any:
        self.turn(which)
        return self._altered.model


class _Kept(NamedTuple):
    """A part of the weights, and what it was before a change (or, while changes are put aside, after it)."""

    part: Tensor
    other: Tensor

    def exchange(self) -> None:
        now = self.part.clone()
        self.part.copy_(self.other)
        self.other.copy_(now)


def distinct_tensors(model: Any) -> dict[str, Tensor]:
    """The model's parameters by name, each piece of memory once: of tensors within one another the largest."""
    kept: dict[str, Tensor] = {}
    spans: list[tuple[int, int]] = []
    named = [(name, parameter.detach()) for name, parameter in model.named_parameters()]
    for name, tensor in sorted(named, key=lambda item: -_extent(item[1])):
        start = tensor.data_ptr()
        span = (start, start + _extent(tensor))
        if not any(first <= span[0] and span[1] <= last for first, last in spans):
            kept[name] = tensor
            spans.append(span)
    return dict(sorted(kept.items()))


def root_mean_square(tensor: Tensor) -> float:
    """|W|_F / sqrt(number of entries)."""
    return float(tensor.detach().float().square().mean().sqrt())


def generator(*seed: int | str) -> torch.Generator:
    """A torch generator whose numbers depend on all parts of its seed."""
    digest = hashlib.sha256(repr(seed).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _normal(tensor: Tensor, name: str, *seed: int) -> Tensor:
    drawn = torch.randn(tensor.shape, generator=generator("noise", name, *seed), dtype=torch.float32)
    return drawn.to(tensor)


def _extent(tensor: Tensor) -> int:
    """Bytes from the first to behind the last entry."""
    if not tensor.numel():
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()
