"""What principal angles would be between random subspaces of the same size: the null of a rotation.

Two random k-dimensional subspaces of d dimensions overlap by k / d on average (closed form). How far overlaps and
angles scatter around that comes from draws: the squared cosines are the eigenvalues of a real Jacobi ensemble, which
has a tridiagonal form of 2 k - 1 independent beta variables (Edelman and Sutton 2008, "The beta-Jacobi matrix
model"). A draw costs k^2 operations and no matrix with a side of d. Beyond k = d / 2 two subspaces share at least 2 k
- d dimensions, and the other angles are those of their complements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigvalsh_tridiagonal

RANGE = (0.025, 0.975)


class RandomSubspaces(NamedTuple):
    """For each k: the expected overlap and the 95 % range of draws, the angles by rank (NaN beyond k) with theirs, and
    the mean of all k angles with its range. Angles in radians, ascending."""

    overlap: Float[np.ndarray, " ks"]
    overlap_low: Float[np.ndarray, " ks"]
    overlap_high: Float[np.ndarray, " ks"]
    angle: Float[np.ndarray, "ks index"]
    angle_low: Float[np.ndarray, "ks index"]
    angle_high: Float[np.ndarray, "ks index"]
    mean_angle: Float[np.ndarray, " ks"]
    mean_angle_low: Float[np.ndarray, " ks"]
    mean_angle_high: Float[np.ndarray, " ks"]


def random_subspaces(ks: Sequence[int], width: int, *, draws: int, seed: int) -> RandomSubspaces:
    """The null for subspaces of `ks` dimensions of a space of `width`; each k has its own seeded draws."""
    longest = max(ks)
    rows = []
    for k in ks:
        cosines = random_cosines(k, width, draws, np.random.default_rng([seed, k]))
        angles = np.arccos(np.sqrt(cosines))
        beyond = (0, longest - k)
        by_rank = [np.pad(part, beyond, constant_values=np.nan) for part in _spread(angles)]
        rows.append((k / width, *_spread(cosines.mean(axis=1))[1:], *by_rank, *_spread(angles.mean(axis=1))))
    return RandomSubspaces(*(np.array(column) for column in zip(*rows, strict=True)))


def random_cosines(k: int, width: int, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draws k"]:
    """Squared cosines of the principal angles of random k-dimensional subspaces, descending in each draw. k < width."""
    size = min(k, width - k)
    first = np.arange(size, 0, -1)
    second = first[1:]
    across = rng.beta(first / 2, (width - 2 * size + first) / 2, (draws, size))
    along = rng.beta(second / 2, (width - 2 * size + 1 + second) / 2, (draws, size - 1))
    # the bidiagonal factor's squared entries; its product with its transpose is tridiagonal
    diagonal = across.copy()
    diagonal[:, 1:] *= 1 - along
    above = (1 - across[:, :-1]) * along
    middle = diagonal.copy()
    middle[:, :-1] += above
    beside = np.sqrt(above * diagonal[:, 1:])
    found = [eigvalsh_tridiagonal(one, other) for one, other in zip(middle, beside, strict=True)]
    shared = np.ones((draws, k - size))
    return np.clip(np.hstack([shared, np.array(found)[:, ::-1]]), 0.0, 1.0)


def _spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over draws and the ends of their 95 % range."""
    low, high = np.quantile(values, RANGE, axis=0)
    return np.asarray(values.mean(axis=0)), np.asarray(low), np.asarray(high)
