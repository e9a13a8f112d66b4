"""The word pairs of one head, base next to tuned, with what is new and what is gone marked (`word_pairs`).

A pair counts once however many of the head's dimensions hold it. Pairs are in the order of relatedness times the size
of their energy (query activation times key activation, summed over those dimensions), the pair's share of what the head
relates; itlens.diff.pair_changes ranks by the same measure. New and gone are judged by all pairs of the head, also by
those below the rows that are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from itlens.errors import ResultError
from itlens.report.blocks import FoldablePanel
from itlens.report.head_grid import head_name
from itlens.report.numbers import number, whole
from itlens.report.theme import require
from itlens.results.provenance import model_label

COLUMNS = ("layer", "head", "dim", "query", "key", "relatedness", "query_activation", "key_activation")
_SETTINGS = ("vocabulary", "vectors", "top_k", "deviations", "baseline", "signed")
_MARKS = {"new": "only in tuned", "gone": "only in base"}


@dataclass(frozen=True)
class PairRow:
    """One pair as text. place: from 1. related: the cosine of the words' vectors. dims: that hold the pair.

    mark: "new", "gone" or "".
    """

    place: int
    query: str
    key: str
    related: str
    dims: str
    mark: str


@dataclass(frozen=True)
class PairSide:
    """One model's pairs. role: "base", "tuned", or "one" without another model beside it. counts: a line, in parts."""

    role: str
    heading: str
    counts: tuple[str, ...]
    rows: tuple[PairRow, ...]


@dataclass(frozen=True, repr=False)
class PairTable(FoldablePanel):
    """The pairs of one head. Jupyter and VS Code display it; `.html` is a small page of its own for a file."""

    template: ClassVar[str] = "word_table.html"
    styles: ClassVar[tuple[str, ...]] = ("pairs.css",)

    sides: tuple[PairSide, ...]


def word_pair_panel(
    base: pd.DataFrame, tuned: pd.DataFrame | None = None, *, layer: int, head: int, top: int = 30
) -> PairTable:
    """Show the first `top` word pairs of head `head` of layer `layer`, of one model or of base and tuned side by side.

    base, tuned: DataFrames of itlens.qk_word_pairs. Each pair has its relatedness (cosine of the two words'
    vectors) and the number of the head's dimensions that hold it. With two tables, what only the tuned model has is
    bold and called new; what only the base model has is struck out and called gone.
    Raises ResultError for other tables, for tables made with different vocabularies, vectors or settings, and for a
    head that was not probed.
    """
    names = tuple(model_label(getattr(table, "attrs", {})) for table in (base, tuned))
    return pair_panel(base, tuned, layer=layer, head=head, top=top, names=names, call="views.word_pairs")


def pair_panel(
    base: pd.DataFrame,
    tuned: pd.DataFrame | None,
    *,
    layer: int,
    head: int,
    top: int,
    names: Sequence[str],
    call: str = "views.report",
) -> PairTable:
    """Return `word_pairs` with the models called by `names`."""
    _check(base, tuned, layer, head, call)
    sides = [listed_pairs(table, layer, head) for table in (base, tuned) if table is not None]
    title = f"{head_name(layer, head)}: word pairs"
    if tuned is None:
        return PairTable(title, (_side(sides[0], names[0], "", set(), "", top),))
    have = [set(zip(side["query"], side["key"], strict=True)) for side in sides]
    both = (
        _side(sides[0], names[0], "base", have[1], "gone", top),
        _side(sides[1], names[1], "tuned", have[0], "new", top),
    )
    return PairTable(f"{title}, base and tuned", both)


def listed_pairs(table: pd.DataFrame, layer: int, head: int) -> pd.DataFrame:
    """Return one row per ordered pair of a head: query, key, relatedness, dims, energy; the strongest first."""
    rows = table.loc[(table["layer"] == layer) & (table["head"] == head), list(COLUMNS)]
    rows = rows.assign(
        query=rows["query"].astype(object),
        key=rows["key"].astype(object),
        energy=rows["query_activation"].astype(float) * rows["key_activation"].astype(float),
    )
    pairs = rows.groupby(["query", "key"], sort=False, as_index=False).agg(
        relatedness=("relatedness", "first"), dims=("dim", "nunique"), energy=("energy", "sum")
    )
    pairs["weight"] = pairs["relatedness"].astype(float) * pairs["energy"].abs()
    pairs = pairs.sort_values(["weight", "query", "key"], ascending=[False, True, True], kind="stable")
    return pairs.drop(columns="weight").reset_index(drop=True)


def _side(pairs: pd.DataFrame, name: str, role: str, others: set[tuple[str, str]], mark: str, top: int) -> PairSide:
    """Return one model's column; pairs that are not among `others` carry `mark` ("" marks none)."""
    heading = f"{role}: {name}" if role and name not in ("", role) else name or role or "word pairs"
    marked = sum(pair not in others for pair in zip(pairs["query"], pairs["key"], strict=True)) if mark else 0
    counts = [f"{whole(len(pairs))} pair{'' if len(pairs) == 1 else 's'}"]
    counts += [f"{whole(marked)} {mark} ({_MARKS[mark]})"] if mark else []
    counts += [f"the first {whole(top)} shown"] if len(pairs) > top else []
    rows = tuple(
        PairRow(
            place, str(row.query), str(row.key), number(row.relatedness, 2), whole(row.dims),
            mark if mark and (row.query, row.key) not in others else "",
        )
        for place, row in enumerate(pairs.head(top).itertuples(), start=1)
    )  # fmt: skip
    return PairSide(role or "one", heading, tuple(counts), rows)


def _check(base: pd.DataFrame, tuned: pd.DataFrame | None, layer: int, head: int, call: str) -> None:
    tables = {"base": base} | ({"tuned": tuned} if tuned is not None else {})
    for name, table in tables.items():
        require(table, COLUMNS, call, "the DataFrame of itlens.qk_word_pairs")
        for axis, asked in (("layer", layer), ("head", head)):
            if asked not in (probed := _grid(table, axis)):
                raise ResultError(f"{call} got {axis}={asked!r}, and the {name} table has {axis}s {_range(probed)}.")
    if tuned is not None:
        one, two = base.attrs, tuned.attrs
        if differ := [n for n in _SETTINGS if n in one and n in two and one[n] != two[n]]:
            raise ResultError(
                f"{call} got tables made with different {', '.join(differ)}: base {one[differ[0]]}, tuned "
                f"{two[differ[0]]}. Probe both models with the same settings."
            )


def _grid(table: pd.DataFrame, axis: str) -> list[int]:
    """The layers or heads that were probed: those of the attributes, for a head without any pair has no row."""
    known = table.attrs.get(f"{axis}s")
    return sorted(int(value) for value in (table[axis].unique() if known is None else known))


def _range(values: list[int]) -> str:
    if values and values == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}" if len(values) > 1 else f"{values[0]} only"
    return ", ".join(map(str, values)) or "none"
