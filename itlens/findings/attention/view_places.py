"""What the finding knows of each head, for the panels of the page: its word pairs and what it writes in both models,
and its verbs.

Pairs are those of `itlens.diff.pair_changes`: of each model the strongest by relatedness times its own energy, the
order of `view_pairs`. As many are listed as a page has room for (450 of a head, of 270 heads 333 each); whether a pair
is in one model only is judged by all pairs of the head. Of what a head writes, the pairs of the highest score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import xarray as xr

from itlens.report.explorer_places import Place, PlaceNumber, PlaceWords

# pairs of a head and model at least and at most, and of all heads and both models about
_FEWEST, _MOST, _OF_PAGE = 100, 450, 180_000
_FEWEST_WRITTEN, _MOST_WRITTEN, _OF_PAGE_WRITTEN = 20, 200, 40_000
_WHAT = "Word pairs, query → key"
_WRITES = "What it writes, read → written"
_SIDES = ("base", "tuned")
_ALONE = {"base": "lost", "tuned": "gained"}
_COUNTS = {"kept": "pairs in both models", "gained": "pairs only in tuned", "lost": "pairs only in base"}


def head_places(
    ds: xr.Dataset,
    changes: pd.DataFrame,
    written: pd.DataFrame | None = None,
    written_heads: pd.DataFrame | None = None,
    *,
    most: int | None = None,
) -> Iterator[Place]:
    """Yield the places of every head: its word pairs, what it writes, and the instruction verbs in its pairs.

    ds: of itlens.diff.word_pairs. changes: of itlens.diff.pair_changes. written, written_heads: of
    itlens.diff.written_changes and written_heads; None: no place for what heads write. most: pairs of a head and model;
    default what a page has room for.
    """
    numbers = {str(name): ds[name].values for name in ds.data_vars if ds[name].dims == ("layer", "head")}
    cells = ds.sizes["layer"] * ds.sizes["head"]
    listed = {side: _related(changes, side, most or _room(_FEWEST, _MOST, _OF_PAGE, cells)) for side in _SIDES}
    writing = None if written is None or written_heads is None else _Writing(written, written_heads, cells, most)
    for i, layer in enumerate(ds["layer"].values.tolist()):
        for j, head in enumerate(ds["head"].values.tolist()):
            cell = {name: float(values[i, j]) for name, values in numbers.items()}
            base, tuned = (
                listed[side].get((layer, head), PlaceWords((), total=int(cell[f"{side}_pairs"]))) for side in _SIDES
            )
            yield Place(layer, head, _WHAT, numbers=_overlap(cell), base=base, tuned=tuned)
            if writing is not None:
                yield writing.place(layer, head)
            yield Place(layer, head, "Instruction verbs in repeated word pairs", numbers=_verbs(cell))


def _room(fewest: int, most: int, of_page: int, cells: int) -> int:
    return min(most, max(fewest, of_page // (2 * max(1, cells))))


class _Writing:
    """What every head writes, in both models."""

    def __init__(self, written: pd.DataFrame, by_head: pd.DataFrame, cells: int, most: int | None) -> None:
        most = most or _room(_FEWEST_WRITTEN, _MOST_WRITTEN, _OF_PAGE_WRITTEN, cells)
        self._listed = {}
        for side in _SIDES:
            score = written[f"{side}_score"].to_numpy(float)
            rows = np.flatnonzero(written[f"{side}_rank"].to_numpy() > 0)
            self._listed[side] = _strongest(written, side, rows, score, ("input", "output"), {"score": score}, most)
        counts = by_head.to_dict("records")
        self._counts = {(int(row["layer"]), int(row["head"])): row for row in counts}
        self._about = (
            f"Of {written.attrs['inputs']} words (the most frequent ones and the instruction verbs), the "
            f"{written.attrs['top_k']} words that the head raises most when it reads one; score: of the written "
            "word, in logits up to the scale of the norms."
        )

    def place(self, layer: int, head: int) -> Place:
        base, tuned = (self._listed[side].get((layer, head), PlaceWords((), total=0)) for side in _SIDES)
        numbers = _overlap({str(name): float(value) for name, value in self._counts[layer, head].items()})
        return Place(layer, head, _WRITES, numbers=numbers, base=base, tuned=tuned, text=self._about)


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


def _related(changes: pd.DataFrame, side: str, most: int) -> dict[tuple[int, int], PlaceWords]:
    """The strongest word pairs of each head in one model, by (layer, head)."""
    dims, related = changes[f"{side}_dims"].to_numpy(), changes["relatedness"].to_numpy(float)
    weight = related * np.abs(changes[f"{side}_energy"].to_numpy(float))
    columns = {"related": related, "dims": dims}
    return _strongest(changes, side, np.flatnonzero(dims > 0), weight, ("query", "key"), columns, most)


def _strongest(
    changes: pd.DataFrame,
    side: str,
    rows: np.ndarray,
    weight: np.ndarray,
    roles: tuple[str, str],
    columns: Mapping[str, np.ndarray],
    most: int,
) -> dict[tuple[int, int], PlaceWords]:
    """Of these rows (the pairs of one model), those of the largest weight of each head, by (layer, head)."""
    if not rows.size:
        return {}
    layer, head = (changes[axis].to_numpy(np.int64)[rows] for axis in ("layer", "head"))
    cell = layer * (head.max() + 1) + head
    order = np.lexsort((-weight[rows], cell))  # stable: equal weights stay in the table's order
    starts = np.flatnonzero(np.r_[True, np.diff(cell[order]) > 0])
    ends = np.r_[starts[1:], order.size]
    of_role = [changes[role].cat for role in roles]
    words = [(role.categories.to_numpy(object), role.codes.to_numpy()) for role in of_role]
    alone = (changes["change"] == _ALONE[side]).to_numpy()
    listed = {}
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        first = order[start : min(end, start + most)]
        at = rows[first]
        one, other = (texts[codes[at]].tolist() for texts, codes in words)
        listed[int(layer[first[0]]), int(head[first[0]])] = PlaceWords(
            list(zip(one, other, strict=True)),
            {heading: values[at].tolist() for heading, values in columns.items()},
            alone[at].tolist(),
            end - start,
        )
    return listed
