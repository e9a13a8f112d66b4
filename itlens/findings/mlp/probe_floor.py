"""How far a new sample of rows rotates the principal components of a matrix: the noise floor of a rotation.

A bootstrap draw takes as many rows as there are, with replacement. For
each k, the span of its first k components is compared with that of all rows: OVERLAP is the projection kernel, the mean
squared cosine of the principal angles (1 = same space), ANGLE the mean of those angles. A draw holds about 63 % of the
rows, some several times; where k is more than those can span, the floor is NaN. The same seed and layer draw the same
rows in every model of that shape.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from itlens.weights.components import CentredRows, principal_components

KS = (10, 50, 100, 300)  # dimensions of the subspaces whose noise floor is measured
_NEAR = math.cos(0.01)  # beyond, a cosine has lost the angle


class NoiseFloor(NamedTuple):
    """Overlaps (no unit) and mean principal angles (radians) of draws with all rows."""

    overlap: Float[np.ndarray, "k draw"]
    angle: Float[np.ndarray, "k draw"]


def floor_sizes(components: int) -> list[int]:
    """Return the dimensions of the subspaces that are compared: KS, cut to the number of components."""
    return sorted({min(k, components) for k in KS})


def noise_floor(
    matrix: Float[Tensor, "rows d_model"],
    gain: Float[Tensor, " d_model"],
    directions: Float[Tensor, "components d_model"],
    *,
    draws: int,
    seed: int,
    layer: int,
) -> NoiseFloor:
    """Return the floor of one layer, from `draws` bootstrap samples of its rows."""
    generator, count = np.random.default_rng([seed, layer]), len(matrix)
    columns = []
    for _ in range(draws):
        counts = np.bincount(generator.integers(0, count, count), minlength=count)
        taken = np.flatnonzero(counts)
        places = torch.as_tensor(taken, device=matrix.device)
        rows = CentredRows(matrix[places], gain, torch.as_tensor(counts[taken], device=matrix.device))
        drawn = principal_components(rows, len(directions)).directions
        columns.append(_compared(directions, drawn, rank=len(taken) - 1))
    overlap, angle = rearrange(np.array(columns), "draw value k -> value k draw")
    return NoiseFloor(overlap, angle)


def _compared(
    whole: Float[Tensor, "components d_model"], drawn: Float[Tensor, "components d_model"], rank: int
) -> tuple[list[float], list[float]]:
    whole, drawn = whole.cpu().double(), drawn.cpu().double()
    inner = whole @ drawn.T
    overlap, angle = [], []
    for k in floor_sizes(len(inner)):
        if k > rank:
            overlap.append(math.nan)
            angle.append(math.nan)
            continue
        overlap.append(min(1.0, float(inner[:k, :k].square().sum()) / k))
        angle.append(float(_angles(whole[:k], drawn[:k], inner[:k, :k]).mean()))
    return overlap, angle


def _angles(
    whole: Float[Tensor, "k d_model"], drawn: Float[Tensor, "k d_model"], inner: Float[Tensor, "k k"]
) -> Float[Tensor, " k"]:
    """Principal angles of two orthonormal bases; small ones by their sines, since a cosine near 1 has lost them."""
    left, cosines, right = torch.linalg.svd(inner)
    angles = torch.arccos(cosines.clamp(max=1))
    near = cosines > _NEAR
    if bool(near.any()):
        residual = right[near] @ drawn - (cosines[near, None] * left.T[near]) @ whole
        angles[near] = torch.arcsin(torch.linalg.svdvals(residual).clamp(max=1))
    return angles
