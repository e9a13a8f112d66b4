"""What every summary of one model's run has in common: hooks at each layer, and one prompt's numbers at the end.

A summary reduces what it meets INSIDE its hooks, layer by layer, so that no more than one layer's activations are held
beside the model; what stays is a few numbers per layer and head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int

from itlens.probes.running.forced import Forced
from itlens.probes.running.hooking import Hook


@runtime_checkable
class Summary(Protocol):
    """One group of statistics."""

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """The axes of each statistic, after the prompt."""

    @property
    def names(self) -> Mapping[str, str]:
        """What each statistic is, in words."""

    def hooks(self, one: Forced) -> list[Hook]:
        """Functions at hook points for the run of one prompt, which forget the prompt before."""

    def values(self, one: Forced, logits: torch.Tensor) -> dict[str, np.ndarray]:
        """The statistics of the prompt that has just run. logits (d_vocab): the model's own at the first target."""


def wide(value: torch.Tensor) -> torch.Tensor:
    """The same numbers in at least float32: sums of squares overflow in half precision."""
    return value if value.dtype == torch.float64 else value.float()


def target_positions(model: Any, one: Forced) -> Int[torch.Tensor, " target"]:
    """Where targets are predicted, as an index on the model's device."""
    return torch.tensor(one.positions, dtype=torch.long, device=next(model.parameters()).device)


def at_layers(model: Any, name: str, function: Callable[[int, torch.Tensor], None]) -> list[Hook]:
    """Hooks that call function(layer, value) at "blocks.{layer}." + name; nothing is changed."""

    def hook(layer: int) -> Callable[[torch.Tensor, Any], None]:
        def call(value: torch.Tensor, hook: Any) -> None:
            function(layer, value)

        return call

    return [(f"blocks.{layer}.{name}", hook(layer)) for layer in range(model.cfg.n_layers)]


def stacked(by_layer: Mapping[int, torch.Tensor]) -> np.ndarray:
    """One array over the layers, in their order, float64."""
    return torch.stack([by_layer[layer] for layer in sorted(by_layer)]).double().cpu().numpy()
