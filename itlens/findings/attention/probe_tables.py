"""The tables that the attention probe returns: integers until here, words only as the categories of a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from itlens.results.provenance import word_attrs
from itlens.selection import Numbers, chosen
from itlens.vocabulary import Vocabulary
from itlens.weights import Weights

_SHAPE = ("layers", "heads", "key_value_heads", "d_head")


class HeadGrid(NamedTuple):
    """The layers and heads that are probed, ascending."""

    layers: list[int]
    heads: list[int]

    @classmethod
    def of(cls, weights: Weights, layers: Numbers, heads: Numbers) -> HeadGrid:
        """Return the chosen ones; None: all. Raises ProbeError for numbers that the model does not have."""
        facts = weights.facts
        return cls(chosen("layer", layers, facts["layers"]), chosen("head", heads, facts["heads"]))


def table_attrs(probe: str, weights: Weights, vocab: Vocabulary, grid: HeadGrid, **settings: Any) -> dict[str, Any]:
    """Return provenance: the model, its shape (n_layers, n_heads ...), the words, the settings, the grid."""
    shape = {f"n_{name}" if name != "d_head" else name: weights.facts[name] for name in _SHAPE}
    attrs = word_attrs(probe, weights, vocab, **shape, **settings)
    return {**attrs, "layers": list(grid.layers), "heads": list(grid.heads)}


def pair_table(
    layer: int,
    heads: Sequence[int],
    kept: Sequence[dict[str, Tensor]],
    energies: Float[Tensor, "heads d_head"],
    words: Sequence[str],
) -> pd.DataFrame:
    """Return one layer's table, from the kept pairs of each head; see `itlens.qk_word_pairs`."""
    order = _order(energies.numpy())
    columns = [_columns(pairs, order[place]) for place, pairs in enumerate(kept)]
    whole = {name: np.concatenate([head[name] for head in columns]) for name in columns[0]}
    count = len(whole["dim"])
    categories = word_categories(words)
    return pd.DataFrame(
        {
            "layer": np.full(count, layer, dtype=np.int16),
            "head": np.repeat(np.asarray(heads, dtype=np.int16), [len(head["dim"]) for head in columns]),
            "dim": whole["dim"],
            "rank": whole["rank"],
            "query": pd.Categorical.from_codes(whole["query"], dtype=categories),
            "key": pd.Categorical.from_codes(whole["key"], dtype=categories),
            "relatedness": whole["relatedness"],
            "query_activation": whole["query_activation"],
            "key_activation": whole["key_activation"],
        }
    )


def energy_table(layer: int, heads: Sequence[int], energies: Float[Tensor, "heads d_head"]) -> pd.DataFrame:
    """Return one layer's energies: layer, head, dim, energy, order."""
    values = energies.numpy()
    count, width = values.shape
    return pd.DataFrame(
        {
            "layer": np.full(count * width, layer, dtype=np.int16),
            "head": np.repeat(np.asarray(heads, dtype=np.int16), width),
            "dim": np.tile(np.arange(width, dtype=np.int16), count),
            "energy": values.ravel(),
            "order": (_order(values) + 1).astype(np.int16).ravel(),
        }
    )


def word_categories(words: Sequence[str]) -> pd.CategoricalDtype:
    """Return the dtype of a column of words of the vocabulary, in its order."""
    return pd.CategoricalDtype(pd.Index(list(words)))  # the dtype of texts that a file gives back, too


def join_tables(tables: Sequence[pd.DataFrame], attrs: Mapping[Any, Any]) -> pd.DataFrame:
    """Return one table of several with the same columns."""
    joined = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
    joined.attrs = dict(attrs)
    return joined


def _order(energies: Float[np.ndarray, "heads d_head"]) -> np.ndarray:
    """Place of each dimension by energy, 0 = highest; of equal ones the first dimension comes first."""
    return np.argsort(np.argsort(-energies, axis=1, kind="stable"), axis=1)


def _columns(pairs: dict[str, Tensor], order: np.ndarray) -> dict[str, np.ndarray]:
    """One head's columns, sorted by the energy of the dimension, the cosine, the query's and the key's index."""
    dim, cosine = pairs["dim"].numpy(), pairs["cosine"].numpy()
    # the pairs come by dimension, query and key, so that a stable sort leaves equal cosines in that order
    key = order[dim] * 4.0 - cosine
    sorting = np.argsort(key, kind="stable")
    dim = dim[sorting]
    first = np.flatnonzero(np.diff(dim, prepend=-1))
    rank = np.arange(1, len(dim) + 1) - np.repeat(first, np.diff(first, append=len(dim)))
    named = {"relatedness": "cosine", "query_activation": "q", "key_activation": "k"}
    return {
        "dim": dim.astype(np.int16),
        "rank": rank.astype(np.int32),
        **{role: pairs[role].numpy()[sorting].astype(np.int32) for role in ("query", "key")},
        **{name: pairs[own].numpy()[sorting].astype(np.float32) for name, own in named.items()},
    }
