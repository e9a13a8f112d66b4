"""Exact derivatives of target objectives with respect to the embeddings at `hook_embed`, many at a time.

With embeddings e (T x d_model), one forward pass is recorded from `hook_embed` to the last residual stream r, and the
rest of the model runs on the target positions alone, which is where the unembedding's cost goes otherwise.

REVERSE (a row per target m):
1. g_m = d objective_m / d r at the target's position: one backward pass for all, since r at one position reaches the
   objective of no other position.
2. Rows are pulled back to e in batches through the ONE recorded pass; parameters do not require gradients.
3. A batch of targets reads the text only up to its last position: what comes later cannot have an influence.

FORWARD (a column per prompt token n): the derivative of all objectives along one direction at e_n, many directions at a
time. It costs one pass per prompt token instead of one per target.

Only hook names and calls that HookedTransformer and TransformerBridge share are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int

Tokens = Int[torch.Tensor, "pos"]
Embeddings = Float[torch.Tensor, "pos d_model"]
AtTargets = Callable[[Float[torch.Tensor, "target d_vocab"], slice], Float[torch.Tensor, "target"]]


@dataclass(frozen=True)
class Task:
    """Which derivatives are wanted.

    tokens: all ids the model reads; sources: their positions that get a row; positions: for each target the position
    that predicts it, ascending; at_targets: logits at some targets and which targets -> their objectives.
    """

    model: Any
    tokens: Tokens
    sources: slice
    positions: Tokens
    at_targets: AtTargets


@dataclass
class _Recorded:
    embeddings: Any = None
    residual: Any = None
    top: Any = field(default=None)


def last_residual(model: Any) -> str:
    """The hook point of the residual stream after the last block."""
    return f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"


def before_unembed(model: Any) -> str:
    """The last hook point before the unembedding at which positions can be left out, so that they cost no logits."""
    names = model.hook_dict
    candidates = ("unembed.hook_in", "ln_final.hook_normalized")  # of the bridge; of HookedTransformer
    return next((name for name in candidates if name in names), last_residual(model))


def read_embeddings(task: Task) -> Embeddings:
    """The output of `hook_embed` for all tokens."""
    kept: dict[str, torch.Tensor] = {}

    def keep(value: torch.Tensor, hook: Any) -> torch.Tensor:
        kept["value"] = value.detach()[0].clone()
        return value

    def first_only(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return value[:, :1]  # no logits are wanted here

    with torch.no_grad():
        task.model.run_with_hooks(
            task.tokens[None], fwd_hooks=[("hook_embed", keep), (before_unembed(task.model), first_only)]
        )
    return kept["value"]


def target_logits(task: Task, embeddings: Embeddings) -> Float[torch.Tensor, "target d_vocab"]:
    """Logits at the target positions when `hook_embed` gives `embeddings`; differentiable in them."""

    def put(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return embeddings[None]

    def cut(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return value[:, task.positions]

    hooks = [("hook_embed", put), (before_unembed(task.model), cut)]
    return task.model.run_with_hooks(task.tokens[None], fwd_hooks=hooks)[0]


def reverse_blocks(
    task: Task, embeddings: Embeddings, batch: int
) -> Iterator[tuple[slice, Float[torch.Tensor, "target source d_model"], Float[torch.Tensor, "target"]]]:
    """Blocks of Jacobian rows d objective_m / d e_n with the targets they belong to, and the objectives."""
    for first in range(0, len(task.positions), batch):
        block = slice(first, min(first + batch, len(task.positions)))
        yield block, *_reverse_block(task, embeddings, block)


def _reverse_block(
    task: Task, embeddings: Embeddings, block: slice
) -> tuple[Float[torch.Tensor, "target source d_model"], Float[torch.Tensor, "target"]]:
    positions = task.positions[block]
    end = int(positions[-1]) + 1
    record = _Recorded()

    def put(value: torch.Tensor, hook: Any) -> torch.Tensor:
        record.embeddings = embeddings[None, :end].detach().requires_grad_(True)
        return record.embeddings

    def part(value: torch.Tensor, hook: Any) -> torch.Tensor:
        record.residual = value
        record.top = value.detach().requires_grad_(True)
        return record.top

    def cut(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return value[:, positions]

    with torch.enable_grad():
        hooks = [("hook_embed", put), (last_residual(task.model), part), (before_unembed(task.model), cut)]
        logits = task.model.run_with_hooks(task.tokens[None, :end], fwd_hooks=hooks)[0]
        values = task.at_targets(logits, block)
        (gradient,) = torch.autograd.grad(values.sum(), record.top)
        rows = _pull_back(record, gradient[0, positions], positions)
    return rows[:, 0, task.sources], values.detach()


def _pull_back(
    record: _Recorded, gradient: Float[torch.Tensor, "target d_model"], positions: Tokens
) -> Float[torch.Tensor, "target 1 pos d_model"]:
    count = len(positions)
    if count == 1:  # batching costs more than it saves here
        seed = torch.zeros_like(record.residual)
        seed[0, positions] = gradient
        return torch.autograd.grad(record.residual, record.embeddings, seed)[0][None]
    seeds = record.residual.new_zeros(count, *record.residual.shape)
    seeds[torch.arange(count), 0, positions] = gradient
    return torch.autograd.grad(record.residual, record.embeddings, seeds, is_grads_batched=True)[0]


def forward_blocks(
    task: Task, embeddings: Embeddings, directions: Float[torch.Tensor, "source d_model"], batch: int
) -> Iterator[tuple[slice, Float[torch.Tensor, "source target"], Float[torch.Tensor, "target"]]]:
    """Blocks of <d objective_m / d e_n, direction_n> for all targets, with the sources they belong to."""
    everything = slice(0, len(task.positions))

    def objectives(point: Embeddings) -> Float[torch.Tensor, "target"]:
        return task.at_targets(target_logits(task, point), everything)

    def along(tangent: Embeddings) -> tuple[torch.Tensor, torch.Tensor]:
        values, change = torch.func.jvp(objectives, (embeddings,), (tangent,))
        return change, values

    with torch.no_grad():
        for first in range(0, len(directions), batch):
            block = slice(first, min(first + batch, len(directions)))
            tangents = embeddings.new_zeros(block.stop - block.start, *embeddings.shape)
            rows = torch.arange(block.start, block.stop)
            tangents[rows - block.start, rows + task.sources.start] = directions[block]
            changes, values = torch.func.vmap(along, out_dims=(0, None))(tangents)
            yield block, changes, values
