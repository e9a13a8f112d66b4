"""Would a change without direction do? Base and tuned swapped at random as the null of a change in the counts of verbs.

Random verb sets (`itlens.diff.verb_null`) take verbs one by one; but instruction verbs are related to one another, so
that one dimension that turns to them raises many at once. When tuning changed nothing but noise, what a dimension
relates could as well be base's as tuned's: swapping the two models in random dimensions of a head (and, for a group of
layers, in random heads) keeps all that belongs together together, and shows how far chance goes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from itlens.diff.pair_tables import PairTables
from itlens.diff.verb_counts import VerbLookup, pair_dims

_BLOCK = 1000


class _Swappable(NamedTuple):
    """The pairs of a head that a swap may change: weight (p), dims held (p, d) by base, and tuned minus base."""

    weight: np.ndarray
    base: np.ndarray
    change: np.ndarray


def swap_dimensions(
    tables: PairTables,
    lookup: VerbLookup,
    weights: np.ndarray,
    *,
    min_dims: int,
    draws: int,
    fine: np.ndarray,
    fine_draws: int,
    seed: int,
    chosen: np.ndarray,
) -> np.ndarray:
    """Two-sided p per head (cells) of the weighted change of the verbs' counts, base and tuned swapped by dimension.

    weights: per verb of `lookup`; the statistic is sum(weight * (tuned count - base count)). chosen: the heads to test,
    the others have p = 1. fine: heads that get `fine_draws` when the first `draws` leave p at most 0.1.
    """
    p = np.ones(tables.cells)
    for cell in np.flatnonzero(chosen):
        pairs = _swappable(tables, int(cell), lookup, weights, min_dims)
        rng = np.random.default_rng([seed, int(cell)])
        p[cell] = _swap_p(pairs, min_dims, draws, rng)
        if fine[cell] and p[cell] <= 0.1 and fine_draws > draws:
            p[cell] = _swap_p(pairs, min_dims, fine_draws, rng)
    return p


def _swappable(tables: PairTables, cell: int, lookup: VerbLookup, weights: np.ndarray, min_dims: int) -> _Swappable:
    held = [pair_dims(rows, cell, lookup) for rows in (tables.base, tables.tuned)]
    pairs, place = np.unique(np.concatenate([pair for pair, _ in held]), return_inverse=True)
    dims, column = np.unique(np.concatenate([dim for _, dim in held]), return_inverse=True)
    weight = lookup.pair_weight(pairs, weights)
    use = (weight != 0) & (np.bincount(place, minlength=pairs.size) >= min_dims)
    row = np.where(use, np.cumsum(use) - 1, -1)[place]
    sides = np.zeros((2, int(use.sum()), dims.size), dtype=np.float32)
    side = np.repeat([0, 1], [pair.size for pair, _ in held])
    sides[side[row >= 0], row[row >= 0], column[row >= 0]] = 1
    differ = (sides[0] != sides[1]).any(axis=1)
    base, tuned = sides[:, differ]
    return _Swappable(weight[use][differ], base, tuned - base)


def _swap_p(pairs: _Swappable, min_dims: int, draws: int, rng: np.random.Generator) -> float:
    base, tuned = pairs.base.sum(axis=1), (pairs.base + pairs.change).sum(axis=1)
    observed = abs(_statistic(pairs.weight, base[:, None], tuned[:, None], min_dims)[0])
    reached = 0
    for begin in range(0, draws, _BLOCK):
        swapped = rng.integers(0, 2, (pairs.change.shape[1], min(_BLOCK, draws - begin))).astype(np.float32)
        moved = pairs.change @ swapped
        null = _statistic(pairs.weight, base[:, None] + moved, tuned[:, None] - moved, min_dims)
        reached += int((np.abs(null) >= observed * (1 - 1e-5) - 1e-6).sum())
    return (1 + reached) / (1 + draws)


def _statistic(weight: np.ndarray, base: np.ndarray, tuned: np.ndarray, min_dims: int) -> np.ndarray:
    return weight.astype(np.float32) @ ((tuned >= min_dims).astype(np.float32) - (base >= min_dims))


def swap_heads(contributions: np.ndarray, *, draws: int, seed: int) -> float:
    """Two-sided p of the sum of the heads' contributions (h), the sign of each turned at random: models swapped."""
    rng = np.random.default_rng(seed)
    signs = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), (draws, contributions.size))
    null = np.abs(signs @ contributions.astype(np.float32))
    reached = (null >= abs(contributions.sum()) * (1 - 1e-5) - 1e-6).sum()
    return float((1 + reached) / (1 + draws))
