"""What changed in the word pairs of each head: how many were kept, gained and lost, which ones, and where most.

A pair is an ordered (query, key), counted once over all dimensions of its head.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.attention.diff_tables import PairRows, PairTables, read_pair_tables
from itlens.results.provenance import provenance

COUNTS = ("base_pairs", "tuned_pairs", "kept", "gained", "lost")
CHANGES = ("kept", "gained", "lost")


def pair_changes(
    base: pd.DataFrame,
    tuned: pd.DataFrame,
    *,
    layers: int | Iterable[int] | None = None,
    heads: int | Iterable[int] | None = None,
) -> pd.DataFrame:
    """List every distinct word pair (query, key) of either model, head by head, as "kept", "gained" or "lost".

    layers, heads: only these (None: all that were probed). Columns: layer, head, change, rank, query, key, relatedness,
    base_dims, tuned_dims (dimensions that hold the pair), base_energy, tuned_energy (sum over them of query activation
    x key activation; 0 where the pair is not). rank 1 is the first of its layer, head and change by relatedness x
    |energy| (the larger of both models'); rows are in that order.

    Raises ResultError when the tables are no word pairs or do not match, and for a layer or head that was not probed.
    """
    tables = read_pair_tables(base, tuned)
    rows, cells = _chosen(layers, tables.layers, "layer"), _chosen(heads, tables.heads, "head")
    changes = [_head_changes(tables, layer, head) for layer in rows for head in cells]
    columns = {name: np.concatenate([change[name] for change in changes]) for name in changes[0]}
    named = {
        name: pd.Categorical.from_codes(columns[name], pd.Index(list(words), dtype=object))
        for name, words in (("change", CHANGES), ("query", tables.words), ("key", tables.words))
    }
    table = pd.DataFrame({**columns, **named})
    names = {f"{name}_model": side.attrs.get("model", "") for name, side in (("base", base), ("tuned", tuned))}
    table.attrs = provenance("diff.pair_changes", **names, vocabulary=base.attrs["vocabulary"])
    return table


def moved_heads(ds: xr.Dataset, top: int | None = 10) -> pd.DataFrame:
    """Return the heads of `itlens.diff.word_pairs` whose pairs changed most: a row per head with its numbers.

    By `moved` = 1 - overlap, then by the number of pairs gained and lost. top: how many rows (None: all). Heads without
    a pair in either model, and heads that kept all, are left out.
    """
    on_heads = [name for name in ds.data_vars if ds[name].dims == ("layer", "head")]
    if "overlap" not in on_heads:
        raise ResultError("This Dataset has no overlap on (layer, head): give the result of itlens.diff.word_pairs.")
    table = ds[on_heads].reset_coords(drop=True).to_dataframe().reset_index()
    table.insert(2, "moved", 1 - table["overlap"])
    table = table.assign(pairs=table["gained"] + table["lost"])
    table = table[table["pairs"] > 0].sort_values(
        ["moved", "pairs", "layer", "head"], ascending=[False, False, True, True]
    )
    table = table.drop(columns="pairs").head(top if top is not None else len(table)).reset_index(drop=True)
    table.attrs = dict(ds.attrs)
    return table


def pair_overlap(tables: PairTables) -> dict[str, np.ndarray]:
    """Return COUNTS and `overlap` (Jaccard, NaN without pairs), each on (layers, heads), of distinct ordered pairs."""
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
    """Return the head's distinct pairs, sorted, each as the number query * words + key."""
    _, query, key = rows.pairs(cell)
    return np.unique(query * words + key)


def _chosen(numbers: int | Iterable[int] | None, known: np.ndarray, name: str) -> list[int]:
    """Indices on the grid of the requested layers or heads."""
    if numbers is None:
        return list(range(known.size))
    listed = [numbers] if isinstance(numbers, (int, np.integer)) else list(numbers)
    if not listed or (strange := [value for value in listed if value not in known]):
        got = ", ".join(str(value) for value in strange) if listed else "none"
        probed = f"{known.min()} to {known.max()}" if known.size else "none"
        raise ResultError(f"No such {name} in these tables: {got}; the {name}s probed are {probed} ({known.size}).")
    return sorted({int(np.flatnonzero(known == value)[0]) for value in listed})


def _head_changes(tables: PairTables, layer: int, head: int) -> dict[str, np.ndarray]:
    cell, words = layer * tables.heads.size + head, len(tables.words)
    sides = [_pair_sums(rows, cell, words) for rows in (tables.base, tables.tuned)]
    pairs = np.union1d(sides[0][0], sides[1][0])
    dims, energy = np.zeros((2, pairs.size), dtype=np.int16), np.zeros((2, pairs.size))
    relatedness = np.zeros(pairs.size, dtype=np.float32)
    for i, (own, own_dims, own_energy, own_relatedness) in reversed(list(enumerate(sides))):
        place = np.searchsorted(pairs, own)
        dims[i, place], energy[i, place], relatedness[place] = own_dims, own_energy, own_relatedness
    change = np.where(dims[0] == 0, 1, np.where(dims[1] == 0, 2, 0)).astype(np.int8)
    weight = relatedness * np.abs(energy).max(axis=0) if pairs.size else relatedness
    order = np.lexsort((pairs, -weight, change))
    change = change[order]
    first = np.searchsorted(change, np.arange(len(CHANGES)))
    query, key = np.divmod(pairs[order], max(words, 1))
    return {
        "layer": np.full(pairs.size, tables.layers[layer], dtype=np.int16),
        "head": np.full(pairs.size, tables.heads[head], dtype=np.int16),
        "change": change,
        "rank": (np.arange(pairs.size) - first[change] + 1).astype(np.int32),
        "query": query.astype(np.int32),
        "key": key.astype(np.int32),
        "relatedness": relatedness[order],
        "base_dims": dims[0, order],
        "tuned_dims": dims[1, order],
        "base_energy": energy[0, order].astype(np.float32),
        "tuned_energy": energy[1, order].astype(np.float32),
    }


def _pair_sums(rows: PairRows, cell: int, words: int) -> tuple[np.ndarray, ...]:
    """One model's distinct pairs of a head: their numbers, dimensions, energy and relatedness."""
    _, query, key = rows.pairs(cell)
    pairs, first, place, dims = np.unique(
        query * words + key, return_index=True, return_inverse=True, return_counts=True
    )
    at = rows.rows(cell)
    activations = [rows.table[f"{side}_activation"].to_numpy()[at].astype(float) for side in ("query", "key")]
    energy = np.bincount(place, weights=activations[0] * activations[1], minlength=pairs.size)
    return pairs, dims, energy, rows.table["relatedness"].to_numpy()[at][first]
