"""Kernel alignment: linear centred CKA of two sets of activations of the same tokens, unbiased, from running sums.

For X (n x d) and Y (n x e), rows the same n tokens, K = X X^T and L = Y Y^T with their diagonals set to zero,
1. HSIC(X, Y) = [ tr(K L) + (1'K1)(1'L1) / ((n-1)(n-2)) - 2 (1'K L 1) / (n-2) ] / (n (n-3))    (Song et al. 2012, eq. 5)
2. CKA = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)), at most 1; about 0 for unrelated X and Y    (Kornblith et al. 2019)
n x n matrices are never made. With C = X'Y, s = sum_i x_i, t = sum_i y_i (no diagonal: take the terms i = j off),
   tr(K L)  = |C|^2 - sum_i |x_i|^2 |y_i|^2
   1'K1     = |s|^2 - sum_i |x_i|^2
   1'K L 1  = s'C t - s' sum_i x_i |y_i|^2 - t' sum_i y_i |x_i|^2 + sum_i |x_i|^2 |y_i|^2
which are sums over tokens. HSIC does not change when a constant vector is added to all x_i (or y_i); the mean of the
first rows is taken off, so that large common parts do not drown the rest in rounding. Fewer than 4 tokens: NaN.
"""

from __future__ import annotations

import torch
from jaxtyping import Float

from itlens.models.precision import exact, exact_device

_LEAST = 4
_ROWS = 512  # multiplied together: sums of d x e numbers per prompt would cost more than the products


class _Moments:
    """The sums over tokens of two sets of activations, for each of several groups (heads).

    Sums are float64, the large products in the precision of the activations; added in place, since d x e is large.
    """

    def __init__(self, groups: int, width: int, other: int, device: torch.device) -> None:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(groups, *shape, dtype=torch.float64, device=exact_device(device))

        self.cross = zeros(width, other)  # sum_i x_i y_i'
        self.sum_x, self.sum_y = zeros(width), zeros(other)
        self.x_by_y, self.y_by_x = zeros(width), zeros(other)  # sum_i x_i |y_i|^2, sum_i y_i |x_i|^2
        self.square_x, self.square_y, self.square_xy = zeros(), zeros(), zeros()

    def update(self, x: Float[torch.Tensor, "group n d"], y: Float[torch.Tensor, "group n e"]) -> None:
        """Add tokens."""
        self.cross += (x.mT @ y).to(self.cross.device)
        x, y = exact(x), exact(y)
        square_x, square_y = torch.linalg.vecdot(x, x), torch.linalg.vecdot(y, y)
        self.sum_x += x.sum(1)
        self.sum_y += y.sum(1)
        self.x_by_y += (square_y[:, None] @ x)[:, 0]
        self.y_by_x += (square_x[:, None] @ y)[:, 0]
        self.square_x += square_x.sum(1)
        self.square_y += square_y.sum(1)
        self.square_xy += torch.linalg.vecdot(square_x, square_y)

    def hsic(self, n: int) -> Float[torch.Tensor, " group"]:
        """Return HSIC over n tokens; see the module, 1."""
        trace: torch.Tensor = torch.linalg.matrix_norm(self.cross).square() - self.square_xy
        ones_x = self.sum_x.square().sum(1) - self.square_x
        ones_y = self.sum_y.square().sum(1) - self.square_y
        both: torch.Tensor = torch.linalg.vecdot((self.sum_x[:, None] @ self.cross)[:, 0], self.sum_y) + self.square_xy
        both = both - (self.sum_x * self.x_by_y).sum(1) - (self.sum_y * self.y_by_x).sum(1)
        return (trace + ones_x * ones_y / ((n - 1) * (n - 2)) - 2 * both / (n - 2)) / (n * (n - 3))


class _Sums:
    """Moments of both sets and of each with itself; rows wait until there are enough of them to multiply."""

    def __init__(self) -> None:
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._moments: list[_Moments] = []
        self.n = 0

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self._waiting.append((x, y))
        self.n += x.shape[1]
        if sum(rows.shape[1] for rows, _ in self._waiting) >= _ROWS:
            self.moments()

    def moments(self) -> list[_Moments]:
        if self._waiting:
            x, y = (torch.cat(rows, dim=1) for rows in zip(*self._waiting, strict=True))
            self._waiting = []
            sides = ((x, y), (x, x), (y, y))
            if not self._moments:
                self._moments = [_Moments(len(a), a.shape[-1], b.shape[-1], a.device) for a, b in sides]
            for moments, (a, b) in zip(self._moments, sides, strict=True):
                moments.update(a, b)
        return self._moments


class KernelAlignment:
    """CKA of several groups (heads; one group for a layer), fed with tokens prompt by prompt.

    The first token of a prompt is often hundreds of times as large as the others and the same in every prompt: with it,
    CKA says little about the rest. So it waits until the end, and CKA is computed without and with it.
    """

    def __init__(self) -> None:
        self._sums = _Sums()
        self._firsts: list[tuple[torch.Tensor, torch.Tensor]] = []  # a row of each prompt
        self._zero: tuple[torch.Tensor, torch.Tensor] | None = None

    def add(
        self,
        x: Float[torch.Tensor, "group n d"],
        y: Float[torch.Tensor, "group n e"],
        *,
        first: bool = False,
    ) -> None:
        """Add tokens; first: these are first tokens of their prompts."""
        if not x.shape[1]:
            return
        if self._zero is None:
            self._zero = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
        rows = x - self._zero[0], y - self._zero[1]
        if first:
            self._firsts.append(rows)
        else:
            self._sums.add(*rows)

    def alignments(self) -> dict[str, Float[torch.Tensor, " group"]]:
        """Return CKA over all tokens that are not first ("rest"), and over all tokens ("all"); ends the adding."""
        rest = _alignment(self._sums)
        for rows in self._firsts:
            self._sums.add(*rows)
        return {"rest": rest, "all": _alignment(self._sums)}


def _alignment(sums: _Sums) -> torch.Tensor:
    moments = sums.moments()
    if not moments:
        return torch.full((1,), torch.nan, dtype=torch.float64)
    if sums.n < _LEAST:
        return torch.full_like(moments[0].square_x, torch.nan)
    both, own_x, own_y = (each.hsic(sums.n) for each in moments)
    size = (own_x * own_y).clamp(min=0.0).sqrt()
    return torch.where(size > 0, both / size, torch.nan)
