"""What tuning changed in the words that heads write: pairs (word read, word written) kept, gained and lost per head.

1. Check that both tables are those of `itlens.ov_word_pairs`, of models of one shape, with the same words and settings.
2. A head WRITES o when it reads i where o is among the `top_k` output words of i and its score is above 0: what a head
only lowers less than other words is not written. 3. Compare the pairs of each head by the words' texts. A list of
`top_k` words has an edge: a pair that is lost may have fallen by one place.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from itlens.errors import ResultError
from itlens.findings.attention.diff_pairs import CHANGES, COUNTS, encode_words
from itlens.results.provenance import provenance

_PROBE = "ov_word_pairs"
_COLUMNS = ("layer", "head", "input", "rank", "output", "score")
_SAME = ("n_layers", "n_heads", "layers", "heads", "vocabulary", "top_k")
_KEPT_ATTRS = ("n_layers", "n_heads", "layers", "heads", "vocabulary", "vocabulary_name", "top_k", "inputs")


def written_changes(base: pd.DataFrame, tuned: pd.DataFrame) -> pd.DataFrame:
    """List every pair (input, output) that a head of either model writes, head by head: "kept", "gained" or "lost".

    base, tuned: the tables of `itlens.ov_word_pairs` of both models (or `itlens.load`). A pair is written when its
    output is among the `top_k` of its input, and its score is above 0. Columns: layer, head, change, rank, input,
    output (words), base_rank, tuned_rank (place of the output among those of its input; 0 where the model does not
    write the pair), base_score, tuned_score (logits, up to the scale of the norms; NaN where it does not). rank 1 is
    the first of its layer, head and change by the larger score of both models; rows are in that order.

    Raises ResultError when the tables are of something else, or of other words, heads or settings.
    """
    sides = {"base": base, "tuned": tuned}
    for name, table in sides.items():
        _check_table(table, name)
    _check_same(base.attrs, tuned.attrs)
    codes: dict[str, int] = {}
    read, output = (
        {name: encode_words(table[role], name, codes).astype(np.int64) for name, table in sides.items()}
        for role in ("input", "output")
    )
    if set(read["base"].tolist()) != set(read["tuned"].tolist()):
        raise ResultError("base and tuned have other input words: probe both models with the same `inputs`.")
    count, heads = max(len(codes), 1), int(base.attrs["n_heads"])
    written = {name: _written(table, read[name], output[name], count, heads) for name, table in sides.items()}
    pairs = np.union1d(written["base"].pairs, written["tuned"].pairs)
    on_sides: dict[str, np.ndarray] = {}
    for name, side in written.items():
        place = np.searchsorted(pairs, side.pairs)
        rank, score = np.zeros(pairs.size, dtype=np.int32), np.full(pairs.size, np.nan, dtype=np.float32)
        rank[place], score[place] = side.rank, side.score
        on_sides |= {f"{name}_rank": rank, f"{name}_score": score}
    change = np.where(on_sides["base_rank"] == 0, 1, np.where(on_sides["tuned_rank"] == 0, 2, 0))
    cell, pair = np.divmod(pairs, count * count)
    largest = np.fmax(on_sides["base_score"], on_sides["tuned_score"])
    order = np.lexsort((pairs, -largest, change, cell))
    group = (cell * len(CHANGES) + change)[order]
    first = np.flatnonzero(np.diff(group, prepend=-1))
    places = np.arange(1, pairs.size + 1) - np.repeat(first, np.diff(first, append=pairs.size))
    texts = pd.Index(list(codes), dtype=object)
    changes = pd.DataFrame(
        {
            "layer": (cell[order] // heads).astype(np.int16),
            "head": (cell[order] % heads).astype(np.int16),
            "change": pd.Categorical.from_codes(change[order], pd.Index(list(CHANGES), dtype=object)),
            "rank": places.astype(np.int32),
            "input": pd.Categorical.from_codes(pair[order] // count, texts),
            "output": pd.Categorical.from_codes(pair[order] % count, texts),
            **{name: on_sides[name][order] for name in ("base_rank", "tuned_rank", "base_score", "tuned_score")},
        }
    )
    models = {f"{name}_model": table.attrs.get("model", "") for name, table in sides.items()}
    settings = {name: base.attrs[name] for name in _KEPT_ATTRS if name in base.attrs}
    changes.attrs = provenance("diff.written_changes", **models) | settings
    return changes


class _Written(NamedTuple):
    """What one model writes, sorted by pair: (cell * words + input) * words + output, cell: layer * heads + head."""

    pairs: np.ndarray
    rank: np.ndarray
    score: np.ndarray


def _written(table: pd.DataFrame, read: np.ndarray, output: np.ndarray, words: int, heads: int) -> _Written:
    score = table["score"].to_numpy()
    cell = table["layer"].to_numpy(np.int64) * heads + table["head"].to_numpy(np.int64)
    pairs = (cell * words + read) * words + output
    rows = np.flatnonzero(score > 0)
    rows = rows[np.argsort(pairs[rows], kind="stable")]
    return _Written(pairs[rows], table["rank"].to_numpy()[rows], score[rows])


def written_heads(changes: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each head: how many of the pairs that it writes were kept, gained and lost.

    changes: of `itlens.diff.written_changes`. Columns: layer, head, base_pairs, tuned_pairs, kept, gained, lost,
    overlap (kept divided by the sum of all three; NaN for a head that writes nothing in either model). Every head that
    was probed has a row. Raises ResultError for another table.
    """
    missing = [name for name in ("layer", "head", "change") if name not in getattr(changes, "columns", ())]
    if missing or "layers" not in changes.attrs:
        raise ResultError("changes is no table of written words: give the result of itlens.diff.written_changes.")
    grid = pd.MultiIndex.from_product([sorted(changes.attrs[axis]) for axis in ("layers", "heads")])
    layer, head = (grid.get_level_values(level).to_numpy(np.int64) for level in (0, 1))
    every = int(changes.attrs["n_heads"])
    place = np.searchsorted(layer * every + head, changes["layer"].to_numpy(np.int64) * every + changes["head"])
    change = changes["change"].cat.codes.to_numpy()
    kept, gained, lost = (np.bincount(place[change == code], minlength=len(grid)) for code in range(len(CHANGES)))
    either = kept + gained + lost
    overlap = np.divide(kept, either, out=np.full(len(grid), np.nan), where=either > 0)
    counts = dict(zip(COUNTS, (kept + lost, kept + gained, kept, gained, lost), strict=True))
    table = pd.DataFrame({"layer": layer.astype(np.int16), "head": head.astype(np.int16), **counts, "overlap": overlap})
    table.attrs = {**changes.attrs, "probe": "diff.written_heads"}
    return table


def _check_table(table: pd.DataFrame, name: str) -> None:
    if not isinstance(table, pd.DataFrame):
        raise ResultError(f"{name} is a {type(table).__name__}: give the DataFrame that itlens.{_PROBE} returned.")
    if missing := [column for column in _COLUMNS if column not in table.columns]:
        raise ResultError(
            f"{name} is no table of written words (no column {', '.join(missing)}): give the DataFrame that "
            f"itlens.{_PROBE} returned, or one that itlens.load read."
        )
    if (probe := table.attrs.get("probe", "")) != _PROBE or any(key not in table.attrs for key in _SAME):
        raise ResultError(
            f"{name} is a result of {str(probe) or 'an unknown probe'} by its attrs, expected {_PROBE} and its "
            "settings: pandas drops attrs in some operations (concat, merge); set table.attrs from the original."
        )


def _check_same(base: Mapping[Hashable, object], tuned: Mapping[Hashable, object]) -> None:
    for key in _SAME:
        if base[key] != tuned[key]:
            raise ResultError(
                f"The tables differ in {key.replace('n_', 'number of ')}: base {base[key]}, tuned {tuned[key]}. Probe "
                "both models alike; heads can be compared only between a model and its own tuned version."
            )
