"""Principal components of the rows of a matrix, exact in float64, without a singular value decomposition.

For rows x, with the mean m over rows: the components are the eigenvectors of sum (x - m)(x - m)^T, a matrix of the
row's width. 1. Narrow matrices: that matrix and its eigenvectors in float64. 2. Wide ones, of which a small part of the
components is asked for: a block Krylov space of the float32 matrix (Golub and Van Loan, "Matrix Computations", 10.3)
holds them nearly; a Rayleigh-Ritz step with products in float64, taken from the rows themselves, makes them exact.
3. The residuals of that step bound each component's angle to the truth. Where the bound is not kept (a few components
that are much larger than the rest drown it in float32) the space is built in float64, and at last way 1 is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

NARROW = 1024  # up to this width the float64 way takes less than a second
ANGLE = 1e-4  # radians, of the bound; the angles themselves come out ten times smaller
_ROWS = 2048  # read at a time in float64
_BLOCK = 64  # vectors that the Krylov space grows by


class Components(NamedTuple):
    """The leading principal components: unit vectors, their sums of squares, and the sum over all components.

    Of each vector the entry of the largest size is positive.
    """

    directions: Float[Tensor, "components d_model"]
    squares: Float[Tensor, " components"]
    total: float


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
        self.width, self.device = matrix.shape[1], matrix.device
        self._matrix, self._gain = matrix, gain.double()
        self._counts = torch.ones(len(matrix)) if counts is None else counts
        self._counts = self._counts.to(matrix.device, torch.float64)
        sums = [self._counts[part] @ self._raw(part) for part in self._parts()]
        self.mean: Float[Tensor, " d_model"] = torch.stack(sums).sum(0) / self._counts.sum()

    def blocks(self) -> Iterator[Float[Tensor, "block d_model"]]:
        """Some rows at a time, float64."""
        for part in self._parts():
            yield (self._raw(part) - self.mean) * self._counts[part].sqrt()[:, None]

    def total(self) -> float:
        """The sum of squares."""
        return float(sum(float(block.square().sum()) for block in self.blocks()))

    def gram(self, dtype: torch.dtype) -> Float[Tensor, "d_model d_model"]:
        """The sum of the rows' outer products; only the upper triangle is computed."""
        out = torch.zeros(self.width, self.width, dtype=dtype, device=self.device)
        edges = [self.width * number // 4 for number in range(5)]
        for block in self.blocks():
            rows = block.to(dtype)
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

    def _raw(self, part: slice) -> Tensor:
        return self._matrix[part].double() * self._gain


def principal_components(rows: CentredRows, count: int) -> Components:
    """The `count` components of the largest variance; see the module."""
    found = None
    for dtype in (torch.float32, torch.float64):
        if found is None and rows.width > NARROW:
            found = _iterated(rows, count, dtype)
    squares, vectors = _direct(rows, count) if found is None else found
    largest = vectors.abs().argmax(0, keepdim=True)
    vectors = vectors * torch.where(vectors.gather(0, largest) < 0, -1.0, 1.0)
    return Components(vectors.T.contiguous(), squares.clamp(min=0), rows.total())


Pairs = tuple[Float[Tensor, " k"], Float[Tensor, "d_model k"]]


def _direct(rows: CentredRows, count: int) -> Pairs:
    squares, vectors = torch.linalg.eigh(rows.gram(torch.float64))
    return squares[-count:].flip(0), vectors[:, -count:].flip(1)


def _iterated(rows: CentredRows, count: int, dtype: torch.dtype) -> Pairs | None:
    """None where the space would be almost the whole, or where the components are not exact enough."""
    keep = count + count // 2 + 32  # some more: what is missing from the space then lies far from what is asked for
    size, most = 4 * keep, 3 * rows.width // 4
    if size > most:
        return None
    gram = rows.gram(dtype)
    space, before = _Krylov(gram), float("inf")
    while size <= most:
        squares, vectors = space.best(size, keep)
        if float(squares[0]) * 4 * torch.finfo(dtype).eps > ANGLE * float(squares[count - 1] - squares[-1]):
            return None
        angle = _bound(gram @ vectors - vectors * squares, squares, count)
        if angle < ANGLE / 2 or before / 2 < angle < 10 * ANGLE:  # rounding leaves what no larger space makes smaller
            return _refined(rows, vectors.double(), count)
        size, before = size + size // 8, angle
    return None


def _refined(rows: CentredRows, vectors: Float[Tensor, "d_model keep"], count: int) -> Pairs | None:
    """The Rayleigh-Ritz step in float64."""
    vectors = torch.linalg.qr(vectors).Q
    image = rows.applied(vectors)
    inner = vectors.T @ image
    squares, turn = torch.linalg.eigh((inner + inner.T) / 2)
    squares, turn = squares.flip(0), turn.flip(1)
    vectors = vectors @ turn
    if not _bound(image @ turn - vectors * squares, squares, count) < ANGLE:
        return None
    return squares[:count], vectors[:, :count]


def _bound(residuals: Float[Tensor, "d_model keep"], squares: Float[Tensor, " keep"], count: int) -> float:
    """The largest angle of the first `count` components to the truth: residual / distance to what was left out."""
    gaps = squares[:count] - squares[-1]
    return float((torch.linalg.vector_norm(residuals[:, :count], dim=0) / gaps).nan_to_num(torch.inf).max())


class _Krylov:
    """An orthonormal basis of start, A start, A^2 start, ..., a block at a time, and A within it."""

    def __init__(self, matrix: Float[Tensor, "n n"]) -> None:
        self._matrix = matrix
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(len(matrix), _BLOCK, generator=generator, dtype=matrix.dtype).to(matrix.device)
        self._next = torch.linalg.qr(start).Q
        self._basis = matrix.new_zeros(len(matrix), 0)
        self._inner: list[Tensor] = []

    def best(self, size: int, keep: int) -> Pairs:
        """The `keep` largest Ritz values, descending, and their vectors, of at least `size` dimensions."""
        while self._basis.shape[1] < size:
            self._grow()
        across = self._basis.shape[1]
        inner = self._matrix.new_zeros(across, across)
        for number, column in enumerate(self._inner):
            inner[: len(column), number * _BLOCK : (number + 1) * _BLOCK] = column
        values, vectors = torch.linalg.eigh(torch.triu(inner).T)  # eigh reads the lower triangle
        return values[-keep:].flip(0), self._basis @ vectors[:, -keep:].flip(1)

    def _grow(self) -> None:
        self._basis = torch.cat([self._basis, self._next], 1)
        image = self._matrix @ self._next
        inside = self._basis.T @ image
        self._inner.append(inside)
        fresh = torch.linalg.qr(image - self._basis @ inside).Q
        # once more, after scaling: what float32 left behind, and new directions where the image had too few
        self._next = torch.linalg.qr(fresh - self._basis @ (self._basis.T @ fresh)).Q
