"""Places: what a finding knows of one head or one layer, as data; the page shows all findings' in one panel.

A finding's `places` returns `Place`s: numbers of the base and of the tuned model with their tests, words of either, a
text. `places_of_tables` is the default: it reads the tables that have a row for each layer or head, so that a finding
of another package is in the panels without a line of its own. Nothing here is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ItlensError

PlaceKind: TypeAlias = Literal["head", "layer"]
_AXES = ("layer", "head")
_ENDS = (("ci_low", "ci_high"), ("low", "high"))
_TESTS = ("p_bh", "p_holm", "p_paired", "p")  # the corrected one first


@dataclass(frozen=True)
class PlaceNumber:
    """A line of numbers: of the base and of the tuned model, and one of both. None and NaN: there is none.

    name: what it is, in words ("attention to the instruction"). value: tuned - base, or a number of both models (an
    overlap). low, high: the 95 % interval of `value`. p: after correction where there is one. unit: "nats", "%" or "".
    """

    name: str
    value: float | None = None
    base: float | None = None
    tuned: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class PlaceWords:
    """Words of one model at a place, or pairs of words, the strongest first.

    words: texts, or pairs (from, to). columns: a number of each, by heading. alone: whether each is in this model only.
    total: how many the model has, where these are the first of them. label: what the list is about, in words.
    """

    words: Sequence[str] | Sequence[tuple[str, str]]
    columns: Mapping[str, Sequence[float]] = field(default_factory=dict)
    alone: Sequence[bool] = ()
    total: int | None = None
    label: str = ""


@dataclass(frozen=True)
class Place:
    """What a finding knows of one head (layer and head, from 0), or of a layer (head None).

    what: a short heading ("Word pairs, query → key"). part: which of several with this heading (the number of a
    concept). numbers, text: below it. base, tuned: words of the two models, shown side by side and found by the search.
    shown_on: ids of prompts with a panel (`prompt_panels`) that shows this head, such as its attention pattern; the
    reader chooses the prompt. The panel is in the page once, with its prompt.
    """

    layer: int
    head: int | None = None
    what: str = ""
    part: str = ""
    numbers: Sequence[PlaceNumber] = ()
    base: PlaceWords | None = None
    tuned: PlaceWords | None = None
    text: str = ""
    shown_on: Sequence[str] = ()

    @property
    def kind(self) -> PlaceKind:
        """Whether it is of a head or of a whole layer."""
        return "layer" if self.head is None else "head"


def checked_places(places: Any) -> list[Place]:
    """Return what a finding's `places` returned, as a list.

    Raises ItlensError for anything that no panel can show: another type, a layer or head that is no whole number from
    0, and columns that are not as long as their words.
    """
    if not isinstance(places, Sequence) or isinstance(places, str):
        raise ItlensError(f"places returned a {type(places).__name__}; expected a list of itlens.Place.")
    for place in places:
        if not isinstance(place, Place):
            raise ItlensError(f"places returned a {type(place).__name__} in its list; expected an itlens.Place.")
        _check_axes(place)
        if isinstance(place.shown_on, str) or not all(isinstance(id, str) for id in place.shown_on):
            raise ItlensError(f"places returned a Place with shown_on={place.shown_on!r}; expected ids of prompts.")
        for side in (place.base, place.tuned):
            if side is not None:
                _check_words(side, place)
    return list(places)


def _check_axes(place: Place) -> None:
    for axis in _AXES:
        number = getattr(place, axis)
        whole = isinstance(number, (int, np.integer)) and not isinstance(number, bool) and 0 <= number < 65535
        if not whole and not (axis == "head" and number is None):
            raise ItlensError(f"places returned a Place with {axis}={number!r}; expected a whole number from 0.")


def _check_words(side: PlaceWords, place: Place) -> None:
    columns = {**side.columns, **({"alone": side.alone} if len(side.alone) else {})}
    for name, values in columns.items():
        if len(values) != len(side.words):
            raise ItlensError(
                f"places returned {len(side.words)} words and {len(values)} numbers {name!r} for {place.what!r}; "
                "expected a number for each word."
            )
    sizes = {1 if isinstance(word, str) else len(word) for word in side.words}
    if sizes - {1, 2} or len(sizes) > 1:
        raise ItlensError(f"places returned words of {place.what!r} that are neither all texts nor all pairs of texts.")


# ---- the default: tables with a row for each layer or head


def places_of_tables(tables: Mapping[str, Any]) -> list[Place]:
    """Return the numbers of every table that has one row for each layer, or for each layer and head.

    A DataFrame with a column layer (and head), each place once; of a Dataset, the variables on (layer) or (layer,
    head). Columns base, tuned and difference, with ci_low, ci_high and p where they are there, are one line of numbers;
    every other number is a line of its own. The heading is the table's name.
    """
    places = []
    for name, table in tables.items():
        if not name.startswith("_"):
            for rows in _frames(table):
                places += _places_of_rows(rows, name.replace("_", " "))
    return places


def _frames(table: object) -> list[pd.DataFrame]:
    """The rows of a table by layer and head, and those by layer."""
    if isinstance(table, xr.DataArray):
        table = table.to_dataset(name=str(table.name or "value"))
    if isinstance(table, pd.DataFrame):
        named = [axis for axis in _AXES if axis in table.columns]
        if "layer" not in named or table.duplicated(named).any():
            return []
        return [table]
    if not isinstance(table, xr.Dataset) or "layer" not in table.coords:
        return []
    frames = []
    for axes in (_AXES, _AXES[:1]):
        names = [name for name in table.data_vars if set(table[name].dims) == set(axes)]
        if names and set(axes) <= set(table.coords):
            frames.append(table[names].reset_coords(drop=True).to_dataframe().reset_index())
    return frames


def _places_of_rows(rows: pd.DataFrame, what: str) -> list[Place]:
    names = [str(name) for name in rows.columns if name not in _AXES and _is_numeric(rows[name])]
    if not names or not all(pd.api.types.is_integer_dtype(rows[axis]) for axis in _AXES if axis in rows.columns):
        return []
    columns = {name: rows[name].to_numpy(float) for name in names}
    heads = rows["head"].tolist() if "head" in rows.columns else [None] * len(rows)
    return [
        Place(int(layer), None if head is None else int(head), what, numbers=_lines(columns, row, what))
        for row, (layer, head) in enumerate(zip(rows["layer"], heads, strict=True))
    ]


def _is_numeric(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _lines(columns: Mapping[str, np.ndarray], row: int, what: str) -> list[PlaceNumber]:
    """The numbers of one row: base, tuned and their difference as one line, then the others."""
    at = {name: float(values[row]) for name, values in columns.items()}
    lines = []
    if {"base", "tuned"} <= set(at):
        low, high = next(((at.pop(low), at.pop(high)) for low, high in _ENDS if {low, high} <= set(at)), (None, None))
        p = next((at.pop(name) for name in _TESTS if name in at), None)
        lines.append(PlaceNumber(what, at.pop("difference", None), at.pop("base"), at.pop("tuned"), low, high, p))
    for name, value in at.items():
        if not any(name == f"{other}_{end}" for other in at for end in ("low", "high")):
            ends = at.get(f"{name}_low"), at.get(f"{name}_high")
            lines.append(PlaceNumber(name.replace("_", " "), value, low=ends[0], high=ends[1]))
    return lines
