"""Compare two subspaces: principal angles, what they would be by chance, explained variance, and matched components.

PRINCIPAL ANGLES, exact for small angles as well as for large ones. For orthonormal rows B and T with the singular value
decomposition B T^T = U cos V^T, the angles are arccos(cos) (Björck and Golub 1973). Near 0 the cosine no longer tells
angles apart; there the length of the residual, |V^T T - cos U^T B| = sin, is taken instead. All residuals of nearly
equal cosines are taken together, since their singular vectors mix: the sines are the residuals' own singular values,
exact to 1e-10 and, where all angles are tiny, far better.

BY CHANCE: two random k-dimensional subspaces of d dimensions overlap by k / d on average (closed form). How far
overlaps and angles scatter around that comes from draws: the squared cosines are the eigenvalues of a real Jacobi
ensemble, which has a tridiagonal form of 2 k - 1 independent beta variables (Edelman and Sutton 2008, "The beta-Jacobi
matrix model"). A draw costs k^2 operations and no matrix with a side of d. Beyond k = d / 2 two subspaces share at
least 2 k - d dimensions, and the other angles are those of their complements.

EXPLAINED VARIANCE of one model's rows by the other's components. The rows' covariance is known by its kept components
t_j and their shares e_j of the variance; the rest of the variance, 1 - sum e_j, lies somewhere beyond. A subspace B of
k dimensions explains sum_j e_j |B t_j|^2 of it for sure (the lower bound); of the rest it explains at most all, and at
most e_next, the share of the next component (e_last, where that is not known), for each dimension that B has beyond the
kept components (the upper bound). Both are divided by what the model's own first k components explain, the most that k
dimensions can.

MATCHED COMPONENTS, so that their words can be read next to each other: an optimal one-to-one matching on |cosine|
(Hungarian method). It is never a statistic: components of nearly equal variance mix freely, and a mixed one has no
single partner. What rotated is measured on subspaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import eigvalsh_tridiagonal
from scipy.optimize import linear_sum_assignment

RANGE = (0.025, 0.975)
DEGENERATE = 1e-3
_NEAR = np.cos(0.01)  # beyond, arccos is exact to 1e-13


def orthonormal(
    directions: Float[np.ndarray, "components d_model"], products: Float[np.ndarray, "components components"]
) -> Float[np.ndarray, "components d_model"]:
    """Make nearly orthonormal rows orthonormal, in order: the first k of them span what they did. products: rows @
    rows.T."""
    lower = np.linalg.cholesky(products)
    # near the identity the inverse is exact enough, and one product is faster than a triangular solver
    return np.asarray(np.linalg.inv(lower) @ directions)


def principal_angles(
    base: Float[np.ndarray, "k d_model"],
    tuned: Float[np.ndarray, "k d_model"],
    inner: Float[np.ndarray, "k k"] | None = None,
) -> Float[np.ndarray, " k"]:
    """Return the k principal angles, radians, ascending, between the spans of two sets of orthonormal rows.

    inner: base @ tuned.T, where it is known already.
    """
    left, cosines, right = np.linalg.svd(base @ tuned.T if inner is None else inner)
    angles = np.arccos(np.clip(cosines, 0.0, 1.0))
    near = cosines > _NEAR
    if near.any():
        residual = right[near] @ tuned - (cosines[near, None] * left.T[near]) @ base
        angles[near] = np.arcsin(np.sqrt(np.maximum(np.linalg.eigvalsh(residual @ residual.T), 0.0)))
    return np.sort(angles)


def projection_overlap(inner: Float[np.ndarray, "k k"]) -> float:
    """Return the mean squared cosine of the principal angles, |B T^T|^2 / k: 1 for equal subspaces, 0 for orthogonal
    ones."""
    return float(np.square(inner).sum() / len(inner))


def match_components(
    inner: Float[np.ndarray, "components components"],
) -> tuple[Int[np.ndarray, " components"], Float[np.ndarray, " components"]]:
    """Return for each component of the tuned model the place of the base model's, and |cosine| of the two.

    inner: cosines (component of base, component of tuned). The sum of |cosine| over all pairs is the largest there is.
    """
    sizes = np.abs(inner)
    base, tuned = linear_sum_assignment(sizes, maximize=True)
    place = np.empty(len(sizes), dtype=np.int64)
    place[tuned] = base
    return place, np.minimum(sizes[place, np.arange(len(sizes))], 1.0)


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
    """Return the null for subspaces of `ks` dimensions of a space of `width`; each k has its own seeded draws."""
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
    """Draw squared cosines of the principal angles of random k-dimensional subspaces, descending in each draw. k <
    width."""
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
    next_to = np.sqrt(above * diagonal[:, 1:])
    values = [eigvalsh_tridiagonal(*entries) for entries in zip(middle, next_to, strict=True)]
    shared = np.ones((draws, k - size))
    return np.clip(np.hstack([shared, np.array(values)[:, ::-1]]), 0.0, 1.0)


def _spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean over draws and the ends of their 95 % range."""
    low, high = np.quantile(values, RANGE, axis=0)
    return np.asarray(values.mean(axis=0)), np.asarray(low), np.asarray(high)


class Transfer(NamedTuple):
    """Explained variance relative to the model's own components, 0 to 1, for each k; NaN without any variance."""

    low: Float[np.ndarray, " ks"]
    high: Float[np.ndarray, " ks"]
    own: Float[np.ndarray, " ks"]


def variance_transfer(
    inside: Float[np.ndarray, "components components"],
    explained: Float[np.ndarray, " components"],
    ks: Sequence[int],
    following: float | None = None,
) -> Transfer:
    """Return how much of this model's variance the other model's first k components explain.

    inside: squared cosines (component of the other model, component of this one); explained: this model's shares.

    following: the share of the component behind the last, where it is known. own is the share that this model's own
    first k components explain.
    """
    at = np.asarray(ks) - 1
    within = np.cumsum(inside, axis=0)[at]  # (ks, components): |B t_j|^2
    rest = max(0.0, 1.0 - float(explained.sum()))
    sure = within @ explained
    beyond = np.maximum(np.asarray(ks) - within.sum(axis=1), 0.0)
    most = sure + np.minimum(rest, (float(explained[-1]) if following is None else following) * beyond)
    own = np.cumsum(explained)[at]
    return Transfer(_share(sure, own), _share(most, own), own)


def _share(part: np.ndarray, own: np.ndarray) -> np.ndarray:
    out = np.full(own.shape, np.nan)
    return np.asarray(np.minimum(np.divide(part, own, out=out, where=own > 0), 1.0))


def spectrum_gap(
    explained: Float[np.ndarray, " components"], ks: Sequence[int], rank: int, following: float | None = None
) -> Float[np.ndarray, " ks"]:
    """Return (e_k - e_k+1) / e_k: how well the first k components are separated from the next one; 0 without a k-th.

    following: the share of the component behind the last that was kept. Where it is not known (None), the mean of the
    rest of the variance over the components that are left of `rank` is taken, and the gap is an upper bound there.
    """
    rest = max(0.0, 1.0 - float(explained.sum())) / max(rank - explained.size, 1)
    beyond = min(rest if following is None else following, float(explained[-1]))
    last, after = explained[np.asarray(ks) - 1], np.append(explained[1:], beyond)[np.asarray(ks) - 1]
    gap = np.divide(last - after, last, out=np.zeros(last.shape), where=last > 1e-12)
    return np.asarray(np.maximum(gap, 0.0))
