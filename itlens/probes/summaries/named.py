"""A user's own hook points, reduced by a user's own function, or to the size of activations by class of token.

Without a function: rms(x) = sqrt(mean x^2) of each position's vector, averaged over the positions of each class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from itlens.errors import ProbeError
from itlens.probes.running.forced import Forced
from itlens.probes.running.hooking import Hook
from itlens.probes.summaries.attention_mass import class_columns
from itlens.probes.summaries.summary import wide

Reduction = Callable[[torch.Tensor, Forced], Any]
_NO_VECTORS = ("hook_pattern", "hook_attn_scores")  # (head, query, key): no vector a position


class OwnHooks:
    """The summary of hook points that the user named; see the module."""

    def __init__(self, points: Sequence[str], reduce: Any) -> None:
        self.points = list(points)
        self._reduce = reduce
        self._kept: dict[str, np.ndarray] = {}
        self._shape: tuple[str, tuple[int, ...]] | None = None
        name, text = ("hook_rms", "root mean square") if reduce is None else ("hook_reduced", "the user's reduction")
        self._name = name
        self.names = {name: text}
        self.dims: dict[str, tuple[str, ...]] = {name: ("hook", "token_class") if reduce is None else ("hook",)}

    def hooks(self, one: Forced) -> list[Hook]:
        """One function at each point; every point must be met by the run."""
        self._kept = {}

        def hook(point: str) -> Callable[[torch.Tensor, Any], None]:
            def call(value: torch.Tensor, hook: Any) -> None:
                self._kept[point] = (
                    class_rms(point, value, one) if self._reduce is None else self._own(point, value, one)
                )

            return call

        return [(point, hook(point)) for point in self.points]

    def values(self, one: Forced, logits: torch.Tensor) -> dict[str, np.ndarray]:
        """The statistic on (hook, ...), hooks in the order in which they were asked for."""
        silent = [point for point in self.points if point not in self._kept]
        if silent:
            raise ProbeError(f"The hook point {silent[0]!r} is not met by a run of this model; choose another one.")
        found = np.stack([self._kept[point] for point in self.points])
        if self._reduce is not None:  # only now is it known how many axes the function gives
            self.dims = {self._name: ("hook", *(f"reduced_{axis}" for axis in range(found.ndim - 1)))}
        return {self._name: found}

    def _own(self, point: str, value: torch.Tensor, one: Forced) -> np.ndarray:
        """The user's function of one prompt's activation, as numbers of the same shape every time."""
        given = self._reduce(value[0], one)
        where = f"reduce= gave for hook {point!r} on prompt {one.id!r}"
        if isinstance(given, torch.Tensor):
            given = wide(given.detach()).double().cpu().numpy()
        try:
            found = np.asarray("nothing" if given is None else given, dtype=np.float64)  # numpy would make it NaN
        except (TypeError, ValueError) as error:
            raise ProbeError(f"What {where} is a {type(given).__name__}; expected a number or an array.") from error
        if not np.isfinite(found).all():
            raise ProbeError(f"What {where} is not finite; check the function, or the model's dtype.")
        if self._shape is None:
            self._shape = (f"hook {point!r} on prompt {one.id!r}", found.shape)
        if found.shape != self._shape[1]:
            raise ProbeError(
                f"What {where} has the shape {found.shape}, but {self._shape[1]} for {self._shape[0]}; a reduction "
                "must give the same shape every time, so reduce over positions."
            )
        return found


def class_rms(point: str, value: torch.Tensor, one: Forced) -> np.ndarray:
    """The mean over each class's positions of the root mean square of the position's vector; NaN without positions."""
    if value.ndim < 3 or value.shape[1] != len(one.read) or point.endswith(_NO_VECTORS):
        raise ProbeError(
            f"The hook point {point!r} gives {tuple(value.shape)}, no vector for each of the {len(one.read)} "
            "positions; pass reduce= to say what to keep of it."
        )
    size = wide(value[0]).flatten(1).square().mean(1).sqrt()
    columns = class_columns(one, size.device).to(size.dtype)
    counts = columns.sum(0)
    means = torch.where(counts > 0, (size @ columns) / counts, torch.nan)
    return means.double().cpu().numpy()
