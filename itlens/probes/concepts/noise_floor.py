"""How far the leading components turn when a layer's neurons are drawn anew: the noise floor of a rotation.

A draw takes as many rows as there are, with replacement (a bootstrap). For each k, the span of its first k components
is compared with the span of those of all rows: OVERLAP is the projection kernel, the mean squared cosine of the
principal angles (1 = same space), ANGLE the mean of those angles. A draw holds about 63 % of the rows, some several
times; where k is more than those can span, the floor is NaN. The same seed and layer draw the same rows in every model
of that shape.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from itlens.probes.concepts.components import CentredRows, principal_components

KS = (10, 50, 100, 300)
_NEAR = math.cos(0.01)


class Floor(NamedTuple):
    """Overlaps (no unit) and mean principal angles (radians) of draws with all rows."""

    overlap: Float[np.ndarray, "k draw"]
    angle: Float[np.ndarray, "k draw"]


def sizes(components: int) -> list[int]:
    """The subspaces that are compared: KS, cut to the components there are."""
    return sorted({min(k, components) for k in KS})


def noise_floor(
    matrix: Float[Tensor, "rows d_model"],
    gain: Float[Tensor, " d_model"],
    directions: Float[Tensor, "components d_model"],
    *,
    draws: int,
    seed: int,
    layer: int,
) -> Floor:
    """The floor of one layer, from `draws` bootstrap samples of its rows."""
    generator, count = np.random.default_rng([seed, layer]), len(matrix)
    columns = []
    for _ in range(draws):
        counts = np.bincount(generator.integers(0, count, count), minlength=count)
        taken = np.flatnonzero(counts)
        places = torch.as_tensor(taken, device=matrix.device)
        rows = CentredRows(matrix[places], gain, torch.as_tensor(counts[taken], device=matrix.device))
        found = principal_components(rows, len(directions)).directions
        columns.append(_compared(directions, found, rank=len(taken) - 1))
    overlap, angle = np.array(columns).transpose(1, 2, 0)
    return Floor(overlap, angle)


def _compared(
    one: Float[Tensor, "components d_model"], other: Float[Tensor, "components d_model"], rank: int
) -> tuple[list[float], list[float]]:
    one, other = one.cpu().double(), other.cpu().double()
    inner = one @ other.T
    overlap, angle = [], []
    for k in sizes(len(inner)):
        if k > rank:
            overlap.append(math.nan)
            angle.append(math.nan)
            continue
        overlap.append(min(1.0, float(inner[:k, :k].square().sum()) / k))
        angle.append(float(_angles(one[:k], other[:k], inner[:k, :k]).mean()))
    return overlap, angle


def _angles(
    one: Float[Tensor, "k d_model"], other: Float[Tensor, "k d_model"], inner: Float[Tensor, "k k"]
) -> Float[Tensor, " k"]:
    """Principal angles of two orthonormal bases; small ones by their sines, since a cosine near 1 has lost them."""
    left, cosines, right = torch.linalg.svd(inner)
    angles = torch.arccos(cosines.clamp(max=1))
    near = cosines > _NEAR
    if bool(near.any()):
        residual = right[near] @ other - (cosines[near, None] * left.T[near]) @ one
        angles[near] = torch.arcsin(torch.linalg.svdvals(residual).clamp(max=1))
    return angles
