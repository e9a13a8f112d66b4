"""Would any other verbs do? Random verb sets of the same size and profile as the null of the instruction verbs.

Verbs are sorted into strata by how frequent they are in the language and by how often they stand in repeated pairs (of
both models together, so that the strata do not know what tuning changed). A draw shuffles the label "instruction verb"
within each stratum: a random set of as many verbs, as frequent and as well connected. Without the second split the
instruction verbs, which relate to more words than other verbs do, would vary more than their null.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_FREQUENCY_BINS, _PER_BIN = 4, 8
_BLOCK = 1000


class SetNull(NamedTuple):
    """A statistic for every column against random verb sets: each an array (columns,)."""

    expected: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def verb_strata(verbs: tuple[str, ...], instruction: np.ndarray, activity: np.ndarray) -> np.ndarray:
    """The stratum of every verb: up to four bins by frequency, each split in two by activity (fewer for few verbs).

    activity: how often each verb stands in repeated pairs. Bins hold about as many instruction verbs each. Verbs whose
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


def label_chance(instruction: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """The chance of every verb to be in a random set: the share of instruction verbs in its stratum."""
    sizes, chosen = np.bincount(strata), np.bincount(strata, weights=instruction)
    return chosen[strata] / sizes[strata]


def random_sets(instruction: np.ndarray, strata: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks (draws of the block, verbs) of shuffled labels, float32 0 or 1; `draws` in all."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    for begin in range(0, draws, _BLOCK):
        labels = np.zeros((min(_BLOCK, draws - begin), instruction.size), dtype=np.float32)
        for verbs in members:
            chosen = int(instruction[verbs].sum())
            if chosen == verbs.size:
                labels[:, verbs] = 1
            elif chosen:
                random = rng.random((len(labels), verbs.size), dtype=np.float32)
                np.put_along_axis(labels, verbs[np.argpartition(random, chosen - 1, axis=1)[:, :chosen]], 1, axis=1)
        yield labels


def set_null(
    values: np.ndarray, instruction: np.ndarray, strata: np.ndarray, *, draws: int, shown: int, seed: int
) -> SetNull:
    """The sum of `values` (verbs, columns) over the instruction verbs against the sums over random verb sets.

    expected and sd are exact; low and high are the 95 % range of the first `shown` draws; p is two-sided: the share of
    draws, the observed one counted among them, at least as far from the expected sum.
    """
    observed = instruction.astype(float) @ values
    chance = label_chance(instruction, strata)
    expected = chance @ values
    far = np.abs(observed - expected) * (1 - 1e-5) - 1e-6  # equal sums in another order of adding count as equal
    columns = values.astype(np.float32)
    reached = np.zeros(values.shape[1], dtype=np.int64)
    kept: list[np.ndarray] = []
    for block in random_sets(instruction, strata, draws, seed):
        sums = block @ columns
        reached += (np.abs(sums - expected) >= far).sum(axis=0)
        if len(kept) * _BLOCK < shown:
            kept.append(sums)
    low, high = np.quantile(np.concatenate(kept)[:shown], [0.025, 0.975], axis=0)
    return SetNull(expected, _sd(values, instruction, strata), low, high, (1 + reached) / (1 + draws))


def _sd(values: np.ndarray, instruction: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Standard deviation of the sum over a random set: drawing without replacement, stratum by stratum."""
    variance = np.zeros(values.shape[1])
    for stratum in np.unique(strata):
        inside = strata == stratum
        size, chosen = int(inside.sum()), int(instruction[inside].sum())
        if 0 < chosen < size:
            variance += chosen * (1 - chosen / size) * values[inside].var(axis=0, ddof=1)
    return np.sqrt(variance)
