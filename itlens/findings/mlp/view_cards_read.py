"""What the cards of a layer show, read and checked: words, shares, matches of the base, and what a labeller said.

A label is read seed by seed; where fewer than half of them know, the card says plainly that it cannot tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.report.numbers import percent

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


ChipKind: TypeAlias = Literal["level", "task", "other"]
# ---- labels

_TASK = "task_"
_NEEDED = ("layer", "component", "pole", "words", "description", "level", "known", "seed")
_READ = 15  # words that a labeller reads
_SOURCE = "the table of itlens.annotate_concepts"


@dataclass(frozen=True)
class LabelChip:
    """A level or a task of a label, or what it lacks ("other")."""

    kind: ChipKind
    text: str


@dataclass(frozen=True)
class CardLabel:
    """What a labeller said of a list of words, or why there is nothing.

    known: `text` is its description. seeds: how many of them say so, as text. confidence: in per cent, as text.
    """

    text: str
    known: bool = False
    seeds: str = ""
    confidence: str = ""
    chips: tuple[LabelChip, ...] = ()


class _Row(NamedTuple):
    """What was said once."""

    words: str
    description: str
    tasks: tuple[str, ...]
    level: str
    known: bool
    confidence: float


Labels = Mapping[tuple[int, str], list[_Row]]  # by component and pole; one row for each seed


def read_labels(table: object, concepts: xr.Dataset, name: str, layer: int) -> Labels:
    """Return the labels of one layer. name: of the argument, for the errors.

    Raises ResultError for another table, for labels of other vectors, and for a layer that was not labelled.
    """
    if not isinstance(table, pd.DataFrame):
        raise ResultError(f"{CALL} got a {type(table).__name__} as {name}: pass {_SOURCE}.")
    if missing := [column for column in _NEEDED if column not in table.columns]:
        raise ResultError(f"{CALL} needs the columns {', '.join(missing)}, which {name} does not have: pass {_SOURCE}.")
    kinds = (table.attrs.get("vectors"), concepts.attrs.get("vectors"))
    if None not in kinds and kinds[0] != kinds[1]:
        raise ResultError(f"{CALL} got {name} of {kinds[0]} vectors for concepts of {kinds[1]} vectors.")
    refuse_unknown(table["layer"].unique(), name, "layer", [layer])
    by_list: dict[tuple[int, str], list[_Row]] = {}
    for row in table[table["layer"] == layer].sort_values("seed", kind="stable").to_dict("records"):
        tasks = tuple(str(key)[len(_TASK) :] for key, value in row.items() if str(key).startswith(_TASK) and value)
        said = _Row(
            str(row["words"]), str(row["description"]), tasks, str(row["level"]), bool(row["known"]),
            float(row.get("confidence", 0.0)),
        )  # fmt: skip
        by_list.setdefault((int(row["component"]), str(row["pole"])), []).append(said)
    return by_list


def refuse_strangers(labels: Labels, concepts: list[Concept], name: str) -> None:
    """Raise ResultError where a label was given to other words than those that the cards show."""
    for concept in concepts:
        for part in concept.lists:
            shown = " ".join(part.words[:_READ])
            for row in labels.get((concept.component, part.pole), []):
                if not (row.words.startswith(shown) or shown.startswith(row.words)):
                    raise ResultError(
                        f"{CALL} got {name} of other words than component {concept.component} has: pass the labels of "
                        "the same result (was it those of the other model?)."
                    )


def card_label(labels: Labels | None, component: int, words: Words) -> CardLabel | None:
    """Return the label of one list of words; None where no labels were given."""
    if labels is None:
        return None
    rows = labels.get((component, words.pole), [])
    if not rows:
        return CardLabel("not labelled")
    known = [row for row in rows if row.known]
    if 2 * len(known) <= len(rows):
        return CardLabel(f"cannot tell{_of(len(rows) - len(known), len(rows))}")
    confidence = percent(sum(row.confidence for row in known) / len(known), 0)
    return CardLabel(
        known[0].description, True, _of(len(known), len(rows)), confidence, tuple(_chips(known, len(rows)))
    )


def _chips(known: list[_Row], seeds: int) -> list[LabelChip]:
    """Level and tasks, each with the seeds that named it; only what at least half of the seeds say."""
    levels = Counter(row.level for row in known if row.level)
    tasks = Counter(task for row in known for task in row.tasks)
    named: list[tuple[ChipKind, str, int]] = [("level", name, count) for name, count in levels.most_common(1)]
    named += [("task", name, count) for name, count in tasks.items()]
    chips = [LabelChip(kind, name + _of(count, seeds)) for kind, name, count in named if 2 * count >= seeds]
    if not any(chip.kind == "task" for chip in chips):
        chips.append(LabelChip("other", "no user task"))
    return chips if any(chip.kind == "level" for chip in chips) else [LabelChip("other", "no level"), *chips]


def _of(count: int, seeds: int) -> str:
    return f" ({count} of {seeds} seeds)" if seeds > 1 else ""
