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

Where numbers stop being finite, an error names the layer instead of NaN in a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int

from itlens.errors import ProbeError
from itlens.hooked.hooks import FIRST, Hook, run_hooked, wide
from itlens.models.hooked_model import HookedModel

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

    model: HookedModel
    tokens: Tokens
    sources: slice
    positions: Positions
    at_targets: AtTargets


def last_residual(model: HookedModel) -> str:
    """Name the hook point of the residual stream after the last block."""
    return f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"


def read_embeddings(task: Task) -> Embeddings:
    """Return the output of `hook_embed` for all tokens."""
    kept: list[torch.Tensor] = []

    def keep(value: torch.Tensor, hook: object) -> None:
        kept.append(value.detach()[0].clone())

    with torch.no_grad():
        run_hooked(task.model, task.tokens[None], [("hook_embed", keep)], positions=FIRST)
    return kept[0]


def target_logits(task: Task, embeddings: Embeddings) -> Float[torch.Tensor, "target d_vocab"]:
    """Return the logits at the target positions when `hook_embed` gives `embeddings`; differentiable in them."""

    def put(value: torch.Tensor, hook: object) -> torch.Tensor:
        return embeddings[None]

    return run_hooked(task.model, task.tokens[None], [("hook_embed", put)], positions=task.positions)[0]


def reverse_blocks(
    task: Task, embeddings: Embeddings, batch: int
) -> Iterator[tuple[slice, Float[torch.Tensor, "target source d_model"], Float[torch.Tensor, "target"]]]:
    """Yield blocks of Jacobian rows d objective_m / d e_n with the targets they belong to, and the objectives."""
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
    return wide(rows[:, 0, task.sources]) * size[:, None, None], values


def _top(
    task: Task, start: Float[torch.Tensor, "1 pos d_model"], block: slice
) -> tuple[
    Float[torch.Tensor, "1 pos d_model"],
    Float[torch.Tensor, "target d_model"],
    Float[torch.Tensor, "target"],
    Float[torch.Tensor, "target"],
]:
    """Return the last residual stream from embeddings `start` (recorded where they require gradients), the gradient of
    each target's objective on it at the target's position, divided by its size, that size, and the objectives."""
    positions = task.positions[block]
    below: list[torch.Tensor] = []  # the residual stream, recorded from the embeddings
    above: list[torch.Tensor] = []  # the same numbers, from which the rest of the model is recorded

    def put(value: torch.Tensor, hook: object) -> torch.Tensor:
        return start

    def part(value: torch.Tensor, hook: object) -> torch.Tensor:
        below.append(value)
        above.append(value.detach().requires_grad_(True))
        return above[0]

    with torch.enable_grad():
        hooks: list[Hook] = [("hook_embed", put), (last_residual(task.model), part)]
        logits = run_hooked(task.model, task.tokens[None, : start.shape[1]], hooks, positions=positions)[0]
        leaf = wide(logits.detach()).requires_grad_(True)
        values = task.at_targets(leaf, block)
        (by_logit,) = torch.autograd.grad(values.sum(), leaf)
        size = by_logit.abs().amax(dim=-1)
        unit = by_logit.div_(torch.where(size == 0, 1.0, size)[:, None])
        (gradient,) = torch.autograd.grad(logits, above[0], unit.to(logits.dtype))
    return below[0], gradient[0, positions], size, values.detach()


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
    """Yield blocks of <d objective_m / d e_n, direction_n> for all targets, with the sources they belong to."""
    everything = slice(0, len(task.positions))
    with torch.no_grad():
        _, gradient, size, values = _top(task, embeddings[None].detach(), everything)
        for first in range(0, len(directions), batch):
            block = slice(first, min(first + batch, len(directions)))
            tangents = embeddings.new_zeros(block.stop - block.start, *embeddings.shape)
            rows = torch.arange(block.start, block.stop)
            tangents[rows - block.start, rows + task.sources.start] = directions[block]
            moved = torch.func.vmap(lambda tangent: _push_forward(task, embeddings, tangent))(tangents)
            yield block, torch.einsum("nmd,md->nm", wide(moved), wide(gradient)) * size, values


def _push_forward(task: Task, embeddings: Embeddings, tangent: Embeddings) -> Float[torch.Tensor, "target d_model"]:
    """Return how the last residual stream at the targets moves when the embeddings move along `tangent`."""

    def residual(point: Embeddings) -> Float[torch.Tensor, "target d_model"]:
        kept: list[torch.Tensor] = []

        def put(value: torch.Tensor, hook: object) -> torch.Tensor:
            return point[None]

        def keep(value: torch.Tensor, hook: object) -> None:
            kept.append(value[0, task.positions])

        hooks: list[Hook] = [("hook_embed", put), (last_residual(task.model), keep)]
        run_hooked(task.model, task.tokens[None], hooks, positions=FIRST)
        return kept[0]

    moved: torch.Tensor = torch.func.jvp(residual, (embeddings,), (tangent,))[1]
    return moved


def refuse_non_finite(task: Task, block: torch.Tensor, name: str) -> None:
    """Raise ProbeError naming the first layer whose residual stream, or else gradient, is not finite."""
    if bool(torch.isfinite(block).all()):
        return
    layer = _first_bad_layer(task)
    remedy = 'load the model with dtype="float32"'
    if layer is not None:
        raise ProbeError(f"Activations of layer {layer} are not finite on {name}; {remedy} or check its weights.")
    layer = _last_bad_gradient(task)
    where = "at the unembedding" if layer is None else f"of layer {layer}"
    raise ProbeError(f"The gradient {where} is not finite on {name} although all activations are; {remedy}.")


def _residuals(task: Task) -> list[torch.Tensor]:
    """Return the residual stream after each layer, recorded for gradients in each, and the objectives."""
    kept: list[torch.Tensor] = []

    def start(value: torch.Tensor, hook: object) -> torch.Tensor:
        return value.detach().requires_grad_(True)

    def keep(value: torch.Tensor, hook: object) -> None:
        kept.append(value)

    hooks: list[Hook] = [("hook_embed", start)]
    hooks += [(f"blocks.{layer}.hook_resid_post", keep) for layer in range(task.model.cfg.n_layers)]
    with torch.enable_grad():
        logits = run_hooked(task.model, task.tokens[None], hooks, positions=task.positions)[0]
        kept.append(task.at_targets(logits, slice(0, len(task.positions))))
    return kept


def _first_bad_layer(task: Task) -> int | None:
    for layer, value in enumerate(_residuals(task)[:-1]):
        if not bool(torch.isfinite(value).all()):
            return layer
    return None


def _last_bad_gradient(task: Task) -> int | None:
    """Return the layer nearest to the output whose gradient is not finite: gradients run from there to the input."""
    *residuals, objectives = _residuals(task)
    gradients = torch.autograd.grad(objectives.sum(), residuals)
    for layer in reversed(range(len(gradients))):
        if not bool(torch.isfinite(gradients[layer]).all()):
            return layer + 1 if layer + 1 < len(gradients) else None
    return 0
