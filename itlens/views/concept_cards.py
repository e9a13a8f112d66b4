"""The concepts of one feed-forward layer as cards to read: a component's share and its words by weight (`concepts`).

With the base model beside it, each card also shows the base component that itlens.diff.concepts matched, and marks the
words that both lists hold. Common words are judged by all words of both, also by those below the ones that are shown. A
component has no sign of its own: where the matched one points the other way, its two poles are shown in reverse order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.provenance import short_name
from itlens.views import page, text
from itlens.views.card_labels import Labels, label, read_labels, refuse_strangers
from itlens.views.concept_read import CALL, Concept, Words, faced, matched, read_concept, require, whole_number
from itlens.views.concept_read import components as chosen
from itlens.views.numbers import number, percent, whole

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


class _Look(NamedTuple):
    """What all cards share: the score that fills a bar, how many words are shown, and the labels of each model."""

    full: float
    top: int
    labels: Mapping[str, Labels | None]


def concepts(
    concepts: xr.Dataset,
    *,
    layer: int,
    components: int | Iterable[int] | None = None,
    base: xr.Dataset | None = None,
    match: xr.Dataset | None = None,
    labels: pd.DataFrame | None = None,
    base_labels: pd.DataFrame | None = None,
    top: int = 15,
) -> ConceptCards:
    """A card per component of one layer: its share of the variance, and its `top` words with bars for their weights.

    concepts: of itlens.mlp_concepts; both poles are shown when it was made with signed=True. components: numbers;
    default the first 8. Bars are |cosine| of the component and the word, from 0, and of one scale in all cards. base:
    the base model's Dataset, with match=itlens.diff.concepts(base, concepts): each card then has the matched base
    component on its left, with |cosine| of the two, and words that both lists hold are bold and underlined. labels,
    base_labels: of itlens.annotate_concepts, of `concepts` and of `base`: each list then has its description, level and
    tasks above it, "cannot tell", or "not labelled"; with several seeds, what at least half of them say.
    Raises ResultError for other Datasets and tables, for results made with different settings, for labels of other
    words, for one of base and match without the other, and for layers and components that were not probed.
    """
    require(concepts, "concepts", layer)
    top = whole_number("top", top, least=1)
    asked = chosen(concepts, "concepts", components)
    names = [short_name(str(ds.attrs.get("model", ""))) for ds in (base, concepts) if ds is not None]
    tuned = [read_concept(concepts, layer, component) for component in asked]
    said = _labelled(labels, concepts, tuned, "labels", layer)
    title = f"Layer {layer}: concepts"
    if base is None and match is None:
        if base_labels is not None:
            raise ResultError(f"{CALL} got base_labels without base: give base and match as well.")
        look = _Look(_largest(tuned, top), top, {"": said})
        cards = [_card(one, _percent(one), _side(one, "", "", [], look)) for one in tuned]
        return ConceptCards(
            f"{title}{f' of {names[0]}' if names[0] else ''}", _cards(cards, concepts, look, paired=False)
        )
    base, pairs = matched(concepts, base, match, layer, asked)
    found = [read_concept(base, layer, component) for component, _ in pairs]
    look = _Look(
        _largest([*found, *tuned], top),
        top,
        {"base": _labelled(base_labels, base, found, "base_labels", layer), "tuned": said},
    )
    cards = [
        _pair(faced(one, other), other, cosine, names, look)
        for one, other, (_, cosine) in zip(found, tuned, pairs, strict=True)
    ]
    return ConceptCards(f"{title}, base and tuned", _cards(cards, concepts, look, paired=True))


def _labelled(table: Any, ds: xr.Dataset, shown: list[Concept], name: str, layer: int) -> Labels | None:
    if table is None:
        return None
    found = read_labels(table, ds, name, layer)
    refuse_strangers(found, shown, name)
    return found


def _cards(found: Sequence[str], ds: xr.Dataset, look: _Look, *, paired: bool) -> str:
    side, signed = str(ds.attrs.get("side", "")), "pole" in ds["word"].dims
    said = (
        f"per cent: share of the variance of the layer's {text.html(side)} vectors; "
        f"bars: {'cosine' if signed else '|cosine|'} of component and word, full width = {number(look.full, 2)}"
    )
    said += "; bold and underlined: among all words of both lists" if paired else ""
    said += "; a base component that points the other way has its poles swapped" if paired and signed else ""
    wide = ("", " wide", " wider")[signed + paired]
    cards = f'<div class="cards{wide}">{"".join(found)}</div>'
    return f'<div class="itlens-concepts"><p class="key">{said}</p>{cards}</div>'


def _card(one: Concept, about: str, body: str) -> str:
    return f'<article><h4>Component {one.component}</h4><p class="about">{about}</p>{body}</article>'


def _pair(base: Concept, tuned: Concept, cosine: float, names: list[str], look: _Look) -> str:
    common = [set(a.words) & set(b.words) for a, b in zip(base.lists, tuned.lists, strict=True)]
    found, listed = sum(map(len, common)), sum(len(part.words) for part in tuned.lists)
    about = (
        f"beside base component {base.component}, |cosine| {number(cosine, 2)} · "
        f"{whole(found)} of {whole(listed)} words in both"
    )
    panels = "".join(
        _side(one, role, name, common, look)
        for one, role, name in ((base, "base", names[0]), (tuned, "tuned", names[1]))
    )
    return _card(tuned, about, f'<div class="sides">{panels}</div>')


def _side(one: Concept, role: str, name: str, common: list[set[str]], look: _Look) -> str:
    """One model's words, in one list or in two poles; `common` are the words to mark, a set for each list."""
    sets = common or [set()] * len(one.lists)
    said = look.labels[role]
    lists = "".join(
        _list(words, label(said, one.component, words), marked, look)
        for words, marked in zip(one.lists, sets, strict=True)
    )
    body = f'<div class="poles">{lists}</div>' if len(one.lists) > 1 else lists
    if not role:
        return body
    heading = f"{role}: {name}" if name not in ("", role) else role
    return (
        f'<section class="{role}"><p class="side">{text.html(heading)}</p><p class="about">component {one.component} · '
        f"{_percent(one)}</p>{body}</section>"
    )


def _list(one: Words, said: str, marked: set[str], look: _Look) -> str:
    rows = "".join(
        _word(word, score, look.full, word in marked)
        for word, score in zip(one.words[: look.top], one.scores[: look.top], strict=True)
    )
    pole = f'<p class="pole">pole {text.html(_SIGNS.get(one.pole, one.pole))}</p>' if one.pole else ""
    return f"<div>{pole}{said}<ol>{rows}</ol></div>"


def _word(word: str, score: float, full: float, common: bool) -> str:
    # a pole that only few words point at can end in words that point away from it: no bar, and the number says so
    width = 100 * max(score, 0.0) / full if full > 0 else 0.0
    shown = f"<bdi>{text.html(word)}</bdi>"
    shown = f'<b title="in both lists">{shown}</b>' if common else shown
    return f'<li style="--w:{width:.1f}%"><span class="w">{shown}</span><span class="n">{number(score, 2)}</span></li>'


def _percent(one: Concept) -> str:
    return f"{percent(one.explained, 2)} %"


def _largest(found: Iterable[Concept], top: int) -> float:
    return max((score for one in found for part in one.lists for score in part.scores[:top]), default=0.0)
