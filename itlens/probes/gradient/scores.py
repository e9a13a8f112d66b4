"""Scores from derivatives: the three methods of `attribution`, at one point or along a path.

Whatever the mode, scores are (source, target) in float32, or float64 for a float64 model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float

from itlens.probes.finite import refuse_non_finite
from itlens.probes.gradient.jacobian import (
    Embeddings,
    Task,
    forward_blocks,
    read_embeddings,
    reverse_blocks,
    target_logits,
)
from itlens.probes.memory import rows_at_a_time

Scores = Float[torch.Tensor, "source target"]
Progress = Callable[[int, int], None]


def scores_of(
    task: Task, method: str, mode: str, batch_size: int | None, steps: int, progress: Progress | None, name: str
) -> tuple[Scores, Float[torch.Tensor, "target"]]:
    """Scores (source, target) by one of the methods, and the objectives (target); nothing for an empty response."""
    count = task.sources.stop - task.sources.start
    if len(task.positions) == 0:
        return torch.zeros(count, 0), torch.zeros(0)
    embeddings = read_embeddings(task)
    batch = batch_size or rows_at_a_time(task.model, len(task.tokens))
    if method != "integrated_gradients":
        return _at_point(task, embeddings, embeddings, method, mode, batch, progress, name)
    return _along_path(task, embeddings, mode, batch, steps, progress, name)


def _along_path(
    task: Task, embeddings: Embeddings, mode: str, batch: int, steps: int, progress: Progress | None, name: str
) -> tuple[Scores, Float[torch.Tensor, "target"]]:
    """Integrated gradients: the mean of input x gradient scores over points between zero and the prompt embeddings."""
    total: Scores | None = None
    for step, (place, weight) in enumerate(zip(*_quadrature(steps), strict=True)):
        point = embeddings.clone()
        point[task.sources] *= place
        scores, _ = _at_point(task, point, embeddings, "input_x_gradient", mode, batch, None, name)
        total = scores * weight if total is None else total + scores * weight
        _tell(progress, step + 1, steps)
    assert total is not None  # steps >= 1
    return total, _objectives(task, embeddings)


def _objectives(task: Task, embeddings: Embeddings) -> Float[torch.Tensor, "target"]:
    with torch.no_grad():
        return task.at_targets(target_logits(task, embeddings), slice(0, len(task.positions)))


def completeness_error(task: Task, scores: Scores, objectives: Float[torch.Tensor, "target"]) -> float:
    """The largest |sum of scores - (o(e) - o(0))| over targets, as a share of the largest change."""
    if len(task.positions) == 0:
        return 0.0
    empty = read_embeddings(task)
    empty[task.sources] = 0
    change = objectives - _objectives(task, empty)
    return float((scores.sum(0) - change).abs().max() / change.abs().max().clamp(min=1e-12))


def _quadrature(steps: int) -> tuple[list[float], list[float]]:
    """Gauss-Legendre points and weights on [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    return [float(point + 1) / 2 for point in points], [float(weight) / 2 for weight in weights]


def _at_point(
    task: Task,
    point: Embeddings,
    embeddings: Embeddings,
    method: str,
    mode: str,
    batch: int,
    progress: Progress | None,
    name: str,
) -> tuple[Scores, Float[torch.Tensor, "target"]]:
    """Scores with derivatives taken at `point`, multiplied (where the method does) by `embeddings`."""
    directions = embeddings[task.sources]
    wide = directions.dtype if directions.dtype == torch.float64 else torch.float32
    scores = torch.zeros(len(directions), len(task.positions), dtype=wide, device=directions.device)
    objectives = torch.zeros(len(task.positions), dtype=wide, device=directions.device)
    if mode == "forward":
        for block, columns, values in forward_blocks(task, point, directions, batch):
            refuse_non_finite(task, columns, name)
            scores[block], objectives[:] = columns, values
            _tell(progress, block.stop, len(directions))
        return scores, objectives
    for block, rows, values in reverse_blocks(task, point, batch):
        refuse_non_finite(task, rows, name)
        if method == "saliency":
            scores[:, block] = torch.linalg.vector_norm(rows, dim=-1).T
        else:
            scores[:, block] = torch.einsum("msd,sd->sm", rows, directions.to(wide))
        objectives[block] = values
        _tell(progress, block.stop, len(task.positions))
    return scores, objectives


def _tell(progress: Progress | None, done: int, everything: int) -> None:
    if progress is not None:
        progress(done, everything)
