"""Principal components of the rows of a matrix, exact in float64.

For rows x, with the mean m over rows: the components are the eigenvectors of sum (x - m)(x - m)^T, a matrix of the
row's width. 1. Narrow matrices: that matrix and its eigenvectors in float64. 2. Wide ones, of which a small part of the
components is requested: in float32 that matrix, and its leading eigenvectors alone (a few more than are requested), are
found several times as fast. Their span nearly holds the components; a Rayleigh-Ritz step with products in float64,
taken from the rows themselves, makes them exact (Parlett, "The symmetric eigenvalue problem", 11). 3. The residuals of
that step bound each component's angle to the truth. Where the bound is exceeded (a few components that are much larger
than the rest drown it in float32) way 1 is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from scipy.linalg import LinAlgError, eigh
from torch import Tensor

from itlens.models.precision import exact, exact_device

NARROW = 1024  # up to this width the float64 way takes less than a second
ANGLE = 1e-4  # radians, of the bound; the angles themselves come out ten times smaller
_ROWS = 2048  # read at a time in float64
_STRIPS = 8  # of the matrix, each computed from its diagonal on


class Components(NamedTuple):
    """The leading principal components: unit vectors, their sums of squares, and the sum over all components.

    Of each vector the entry of the largest size is positive. following: the sum of squares of the next component, 0
    where there is none.
    """

    directions: Float[Tensor, "components d_model"]
    squares: Float[Tensor, " components"]
    total: float
    following: float


class CentredRows:
    """The rows of a matrix, times a gain per column, less their mean; each row counts `counts` times (default once)."""

    def __init__(
        self,
        matrix: Float[Tensor, "rows d_model"],
        gain: Float[Tensor, " d_model"],
        counts: Int[Tensor, " rows"] | None = None,
    ) -> None:
        device = exact_device(matrix.device)
        matrix, gain = matrix.to(device), gain.to(device)
        self.count, self.width, self.device = *matrix.shape, matrix.device
        self._matrix, self._gain = matrix, exact(gain)
        self._counts = torch.ones(len(matrix)) if counts is None else counts
        self._counts = exact(self._counts.to(device))
        sums = [self._counts[block] @ self._raw(block, torch.float64) for block in self._slices()]
        self.mean: Float[Tensor, " d_model"] = torch.stack(sums).sum(0) / self._counts.sum()

    def blocks(self, dtype: torch.dtype = torch.float64) -> Iterator[Float[Tensor, "block d_model"]]:
        """Yield a few rows at a time."""
        mean, often = self.mean.to(dtype), self._counts.sqrt().to(dtype)
        for block in self._slices():
            yield self._raw(block, dtype).sub_(mean).mul_(often[block, None])

    def total(self) -> float:
        """Return the sum of squares."""
        return float(sum(float(block.square().sum()) for block in self.blocks()))

    def gram(self, dtype: torch.dtype) -> Float[Tensor, "d_model d_model"]:
        """Return the sum of the rows' outer products; only the upper triangle is computed."""
        out = torch.zeros(self.width, self.width, dtype=dtype, device=self.device)
        edges = [self.width * number // _STRIPS for number in range(_STRIPS + 1)]
        for rows in self.blocks(dtype):
            for left, right in pairwise(edges):
                out[left:right, left:].addmm_(rows[:, left:right].T, rows[:, left:])
        return torch.triu(out) + torch.triu(out, 1).T

    def applied(self, vectors: Float[Tensor, "d_model k"]) -> Float[Tensor, "d_model k"]:
        """Return the matrix of `gram` times vectors, in float64, without forming that matrix."""
        out = torch.zeros_like(vectors)
        for block in self.blocks():
            out.addmm_(block.T, block @ vectors)
        return out

    def _slices(self) -> list[slice]:
        return [slice(start, start + _ROWS) for start in range(0, len(self._matrix), _ROWS)]

    def _raw(self, block: slice, dtype: torch.dtype) -> Tensor:
        return self._matrix[block].to(dtype, copy=True).mul_(self._gain.to(dtype))


def principal_components(rows: CentredRows, count: int) -> Components:
    """Return the `count` components of the largest variance; see the module."""
    refined = _refined(rows, count) if rows.width > NARROW else None
    squares, vectors = _direct(rows) if refined is None else refined
    vectors = vectors[:, :count]
    largest = vectors.abs().argmax(0, keepdim=True)
    vectors = vectors * torch.where(vectors.gather(0, largest) < 0, -1.0, 1.0)
    squares = squares.clamp(min=0)
    following = float(squares[count]) if count < min(rows.count - 1, rows.width) else 0.0
    return Components(vectors.T.contiguous(), squares[:count], rows.total(), following)


Pairs = tuple[Float[Tensor, " k"], Float[Tensor, "d_model k"]]


def _direct(rows: CentredRows) -> Pairs:
    squares, vectors = torch.linalg.eigh(rows.gram(torch.float64))
    return squares.flip(0), vectors.flip(1)


def _refined(rows: CentredRows, count: int) -> Pairs | None:
    """Way 2; None where too many are requested to be worth it, or where the components are not exact enough."""
    keep = (
        count + count // 8 + 32
    )  # some more: what is missing from the space is then far from the requested components
    if keep > rows.width // 2:
        return None
    leading = _leading(rows.gram(torch.float32), keep)
    if leading is None:
        return None
    vectors = torch.linalg.qr(exact(leading)).Q
    image = rows.applied(vectors)
    inner = vectors.T @ image
    squares, rotation = torch.linalg.eigh((inner + inner.T) / 2)
    squares, rotation = squares.flip(0), rotation.flip(1)
    vectors = vectors @ rotation
    residuals = image @ rotation - vectors * squares
    return (squares, vectors) if _bound(residuals, squares, count) < ANGLE else None


def _leading(matrix: Float[Tensor, "n n"], keep: int) -> Float[Tensor, "n keep"] | None:
    """The eigenvectors of the largest eigenvalues; None where LAPACK gives up."""
    if matrix.device.type != "cpu":
        every: Tensor = torch.linalg.eigh(matrix).eigenvectors
        return every[:, -keep:]
    indices = (len(matrix) - keep, len(matrix) - 1)
    try:  # torch has no routine for some of them
        vectors = eigh(matrix.numpy(), subset_by_index=indices, driver="evx", overwrite_a=True, check_finite=False)[1]
    except LinAlgError:
        return None
    return torch.from_numpy(vectors)


def _bound(residuals: Float[Tensor, "d_model keep"], squares: Float[Tensor, " keep"], count: int) -> float:
    """The bound on the angle of the first `count` components to the truth: residual / distance to what was left out."""
    gaps = squares[:count] - squares[-1]
    return float((torch.linalg.vector_norm(residuals[:, :count], dim=0) / gaps).nan_to_num(torch.inf).max())
