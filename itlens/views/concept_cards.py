"""The concepts of one feed-forward layer as cards to read: a component's share and its words by weight (`concepts`).

With the base model beside it, each card also shows the base component that itlens.diff.concepts matched, and marks the
words that both lists hold. Common words are judged by all words of both, also by those below the ones that are shown. A
component has no sign of its own: where the matched one points the other way, its two poles are shown in reverse order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from itlens.errors import ResultError
from itlens.provenance import short_name
from itlens.views import page, text
from itlens.views.numbers import number, percent, whole

_CALL = "views.concepts"
_FIRST = 8
_SETTINGS = ("side", "vocabulary", "top_k", "signed")
_SIGNS = {"-": "−"}


@dataclass(frozen=True)
class ConceptCards:
    """The concepts of one layer. Jupyter and VS Code display it; `.html` is a small page of its own for a file."""

    title: str
    panels: str

    def _repr_html_(self) -> str:
        return f"<style>{page.asset('concepts.css')}</style>{self.panels}"

    @property
    def html(self) -> str:
        """A complete offline page without any script."""
        body = f'<main><h1>{text.html(self.title)}</h1><section class="card">{self.panels}</section></main>'
        return page.page(self.title, body, styles=("page.css", "concepts.css"), scripts=())

    def __str__(self) -> str:
        return self.html


class _Words(NamedTuple):
    """One list of words of a component, strongest first. pole: "" for a list without sign, else "+" or "-"."""

    pole: str
    words: list[str]
    scores: list[float]


class _Concept(NamedTuple):
    component: int
    explained: float
    direction: np.ndarray
    lists: list[_Words]


def concepts(
    concepts: xr.Dataset,
    *,
    layer: int,
    components: int | Iterable[int] | None = None,
    base: xr.Dataset | None = None,
    match: xr.Dataset | None = None,
    top: int = 15,
) -> ConceptCards:
    """A card per component of one layer: its share of the variance, and its `top` words with bars for their weights.

    concepts: of itlens.mlp_concepts; both poles are shown when it was made with signed=True. components: numbers;
    default the first 8. Bars are |cosine| of the component and the word, from 0, and of one scale in all cards. base:
    the base model's Dataset, with match=itlens.diff.concepts(base, concepts): each card then has the matched base
    component on its left, with |cosine| of the two, and words that both lists hold are bold and underlined.
    Raises ResultError for other Datasets, for results made with different settings, for one of base and match without
    the other, and for layers and components that were not probed.
    """
    _require(concepts, "concepts", layer)
    top = _whole("top", top, least=1)
    asked = _components(concepts, "concepts", components)
    names = [short_name(str(ds.attrs.get("model", ""))) for ds in (base, concepts) if ds is not None]
    tuned = [_read(concepts, layer, component) for component in asked]
    title = f"Layer {layer}: concepts"
    if base is None and match is None:
        full = _largest(tuned, top)
        cards = [_card(one, _percent(one), _side(one, "", "", [], full, top)) for one in tuned]
        return ConceptCards(
            f"{title}{f' of {names[0]}' if names[0] else ''}", _cards(cards, concepts, full, paired=False)
        )
    base, matched = _matched(concepts, base, match, layer, asked)
    sides = [
        (_faced(_read(base, layer, component), one), one) for one, (component, _) in zip(tuned, matched, strict=True)
    ]
    full = _largest([one for pair in sides for one in pair], top)
    cards = [_pair(*pair, cosine, names, full, top) for pair, (_, cosine) in zip(sides, matched, strict=True)]
    return ConceptCards(f"{title}, base and tuned", _cards(cards, concepts, full, paired=True))


def _cards(found: Sequence[str], ds: xr.Dataset, full: float, *, paired: bool) -> str:
    side, signed = str(ds.attrs.get("side", "")), "pole" in ds["word"].dims
    said = (
        f"per cent: share of the variance of the layer's {text.html(side)} vectors; "
        f"bars: {'cosine' if signed else '|cosine|'} of component and word, full width = {number(full, 2)}"
    )
    said += "; bold and underlined: among all words of both lists" if paired else ""
    said += "; a base component that points the other way has its poles swapped" if paired and signed else ""
    wide = ("", " wide", " wider")[signed + paired]
    cards = f'<div class="cards{wide}">{"".join(found)}</div>'
    return f'<div class="itlens-concepts"><p class="key">{said}</p>{cards}</div>'


def _card(one: _Concept, about: str, body: str) -> str:
    return f'<article><h4>Component {one.component}</h4><p class="about">{about}</p>{body}</article>'


def _pair(base: _Concept, tuned: _Concept, cosine: float, names: list[str], full: float, top: int) -> str:
    common = [set(a.words) & set(b.words) for a, b in zip(base.lists, tuned.lists, strict=True)]
    found, listed = sum(map(len, common)), sum(len(part.words) for part in tuned.lists)
    about = (
        f"beside base component {base.component}, |cosine| {number(cosine, 2)} · "
        f"{whole(found)} of {whole(listed)} words in both"
    )
    panels = "".join(
        _side(one, role, name, common, full, top)
        for one, role, name in ((base, "base", names[0]), (tuned, "tuned", names[1]))
    )
    return _card(tuned, about, f'<div class="sides">{panels}</div>')


def _side(one: _Concept, role: str, name: str, common: list[set[str]], full: float, top: int) -> str:
    """One model's words, in one list or in two poles; `common` are the words to mark, a set for each list."""
    sets = common or [set()] * len(one.lists)
    lists = "".join(_list(words, marked, full, top) for words, marked in zip(one.lists, sets, strict=True))
    body = f'<div class="poles">{lists}</div>' if len(one.lists) > 1 else lists
    if not role:
        return body
    heading = f"{role}: {name}" if name not in ("", role) else role
    return (
        f'<section class="{role}"><p class="side">{text.html(heading)}</p><p class="about">component {one.component} · '
        f"{_percent(one)}</p>{body}</section>"
    )


