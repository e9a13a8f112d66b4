"""The concepts of one feed-forward layer as cards to read: a component's share and its words by weight (`concepts`).

With the base model next to it, each card also shows the base component that itlens.diff.concepts matched, and marks the
words that both lists hold. Common words are judged by all words of both, also by those below the ones that are shown. A
component has no sign of its own: where the matched one points the other way, its two poles are shown in reverse order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.mlp.view_cards_read import (
    CALL,
    CardLabel,
    Concept,
    Labels,
    Words,
    card_label,
    chosen_components,
    faced,
    matched,
    read_concept,
    read_labels,
    refuse_strangers,
    require_concepts,
    whole_count,
)
from itlens.report.blocks import FoldablePanel
from itlens.report.numbers import number, percent, whole
from itlens.results.provenance import model_label

_SIGNS = {"-": "−"}


@dataclass(frozen=True)
class WordBar:
    """A word with its score as text. width: of its bar, in per cent. common: both lists hold it."""

    text: str
    score: str
    width: float
    common: bool


@dataclass(frozen=True)
class WordList:
    """One list of words of a component. pole: "", "+" or "−". label: what a labeller said; None: no labels given."""

    pole: str
    label: CardLabel | None
    words: tuple[WordBar, ...]


@dataclass(frozen=True)
class ConceptSide:
    """One model's component. role: "base", "tuned", or "" without another model beside it."""

    role: str
    heading: str
    about: str
    lists: tuple[WordList, ...]


@dataclass(frozen=True)
class ConceptCard:
    """One component of the tuned (or the only) model, and the base component that matches it."""

    component: int
    about: str
    sides: tuple[ConceptSide, ...]


@dataclass(frozen=True, repr=False)
class ConceptCards(FoldablePanel):
    """The concepts of one layer. Jupyter and VS Code display it; `.html` is a small page of its own for a file.

    key: what the figures on the cards mean. width: "", "wide" or "wider".
    """

    template: ClassVar[str] = "concept_cards.html"
    styles: ClassVar[tuple[str, ...]] = ("concepts.css",)

    key: str
    width: str
    cards: tuple[ConceptCard, ...]


class _Look(NamedTuple):
    """What all cards share: the score that fills a bar, how many words are shown, and the labels of each model."""

    full: float
    top: int
    labels: Mapping[str, Labels | None]


