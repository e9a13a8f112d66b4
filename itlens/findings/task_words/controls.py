"""Control sets for a set of words: matched word by word, and matched in how near to one another their vectors are.

MATCHED: words are divided into strata of equal frequency band (the octave of the rank), part of speech (of the word's
first sense in WordNet) and number of tokens. A stratum of fewer than LEAST words is joined with its neighbours: first
over parts of speech, then over numbers of tokens, then with the band before. A control set has as many words of each
stratum as the set has, drawn without replacement from all words of it, the set's own included: an exact permutation
test of whether these words are special among their like.

TOPIC: words of one topic have similar vectors, so that whatever moves a subspace moves them together: their mean gain
varies more from chance than that of unrelated words, and matched words alone would call that significant. Topics are n
words drawn from the m nearest neighbours (by cosine) of a random word; m is chosen such that a topic is as coherent as
the set. COHERENCE is |sum o|^2 / (n sum |o|^2): 1 / n for orthogonal vectors, 1 for equal ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from itlens.annotate.lexicon_labels import supersenses

DRAWS = 999
LEAST = 10  # words of a stratum
_SIZES = (1, 1.5, 2, 3, 5, 8, 15, 30, 60, 120)  # of a neighbourhood, in units of the set
_TRIED = 40  # neighbourhoods by which their size is chosen
_BLOCK = 128


def part_of_speech(word: str) -> str:
    """Return noun, verb, adj or adv, by the first sense of the word; "" where WordNet has none."""
    senses = supersenses(word.lower())
    return senses[0].partition(".")[0] if senses else ""


def strata(
    rank: Int[np.ndarray, " words"], parts: Sequence[str], tokens: Int[np.ndarray, " words"]
) -> Int[np.ndarray, " words"]:
    """Return the number of each word's stratum. rank: from 0, by frequency; parts: of speech; see the module."""
    band = np.log2(1 + rank).astype(int)
    part = np.unique(np.asarray(parts, dtype=str), return_inverse=True)[1]
    several = np.minimum(tokens, 4)
    keys = [(band, several, part), (band, several), (band,)]
    found = np.full(band.size, -1)
    count = 0
    for key in keys:
        left = np.flatnonzero(found < 0)
        if not left.size:
            break
        own = np.unique(np.stack(key)[:, left], axis=1, return_inverse=True)[1].reshape(-1)
        for number in range(own.max() + 1):
            members = left[own == number]
            if members.size >= LEAST:
                found[members] = count
                count += 1
    left = np.flatnonzero(found < 0)
    if left.size:  # what is left of a band goes to the next larger stratum of it, or forms one
        for number in np.unique(band[left]):
            members = left[band[left] == number]
            near = found[(band == number) & (found >= 0)]
            if near.size:
                found[members] = np.bincount(near).argmax()
            else:
                found[members] = count
                count += 1
    return found


def matched_draws(
    stratum: Int[np.ndarray, " words"], members: Bool[np.ndarray, " words"], *, draws: int = DRAWS, seed: int = 0
) -> Int[np.ndarray, "draws size"]:
    """Return control sets, as places of words: of each stratum as many as the set has, without replacement."""
    rng = np.random.default_rng(seed)
    columns = []
    for number in np.unique(stratum[members]):
        pool, size = np.flatnonzero(stratum == number), int((members & (stratum == number)).sum())
        order = rng.random((draws, pool.size)).argpartition(min(size, pool.size - 1), axis=1)[:, :size]
        columns.append(pool[order])
    return np.concatenate(columns, axis=1)


def coherence(vectors: Float[np.ndarray, "*sets size width"]) -> Float[np.ndarray, "*sets"]:
    """Return |sum o|^2 / (n sum |o|^2) of each set of vectors; see the module."""
    squares = np.square(vectors).sum((-2, -1))
    whole = np.square(vectors.sum(-2)).sum(-1)
    return np.asarray(whole / np.maximum(vectors.shape[-2] * squares, 1e-30))


def topic_draws(
    vectors: Float[np.ndarray, "words width"],
    sets: Mapping[str, Bool[np.ndarray, " words"]],
    stratum: Int[np.ndarray, " words"],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Int[np.ndarray, "draws size"]]:
    """Return topics as coherent as each set, as places of words. vectors: centred, one per word.

    The random word of a topic is of a stratum that some set has words of.
    """
    rng = np.random.default_rng([seed, 1])
    pool = np.flatnonzero(np.isin(stratum, stratum[np.any(list(sets.values()), axis=0)]))
    seeds = rng.choice(pool, size=draws)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    sizes = {task: int(members.sum()) for task, members in sets.items()}
    first = _nearest(unit, seeds[:_TRIED])
    width = {task: _fitting(vectors, sets[task], first, rng) for task in sets}
    found: dict[str, list[np.ndarray]] = {task: [] for task in sets}
    ends = sorted({min(each, len(unit) - 1) for each in width.values()})
    for start in range(0, draws, _BLOCK):  # which words are the nearest counts here, not their order
        order = np.argpartition(-(unit[seeds[start : start + _BLOCK]] @ unit.T), ends, axis=1)
        for task, size in sizes.items():
            found[task].append(_sampled(order[:, : width[task]], size, rng))
    return {task: np.concatenate(blocks) for task, blocks in found.items()}


def _nearest(unit: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    return np.argsort(-(unit[seeds] @ unit.T), axis=1, kind="stable")


def _fitting(vectors: np.ndarray, members: np.ndarray, order: np.ndarray, rng: np.random.Generator) -> int:
    """Return the size of the neighbourhoods whose topics are as coherent as the set."""
    size, words = int(members.sum()), len(vectors)
    goal = float(coherence(vectors[members]))
    widths = sorted({min(words, round(size * times)) for times in _SIZES} | {words})
    means = [float(coherence(vectors[_sampled(order[:, :width], size, rng)]).mean()) for width in widths]
    return widths[int(np.argmin(np.abs(np.array(means) - goal)))]


def _sampled(order: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    if order.shape[1] <= size:
        return order[:, :size]
    places = rng.random(order.shape).argpartition(size, axis=1)[:, :size]
    return np.take_along_axis(order, places, axis=1)
