"""Run a model with functions at its hook points: names are checked, logits are computed only where wanted.

Only hook names and calls that HookedTransformer and TransformerBridge share are used. A `Summary` is what statistics of
one model's run have in common: it reduces what it meets INSIDE its hooks, layer by layer, so that no more than one
layer's activations are held next to the model; what stays is a few numbers per layer and head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int

from itlens.errors import ProbeError
from itlens.models.hooked_model import HookedModel
from itlens.models.precision import as_numbers

if TYPE_CHECKING:
    from itlens.hooked.tokens import Forced

Hook: TypeAlias = tuple[str, Callable[[torch.Tensor, Any], torch.Tensor | None]]
Positions: TypeAlias = Sequence[int] | Int[torch.Tensor, " target"] | slice
FIRST = slice(0, 1)  # the least work, where no logits are wanted
BEFORE_UNEMBED = "unembed.hook_in"
_LEVEL = -1  # the context of these hooks; those of run_with_hooks count from 1, and it removes its own only


def hook_points(model: HookedModel, names: str | Iterable[str]) -> list[str]:
    """Return the full names of the hook points that `names` (a text or several) stand for.

    "{layer}" stands for every layer; * and ? are patterns.
    Raises ProbeError, with the nearest names, for a name that matches nothing: a hook is never skipped.
    """
    points = model.hook_dict  # a bridge makes it again each time
    full: dict[str, None] = {}
    for name in [names] if isinstance(names, str) else list(names):
        if not isinstance(name, str):
            raise ProbeError(f"A hook point is named by text, not by a {type(name).__name__}.")
        pattern = name.replace("{layer}", "*")
        matching = [pattern] if pattern in points else [known for known in points if fnmatchcase(known, pattern)]
        if not matching:
            near = get_close_matches(name.replace("{layer}", "0"), list(points), n=3, cutoff=0.5)
            hint = f"the nearest are {', '.join(near)}" if near else "model.hook_dict lists all of them"
            raise ProbeError(f"This model has no hook point {name!r}; {hint}.")
        full |= dict.fromkeys(matching)
    return list(full)


def run_hooked(
    model: HookedModel,
    tokens: Int[torch.Tensor, "batch pos"],
    hooks: Sequence[Hook] = (),
    *,
    positions: Positions = FIRST,
) -> Float[torch.Tensor, "row target d_vocab"]:
    """Run one forward pass with hooks; return the logits at `positions` only, of every row (hooks can add some).

    Raises ProbeError for a hook point that the model does not have.
    """
    with attached(model, [*hooks, only_at(positions)]):
        logits: torch.Tensor = model.run_with_hooks(tokens, fwd_hooks=[])
    return logits


def only_at(positions: Positions) -> Hook:
    """Return a hook that leaves only these positions to the unembedding: the others cost no logits."""
    where = positions if isinstance(positions, (slice, torch.Tensor)) else list(positions)

    def cut(value: torch.Tensor, hook: object) -> torch.Tensor:
        return value[:, where]

    return BEFORE_UNEMBED, cut


@contextmanager
def attached(model: HookedModel, hooks: Iterable[Hook]) -> Iterator[None]:
    """Attach hooks to a model's hook points while the block runs; at one point they act in the order given.

    TransformerBridge.run_with_hooks resolves the names of the whole model again for every single hook: 90 of them took
    twice as long as the forward pass itself (135M parameters, 30 layers).
    """
    listed, points = list(hooks), model.hook_dict
    hook_points(model, [name for name, _ in listed if name not in points])
    used = []
    try:
        for name, function in listed:
            used.append(points[name])
            used[-1].add_hook(function, level=_LEVEL)
        yield
    finally:
        for point in used:
            point.remove_hooks(level=_LEVEL)


def token_logprobs(
    logits: Float[torch.Tensor, "batch target d_vocab"], targets: Int[torch.Tensor, " target"]
) -> Float[torch.Tensor, "batch target"]:
    """Return the log-probabilities (nats) of the targets, in at least float32."""
    logprobs = torch.log_softmax(wide(logits), dim=-1)
    return logprobs.gather(-1, targets.expand(logits.shape[0], -1)[..., None])[..., 0]


def wide(value: torch.Tensor) -> torch.Tensor:
    """Return the same numbers in at least float32: sums of squares overflow in half precision."""
    return value if value.dtype == torch.float64 else value.float()


@runtime_checkable
class Summary(Protocol):
    """One group of statistics of a model's run."""

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """Name the axes of each statistic, after the prompt."""

    @property
    def names(self) -> Mapping[str, str]:
        """Say in words what each statistic is."""

    def hooks(self, one: Forced) -> list[Hook]:
        """Return functions at hook points for the run of one prompt, which forget the prompt before."""

    def values(self, one: Forced, logits: torch.Tensor) -> dict[str, np.ndarray]:
        """Return the statistics of the prompt that has just run. logits (d_vocab): the model's at the first target."""


def target_positions(model: HookedModel, one: Forced) -> Int[torch.Tensor, " target"]:
    """Return where targets are predicted, as an index on the model's device."""
    return torch.tensor(one.positions, dtype=torch.long, device=next(model.parameters()).device)


def at_layers(model: HookedModel, name: str, function: Callable[[int, torch.Tensor], None]) -> list[Hook]:
    """Return hooks that call function(layer, value) at "blocks.{layer}." + name; nothing is changed."""

    def hook(layer: int) -> Callable[[torch.Tensor, Any], None]:
        def call(value: torch.Tensor, hook: object) -> None:
            function(layer, value)

        return call

    return [(f"blocks.{layer}.{name}", hook(layer)) for layer in range(model.cfg.n_layers)]


def stacked(by_layer: Mapping[int, torch.Tensor]) -> np.ndarray:
    """Return one array over the layers, in their order, float64."""
    return as_numbers(torch.stack([by_layer[layer] for layer in sorted(by_layer)]))
