"""What the finding knows of each head, for the panels of the page: its word pairs in both models, and its verbs.

Pairs are those of `itlens.diff.pair_changes`: of each model the strongest by relatedness times its own energy, the
order of `view_pairs`. All are listed where heads are few, else as many as a page has room for (of 270 heads 333 each);
whether a pair is in one model only is judged by all pairs of the head.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

from itlens.report.explorer_places import Place, PlaceNumber, PlaceWords

_FEWEST, _OF_PAGE = 100, 180_000  # pairs of a head and model at least, and of all heads and both models about
_WHAT = "Word pairs, query → key"
_COUNTS = {"kept": "pairs in both models", "gained": "pairs only in tuned", "lost": "pairs only in base"}


def head_places(ds: xr.Dataset, changes: pd.DataFrame, most: int | None = None) -> Iterator[Place]:
    """Yield two places for every head: its word pairs, and the instruction verbs in them.

    ds: of itlens.diff.word_pairs. changes: of itlens.diff.pair_changes. most: pairs of a head and model; default what
    a page has room for.
    """
    numbers = {str(name): ds[name].values for name in ds.data_vars if ds[name].dims == ("layer", "head")}
    cells = ds.sizes["layer"] * ds.sizes["head"]
    most = max(_FEWEST, _OF_PAGE // (2 * max(1, cells))) if most is None else most
    listed = {side: _strongest(changes, side, most) for side in ("base", "tuned")}
    for i, layer in enumerate(ds["layer"].values.tolist()):
        for j, head in enumerate(ds["head"].values.tolist()):
            cell = {name: float(values[i, j]) for name, values in numbers.items()}
            base, tuned = (
                listed[side].get((layer, head), PlaceWords((), total=int(cell[f"{side}_pairs"])))
                for side in ("base", "tuned")
            )
            yield Place(layer, head, _WHAT, numbers=_overlap(cell), base=base, tuned=tuned)
            yield Place(layer, head, "Instruction verbs in repeated word pairs", numbers=_verbs(cell))


def _overlap(cell: dict[str, float]) -> list[PlaceNumber]:
    return [
        PlaceNumber(
            "distinct pairs", cell["tuned_pairs"] - cell["base_pairs"], cell["base_pairs"], cell["tuned_pairs"]
        ),
        PlaceNumber("overlap (kept / all pairs)", cell["overlap"]),
        *(PlaceNumber(words, cell[name]) for name, words in _COUNTS.items()),
    ]


def _verbs(cell: dict[str, float]) -> list[PlaceNumber]:
    base, tuned = (100 * cell[f"{side}_instruction_share"] for side in ("base", "tuned"))
    return [
        PlaceNumber("share of the words in repeated pairs", tuned - base, base, tuned, unit="%"),
        PlaceNumber(
            "change of their count (p: Benjamini-Hochberg)", cell["instruction_change"], p=cell["instruction_p_bh"]
        ),
        PlaceNumber(
            "change of random verb sets (95 % of draws)", cell["instruction_expected"],
            low=cell["instruction_low"], high=cell["instruction_high"],
        ),
        PlaceNumber("effect, in standard deviations of random sets", cell["instruction_effect"]),
    ]  # fmt: skip


def _strongest(changes: pd.DataFrame, side: str, most: int) -> dict[tuple[int, int], PlaceWords]:
    """The strongest pairs of each head in one model, by (layer, head)."""
    dims = changes[f"{side}_dims"].to_numpy()
    rows = np.flatnonzero(dims > 0)
    if not rows.size:
        return {}
    layer, head = (changes[axis].to_numpy(np.int64)[rows] for axis in ("layer", "head"))
    related = changes["relatedness"].to_numpy(float)[rows]
    weight = related * np.abs(changes[f"{side}_energy"].to_numpy(float)[rows])
    cell = layer * (head.max() + 1) + head
    order = np.lexsort((-weight, cell))  # stable: equal weights stay in the table's order
    starts = np.flatnonzero(np.r_[True, np.diff(cell[order]) > 0])
    ends = np.r_[starts[1:], order.size]
    of_role = [changes[role].cat for role in _ROLES]
    words = [(role.categories.to_numpy(object), role.codes.to_numpy()) for role in of_role]
    alone = (changes["change"] == _ALONE[side]).to_numpy()
    listed = {}
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        first = order[start : min(end, start + most)]
        at = rows[first]
        query, key = (texts[codes[at]].tolist() for texts, codes in words)
        listed[int(layer[first[0]]), int(head[first[0]])] = PlaceWords(
            list(zip(query, key, strict=True)),
            {"related": related[first].tolist(), "dims": dims[at].tolist()},
            alone[at].tolist(),
            end - start,
        )
    return listed


_ROLES = ("query", "key")
_ALONE = {"base": "lost", "tuned": "gained"}