def _list(one: _Words, marked: set[str], full: float, top: int) -> str:
    rows = "".join(
        _word(word, score, full, word in marked) for word, score in zip(one.words[:top], one.scores[:top], strict=True)
    )
    pole = f'<p class="pole">pole {text.html(_SIGNS.get(one.pole, one.pole))}</p>' if one.pole else ""
    return f"<div>{pole}<ol>{rows}</ol></div>"


def _word(word: str, score: float, full: float, common: bool) -> str:
    # a pole that only few words point at can end in words that point away from it: no bar, and the number says so
    width = 100 * max(score, 0.0) / full if full > 0 else 0.0
    shown = f"<bdi>{text.html(word)}</bdi>"
    shown = f'<b title="in both lists">{shown}</b>' if common else shown
    return f'<li style="--w:{width:.1f}%"><span class="w">{shown}</span><span class="n">{number(score, 2)}</span></li>'


def _percent(one: _Concept) -> str:
    return f"{percent(one.explained, 2)} %"


def _largest(found: Iterable[_Concept], top: int) -> float:
    return max((score for one in found for part in one.lists for score in part.scores[:top]), default=0.0)


def _read(ds: xr.Dataset, layer: int, component: int) -> _Concept:
    one = ds.sel(layer=layer, component=component)
    poles = [str(pole) for pole in one["pole"].values] if "pole" in one["word"].dims else [""]
    lists = []
    for place, pole in enumerate(poles):
        part = one.isel(pole=place) if pole else one
        words, scores = part["word"].values.tolist(), part["score"].values.astype(float).tolist()
        lists.append(_Words(pole, [str(word) for word in words], scores))
    return _Concept(component, float(one["explained"]), one["direction"].values.astype(float), lists)


def _faced(base: _Concept, tuned: _Concept) -> _Concept:
    """The base concept with its poles in the order in which they match the tuned one's."""
    turned = float(base.direction @ tuned.direction) < 0
    return base._replace(lists=base.lists[::-1]) if turned else base


def _matched(
    tuned: xr.Dataset, base: xr.Dataset | None, match: xr.Dataset | None, layer: int, asked: list[int]
) -> tuple[xr.Dataset, list[tuple[int, float]]]:
    """The checked base result, and the matched base component and |cosine| of each of `asked`."""
    if base is None or match is None:
        got, need = ("base", "match") if match is None else ("match", "base")
        raise ResultError(
            f"{_CALL} got {got} without {need}: components have no fixed order, so base is shown beside tuned only "
            "with match=itlens.diff.concepts(base, tuned)."
        )
    _require(base, "base", layer)
    if differ := [n for n in _SETTINGS if base.attrs.get(n) != tuned.attrs.get(n)]:
        raise ResultError(
            f"{_CALL} got results made with different {', '.join(differ)}: base {base.attrs.get(differ[0])}, tuned "
            f"{tuned.attrs.get(differ[0])}. Probe both models with the same settings."
        )
    if not isinstance(match, xr.Dataset) or any(name not in match for name in ("match", "match_cosine")):
        got = "a Dataset without match" if isinstance(match, xr.Dataset) else f"a {type(match).__name__}"
        raise ResultError(f"{_CALL} got {got} as match: pass what itlens.diff.concepts returns.")
    _refuse_unknown(match, "match", "layer", [layer])
    _refuse_unknown(match, "match", "component", asked)
    rows = match[["match", "match_cosine"]].sel(layer=layer, component=asked)
    pairs = [(int(one), float(cosine)) for one, cosine in zip(rows["match"], rows["match_cosine"], strict=True)]
    _refuse_unknown(base, "base", "component", [one for one, _ in pairs])
    return base, pairs


def _require(ds: Any, name: str, layer: int) -> None:
    dims, source = ("layer", "component", "rank"), "pass what itlens.mlp_concepts returns."
    if not isinstance(ds, xr.Dataset):
        raise ResultError(f"{_CALL} got a {type(ds).__name__} as {name}: {source}")
    if missing := [n for n in ("word", "score", "explained", "direction", *dims) if n not in ds and n not in ds.dims]:
        raise ResultError(f"{_CALL} needs {', '.join(missing)}, which {name} does not have: {source}")
    _refuse_unknown(ds, name, "layer", [layer])


def _components(ds: xr.Dataset, name: str, asked: int | Iterable[int] | None) -> list[int]:
    if asked is None:
        return [int(number) for number in ds["component"].values[:_FIRST]]
    listed = list(asked) if isinstance(asked, Iterable) else [asked]
    if not listed:
        raise ResultError(f"{_CALL} got no components: give at least one, or leave `components` out.")
    _refuse_unknown(ds, name, "component", listed)
    return [int(number) for number in listed]


def _refuse_unknown(ds: xr.Dataset, name: str, axis: str, asked: Sequence[Any]) -> None:
    known = sorted(int(value) for value in ds[axis].values)
    for value in asked:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value not in known:
            raise ResultError(f"{_CALL} got {axis}={value!r}, and {name} has {axis}s {_listed(known)}.")


def _listed(values: list[int]) -> str:
    if len(values) > 1 and values == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}"
    return ", ".join(map(str, values)) or "none"


def _whole(name: str, value: Any, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ResultError(f"{_CALL} got {name}={value!r}: expected a whole number of at least {least}.")
    return int(value)
