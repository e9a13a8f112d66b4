"""Two nulls of a change in the counts of instruction verbs: random verb sets, and base and tuned swapped.

RANDOM VERB SETS ask whether any other verbs would do. Verbs are sorted into strata by how frequent they are in the
language and by how often they are in repeated pairs (of both models together, so that the strata do not know what
tuning changed). A draw shuffles the label "instruction verb" within each stratum: a random set of as many verbs, as
frequent and as well connected. Without the second split the instruction verbs, which relate to more words than other
verbs do, would vary more than their null.

SWAPPED MODELS ask whether a change without direction would do. Random sets take verbs one by one; but instruction verbs
are related to one another, so that one dimension that rotates towards them raises many at once. When tuning changed
nothing but noise, what a dimension relates could as well be base's as tuned's: swapping the two models in random
dimensions of a head (and, for a group of layers, in random heads) keeps together what belongs together, and shows how
far chance goes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from itlens.findings.attention.diff_tables import PairTables
from itlens.findings.attention.diff_verbs import VerbLookup, pair_dims

_FREQUENCY_BINS, _PER_BIN = 4, 8
_SWAPS = 1000  # drawn at a time


def verb_strata(verbs: tuple[str, ...], instruction: np.ndarray, activity: np.ndarray) -> np.ndarray:
    """Return the stratum of every verb: up to four bins by frequency, each split by activity (fewer for few verbs).

    activity: how often each verb is in repeated pairs. Bins hold about as many instruction verbs each. Verbs whose
    frequency is unknown (a caller's own words) are a bin of their own.
    """
    from itlens.vocabulary.verbs import verb_frequencies

    known = verb_frequencies()
    frequency = np.array([known.get(verb, np.nan) for verb in verbs], dtype=float)
    unknown = np.isnan(frequency)
    bins = _bins(np.where(unknown, 0, frequency), instruction & ~unknown, _FREQUENCY_BINS)
    bins[unknown] = _FREQUENCY_BINS
    for bin_ in np.unique(bins):
        inside = bins == bin_
        half = _bins(activity[inside], instruction[inside], 2 if (instruction & inside).sum() >= _PER_BIN else 1)
        bins[inside] += (_FREQUENCY_BINS + 1) * half
    return bins


def _bins(values: np.ndarray, chosen: np.ndarray, most: int) -> np.ndarray:
    """The bin of every value, by quantiles of the chosen values; at least about _PER_BIN / 2 chosen in each."""
    count = int(np.clip(chosen.sum() // (_PER_BIN // 2), 1, most))
    if count == 1:
        return np.zeros(values.size, dtype=np.int64)
    edges = np.quantile(values[chosen], np.arange(1, count) / count)
    return np.searchsorted(edges, values, side="right").astype(np.int64)


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
    """Return the two-sided p per head (cells) of the verbs' weighted change, base and tuned swapped by dimension.

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
    for begin in range(0, draws, _SWAPS):
        swapped = rng.integers(0, 2, (pairs.change.shape[1], min(_SWAPS, draws - begin))).astype(np.float32)
        moved = pairs.change @ swapped
        null = _statistic(pairs.weight, base[:, None] + moved, tuned[:, None] - moved, min_dims)
        reached += int((np.abs(null) >= observed * (1 - 1e-5) - 1e-6).sum())
    return (1 + reached) / (1 + draws)


def _statistic(weight: np.ndarray, base: np.ndarray, tuned: np.ndarray, min_dims: int) -> np.ndarray:
    return weight.astype(np.float32) @ ((tuned >= min_dims).astype(np.float32) - (base >= min_dims))


def swap_heads(contributions: np.ndarray, *, draws: int, seed: int) -> float:
    """Return the two-sided p of the sum of the heads' contributions, their signs flipped at random: models swapped."""
    rng = np.random.default_rng(seed)
    signs = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), (draws, contributions.size))
    null = np.abs(signs @ contributions.astype(np.float32))
    reached = (null >= abs(contributions.sum()) * (1 - 1e-5) - 1e-6).sum()
    return float((1 + reached) / (1 + draws))
