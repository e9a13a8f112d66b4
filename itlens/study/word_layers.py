"""The word pairs of a run folder on disk: two Parquet files per layer and model.

words/base/layer-00.parquet   the pairs of layer 0 (`itlens.qk_word_pairs`)
words/base/energy-00.parquet  the energies of its head dimensions (`itlens.qk_energy`)

A layer is finished when both are there, can be read, and were made with the words of the study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import union_categoricals

from itlens.errors import StoreError
from itlens.store import load, save
from itlens.study.parts import PARTS


def save_layer(folder: Path, which: str, layer: int, pairs: pd.DataFrame, energy: pd.DataFrame) -> None:
    """Write both tables of a layer. The pairs come last: a layer counts once they are there."""
    save(energy, _path(folder, which, "energy", layer))
    save(pairs, _path(folder, which, "layer", layer))


def finished_layers(folder: Path, which: str, layers: int, identity: Mapping[str, Any]) -> list[int]:
    """The finished layers among the first `layers`, by what `identity` says of vocabulary, vectors and top_k."""
    return [
        layer
        for layer in range(layers)
        if all(_table(folder, which, kind, layer, identity) is not None for kind in ("energy", "layer"))
    ]


def pairs_by_layer(folder: Path, which: str, layers: int, identity: Mapping[str, Any]) -> dict[int, pd.DataFrame]:
    """The pairs of every layer that can be read, among the first `layers`."""
    tables = {layer: _table(folder, which, "layer", layer, identity) for layer in range(layers)}
    return {layer: table for layer, table in tables.items() if table is not None}


def joined_pairs(tables: Mapping[int, pd.DataFrame], layers: Sequence[int]) -> pd.DataFrame:
    """The pairs of these layers as one table, as `itlens.qk_word_pairs` would have returned it."""
    parts = [tables[layer] for layer in layers]
    whole = pd.DataFrame({name: _joined([part[name] for part in parts]) for name in parts[0].columns}, copy=False)
    whole.attrs = parts[0].attrs | {"layers": list(layers)}
    return whole


def _joined(columns: list[pd.Series]) -> Any:
    """One column of several; words stay categorical even where a file lists other words than the next one."""
    if all(isinstance(column.dtype, pd.CategoricalDtype) for column in columns):
        # a layer without a pair comes back without words, of another type than words have
        held = [column for column in columns if len(column)] or columns[:1]
        return union_categoricals([column.array for column in held])
    return pd.concat(columns, ignore_index=True)


def _path(folder: Path, which: str, kind: str, layer: int) -> Path:
    return folder / PARTS["attention"].folder / which / f"{kind}-{layer:02d}.parquet"


def _table(folder: Path, which: str, kind: str, layer: int, identity: Mapping[str, Any]) -> pd.DataFrame | None:
    """The table, or None where there is none or another one: that layer is then computed again."""
    path = _path(folder, which, kind, layer)
    if not path.exists():
        return None
    try:
        table = load(path)
    except StoreError:
        return None
    known = {"layers": [layer], **{name: identity[name] for name in PARTS["attention"].identity}}
    if not isinstance(table, pd.DataFrame) or any(table.attrs.get(name) != value for name, value in known.items()):
        return None
    return table
