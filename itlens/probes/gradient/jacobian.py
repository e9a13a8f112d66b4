"""Exact derivatives of target objectives with respect to the embeddings at `hook_embed`, many at a time.

With embeddings e (T x d_model), one forward pass is recorded from `hook_embed` to the last residual stream r, and the
rest of the model runs on the target positions alone, which is where the unembedding's cost goes otherwise.

REVERSE (a row per target m):
1. g_m = d objective_m / d r at the target's position: one backward pass for all, since r at one position reaches the
   objective of no other position. Each g_m is carried with its size apart (the largest derivative by a logit): 1e-9 is
   a common size, and float16 would make it zero.
2. Rows are pulled back to e in batches through the ONE recorded pass; parameters do not require gradients.
3. A batch of targets reads the text only up to its last position: what comes later cannot have an influence.

FORWARD (a column per prompt token n): step 1, and then how r moves when e_n moves along a direction, many n at a time;
its product with g_m is the derivative of objective m along that direction. One pass per prompt token, not per target.

Only hook names and calls that HookedTransformer and TransformerBridge share are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int

Tokens = Int[torch.Tensor, "pos"]
Positions = Int[torch.Tensor, "target"]
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
    positions: Positions
    at_targets: AtTargets


@dataclass
class _Recorded:
    residual: Any = None
    top: Any = None


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
    end = int(task.positions[block][-1]) + 1
    with torch.enable_grad():
        start = embeddings[None, :end].detach().requires_grad_(True)
        residual, gradient, size, values = _top(task, start, block)
        rows = _pull_back(residual, start, gradient, task.positions[block])
    return _wide(rows[:, 0, task.sources]) * size[:, None, None], values


def _top(
    task: Task, start: Float[torch.Tensor, "1 pos d_model"], block: slice
) -> tuple[
    Float[torch.Tensor, "1 pos d_model"],
    Float[torch.Tensor, "target d_model"],
    Float[torch.Tensor, "target"],
    Float[torch.Tensor, "target"],
]:
    """The last residual stream from embeddings `start` (recorded where they require gradients), the gradient of each
    target's objective on it at the target's position, divided by its size, that size, and the objectives."""
    positions = task.positions[block]
    record = _Recorded()

    def put(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return start

    def part(value: torch.Tensor, hook: Any) -> torch.Tensor:
        record.residual = value
        record.top = value.detach().requires_grad_(True)
        return record.top

    def cut(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return value[:, positions]

    with torch.enable_grad():
        hooks = [("hook_embed", put), (last_residual(task.model), part), (before_unembed(task.model), cut)]
        logits = task.model.run_with_hooks(task.tokens[None, : start.shape[1]], fwd_hooks=hooks)[0]
        leaf = _wide(logits.detach()).requires_grad_(True)
        values = task.at_targets(leaf, block)
        (by_logit,) = torch.autograd.grad(values.sum(), leaf)
        size = by_logit.abs().amax(dim=-1)
        unit = by_logit.div_(torch.where(size == 0, 1.0, size)[:, None])
        (gradient,) = torch.autograd.grad(logits, record.top, unit.to(logits.dtype))
    return record.residual, gradient[0, positions], size, values.detach()


def _wide(numbers: torch.Tensor) -> torch.Tensor:
    return numbers if numbers.dtype == torch.float64 else numbers.float()


def _pull_back(
    residual: Float[torch.Tensor, "1 pos d_model"],
    start: Float[torch.Tensor, "1 pos d_model"],
    gradient: Float[torch.Tensor, "target d_model"],
    positions: Positions,
) -> Float[torch.Tensor, "target 1 pos d_model"]:
    count = len(positions)
    if count == 1:  # batching costs more than it saves here
        seed = torch.zeros_like(residual)
        seed[0, positions] = gradient
        return torch.autograd.grad(residual, start, seed)[0][None]
    seeds = residual.new_zeros(count, *residual.shape)
    seeds[torch.arange(count), 0, positions] = gradient
    return torch.autograd.grad(residual, start, seeds, is_grads_batched=True)[0]


def forward_blocks(
    task: Task, embeddings: Embeddings, directions: Float[torch.Tensor, "source d_model"], batch: int
) -> Iterator[tuple[slice, Float[torch.Tensor, "source target"], Float[torch.Tensor, "target"]]]:
    """Blocks of <d objective_m / d e_n, direction_n> for all targets, with the sources they belong to."""
    everything = slice(0, len(task.positions))
    with torch.no_grad():
        _, gradient, size, values = _top(task, embeddings[None].detach(), everything)
        for first in range(0, len(directions), batch):
            block = slice(first, min(first + batch, len(directions)))
            tangents = embeddings.new_zeros(block.stop - block.start, *embeddings.shape)
            rows = torch.arange(block.start, block.stop)
            tangents[rows - block.start, rows + task.sources.start] = directions[block]
            moved = torch.func.vmap(lambda tangent: _push_forward(task, embeddings, tangent))(tangents)
            yield block, torch.einsum("nmd,md->nm", _wide(moved), _wide(gradient)) * size, values


def _push_forward(task: Task, embeddings: Embeddings, tangent: Embeddings) -> Float[torch.Tensor, "target d_model"]:
    """How the last residual stream at the targets' positions moves when the embeddings move along `tangent`."""
    record = _Recorded()

    def residual(point: Embeddings) -> Float[torch.Tensor, "target d_model"]:
        def put(value: torch.Tensor, hook: Any) -> torch.Tensor:
            return point[None]

        def keep(value: torch.Tensor, hook: Any) -> torch.Tensor:
            record.residual = value[0, task.positions]
            return value

        def first_only(value: torch.Tensor, hook: Any) -> torch.Tensor:
            return value[:, :1]  # no logits are wanted here

        hooks = [("hook_embed", put), (last_residual(task.model), keep), (before_unembed(task.model), first_only)]
        task.model.run_with_hooks(task.tokens[None], fwd_hooks=hooks)
        return record.residual

    return torch.func.jvp(residual, (embeddings,), (tangent,))[1]
