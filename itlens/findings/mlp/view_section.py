"""What the report shows of feed-forward concepts: figures at the top, rotation, topics, gained and lost, and cards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import pandas as pd

from itlens.findings.mlp.columns import (
    CHANGED,
    COUNTS,
    LAYERS,
    SETTINGS,
    SHARES,
    any_task,
    changed_rows,
    count_rows,
    has_floor,
    layer_rows,
    mean_floor,
    setting_rows,
    share_rows,
    spans_all,
)
from itlens.findings.mlp.vectors import HEADINGS, ConceptResults, card_layers
from itlens.findings.mlp.view import angles
from itlens.findings.mlp.view_cards import concept_cards
from itlens.findings.mlp.view_tasks import shares
from itlens.report.blocks import Block, Card, Choice, Figure, Table, Text
from itlens.report.numbers import NOTHING, is_number, number, p_equals, percent, percent_range, rounded, whole

_WIDE = 12  # layers that fit side by side on a telephone
_CARD_LAYERS, _CARDS, _WORDS = 2, 6, 10
_STRONGEST = 10


def concept_blocks(results: Sequence[ConceptResults]) -> list[Block]:
    """Return the blocks of each kind of vectors, in the order of the page, with a switch between the kinds."""
    return [Choice("vectors", {HEADINGS[kind.vectors]: list(_of_kind(kind)) for kind in results})]


def _of_kind(kind: ConceptResults) -> Iterator[Block]:
    yield from _cards_at_the_top(kind)
    for text, heading, blocks in _HEADINGS:
        yield Text(text, heading)
        yield from blocks(kind)
    yield _settings(kind)


def _cards_at_the_top(kind: ConceptResults) -> list[Card]:
    """Overlap with its nulls, layers beyond the noise, and the share of concepts that serve a user task."""
    k = kind.k
    rows = layer_rows(kind.turned, k)
    by_chance = len(rows) * float(kind.turned.attrs["chance_below"])
    return [_overlap(rows, k, kind.vectors), _below(rows, by_chance, kind.vectors), _any_task(kind)]


def _overlap(rows: pd.DataFrame, k: int, vectors: str) -> Card:
    noise = f"noise of resampled neurons {number(mean_floor(rows))}" if has_floor(rows) else "noise not measured"
    detail = (
        f"1 is the same space · random {number(rows['random_overlap'].mean())} · {noise} · mean angle "
        f"{rounded(rows['degrees'].mean())}°"
    )
    label = f"overlap of the first {k} {vectors} concepts, mean over layers"
    return Card(label, number(rows["overlap"].mean()), detail)


def _below(rows: pd.DataFrame, by_chance: float, vectors: str) -> Card:
    least = rows.sort_values("overlap", kind="stable").iloc[0]
    details = [f"about {by_chance:.1f} expected by chance"] if has_floor(rows) else []
    details += [f"least overlap in layer {int(least['layer'])} ({number(least['overlap'])})"]
    if flat := int(rows["degenerate"].sum()):
        details.append(f"no gap in the spectrum in {whole(flat)} of {whole(len(rows))}")
    value = f"{whole(rows['below_floor'].sum())} of {whole(len(rows))}"
    if not has_floor(rows):
        value, details = NOTHING, ["not known: the probe ran without resamples", *details]
    return Card(f"layers whose {vectors} concepts rotated more than the noise", value, " · ".join(details))


def _any_task(kind: ConceptResults) -> Card:
    label = f"{kind.vectors} concepts that serve a user task, tuned − base"
    if kind.shares is None:
        return Card(label, NOTHING, "the concepts were not labelled")
    row = any_task(kind.shares)
    details = [f"{percent(row['base'])} % in base, {percent(row['tuned'])} % in tuned"]
    if is_number(row["p"]):
        details += [f"95 % interval {percent_range(row['ci_low'], row['ci_high'])}"]
        details += [f"permutation p {p_equals(row['p'])}"]
    else:
        details.append(str(row["note"] or "no test was possible"))
    details.append(f"of {whole(row['base_concepts'])} and {whole(row['tuned_concepts'])} concepts")
    value = percent(row["difference"], sign=True)
    return Card(label, f"{value} points" if is_number(row["difference"]) else value, " · ".join(details))


def _rotation(kind: ConceptResults) -> Iterator[Block]:
    k = kind.k
    rows = layer_rows(kind.turned, k)
    text = "" if has_floor(rows) else "No noise floor: the probe ran without resamples. "
    text += (
        f"Spaces of the first {k} {kind.vectors} concepts. A rotated space need not be another one: “variance kept” "
        "says how much of the tuned model's variance the base's concepts still explain."
    )
    yield Text(kind.verdict)
    yield Figure(angles(kind.turned), wide=kind.turned.sizes["layer"] > _WIDE)
    yield Table(rows, LAYERS, f"{kind.vectors.capitalize()} vectors, layer by layer, k = {k}", text)


def _topics(kind: ConceptResults) -> Iterator[Block]:
    table = kind.shares
    if table is None or not len(table):
        yield Text(f"Nothing to show: the {kind.vectors} concepts were not labelled.")
        return
    yield Figure(shares(table), wide=True)
    tasks = table[(table["kind"] == "task") & (table["category"] == "any")]
    if (tasks[["base", "tuned"]].fillna(0) > 0).any(axis=None):
        yield Figure(shares(table, kind="task"), wide=True)
    else:
        yield Text("No labelled concept of either model serves a user task.")
    rows = share_rows(table)
    yield Table(
        rows,
        SHARES,
        f"{kind.vectors.capitalize()} vectors: all shares with their tests",
        str(table.attrs.get("seed_note", "")),
        folded=True,
        terminal_rows=int((rows["group"] == "all").sum()),
    )


def _gained_and_lost(kind: ConceptResults) -> Iterator[Block]:
    if not len(kind.changes):
        yield Text("Nothing to show: no concept was compared.")
        return
    title = f"{kind.vectors.capitalize()} vectors: kept, gained and lost in each layer"
    rows = count_rows(kind.changes)
    none_kept = not rows["kept"].any()
    if none_kept:
        yield Text(_none_kept(rows))
    yield Table(rows, COUNTS, title, _caveat(kind), folded=none_kept, terminal=False)
    if (kind.changes["status"] == "kept").all():
        yield Text("No concept was gained or lost: all have their like in the other model.")
        return
    yield from _strongest(kind, "gained", kind.tuned_labels)
    yield from _strongest(kind, "lost", kind.base_labels)


def _none_kept(rows: pd.DataFrame) -> str:
    """One line in place of a table in which all rows say the same."""
    near = rows["match_cosine"]
    return (
        f"No concept was kept by its words in any of {whole(len(rows))} layers, so “gained” and “lost” distinguish "
        f"nothing here; the |cosine| of matched components is {number(near.min(), 2)} to {number(near.max(), 2)} "
        "(medians of the layers)."
    )


def _caveat(kind: ConceptResults) -> str:
    caveats = []
    if spans_all(kind.changes):
        caveats.append("the components span the whole space of the model, so all of each is inside the other's")
    k = kind.k
    if flat := int(kind.turned["degenerate"].sel(k=k).values.sum()):
        layers = whole(kind.turned.sizes["layer"])
        caveats.append(f"in {whole(flat)} of {layers} layers the spectrum has no gap at k = {k}")
    return "; ".join(caveats)


def _strongest(kind: ConceptResults, status: Literal["gained", "lost"], labels: pd.DataFrame) -> Iterator[Table]:
    rows = changed_rows(kind.changes, status, labels, _STRONGEST)
    if not len(rows):
        return
    columns = [column for column in CHANGED if column.name != "inside" or not spans_all(kind.changes)]
    count = whole((kind.changes["status"] == status).sum())
    yield Table(
        rows,
        columns,
        f"The strongest {kind.vectors} concepts {status} by their words: {len(rows)} of {count}",
        "those that explain most of their layer's variance; click a heading to sort",
        sortable=True,
        # where none was kept, neither list says anything by itself
        folded=status == "lost" or not (kind.changes["status"] == "kept").any(),
        terminal=False,
    )


def _in_words(kind: ConceptResults) -> Iterator[Block]:
    every = card_layers(kind.turned, kind.turned.sizes["layer"])
    layers = [layer for layer in every if _is_there(kind, layer)][:_CARD_LAYERS]
    if not layers:
        yield Text("Nothing to show: no concept was kept for reading in both models and named by the labeller.")
    k = kind.k
    for place, layer in enumerate(layers):
        overlap = number(kind.turned["overlap"].sel(layer=layer, k=k).item())
        cards = concept_cards(
            kind.cards["tuned"], layer=layer, components=_components(kind, layer), base=kind.cards["base"],
            match=kind.turned,
            labels=_of_layer(kind.tuned_labels, layer), base_labels=_of_layer(kind.base_labels, layer), top=_WORDS,
        )  # fmt: skip
        title = f"Layer {layer} (overlap {overlap} at k = {k}): {kind.vectors} concepts in words"
        yield replace(cards, title=title, folded=place > 0)


def _is_there(kind: ConceptResults, layer: int) -> bool:
    both = all(layer in model["layer"].values for model in kind.cards.values())
    return both and bool(_components(kind, layer))


def _components(kind: ConceptResults, layer: int) -> list[int]:
    """The components to show: the first that the labeller could name; without labels, the first of all."""
    labels = kind.tuned_labels
    of_layer = labels[labels["layer"] == layer] if len(labels) else labels
    there = _matched(kind, layer)
    if not len(of_layer):
        return there[:_CARDS]
    known = {int(component) for component in of_layer.loc[of_layer["known"].astype(bool), "component"]}
    return [component for component in there if component in known][:_CARDS]


def _matched(kind: ConceptResults, layer: int) -> list[int]:
    """Components of the tuned model that are there together with the base component that matches them."""
    match = kind.turned["match"].sel(layer=layer)
    of_base = set(kind.cards["base"]["component"].values.tolist())
    both = set(kind.cards["tuned"]["component"].values.tolist()) & set(match["component"].values.tolist())
    return [component for component in sorted(both) if int(match.sel(component=component)) in of_base]


def _of_layer(labels: pd.DataFrame, layer: int) -> pd.DataFrame | None:
    return labels if len(labels) and (labels["layer"] == layer).any() else None


def _settings(kind: ConceptResults) -> Table:
    rows = setting_rows(kind.turned, kind.tuned_labels)
    return Table(rows, SETTINGS, f"Settings: {kind.vectors} vectors", folded=True, terminal=False)


_HEADINGS: tuple[tuple[str, str, Callable[[ConceptResults], Iterator[Block]]], ...] = (
    (
        "The leading concepts of a layer span a space. An overlap of 1 means that base and tuned have the same space; "
        "the dashed line is the overlap of two unrelated models. The shaded band is the noise: each model against "
        "itself, with its neurons resampled. Only where a mark is below the band (filled) did tuning rotate a layer by "
        "more than that; hollow marks are within the noise.",
        "How far concept spaces rotated",
        _rotation,
    ),
    (
        "A labeller read the 15 top words of each concept and said what they have in common: a linguistic level and "
        "the user tasks that it serves, or “cannot tell”. Each pair of bars is base above tuned; a star marks shares "
        "that changed significantly. Labels are judgements of word lists, not of what the model does.",
        "What concepts are about",
        _topics,
    ),
    (
        "A concept counts as kept when some concept of the other model shares about half of its words, at any place in "
        "the order. That is strict: concepts that explain about as much mix among themselves, and their words then "
        "change though the space stays. So “gained” and “lost” alone say little. A concept is really new only where "
        "the |cosine| with its matched component is low, and little of it is inside the other model's components.",
        "Concepts gained and lost",
        _gained_and_lost,
    ),
    (
        "Layers with the least overlap come first. Each card is a component of the tuned model next to the base "
        "component that matches it best, with the share of variance that each explains; bars are |cosine| of component "
        "and word. Shown are the first six that the labeller could name, by variance: a choice to read, not a sample. "
        "Any list of words suggests a topic: look at the scores.",
        "Concepts in words",
        _in_words,
    ),
)
