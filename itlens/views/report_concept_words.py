"""The words of a report's feed-forward part: concepts gained and lost, and cards of the layers that turned most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from itlens.views import text
from itlens.views.concept_cards import concepts
from itlens.views.concept_columns import CHANGED, COUNTS, changed_rows, count_rows, spans_all, usual_size
from itlens.views.numbers import number, whole
from itlens.views.report_content import ConceptContent
from itlens.views.report_layout import card, nothing, scroll, section, side_heading
from itlens.views.report_tables import table

_LAYERS, _FIRST, _NAMED, _WORDS = 2, 3, 3, 10
_STRONGEST = 10


def changed(parts: Sequence[ConceptContent]) -> str:
    """Concepts kept, gained and lost: how many in each layer, and which explain most."""
    intro = (
        "A concept counts as kept when some concept of the other model shares about half of its words, wherever it "
        "stands. That is strict: concepts that explain about as much mix among themselves, and their words then change "
        "though the space stays. So “gained” and “lost” alone say little. A concept is new in earnest only where the "
        "|cosine| with the component beside it is low, and little of it lies inside the other model's components."
    )
    return section("changed", intro) + "".join(side_heading(part.side) + _changed(part) for part in parts)


def _changed(part: ConceptContent) -> str:
    moved = part.changes[part.changes["status"] != "kept"]
    if not len(part.changes):
        return nothing("Nothing to show: no concept was compared.")
    counts = count_rows(part.changes)
    listed = card("Kept, gained and lost in each layer", _caveat(part), scroll(table(counts, COUNTS)))
    if not len(moved):
        return listed + nothing("No concept was gained or lost: all have their like in the other model.")
    return listed + _strongest(part, "gained", part.tuned_labels) + _strongest(part, "lost", part.base_labels)


def _caveat(part: ConceptContent) -> str:
    said = []
    if not (part.changes["status"] == "kept").any():
        said.append("no concept was kept by its words, so “gained” and “lost” tell nothing apart here")
    if spans_all(part.changes):
        said.append("the components span the whole space of the model, so all of each lies inside the other's")
    k, flat = usual_size(part.turned), part.turned["degenerate"].sel(k=usual_size(part.turned)).values.sum()
    if flat:
        said.append(
            f"in {whole(flat)} of {whole(part.turned.sizes['layer'])} layers the spectrum has no gap at k = {k}"
        )
    return text.html("; ".join(said))


def _strongest(part: ConceptContent, status: str, labels: pd.DataFrame) -> str:
    rows = changed_rows(part.changes, status, labels, _STRONGEST)
    if not len(rows):
        return ""
    columns = [one for one in CHANGED if one.sort != "inside" or not spans_all(part.changes)]
    count = whole((part.changes["status"] == status).sum())
    heading = f"The strongest concepts {status} by their words: {len(rows)} of {count}"
    # where none was kept, neither list tells anything by itself
    opened = " open" if status == "gained" and (part.changes["status"] == "kept").any() else ""
    listed = f'<div class="scroll moved">{table(rows, columns, sortable=True)}</div>'
    return (
        f'<details class="card"{opened}><summary>{heading}</summary><p class="sub">those that explain most of their '
        f"layer's variance; click a heading to sort</p>{listed}</details>"
    )


def cards(parts: Sequence[ConceptContent]) -> str:
    """Words of the layers that turned most, base and tuned side by side, with their labels."""
    intro = (
        "Layers with the least overlap come first. Each card is a component of the tuned model beside the base "
        "component that matches it best, with the share of variance that each explains; bars are |cosine| of component "
        "and word. Shown are the first three, which explain most, and the next three that the labeller could name: a "
        "choice to read, not a sample. A list of words always looks like something: look at the scores."
    )
    return section("cards", intro) + "".join(side_heading(part.side) + _cards(part) for part in parts)


def _cards(part: ConceptContent) -> str:
    layers = [layer for layer in card_layers(part.turned, part.turned.sizes["layer"]) if _there(part, layer)]
    if not layers:
        return nothing("Nothing to show: no layer was kept for reading.")
    return "".join(_layer(part, layer, opened=i == 0) for i, layer in enumerate(layers[:_LAYERS]))


def card_layers(turned: xr.Dataset, top: int = _LAYERS) -> list[int]:
    """The layers whose concepts a report shows as cards: those with the least overlap, the least first.

    turned: of itlens.diff.concepts. A report needs the words and directions of these layers only.
    """
    overlap = turned["overlap"].sel(k=usual_size(turned)).sortby("layer")
    order = np.argsort(overlap.values, kind="stable")[:top]
    return [int(layer) for layer in overlap["layer"].values[order]]


def _there(part: ConceptContent, layer: int) -> bool:
    return layer in part.base["layer"].values and layer in part.tuned["layer"].values and bool(_chosen(part, layer))


def _chosen(part: ConceptContent, layer: int) -> list[int]:
    """The first components, and the next ones that could be named; of those that are there with their match."""
    match = part.turned["match"].sel(layer=layer)
    known = {int(component) for component in part.tuned["component"].values} & set(match["component"].values.tolist())
    bases = set(part.base["component"].values.tolist())
    there = [component for component in sorted(known) if int(match.sel(component=component)) in bases]
    first, rest = there[:_FIRST], there[_FIRST:]
    named = _named(part.tuned_labels, layer)
    return first + [component for component in rest if component in named or not named][:_NAMED]


def _named(labels: pd.DataFrame, layer: int) -> set[int]:
    if not len(labels):
        return set()
    rows = labels[(labels["layer"] == layer) & labels["known"].astype(bool)]
    return {int(component) for component in rows["component"]}


def _layer(part: ConceptContent, layer: int, *, opened: bool) -> str:
    k = usual_size(part.turned)
    overlap = number(part.turned["overlap"].sel(layer=layer, k=k).item())
    shown = concepts(
        part.tuned, layer=layer, components=_chosen(part, layer), base=part.base, match=part.turned,
        labels=_of_layer(part.tuned_labels, layer), base_labels=_of_layer(part.base_labels, layer), top=_WORDS,
    )  # fmt: skip
    return (
        f'<details class="card"{" open" if opened else ""}><summary>Layer {layer} (overlap {overlap} at k = {k}): '
        f"{text.html(part.side)} concepts in words</summary>{shown.panels}</details>"
    )


def _of_layer(labels: pd.DataFrame, layer: int) -> pd.DataFrame | None:
    return labels if len(labels) and (labels["layer"] == layer).any() else None
