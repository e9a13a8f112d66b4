"""Labels on concept cards: what a labeller said of a component, seed by seed, or plainly that it cannot tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.mlp.view_cards_read import CALL, Concept, Words, refuse_unknown
from itlens.report.numbers import percent

ChipKind: TypeAlias = Literal["level", "task", "other"]
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
