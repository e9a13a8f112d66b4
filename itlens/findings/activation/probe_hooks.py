"""A user's own hook points: reduced by a user's own function, or to the size of activations by class of token.

Without a function: rms(x) = sqrt(mean x^2) of each position's vector, averaged over the positions of each class.
Names that all hold {layer} are measured at every layer and get an axis of layers; names of other points, also mixed
with those, are labels of the axis of hook points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from einops import rearrange

from itlens.errors import ProbeError
from itlens.findings.activation.probe_statistics import class_columns
from itlens.hooked.hooks import Hook, hook_points, wide
from itlens.hooked.tokens import Forced
from itlens.models import HookedModel
from itlens.models.precision import as_numbers

Reduction: TypeAlias = Callable[[torch.Tensor, Forced], Any]
LAYER = "{layer}"
_NO_VECTORS = ("hook_pattern", "hook_attn_scores")  # (head, query, key): no vector per position
# axes of these names would be mistaken for those of results and diffs
_TAKEN = ("prompt", "layer", "hook", "token_class", "group", "measure", "summary", "model")


@dataclass(frozen=True)
class OwnPoints:
    """Hook points by full name. labels: of the axis `hook`; layers: how many each label stands for, 0: no such axis."""

    points: tuple[str, ...]
    labels: tuple[str, ...]
    layers: int = 0

    @classmethod
    def of(cls, model: HookedModel, names: Sequence[str]) -> OwnPoints:
        """Look the names up. Raises ProbeError, with the nearest names, for a name that matches nothing."""
        matched = tuple(hook_points(model, names))
        patterns, layers = tuple(dict.fromkeys(names)), int(model.cfg.n_layers)
        by_layer = [name.replace(LAYER, str(layer)) for name in patterns for layer in range(layers) if LAYER in name]
        if len(by_layer) == layers * len(patterns) and by_layer and set(by_layer) <= set(model.hook_dict):
            return cls(tuple(by_layer), patterns, layers)
        return cls(matched, matched)


class OwnHooks:
    """The summary of hook points that the user named; see the module. heads: how many the model has."""

    def __init__(self, own: OwnPoints, reduce: Reduction | None, axes: Sequence[str] = (), *, heads: int = 0) -> None:
        self._own, self._reduce, self._axes, self._heads = own, reduce, tuple(axes), heads
        self._kept: dict[str, np.ndarray] = {}
        self._shape: tuple[str, tuple[int, ...]] | None = None
        self._name, words = ("hook_rms", "root mean square") if reduce is None else ("hook_reduced", _words(reduce))
        self.names = {self._name: words}
        self.dims: dict[str, tuple[str, ...]] = {self._name: self._all_axes(("token_class",) if reduce is None else ())}

    def hooks(self, prompt: Forced) -> list[Hook]:
        """One function at each point; every point must be met by the run."""
        self._kept = {}

        def hook(point: str) -> Callable[[torch.Tensor, object], None]:
            def call(value: torch.Tensor, hook: object) -> None:
                self._kept[point] = (
                    class_rms(point, value, prompt) if self._reduce is None else self._reduced(point, value, prompt)
                )

            return call

        return [(point, hook(point)) for point in self._own.points]

    def values(self, prompt: Forced, logits: torch.Tensor) -> dict[str, np.ndarray]:
        """Return the statistic on (hook[, layer], ...), hooks in the order in which they were requested."""
        silent = [point for point in self._own.points if point not in self._kept]
        if silent:
            raise ProbeError(f"The hook point {silent[0]!r} is not met by a run of this model; choose another one.")
        values = np.stack([self._kept[point] for point in self._own.points])
        if self._reduce is not None:  # only now is it known how many axes the function gives
            self.dims = {self._name: self._all_axes(self._reduced_axes(values.shape[1:]))}
        if self._own.layers:
            values = rearrange(values, "(hook layer) ... -> hook layer ...", layer=self._own.layers)
        return {self._name: values}

    def _all_axes(self, last: tuple[str, ...]) -> tuple[str, ...]:
        return ("hook", *(["layer"] if self._own.layers else []), *last)

    def _reduced_axes(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        """Return the names of the axes that the function gives."""
        if not self._axes:
            return tuple(f"reduced_{axis}" for axis in range(len(shape)))
        if len(self._axes) != len(shape):
            raise ProbeError(
                f"axes= names {len(self._axes)} axes ({', '.join(self._axes)}), but reduce= gives an array of shape "
                f"{shape}; name each of its {len(shape)} axes."
            )
        for name, size in zip(self._axes, shape, strict=True):
            if name == "head" and size != self._heads:
                raise ProbeError(
                    f'axes= calls an axis of {size} "head", but the model has {self._heads} heads; use another name.'
                )
        return self._axes

    def _reduced(self, point: str, value: torch.Tensor, prompt: Forced) -> np.ndarray:
        """Return the user's function of one prompt's activation, as numbers of the same shape every time."""
        assert self._reduce is not None
        given = self._reduce(value[0], prompt)
        where = f"reduce= gave for hook {point!r} on prompt {prompt.id!r}"
        if isinstance(given, torch.Tensor):
            given = as_numbers(wide(given))
        try:
            numbers = np.asarray("nothing" if given is None else given, dtype=np.float64)  # numpy would make it NaN
        except (TypeError, ValueError) as error:
            raise ProbeError(f"What {where} is a {type(given).__name__}; expected a number or an array.") from error
        if not np.isfinite(numbers).all():
            raise ProbeError(f"What {where} is not finite; check the function, or the model's dtype.")
        if self._shape is None:
            self._shape = (f"hook {point!r} on prompt {prompt.id!r}", numbers.shape)
        if numbers.shape != self._shape[1]:
            raise ProbeError(
                f"What {where} has the shape {numbers.shape}, but {self._shape[1]} for {self._shape[0]}; a reduction "
                "must give the same shape every time, so reduce over positions."
            )
        return numbers


def checked_axes(axes: str | Sequence[str], reduce: Reduction | None) -> tuple[str, ...]:
    """Return the axes= of a call. Raises ProbeError for names that are no names, taken, given twice, or not needed."""
    names = (axes,) if isinstance(axes, str) else tuple(axes)
    if names and reduce is None:
        raise ProbeError(f"axes={axes!r} names the axes of what reduce= gives; pass reduce= as well.")
    for name in names:
        if not isinstance(name, str) or not name.isidentifier():
            raise ProbeError(f"axes= holds {name!r}; expected names of axes, such as 'feature'.")
        if name in _TAKEN or names.count(name) > 1:
            why = "is an axis of every result" if name in _TAKEN else "is there twice"
            raise ProbeError(f"axes= holds {name!r}, which {why}; choose another name.")
    return names


def reduction_name(reduce: Reduction) -> str:
    """Return what a result says of the function that reduced it."""
    return str(getattr(reduce, "__name__", type(reduce).__name__))


def _words(reduce: Reduction) -> str:
    name = reduction_name(reduce)
    return name.replace("_", " ") if name.isidentifier() else "the user's reduction"


def class_rms(point: str, value: torch.Tensor, prompt: Forced) -> np.ndarray:
    """Return the mean over each class's positions of the root mean square of the position's vector; NaN without any."""
    if value.ndim < 3 or value.shape[1] != len(prompt.read) or point.endswith(_NO_VECTORS):
        raise ProbeError(
            f"The hook point {point!r} gives {tuple(value.shape)}, no vector for each of the {len(prompt.read)} "
            "positions; pass reduce= to say what to keep of it."
        )
    size = wide(value[0]).flatten(1).square().mean(1).sqrt()
    columns = class_columns(prompt, size.device).to(size.dtype)
    counts = columns.sum(0)
    means = torch.where(counts > 0, (size @ columns) / counts, torch.nan)
    return as_numbers(means)