def concept_cards(
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
    """Show a card per component of one layer: its share of the variance, and its `top` words with their weights.

    concepts: of itlens.mlp_concepts; both poles are shown when it was made with signed=True. components: numbers;
    default the first 8. Bars are |cosine| of the component and the word, from 0, and of one scale in all cards. base:
    the base model's Dataset, with match=itlens.diff.concepts(base, concepts): each card then has the matched base
    component on its left, with |cosine| of the two, and words that both lists hold are bold and underlined. labels,
    base_labels: of itlens.annotate_concepts, of `concepts` and of `base`: each list then has its description, level and
    tasks above it, "cannot tell", or "not labelled"; with several seeds, what at least half of them say.
    Raises ResultError for other Datasets and tables, for results made with different settings, for labels of other
    words, for one of base and match without the other, and for layers and components that were not probed.
    """
    require_concepts(concepts, "concepts", layer)
    top = whole_count("top", top, least=1)
    numbers = chosen_components(concepts, "concepts", components)
    names = [model_label(ds.attrs) for ds in (base, concepts) if ds is not None]
    tuned = [read_concept(concepts, layer, component) for component in numbers]
    tuned_labels = _labelled(labels, concepts, tuned, "labels", layer)
    title = f"Layer {layer}: concepts"
    if base is None and match is None:
        if base_labels is not None:
            raise ResultError(f"{CALL} got base_labels without base: give base and match as well.")
        look = _Look(_largest(tuned, top), top, {"": tuned_labels})
        cards = tuple(ConceptCard(one.component, _percent(one), (_side(one, "", "", [], look),)) for one in tuned)
        named = f"{title}{f' of {names[0]}' if names[0] else ''}"
        return ConceptCards(named, _key(concepts, look, paired=False), _width(concepts, paired=False), cards)
    base, pairs = matched(concepts, base, match, layer, numbers)
    bases = [read_concept(base, layer, component) for component, _ in pairs]
    look = _Look(
        _largest([*bases, *tuned], top),
        top,
        {"base": _labelled(base_labels, base, bases, "base_labels", layer), "tuned": tuned_labels},
    )
    cards = tuple(
        _pair(faced(one, other), other, cosine, names, look)
        for one, other, (_, cosine) in zip(bases, tuned, pairs, strict=True)
    )
    return ConceptCards(
        f"{title}, base and tuned", _key(concepts, look, paired=True), _width(concepts, paired=True), cards
    )


def _labelled(table: pd.DataFrame | None, ds: xr.Dataset, shown: list[Concept], name: str, layer: int) -> Labels | None:
    if table is None:
        return None
    said = read_labels(table, ds, name, layer)
    refuse_strangers(said, shown, name)
    return said


def _key(ds: xr.Dataset, look: _Look, *, paired: bool) -> str:
    """What the figures on the cards mean."""
    vectors, signed = str(ds.attrs.get("vectors", "")), _is_signed(ds)
    parts = [
        f"per cent: share of the variance of the layer's {vectors} vectors",
        f"bars: {'cosine' if signed else '|cosine|'} of component and word, full width = {number(look.full, 2)}",
    ]
    parts += ["bold and underlined: among all words of both lists"] if paired else []
    parts += ["a base component that points the other way has its poles swapped"] if paired and signed else []
    return "; ".join(parts)


def _width(ds: xr.Dataset, *, paired: bool) -> str:
    return ("", "wide", "wider")[_is_signed(ds) + paired]


def _is_signed(ds: xr.Dataset) -> bool:
    return "pole" in ds["word"].dims


def _pair(base: Concept, tuned: Concept, cosine: float, names: list[str], look: _Look) -> ConceptCard:
    common = [set(a.words) & set(b.words) for a, b in zip(base.lists, tuned.lists, strict=True)]
    shared, listed = sum(map(len, common)), sum(len(part.words) for part in tuned.lists)
    about = (
        f"next to base component {base.component}, |cosine| {number(cosine, 2)} · "
        f"{whole(shared)} of {whole(listed)} words in both"
    )
    sides = (_side(base, "base", names[0], common, look), _side(tuned, "tuned", names[1], common, look))
    return ConceptCard(tuned.component, about, sides)


def _side(one: Concept, role: str, name: str, common: list[set[str]], look: _Look) -> ConceptSide:
    """Return one model's words, in one list or in two poles; `common` are the words to mark, a set for each list."""
    sets = common or [set()] * len(one.lists)
    labels = look.labels[role]
    lists = tuple(
        WordList(
            _SIGNS.get(words.pole, words.pole), card_label(labels, one.component, words), _bars(words, marked, look)
        )
        for words, marked in zip(one.lists, sets, strict=True)
    )
    heading = f"{role}: {name}" if name not in ("", role) else role
    return ConceptSide(role, heading, f"component {one.component} · {_percent(one)}", lists)


def _bars(words: Words, marked: set[str], look: _Look) -> tuple[WordBar, ...]:
    # a pole that only few words point at can end in words that point away from it: no bar, and the number says so
    return tuple(
        WordBar(word, number(score, 2), 100 * max(score, 0.0) / look.full if look.full > 0 else 0.0, word in marked)
        for word, score in zip(words.words[: look.top], words.scores[: look.top], strict=True)
    )


def _percent(one: Concept) -> str:
    return f"{percent(one.explained, 2)} %"


def _largest(concepts: Iterable[Concept], top: int) -> float:
    return max((score for one in concepts for part in one.lists for score in part.scores[:top]), default=0.0)
