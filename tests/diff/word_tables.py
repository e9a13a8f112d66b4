"""Synthetic tables of word pairs, with the columns and the attributes of `itlens.qk_word_pairs`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

WORDS = (
    *("the", "write", "story", "Write", "explain", "describe", "run", "eat", "walk", "a=b", "c|||d", "tab\there"),
    *("\N{PARTY POPPER}", "café", "poem", "cook", "bread", "list", "answer", "sing"),
)
COLUMNS = [
    *("layer", "head", "dim", "rank", "query", "key", "relatedness", "query_activation", "key_activation"),
]
FAST: dict[str, Any] = {
    "verbs": ["write", "explain", "describe", "list", "answer"],
    "general": ["run", "eat", "walk", "cook", "sing"],
    "draws": 200,
}

BASE = [
    (0, 0, 0, "write", "story", 0.9, 2.0, 3.0),
    (0, 0, 1, "write", "story", 0.9, 1.0, -1.0),
    (0, 0, 0, "run", "walk", 0.8, 1.0, 1.0),
    (0, 0, 3, "Write", "poem", 0.7, 1.0, 1.0),
    (0, 0, 3, "poem", "write", 0.7, 1.0, 1.0),
    (0, 1, 0, "a=b", "c|||d", 0.6, 1.0, 1.0),
]
TUNED = [
    (0, 0, 0, "write", "story", 0.9, 4.0, 1.0),
    (0, 0, 2, "story", "write", 0.9, 1.0, 1.0),
    (0, 0, 2, "Write", "poem", 0.7, 1.0, 1.0),
    (0, 0, 5, "poem", "write", 0.7, 1.0, 1.0),
    (0, 0, 1, "write", "Write", 0.4, 1.0, 1.0),
    (0, 0, 4, "write", "Write", 0.4, 1.0, 1.0),
]


def word_table(
    rows: Iterable[Sequence[Any]],
    *,
    words: Sequence[str] = WORDS,
    layers: Sequence[int] = (0,),
    heads: Sequence[int] = (0, 1),
    model: str = "base",
    **attrs: Any,
) -> pd.DataFrame:
    """A table of word pairs from rows (layer, head, dim, query, key[, relatedness[, query and key activation]]).

    Missing numbers are relatedness 0.5 and activations 1. Rows are sorted as the probe sorts them; the grid probed is
    layers x heads, of a model that is just as large unless `n_layers`, `n_heads` or `d_head` say otherwise.
    """
    full = [(*row, *(0.5, 1.0, 1.0)[len(row) - 5 :]) for row in rows]
    table = pd.DataFrame(full, columns=[name for name in COLUMNS if name != "rank"])
    table = table.sort_values(["layer", "head", "dim", "relatedness"], ascending=[True, True, True, False])
    table = table.reset_index(drop=True)
    rank = table.groupby(["layer", "head", "dim"]).cumcount() + 1
    table.insert(3, "rank", rank)
    return typed(table, words).pipe(with_attrs, words=words, layers=layers, heads=heads, model=model, **attrs)


def random_word_table(
    seed: int,
    *,
    words: Sequence[str] = WORDS,
    layers: Sequence[int] = (0, 1),
    heads: Sequence[int] = (0, 1),
    dims: int = 6,
    pairs: int = 12,
    weights: np.ndarray | None = None,
    model: str = "base",
    **attrs: Any,
) -> pd.DataFrame:
    """Pairs drawn at random: `pairs` draws for every layer, head and dimension, words by `weights` (default: alike).

    A pair that is drawn twice in one dimension, or of a word with itself, is dropped.
    """
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(layers, heads, np.arange(dims), np.arange(pairs), indexing="ij"), -1).reshape(-1, 4)
    chance = None if weights is None else np.asarray(weights, float) / np.sum(weights)
    drawn = rng.choice(len(words), size=(len(grid), 2), p=chance)
    table = pd.DataFrame(grid[:, :3], columns=["layer", "head", "dim"])
    table["q"], table["k"] = drawn.T
    table["relatedness"] = rng.uniform(0.2, 1, len(table))
    sign = rng.choice([-1.0, 1.0], len(table))
    table["query_activation"], table["key_activation"] = sign * rng.random(len(table)), sign * rng.random(len(table))
    table = table[table["q"] != table["k"]].drop_duplicates(["layer", "head", "dim", "q", "k"])
    table = table.sort_values(["layer", "head", "dim", "relatedness"], ascending=[True, True, True, False])
    table = table.reset_index(drop=True)
    table.insert(3, "rank", table.groupby(["layer", "head", "dim"]).cumcount() + 1)
    for name, codes in (("query", table.pop("q")), ("key", table.pop("k"))):
        table[name] = pd.Categorical.from_codes(codes, list(words))
    attrs = {"layers": layers, "heads": heads, "model": model, "d_head": dims, **attrs}
    return typed(table, words).pipe(with_attrs, words=words, **attrs)


def typed(table: pd.DataFrame, words: Sequence[str]) -> pd.DataFrame:
    """The columns in the probe's order and with its types."""
    types: dict[str, Any] = {"layer": np.int16, "head": np.int16, "dim": np.int16, "rank": np.int32}
    types |= dict.fromkeys(("relatedness", "query_activation", "key_activation"), np.float32)
    table = table[COLUMNS].astype(types)
    for name in ("query", "key"):
        table[name] = pd.Categorical(table[name], categories=list(words))
    return table


def with_attrs(
    table: pd.DataFrame, *, words: Sequence[str], layers: Sequence[int], heads: Sequence[int], model: str, **attrs: Any
) -> pd.DataFrame:
    """The same table with the attributes of the probe's result; `attrs` overrides any of them."""
    layers, heads = [int(x) for x in layers], [int(x) for x in heads]
    known: dict[str, Any] = {"probe": "qk_word_pairs", "model": model, "revision": "", "architecture": "llama"}
    known |= {"backend": "hooked", "dtype": "float32", "n_layers": max(layers) + 1, "n_heads": max(heads) + 1}
    known |= {"n_key_value_heads": max(heads) + 1, "d_head": 64, "layers": layers, "heads": heads}
    known |= {"vocabulary": "sha256:0123456789abcdef", "vocabulary_name": "words.txt", "vocabulary_size": len(words)}
    known |= {"vectors": "sha256:fedcba9876543210", "vectors_name": "vectors.npz", "top_k": 100, "deviations": 1.96}
    known |= {"baseline": 3000, "signed": True, "unknown_to_tokenizer": 0, "unknown_to_vectors": 0}
    table.attrs = {**known, "itlens_version": "0", **attrs}
    return table


def hand() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A base and a tuned table of six rows each, whose counts can be made by hand."""
    return word_table(BASE), word_table(TUNED, model="tuned")
