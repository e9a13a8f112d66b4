"""Two tables of word pairs on one grid of heads and in one list of words; pairs that each head kept, gained or lost.

1. Check that both are tables of `itlens.qk_word_pairs`, of models of one shape, with one vocabulary and one setting.
2. Number the heads of the grid (`cells`, layer by layer) and the words of both tables, by their text. 3. Keep a slice
of rows per head; tables that are not sorted by layer and head are read in that order. 4. Compare the pairs of each
head: an ordered (query, key), counted once over all of its dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from pandas.api.types import union_categoricals

from itlens.errors import ResultError
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


# ---- two tables on one grid

PROBE = "qk_word_pairs"
COLUMNS = ("layer", "head", "dim", "query", "key", "relatedness", "query_activation", "key_activation")
_SHAPE = ("n_layers", "n_heads", "d_head")
_SETTINGS = {"vocabulary": "vocabulary", "vectors": "word vectors", "top_k": "top_k", "deviations": "deviations"}
_SETTINGS |= {"baseline": "baseline", "signed": "signed"}


class PairRows(NamedTuple):
    """The rows of one model: dim, query and key as integers, in the table's order; `start` (cells + 1) bounds a head.

    order: the row numbers by head, or None when the table is sorted by layer and head.
    """

    table: pd.DataFrame
    start: np.ndarray
    order: np.ndarray | None
    dim: np.ndarray
    query: np.ndarray
    key: np.ndarray

    def rows(self, cell: int) -> slice | np.ndarray:
        """Return what picks the rows of one head out of the table's columns."""
        bounds = slice(int(self.start[cell]), int(self.start[cell + 1]))
        return bounds if self.order is None else self.order[bounds]

    def pairs(self, cell: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return dim, query and key of one head's rows, as int64."""
        rows = self.rows(cell)
        return self.dim[rows].astype(np.int64), self.query[rows].astype(np.int64), self.key[rows].astype(np.int64)


class PairTables(NamedTuple):
    """Both models' rows on one grid: cell = index of the layer x number of heads + index of the head."""

    layers: np.ndarray
    heads: np.ndarray
    words: tuple[str, ...]
    base: PairRows
    tuned: PairRows

    @property
    def cells(self) -> int:
        """How many heads were probed."""
        return self.layers.size * self.heads.size

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads)"""
        return self.layers.size, self.heads.size


def read_pair_tables(base: pd.DataFrame, tuned: pd.DataFrame) -> PairTables:
    """Align two tables of `itlens.qk_word_pairs` by layer, head and the words' texts.

    Raises ResultError for anything but two such tables, and for tables that differ in the model's shape, the heads
    probed, the vocabulary, the word vectors or the settings.
    """
    sides = {"base": base, "tuned": tuned}
    for name, table in sides.items():
        _check_table(table, name)
    _check_same(base.attrs, tuned.attrs)
    layers, heads = (np.array(sorted(base.attrs[axis]), dtype=np.int64) for axis in ("layers", "heads"))
    codes: dict[str, int] = {}
    columns = {
        name: [encode_words(table[role], name, codes) for role in ("query", "key")] for name, table in sides.items()
    }
    made = [_rows(table, name, layers, heads, *columns[name]) for name, table in sides.items()]
    return PairTables(layers, heads, tuple(codes), *made)


def _check_table(table: pd.DataFrame, name: str) -> None:
    if not isinstance(table, pd.DataFrame):
        raise ResultError(f"{name} is a {type(table).__name__}: give the DataFrame that itlens.{PROBE} returned.")
    if missing := [column for column in COLUMNS if column not in table.columns]:
        raise ResultError(
            f"{name} is no table of word pairs (no column {', '.join(missing)}): give the DataFrame that "
            f"itlens.{PROBE} returned, or one that itlens.load read."
        )
    if (probe := table.attrs.get("probe", "")) != PROBE:
        raise ResultError(
            f"{name} is a result of {str(probe) or 'an unknown probe'} by its attrs, expected {PROBE}: pandas drops "
            "attrs in some operations (concat, merge); set table.attrs from the original, or probe again."
        )
    if missing := [key for key in (*_SHAPE, "layers", "heads", *_SETTINGS) if key not in table.attrs]:
        raise ResultError(f"{name} does not say its {', '.join(missing)} (in attrs): probe the model again.")


def _check_same(base: Mapping[Any, Any], tuned: Mapping[Any, Any]) -> None:
    if [base[key] for key in _SHAPE] != [tuned[key] for key in _SHAPE]:
        shapes = [f"{a[_SHAPE[0]]} layers x {a[_SHAPE[1]]} heads of {a[_SHAPE[2]]} dimensions" for a in (base, tuned)]
        raise ResultError(
            f"The models have different shapes: base {shapes[0]}, tuned {shapes[1]}. Heads can be compared "
            "only between a model and its own tuned version."
        )
    for axis in ("layers", "heads"):
        if sorted(base[axis]) != sorted(tuned[axis]):
            raise ResultError(
                f"Different {axis} were probed: base {_some(base[axis])}, tuned {_some(tuned[axis])}. Probe both "
                f"models with the same `{axis}`."
            )
    for key, name in _SETTINGS.items():
        if base[key] != tuned[key]:
            raise ResultError(
                f"The tables were made with different {name}: base {_described(base, key)}, tuned "
                f"{_described(tuned, key)}. Probe both models alike."
            )


def _described(attrs: Mapping[Any, Any], key: str) -> str:
    label = attrs.get(f"{key}_name", "")
    return f"{label} ({attrs[key]})" if label else str(attrs[key])


def _some(values: Iterable[int]) -> str:
    listed = [str(x) for x in sorted(values)]
    return ", ".join(listed if len(listed) < 9 else [*listed[:7], "...", listed[-1]]) or "none"


def encode_words(column: pd.Series, name: str, codes: dict[str, int]) -> np.ndarray:
    """Return the column's words as numbers; new words get the next number in `codes`. Equal texts are equal words."""
    values = column.array if isinstance(column.dtype, pd.CategoricalDtype) else pd.Categorical(column)
    words = list(values.categories)
    if any(not isinstance(word, str) for word in words) or (np.asarray(values.codes) < 0).any():
        raise ResultError(f"The column {str(column.name)!r} of {name} holds values that are no words: probe again.")
    table = np.array([codes.setdefault(word, len(codes)) for word in words], dtype=np.int32)
    return table[values.codes]


