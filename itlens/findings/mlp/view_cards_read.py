"""What the cards of a layer show, read from the Datasets, and checked: words, shares, and the matches of the base."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from itlens.errors import ResultError

CALL = "views.concepts"
_FIRST = 8
_SETTINGS = ("vectors", "vocabulary", "top_k", "signed")


class Words(NamedTuple):
    """One list of words of a component, strongest first. pole: "" for a list without sign, else "+" or "-"."""

    pole: str
    words: list[str]
    scores: list[float]


class Concept(NamedTuple):
    """A component: its number, share of the variance, unit direction, and a list of words for each pole."""

    component: int
    explained: float
    direction: np.ndarray
    lists: list[Words]


def read_concept(ds: xr.Dataset, layer: int, component: int) -> Concept:
    """Return one component of one layer, by their numbers."""
    one = ds.sel(layer=layer, component=component)
    poles = [str(pole) for pole in one["pole"].values] if "pole" in one["word"].dims else [""]
    lists = []
    for place, pole in enumerate(poles):
        part = one.isel(pole=place) if pole else one
        words, scores = part["word"].values.tolist(), part["score"].values.astype(float).tolist()
        lists.append(Words(pole, [str(word) for word in words], scores))
    return Concept(component, float(one["explained"]), one["direction"].values.astype(float), lists)


def faced(base: Concept, tuned: Concept) -> Concept:
    """Return the base concept with its poles in the order in which they match the tuned one's."""
    reversed_ = float(base.direction @ tuned.direction) < 0
    return base._replace(lists=base.lists[::-1]) if reversed_ else base


def matched(
    tuned: xr.Dataset, base: xr.Dataset | None, match: xr.Dataset | None, layer: int, components: list[int]
) -> tuple[xr.Dataset, list[tuple[int, float]]]:
    """Return the checked base result, and the matched base component and |cosine| of each of `components`."""
    if base is None or match is None:
        got, need = ("base", "match") if match is None else ("match", "base")
        raise ResultError(
            f"{CALL} got {got} without {need}: components have no fixed order, so base is shown next to tuned only "
            "with match=itlens.diff.concepts(base, tuned)."
        )
    require_concepts(base, "base", layer)
    if differ := [n for n in _SETTINGS if base.attrs.get(n) != tuned.attrs.get(n)]:
        raise ResultError(
            f"{CALL} got results made with different {', '.join(differ)}: base {base.attrs.get(differ[0])}, tuned "
            f"{tuned.attrs.get(differ[0])}. Probe both models with the same settings."
        )
    if not isinstance(match, xr.Dataset) or any(name not in match for name in ("match", "match_cosine")):
        got = "a Dataset without match" if isinstance(match, xr.Dataset) else f"a {type(match).__name__}"
        raise ResultError(f"{CALL} got {got} as match: pass what itlens.diff.concepts returns.")
    refuse_unknown(match["layer"].values, "match", "layer", [layer])
    refuse_unknown(match["component"].values, "match", "component", components)
    rows = match[["match", "match_cosine"]].sel(layer=layer, component=components)
    pairs = [(int(one), float(cosine)) for one, cosine in zip(rows["match"], rows["match_cosine"], strict=True)]
    refuse_unknown(base["component"].values, "base", "component", [one for one, _ in pairs])
    return base, pairs


def require_concepts(ds: object, name: str, layer: int) -> None:
    """Raise ResultError for anything but concepts that hold this layer; `name` is the argument's."""
    dims, source = ("layer", "component", "rank"), "pass what itlens.mlp_concepts returns."
    if not isinstance(ds, xr.Dataset):
        raise ResultError(f"{CALL} got a {type(ds).__name__} as {name}: {source}")
    if missing := [n for n in ("word", "score", "explained", "direction", *dims) if n not in ds and n not in ds.dims]:
        raise ResultError(f"{CALL} needs {', '.join(missing)}, which {name} does not have: {source}")
    refuse_unknown(ds["layer"].values, name, "layer", [layer])


def chosen_components(ds: xr.Dataset, name: str, components: int | Iterable[int] | None) -> list[int]:
    """Return the numbers of the components requested: the first few by default. Raises ResultError."""
    if components is None:
        return [int(number) for number in ds["component"].values[:_FIRST]]
    listed = list(components) if isinstance(components, Iterable) else [components]
    if not listed:
        raise ResultError(f"{CALL} got no components: give at least one, or leave `components` out.")
    refuse_unknown(ds["component"].values, name, "component", listed)
    return [int(number) for number in listed]


def refuse_unknown(values: Iterable[int], name: str, axis: str, requested: Sequence[object]) -> None:
    """Raise ResultError where one of `requested` is not among the `values` that `name` has on `axis`."""
    known = sorted({int(value) for value in values})
    for value in requested:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value not in known:
            raise ResultError(f"{CALL} got {axis}={value!r}, and {name} has {axis}s {_listed(known)}.")


def _listed(values: list[int]) -> str:
    if len(values) > 1 and values == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}"
    return ", ".join(map(str, values)) or "none"


def whole_count(name: str, value: object, *, least: int) -> int:
    """Return `value` as an int. Raises ResultError for anything but a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ResultError(f"{CALL} got {name}={value!r}: expected a whole number of at least {least}.")
    return int(value)
