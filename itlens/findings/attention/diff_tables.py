"""Two tables of word pairs as integers on one grid of heads and in one list of words, so that they can be compared.

1. Check that both are tables of `itlens.qk_word_pairs`, of models of one shape, with one vocabulary and one setting.
2. Number the heads of the grid (`cells`, layer by layer) and the words of both tables, by their text. 3. Keep a slice
of rows per head; tables that are not sorted by layer and head are read in that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from itlens.errors import ResultError

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
    columns = {name: [_encode(table[role], name, codes) for role in ("query", "key")] for name, table in sides.items()}
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


def _encode(column: pd.Series, name: str, codes: dict[str, int]) -> np.ndarray:
    """The column's words as numbers; new words get the next number in `codes`. Equal texts are equal words."""
    values = column.array if isinstance(column.dtype, pd.CategoricalDtype) else pd.Categorical(column)
    words = list(values.categories)
    if any(not isinstance(word, str) for word in words) or (np.asarray(values.codes) < 0).any():
        raise ResultError(f"The column {str(column.name)!r} of {name} holds values that are no words: probe again.")
    table = np.array([codes.setdefault(word, len(codes)) for word in words], dtype=np.int32)
    encoded: np.ndarray = table[values.codes]
    return encoded


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