def _rows(
    table: pd.DataFrame, name: str, layers: np.ndarray, heads: np.ndarray, query: np.ndarray, key: np.ndarray
) -> PairRows:
    layer, head = (_place(table[axis], known, name) for axis, known in (("layer", layers), ("head", heads)))
    cell = (layer * heads.size + head).astype(np.int32)
    order = None
    if (cell[1:] < cell[:-1]).any():
        order = np.argsort(cell, kind="stable")
        cell = cell[order]
    start = np.searchsorted(cell, np.arange(layers.size * heads.size + 1))
    return PairRows(table, start, order, table["dim"].to_numpy(np.int32), query, key)


def _place(column: pd.Series, known: np.ndarray, name: str) -> np.ndarray:
    """The index of every layer or head on the grid."""
    values = column.to_numpy()
    place = np.searchsorted(known, values).clip(max=max(known.size - 1, 0))
    if values.size and (known.size == 0 or (known[place] != values).any()):
        strange = sorted(set(values.tolist()) - set(known.tolist()))
        raise ResultError(
            f"{name} has rows of {column.name} {_some(strange)}, but its attrs say that the {column.name}s probed are "
            f"{_some(known.tolist())}: probe again, or set attrs[{str(column.name) + 's'!r}]."
        )
    return place.astype(np.int64)


def join_pair_tables(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of several layers, in their order, as one: that of `itlens.qk_word_pairs` for all of them."""
    joined = pd.DataFrame({name: _joined([table[name] for table in tables]) for name in tables[0].columns}, copy=False)
    joined.attrs = tables[0].attrs | {"layers": [layer for table in tables for layer in table.attrs["layers"]]}
    return joined


def _joined(columns: list[pd.Series]) -> pd.Categorical | pd.Series:
    """One column of several; words stay categorical even where a file lists other words than the next one."""
    if all(isinstance(column.dtype, pd.CategoricalDtype) for column in columns):
        # a layer without a pair comes back without words, of another type than words have
        filled = [column for column in columns if len(column)] or columns[:1]
        return union_categoricals([column.array for column in filled])
    return pd.concat(columns, ignore_index=True)
