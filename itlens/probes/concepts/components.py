"""Principal components of the rows of a matrix, exact in float64, without a singular value decomposition.

For rows x, with the mean m over rows: the components are the eigenvectors of sum (x - m)(x - m)^T, a matrix of the
row's width. 1. Narrow matrices: that matrix and its eigenvectors in float64. 2. Wide ones, of which a small part of the
components is asked for: in float32 that matrix, and its leading eigenvectors alone (a few more than are asked for), are
found several times as fast. What they span holds the components nearly; a Rayleigh-Ritz step with products in float64,
taken from the rows themselves, makes them exact (Parlett, "The symmetric eigenvalue problem", 11). 3. The residuals of
that step bound each component's angle to the truth. Where the bound is not kept (a few components that are much larger
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
        if matrix.device.type not in ("cpu", "cuda"):  # the others have no float64
            matrix, gain = matrix.cpu(), gain.cpu()
        self.count, self.width, self.device = *matrix.shape, matrix.device
        self._matrix, self._gain = matrix, gain.double()
        self._counts = torch.ones(len(matrix)) if counts is None else counts
        self._counts = self._counts.to(matrix.device, torch.float64)
        sums = [self._counts[part] @ self._raw(part, torch.float64) for part in self._parts()]
        self.mean: Float[Tensor, " d_model"] = torch.stack(sums).sum(0) / self._counts.sum()

    def blocks(self, dtype: torch.dtype = torch.float64) -> Iterator[Float[Tensor, "block d_model"]]:
        """Some rows at a time."""
        mean, often = self.mean.to(dtype), self._counts.sqrt().to(dtype)
        for part in self._parts():
            yield self._raw(part, dtype).sub_(mean).mul_(often[part, None])

    def total(self) -> float:
        """The sum of squares."""
        return float(sum(float(block.square().sum()) for block in self.blocks()))

    def gram(self, dtype: torch.dtype) -> Float[Tensor, "d_model d_model"]:
        """The sum of the rows' outer products; only the upper triangle is computed."""
        out = torch.zeros(self.width, self.width, dtype=dtype, device=self.device)
        edges = [self.width * number // _STRIPS for number in range(_STRIPS + 1)]
        for rows in self.blocks(dtype):
            for left, right in pairwise(edges):
                out[left:right, left:].addmm_(rows[:, left:right].T, rows[:, left:])
        return torch.triu(out) + torch.triu(out, 1).T

    def applied(self, vectors: Float[Tensor, "d_model k"]) -> Float[Tensor, "d_model k"]:
        """The matrix of `gram` times vectors, in float64, without that matrix."""
        out = torch.zeros_like(vectors)
        for block in self.blocks():
            out.addmm_(block.T, block @ vectors)
        return out

    def _parts(self) -> list[slice]:
        return [slice(start, start + _ROWS) for start in range(0, len(self._matrix), _ROWS)]

    def _raw(self, part: slice, dtype: torch.dtype) -> Tensor:
        return self._matrix[part].to(dtype, copy=True).mul_(self._gain.to(dtype))


def principal_components(rows: CentredRows, count: int) -> Components:
    """The `count` components of the largest variance; see the module."""
    found = _refined(rows, count) if rows.width > NARROW else None
    squares, vectors = _direct(rows) if found is None else found
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
    """None where too much is asked for to be worth it, or where the components are not exact enough."""
    keep = count + count // 8 + 32  # some more: what is missing from the space then lies far from what is asked for
    if keep > rows.width // 2:
        return None
    found = _leading(rows.gram(torch.float32), keep)
    if found is None:
        return None
    vectors = torch.linalg.qr(found.double()).Q
    image = rows.applied(vectors)
    inner = vectors.T @ image
    squares, turn = torch.linalg.eigh((inner + inner.T) / 2)
    squares, turn = squares.flip(0), turn.flip(1)
    vectors = vectors @ turn
    return (squares, vectors) if _bound(image @ turn - vectors * squares, squares, count) < ANGLE else None


def _leading(matrix: Float[Tensor, "n n"], keep: int) -> Float[Tensor, "n keep"] | None:
    """The eigenvectors of the largest eigenvalues; None where LAPACK gives up."""
    if matrix.device.type != "cpu":
        return torch.linalg.eigh(matrix).eigenvectors[:, -keep:]
    wanted = (len(matrix) - keep, len(matrix) - 1)
    try:  # torch has no routine for some of them
        vectors = eigh(matrix.numpy(), subset_by_index=wanted, driver="evx", overwrite_a=True, check_finite=False)[1]
    except LinAlgError:
        return None
    return torch.from_numpy(vectors)


def _bound(residuals: Float[Tensor, "d_model keep"], squares: Float[Tensor, " keep"], count: int) -> float:
    """The largest angle of the first `count` components to the truth: residual / distance to what was left out."""
    gaps = squares[:count] - squares[-1]
    return float((torch.linalg.vector_norm(residuals[:, :count], dim=0) / gaps).nan_to_num(torch.inf).max())
