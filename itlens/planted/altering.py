"""One model whose weights are changed in place and restored exactly: noise everywhere, then a plant in one unit.

Tensors that share their memory (tied embeddings, joint projections) are changed once. Writing goes through the views
that both classes of models have (`blocks[l].attn.W_Q` ...), so it works for shared keys and values and for transposed
storage (`itlens.models.layout`) alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from itlens.errors import ModelError
from itlens.models import HookedModel, ModelPair
from itlens.models.compatibility import PairReport
from itlens.stats.p_values import seed_of

Side: TypeAlias = Literal["base", "tuned"]


class PlantableModel(HookedModel, Protocol):
    """A model whose parameters have names."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...


class Edit(NamedTuple):
    """A change of some weights: `weights` is a view that writes through to the model, `delta` is added to it."""

    weights: Tensor
    delta: Tensor


class Altered:
    """A model that takes noise and plants, and is the same again afterwards.

    Memory: a second copy of the weights while there is noise; without noise, only of the weights that a plant changes.
    """

    def __init__(self, model: PlantableModel) -> None:
        self.model = model
        self.report: PairReport | None = None
        self._tensors = distinct_tensors(model)
        self._changes: list[list[_Saved]] = []

    @contextmanager
    def noise(self, size: float, *seed: int) -> Iterator[None]:
        """Add normal noise to every entry of every tensor: standard deviation `size` x the tensor's root mean square.

        A tensor's noise thus has the Frobenius norm size |W|. It depends on the seed and the tensor's name alone. A
        tensor of zeros (an unused bias) stays zero.
        """
        with self._changed() as saved:
            for name, tensor in self._tensors.items() if size else ():
                scale = size * root_mean_square(tensor)
                if scale > 0:
                    saved.append(_Saved(tensor, tensor.clone()))
                    tensor.add_(_normal(tensor, name, *seed) * scale)
            yield

    @contextmanager
    def plant(self, edits: Sequence[Edit]) -> Iterator[None]:
        """Add these changes to the weights as they are now. Raises ModelError for weights that cannot be written to."""
        owned = {tensor.untyped_storage().data_ptr() for tensor in self._tensors.values()}
        if any(edit.weights.untyped_storage().data_ptr() not in owned for edit in edits):
            raise ModelError("This model returns copies of its weights, so that nothing can be planted into it.")
        with self._changed() as saved:
            for edit in edits:
                saved.append(_Saved(edit.weights, edit.weights.clone()))
                edit.weights.add_(edit.delta.to(edit.weights))
            yield

    @contextmanager
    def pair(self) -> Iterator[PlantedPair]:
        """Return the model as it was (base) and as it is now (tuned), for pair probes: one model, switched in place."""
        pair = PlantedPair(self)
        try:
            yield pair
        finally:
            pair.switch("tuned")

    def exchange(self, *, back: bool) -> None:
        """Undo every change, or (`back`) redo it."""
        for change in self._changes if back else reversed(self._changes):
            for saved in change:
                saved.exchange()

    @contextmanager
    def _changed(self) -> Iterator[list[_Saved]]:
        change: list[_Saved] = []
        self._changes.append(change)
        try:
            yield change
        finally:
            for saved in change:
                saved.weights.copy_(saved.other)
            self._changes.remove(change)


class PlantedPair(ModelPair):
    """A `ModelPair` of one model: reading `.base` undoes its changes, reading `.tuned` redoes them.

    Both are the same object: do not use one after the other was read.
    """

    def __init__(self, altered: Altered) -> None:
        super().__init__(altered.model, altered.model)
        self._altered = altered
        self._now: Side = "tuned"

    def switch(self, which: Side) -> None:
        """Make the model the base or the tuned one."""
        if which != self._now:
            self._altered.exchange(back=which == "tuned")
            self._now = which

    def check(self) -> PairReport:
        """See `ModelPair.check`; the tokens and shapes of a model and itself are compared once."""
        if self._altered.report is None:
            self._altered.report = super().check()
        return self._altered.report

    def _model(self, which: str) -> PlantableModel:
        self.switch("base" if which == "base" else "tuned")
        return self._altered.model


class _Saved(NamedTuple):
    """Some weights, and their values before a change (or, while changes are undone, after it)."""

    weights: Tensor
    other: Tensor

    def exchange(self) -> None:
        now = self.weights.clone()
        self.weights.copy_(self.other)
        self.other.copy_(now)


def distinct_tensors(model: PlantableModel) -> dict[str, Tensor]:
    """Return the model's parameters by name, each piece of memory once: of nested tensors, the largest."""
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
    """Return |W|_F / sqrt(number of entries)."""
    return float(tensor.detach().float().square().mean().sqrt())


def generator(*seed: int | str) -> torch.Generator:
    """Return a torch generator whose numbers depend on all parts of its seed."""
    return torch.Generator().manual_seed(seed_of(*seed))


def _normal(tensor: Tensor, name: str, *seed: int) -> Tensor:
    drawn = torch.randn(tensor.shape, generator=generator("noise", name, *seed), dtype=torch.float32)
    return drawn.to(tensor)


def _extent(tensor: Tensor) -> int:
    """Return the number of bytes from the first entry to the end of the last."""
    if not tensor.numel():
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()
