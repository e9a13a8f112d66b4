"""Per head: which word pairs both models have, and which only one: sets of (query, key) over all dimensions."""

from __future__ import annotations

import numpy as np

from itlens.diff.pair_tables import PairRows, PairTables

COUNTS = ("base_pairs", "tuned_pairs", "kept", "gained", "lost")


def pair_overlap(tables: PairTables) -> dict[str, np.ndarray]:
    """COUNTS and `overlap`, each on (layers, heads), of distinct ordered pairs; overlap: Jaccard, NaN without pairs."""
    counts = np.zeros((len(COUNTS), tables.cells), dtype=np.int64)
    for cell in range(tables.cells):
        base, tuned = (distinct_pairs(rows, cell, len(tables.words)) for rows in (tables.base, tables.tuned))
        kept = np.intersect1d(base, tuned, assume_unique=True).size
        counts[:, cell] = base.size, tuned.size, kept, tuned.size - kept, base.size - kept
    either = counts[2:].sum(axis=0)
    overlap = np.divide(counts[2], either, out=np.full(tables.cells, np.nan), where=either > 0)
    named = dict(zip(COUNTS, counts, strict=True))
    return {name: values.reshape(tables.shape) for name, values in (*named.items(), ("overlap", overlap))}


def distinct_pairs(rows: PairRows, cell: int, words: int) -> np.ndarray:
    """The head's distinct pairs, sorted, each as the number query * words + key."""
    _, query, key = rows.pairs(cell)
    return np.unique(query * words + key)
