"""Verbs in the repeated word pairs of heads (the counts behind finding 2), and two nulls of how their counts change.

A pair is repeated when it is in at least `min_dims` dimensions of its head; order and upper case do not matter
here: (Write, story) in one dimension and (story, write) in another are one pair in two. The count of a word is the
number of repeated pairs that hold it.

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

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from itlens.errors import ResultError
from itlens.findings.attention.diff_pairs import PairRows, PairTables


class VerbCounts(NamedTuple):
    """base and tuned: counts on (heads of the grid, verbs of the lookup). used: verbs counted anywhere in either.

    base_share and tuned_share (heads of the grid): what share of the words in the repeated pairs are instruction verbs;
    NaN without such pairs.
    """

    base: np.ndarray
    tuned: np.ndarray
    base_share: np.ndarray
    tuned_share: np.ndarray
    used: np.ndarray


class VerbLookup(NamedTuple):
    """Of every word: its lower-cased form's number; of every lower-cased form: its verb's number among `verbs`, or -1.

    instruction (verbs of the lists, bool): instruction verbs first.
    """

    lower: np.ndarray
    forms: int
    verb: np.ndarray
    verbs: tuple[str, ...]
    instruction: np.ndarray

    def pair_verbs(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the verbs of each pair's two forms, -1 for none; the second is -1 where it is the first again."""
        first, second = (self.verb[form] for form in np.divmod(pairs, self.forms))
        return first, np.where(first == second, -1, second)

    def pair_weight(self, pairs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the sum of the weights (one per verb) of the verbs in each pair."""
        padded = np.append(weights, 0.0)  # verb -1 is the last
        first, second = self.pair_verbs(pairs)
        return padded[first] + padded[second]


def count_verbs(tables: PairTables, lookup: VerbLookup, min_dims: int = 2) -> VerbCounts:
    """Count the verbs in the repeated pairs of every head of both models."""
    counted = [_count_side(rows, tables, lookup, min_dims) for rows in (tables.base, tables.tuned)]
    (base, base_share), (tuned, tuned_share) = counted
    return VerbCounts(base, tuned, base_share, tuned_share, np.flatnonzero(base.any(axis=0) | tuned.any(axis=0)))


def verb_lookup(
    tables: PairTables, instruction: Iterable[str] | None, general: Iterable[str] | None, *, lemmas: bool = False
) -> VerbLookup:
    """Say which words count for which verb.

    instruction, general: verbs in any case; None is the built-in list; a general verb that is an instruction verb too
    is left out. lemmas: inflected forms count with their lemma (a pair that holds two forms counts once).
    Raises ResultError for a list without verbs, or whose verbs are all unknown to the vocabulary.
    """
    lists = _verb_lists(instruction, general)
    forms: dict[str, int] = {}
    lower = np.array([forms.setdefault(word.lower(), len(forms)) for word in tables.words], dtype=np.int64)
    verbs = (*lists[0], *lists[1])
    number = {verb: i for i, verb in enumerate(verbs)}
    lemma: Mapping[str, str] = {}
    if lemmas:
        from itlens.vocabulary.verbs import lemmas_of

        lemma = lemmas_of([form for form in forms if form not in number], verbs)
    verb = np.array([number.get(form, number.get(lemma.get(form, ""), -1)) for form in forms], dtype=np.int64)
    lookup = VerbLookup(lower, len(forms), verb, verbs, np.arange(len(verbs)) < len(lists[0]))
    _check_known(tables, lookup, [instruction is not None, general is not None])
    return lookup


def _verb_lists(instruction: Iterable[str] | None, general: Iterable[str] | None) -> tuple[list[str], list[str]]:
    from itlens.vocabulary.verbs import general_verbs, instruction_verbs

    wanted = _distinct(instruction_verbs() if instruction is None else instruction, "verbs")
    others = _distinct(general_verbs() if general is None else general, "general")
    if not (others := [verb for verb in others if verb not in set(wanted)]):
        raise ResultError("Every verb of `general` is one of `verbs` too: give other verbs to compare with.")
    return wanted, others


def _distinct(verbs: Iterable[str], name: str) -> list[str]:
    listed = [verbs] if isinstance(verbs, str) else list(verbs)
    if strange := [verb for verb in listed if not isinstance(verb, str)]:
        raise ResultError(f"`{name}` holds {strange[0]!r}, which is no word: give a list of verbs.")
    distinct = list(dict.fromkeys(verb.strip().lower() for verb in listed if verb.strip()))
    if not distinct:
        raise ResultError(f"`{name}` holds no verb: give at least one, or None for the built-in list.")
    return distinct


def _check_known(tables: PairTables, lookup: VerbLookup, given: list[bool]) -> None:
    """A table knows its whole vocabulary unless a file kept only the words in use: then nothing can be said."""
    whole = len(tables.words) >= int(tables.base.table.attrs.get("vocabulary_size", 0))
    known = lookup.instruction[lookup.verb[lookup.verb >= 0]]
    for name, own, is_given in zip(("verbs", "general"), (True, False), given, strict=True):
        if whole and is_given and not (known == own).any():
            verbs = [verb for verb, kind in zip(lookup.verbs, lookup.instruction, strict=True) if kind == own]
            raise ResultError(
                f"The vocabulary of these tables ({len(tables.words)} words) holds no verb of `{name}` "
                f"({', '.join(verbs[:3])}{' ...' if len(verbs) > 3 else ''}): give verbs as they are written there."
            )


def _count_side(rows: PairRows, tables: PairTables, lookup: VerbLookup, min_dims: int) -> tuple[np.ndarray, np.ndarray]:
    counts = np.zeros((tables.cells, len(lookup.verbs)), dtype=np.int32)
    share = np.full(tables.cells, np.nan)
    for cell in range(tables.cells):
        pairs = repeated_pairs(rows, cell, lookup, min_dims)
        if pairs.size:
            held = np.concatenate(lookup.pair_verbs(pairs))
            counts[cell] = np.bincount(held[held >= 0], minlength=counts.shape[1])
            share[cell] = _instruction_share(pairs, lookup)
    return counts, share


def _instruction_share(pairs: np.ndarray, lookup: VerbLookup) -> float:
    first, second = np.divmod(pairs, lookup.forms)
    words = np.concatenate([first, second[first != second]])
    verbs = lookup.verb[words]
    return float(lookup.instruction[verbs[verbs >= 0]].sum() / words.size)


def repeated_pairs(rows: PairRows, cell: int, lookup: VerbLookup, min_dims: int) -> np.ndarray:
    """Return the head's unordered pairs of lower-cased forms that are in at least `min_dims` dimensions, sorted.

    A pair is the number a * forms + b of its forms' numbers a <= b.
    """
    pair, count = np.unique(pair_dims(rows, cell, lookup)[0], return_counts=True)
    return pair[count >= min_dims]


def pair_dims(rows: PairRows, cell: int, lookup: VerbLookup) -> tuple[np.ndarray, np.ndarray]:
    """Return every (pair, dimension) of the head once, the order ignored: the pairs' numbers and the dimensions."""
    dim, query, key = rows.pairs(cell)
    query, key = lookup.lower[query], lookup.lower[key]
    pair = np.minimum(query, key) * lookup.forms + np.maximum(query, key)
    dims = int(dim.max()) + 1 if dim.size else 1
    pair, dim = np.divmod(np.unique(pair * dims + dim), dims)
    return pair, dim


# ---- the nulls

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
