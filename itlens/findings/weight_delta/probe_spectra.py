"""Singular values and vectors of large matrices, no more of them than are read.

1. VALUES are the roots of the eigenvalues of the smaller Gram matrix, in float64.
2. The FIRST vectors of a wide spectrum come from Lanczos iterations (ARPACK); of a narrow one, or where these do not
   converge, from LAPACK.
3. NEIGHBOURS (`LeftVectors`): whether any left singular vector of a matrix is near a unit vector x. The leading eighth
   of the vectors is computed first. It decides where one of them is near x, and where what is left of x outside their
   span is shorter than NEAR: no further vector can be near it. Only what is left undecided takes all vectors.
4. RANDOM: a matrix of independent normal entries has the singular values of a bidiagonal matrix of independent chi
   entries (Dumitriu and Edelman 2002, "Matrix models for beta ensembles"), which is drawn in its place.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

NEAR = 0.5  # |cosine| from which two directions match
_NARROW = 1024  # eigenvectors of matrices up to this width are all computed at once
_LEADING = 8  # of wider ones, the first n / 8
_TINY = 1e-6  # of the largest singular value: below, a direction is rounding
_SLACK = 0.01  # of a squared cosine, left to rounding


def smaller_gram(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "values values"]:
    """Return the products of the rows with one another, or of the columns where these are fewer."""
    return matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix


def squared_values(gram: Float[Tensor, "values values"]) -> Float[Tensor, " values"]:
    """Return the squared singular values of a matrix, descending, from its smaller Gram matrix."""
    values: Tensor = torch.linalg.eigvalsh(gram).flip(0).clamp_min(0)
    return values


def effective_rank(singular_values: Float[Tensor, "*batch values"]) -> Any:
    """Return exp(entropy of s / sum s) over the last axis; 0 where all are 0. A float for one spectrum."""
    total = singular_values.sum(-1, keepdim=True)
    shares = singular_values / total.clamp_min(1e-300)
    ranks = torch.where(total[..., 0] > 0, torch.exp(-torch.special.xlogy(shares, shares).sum(-1)), 0.0)
    return float(ranks) if ranks.ndim == 0 else ranks


@cache
def random_rank(shape: tuple[int, int], seed: int) -> float:
    """Return the effective rank of a matrix of independent normal entries; it hardly varies between draws."""
    from scipy.linalg import eigvalsh_tridiagonal

    few, many = sorted(shape)
    generator = np.random.default_rng(seed)
    diagonal = np.sqrt(generator.chisquare(many - np.arange(few)))
    below = np.sqrt(generator.chisquare(np.arange(few - 1, 0, -1)))
    squares = eigvalsh_tridiagonal(diagonal**2 + np.append(0, below**2), diagonal[:-1] * below)
    return effective_rank(torch.from_numpy(squares).clamp_min(0).sqrt())


def leading_vectors(gram: Float[Tensor, "d d"], count: int) -> Float[Tensor, "d first"]:
    """Return the eigenvectors of the largest eigenvalues of a symmetric matrix, the largest first."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import ArpackError, eigsh

    size, array = len(gram), gram.cpu().numpy()
    if size > _NARROW and count <= size // 64:
        try:
            values, vectors = eigsh(array, k=count, which="LA", v0=np.ones(size, dtype=array.dtype), tol=1e-5)
            return torch.from_numpy(vectors[:, np.argsort(-values)].copy()).to(gram)
        except ArpackError:
            pass  # no convergence, or a matrix of zeros: LAPACK takes longer, and always answers
    vectors = eigh(array, subset_by_index=[size - count, size - 1], check_finite=False, driver="evx")[1]
    return torch.from_numpy(vectors[:, ::-1].copy()).to(gram)


class LeftVectors:
    """The left singular vectors of a matrix (out x in), as many of them as are needed."""

    def __init__(self, matrix: Float[Tensor, "out into"]) -> None:
        self._matrix = matrix
        self._wide = len(matrix) <= matrix.shape[1]
        self._gram = smaller_gram(matrix)
        size = len(self._gram)
        self._all = size <= _NARROW
        self._keep(size if self._all else size // _LEADING)

    def first(self, count: int) -> Float[Tensor, "out first"]:
        """Return the first left singular vectors, the largest value first."""
        known = self._all or count <= self._vectors.shape[1]
        vectors = self._vectors[:, :count] if known else leading_vectors(self._gram, count)
        return _on_the_left(self._matrix, vectors)

    def redrawn(self, columns: Int[Tensor, " into"], count: int) -> Float[Tensor, "out first"]:
        """Return the first left singular vectors of the matrix with these of its columns in place of its own."""
        matrix = self._matrix[:, columns]
        gram = smaller_gram(matrix) if self._wide else self._gram[columns][:, columns]
        return first_left(matrix, gram, count)

    def strangers(self, directions: Float[Tensor, "out some"]) -> float:
        """Return how many of these unit vectors no left singular vector is near."""
        cosines = self._cosines(directions)
        near = cosines.abs().amax(0) >= NEAR
        rest = 1 - cosines.square().sum(0)
        if not self._all and bool((~near & (rest >= NEAR**2 - _SLACK)).any()):
            self._all = True
            self._keep(len(self._gram))
            near = self._cosines(directions).abs().amax(0) >= NEAR
        return float((~near).sum())

    def _keep(self, count: int) -> None:
        if count == len(self._gram):
            squares, vectors = torch.linalg.eigh(self._gram)
            squares, self._vectors = squares.flip(0), vectors.flip(1)
        else:
            self._vectors = leading_vectors(self._gram, count)
            squares = ((self._gram @ self._vectors) * self._vectors).sum(0)
        sizes = squares.clamp_min(0).sqrt()
        self._known = sizes > _TINY**0.5 * sizes.max()
        self._sizes = sizes.where(self._known, torch.ones_like(sizes))

    def _cosines(self, directions: Tensor) -> Float[Tensor, "vectors some"]:
        if self._wide:
            return self._vectors.T @ directions
        cosines = (self._vectors.T @ (self._matrix.T @ directions)) / self._sizes[:, None]  # U = W V / s
        return cosines * self._known[:, None]


def first_left(
    matrix: Float[Tensor, "out into"], gram: Float[Tensor, "values values"], count: int
) -> Float[Tensor, "out first"]:
    """Return the first left singular vectors of a matrix, as many as there are. gram: of `smaller_gram`."""
    return _on_the_left(matrix, leading_vectors(gram, min(count, len(gram))))


def _on_the_left(matrix: Float[Tensor, "out into"], vectors: Float[Tensor, "d first"]) -> Float[Tensor, "out first"]:
    """Return the left singular vectors that belong to eigenvectors of the smaller Gram matrix."""
    left = vectors if len(matrix) <= matrix.shape[1] else matrix @ vectors
    return left / torch.linalg.vector_norm(left, dim=0).clamp_min(1e-30)
