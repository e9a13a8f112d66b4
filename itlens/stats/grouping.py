"""Groups that tests compare: layers by quarter of the depth, and random sets with the profile of a labelled set.

A random set has as many items as the labelled one, and as many of each stratum: how often would other items like these
have a sum as large as theirs (`set_null`)?
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

QUARTERS = 4  # of a model's depth
BLOCK = 1000  # random sets drawn at a time


class SetNull(NamedTuple):
    """A statistic for every column compared with random sets: each an array (columns,)."""

    expected: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def layer_groups(layers: np.ndarray, depth: int) -> dict[str, np.ndarray]:
    """Return the probed layers in each quarter of a model of `depth` layers, by the quarter's name.

    Names are "layers 0-7", or "layer 3" for a quarter of a single layer. Quarters without a probed layer are left out.
    """
    quarters = np.array_split(np.arange(depth), min(QUARTERS, depth))
    named = {f"layer {q[0]}" if q.size == 1 else f"layers {q[0]}-{q[-1]}": q for q in quarters}
    probed = {name: layers[np.isin(layers, quarter)] for name, quarter in named.items()}
    return {name: inside for name, inside in probed.items() if inside.size}


def random_sets(chosen: np.ndarray, strata: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield `draws` random sets as blocks (draws of the block, items) of labels, float32 0 or 1.

    chosen (items, bool): the labelled set. A draw shuffles its labels within each stratum (items, integers): a set of
    the same size with as many items of each stratum.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    for begin in range(0, draws, BLOCK):
        labels = np.zeros((min(BLOCK, draws - begin), chosen.size), dtype=np.float32)
        for inside in members:
            count = int(chosen[inside].sum())
            if count == inside.size:
                labels[:, inside] = 1
            elif count:
                random = rng.random((len(labels), inside.size), dtype=np.float32)
                np.put_along_axis(labels, inside[np.argpartition(random, count - 1, axis=1)[:, :count]], 1, axis=1)
        yield labels


def label_chance(labelled: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Return the chance of every item to be in a random set: the share of labelled items in its stratum."""
    sizes, chosen = np.bincount(strata), np.bincount(strata, weights=labelled)
    share: np.ndarray = chosen[strata] / sizes[strata]
    return share


def set_null(
    values: np.ndarray, labelled: np.ndarray, strata: np.ndarray, *, draws: int, shown: int, seed: int
) -> SetNull:
    """Compare the sum of `values` (items, columns) over the labelled items with the sums over random sets.

    expected and sd are exact; low and high are the 95 % range of the first `shown` draws; p is two-sided: the share of
    draws, the observed one counted among them, at least as far from the expected sum.
    """
    observed = labelled.astype(float) @ values
    chance = label_chance(labelled, strata)
    expected = chance @ values
    far = np.abs(observed - expected) * (1 - 1e-5) - 1e-6  # equal sums in another order of adding count as equal
    columns = values.astype(np.float32)
    reached = np.zeros(values.shape[1], dtype=np.int64)
    kept: list[np.ndarray] = []
    for block in random_sets(labelled, strata, draws, seed):
        sums = block @ columns
        reached += (np.abs(sums - expected) >= far).sum(axis=0)
        if len(kept) * BLOCK < shown:
            kept.append(sums)
    low, high = np.quantile(np.concatenate(kept)[:shown], [0.025, 0.975], axis=0)
    return SetNull(expected, _sd(values, labelled, strata), low, high, (1 + reached) / (1 + draws))


def _sd(values: np.ndarray, labelled: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Standard deviation of the sum over a random set: drawing without replacement, stratum by stratum."""
    variance = np.zeros(values.shape[1])
    for stratum in np.unique(strata):
        inside = strata == stratum
        size, chosen = int(inside.sum()), int(labelled[inside].sum())
        if 0 < chosen < size:
            variance += chosen * (1 - chosen / size) * values[inside].var(axis=0, ddof=1)
    return np.sqrt(variance)
