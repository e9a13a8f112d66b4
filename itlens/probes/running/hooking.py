"""Running a model with functions at its hook points: names are checked, logits are computed only where asked for.

Only hook names and calls that HookedTransformer and TransformerBridge share are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int

from itlens.errors import ProbeError

Hook: TypeAlias = tuple[str, Callable[[torch.Tensor, Any], torch.Tensor | None]]
BEFORE_UNEMBED = "unembed.hook_in"  # positions that are cut off here cost no logits
_LEVEL = -1  # the context of these hooks; those of run_with_hooks count from 1, and it removes its own only


def hook_points(model: Any, names: Any) -> list[str]:
    """The full names of the hook points that `names` (a text or several) stand for.

    "{layer}" stands for every layer; * and ? are patterns.
    Raises ProbeError, with the nearest names, for a name that matches nothing: a hook is never skipped.
    """
    asked = [names] if isinstance(names, str) else list(names)
    points = model.hook_dict  # a bridge makes it anew each time
    found: dict[str, None] = {}
    for name in asked:
        if not isinstance(name, str):
            raise ProbeError(f"A hook point is named by text, not by a {type(name).__name__}.")
        pattern = name.replace("{layer}", "*")
        matching = [pattern] if pattern in points else [known for known in points if fnmatchcase(known, pattern)]
        if not matching:
            near = get_close_matches(name.replace("{layer}", "0"), list(points), n=3, cutoff=0.5)
            hint = f"the nearest are {', '.join(near)}" if near else "model.hook_dict lists all of them"
            raise ProbeError(f"This model has no hook point {name!r}; {hint}.")
        found |= dict.fromkeys(matching)
    return list(found)


def run_hooked(
    model: Any,
    tokens: Int[torch.Tensor, "batch pos"],
    hooks: Sequence[Hook] = (),
    *,
    positions: Sequence[int] | slice = slice(0, 1),
) -> Float[torch.Tensor, "batch target d_vocab"]:
    """One forward pass with hooks; the logits at `positions` only (by default of the first, the least work).

    Raises ProbeError for a hook point that the model does not have.
    """
    where = positions if isinstance(positions, slice) else list(positions)

    def cut(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return value[:, where]

    with attached(model, [*hooks, (BEFORE_UNEMBED, cut)]):
        return model.run_with_hooks(tokens, fwd_hooks=[])


@contextmanager
def attached(model: Any, hooks: Iterable[Hook]) -> Iterator[None]:
    """Hooks at a model's hook points while the block runs; at one point they act in the order given.

    TransformerBridge.run_with_hooks resolves the names of the whole model anew for every single hook: 90 of them took
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
    """Log-probabilities (nats) of the targets, in at least float32."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return torch.log_softmax(wide, dim=-1).gather(-1, targets.expand(wide.shape[0], -1)[..., None])[..., 0]
