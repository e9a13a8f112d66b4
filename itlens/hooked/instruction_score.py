"""The instruction's importance score of a prompt while hooks change what the model computes.

The score is that of `itlens.attribute`, `importance_density` and `span_score` with their defaults: input x gradient of
the response's probabilities on the prompt's embeddings. One score costs a whole attribution, tens of forward passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import xarray as xr

from itlens.hooked.attribution import scores_of
from itlens.hooked.gradients import Task
from itlens.hooked.hooks import Hook
from itlens.hooked.objectives import objective_function
from itlens.hooked.tokens import CLASSES, Forced
from itlens.models.hooked_model import HookedModel
from itlens.results.density import importance_density, span_score


class _WithHooks:
    """A model whose every run has these hooks as well."""

    def __init__(self, model: HookedModel, hooks: Sequence[Hook]) -> None:
        self._model, self._hooks = model, hooks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run_with_hooks(self, tokens: torch.Tensor, fwd_hooks: Any = (), **options: Any) -> Any:
        return self._model.run_with_hooks(tokens, fwd_hooks=[*fwd_hooks, *self._hooks], **options)


def instruction_score(model: HookedModel, prompt: Forced, hooks: Sequence[Hook]) -> float:
    """Compute the instruction's importance score of one prompt and response, under hooks.

    The first token that is read counts as no instruction (see `itlens.hooked.tokens`).
    """
    device = next(model.parameters()).device
    targets = torch.tensor(prompt.targets, device=device)
    objective = objective_function("prob")

    def at_targets(logits: torch.Tensor, which: slice) -> torch.Tensor:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return objective(wide, targets[which], targets[which])

    front, count = len(prompt.encoded.front), len(prompt.encoded.prompt_ids)
    task = Task(
        cast(HookedModel, _WithHooks(model, hooks)),
        torch.tensor(prompt.read, device=device),
        slice(front, front + count),
        torch.tensor(prompt.positions, device=device),
        at_targets,
    )
    scores, _ = scores_of(task, "input_x_gradient", "reverse", None, 1, None, f"prompt {prompt.id!r}")
    inside = prompt.classes[front : front + count] == CLASSES.index("instruction")
    score = xr.DataArray(scores.detach().cpu().numpy(), dims=("source", "target"))
    return span_score(importance_density(score), xr.DataArray(inside, dims="source"))
