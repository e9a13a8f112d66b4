"""Principal angles between two subspaces, exact for small angles as well as for large ones.

For orthonormal rows B and T with the singular value decomposition B T^T = U cos V^T, the angles are arccos(cos)
(Björck and Golub 1973). Near 0 the cosine no longer tells angles apart; there the length of the residual,
|V^T T - cos U^T B| = sin, is taken instead. All residuals of nearly equal cosines are taken together,
since their singular vectors mix: the sines are the residuals' own singular values, exact to 1e-10 and, where all angles
are tiny, far better.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_NEAR = np.cos(0.01)  # beyond, arccos is exact to 1e-13


def orthonormal(
    directions: Float[np.ndarray, "components d_model"], products: Float[np.ndarray, "components components"]
) -> Float[np.ndarray, "components d_model"]:
    """Nearly orthonormal rows made so, in order: the first k of them span what they did. products: rows @ rows.T."""
    lower = np.linalg.cholesky(products)
    # near the identity the inverse is exact enough, and one product is faster than a triangular solver
    return np.asarray(np.linalg.inv(lower) @ directions)


def principal_angles(
    base: Float[np.ndarray, "k d_model"],
    tuned: Float[np.ndarray, "k d_model"],
    inner: Float[np.ndarray, "k k"] | None = None,
) -> Float[np.ndarray, " k"]:
    """The k principal angles, radians, ascending, between the spans of two sets of orthonormal rows.

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
    """The mean squared cosine of the principal angles, |B T^T|^2 / k: 1 for equal subspaces, 0 for orthogonal ones."""
    return float(np.square(inner).sum() / len(inner))
