"""Labels on concept cards: what a labeller said of a component, seed by seed, or plainly that it cannot tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.views import text
from itlens.views.concept_read import CALL, Concept, Words, refuse_unknown
from itlens.views.numbers import percent

_TASK = "task_"
_NEEDED = ("layer", "component", "pole", "words", "description", "level", "known", "seed")
_READ = 15  # words that a labeller reads
_SOURCE = "the table of itlens.annotate_concepts"


class _Row(NamedTuple):
    """What was said once."""

    words: str
    description: str
    tasks: tuple[str, ...]
    level: str
    known: bool
    confidence: float


Labels = Mapping[tuple[int, str], list[_Row]]  # by component and pole; one row for each seed


def read_labels(table: Any, concepts: xr.Dataset, name: str, layer: int) -> Labels:
    """The labels of one layer. name: of the argument, for the errors.

    Raises ResultError for another table, for labels of other vectors, and for a layer that was not labelled.
    """
    if not isinstance(table, pd.DataFrame):
        raise ResultError(f"{CALL} got a {type(table).__name__} as {name}: pass {_SOURCE}.")
    if missing := [column for column in _NEEDED if column not in table.columns]:
        raise ResultError(f"{CALL} needs the columns {', '.join(missing)}, which {name} does not have: pass {_SOURCE}.")
    sides = (table.attrs.get("side"), concepts.attrs.get("side"))
    if None not in sides and sides[0] != sides[1]:
        raise ResultError(f"{CALL} got {name} of {sides[0]} vectors for concepts of {sides[1]} vectors.")
    refuse_unknown(table["layer"].unique(), name, "layer", [layer])
    found: dict[tuple[int, str], list[_Row]] = {}
    for row in table[table["layer"] == layer].sort_values("seed", kind="stable").to_dict("records"):
        tasks = tuple(str(key)[len(_TASK) :] for key, value in row.items() if str(key).startswith(_TASK) and value)
        said = _Row(
            str(row["words"]), str(row["description"]), tasks, str(row["level"]), bool(row["known"]),
            float(row.get("confidence", 0.0)),
        )  # fmt: skip
        found.setdefault((int(row["component"]), str(row["pole"])), []).append(said)
    return found


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


def label(labels: Labels | None, component: int, words: Words) -> str:
    """The label of one list of words as HTML; nothing where no labels were given."""
    if labels is None:
        return ""
    rows = labels.get((component, words.pole), [])
    if not rows:
        return '<p class="label none">not labelled</p>'
    known = [row for row in rows if row.known]
    if 2 * len(known) <= len(rows):
        return f'<p class="label none">cannot tell{_of(len(rows) - len(known), len(rows))}</p>'
    chips = "".join(f'<span class="{kind}">{words}</span>' for kind, words in _chips(known, len(rows)))
    others = _of(len(known), len(rows))
    said = f"<q>{text.html(known[0].description)}</q>"
    return f'<p class="label"{_agreement(known)}>{said}{others} {chips}</p>'


def _chips(known: list[_Row], seeds: int) -> list[tuple[str, str]]:
    """Level and tasks, each with the seeds that named it; only what at least half of the seeds say."""
    levels = Counter(row.level for row in known if row.level)
    tasks = Counter(task for row in known for task in row.tasks)
    found = [("level", name, count) for name, count in levels.most_common(1)]
    found += [("task", name, count) for name, count in tasks.items()]
    chips = [(kind, text.html(name) + _of(count, seeds)) for kind, name, count in found if 2 * count >= seeds]
    if not any(kind == "task" for kind, _ in chips):
        chips.append(("other", "no user task"))
    return chips if any(kind == "level" for kind, _ in chips) else [("other", "no level"), *chips]


def _agreement(known: list[_Row]) -> str:
    share = percent(sum(row.confidence for row in known) / len(known), 0)
    return f' title="confidence {share} %: the share of the words that agree, as far as the labeller knows it"'


def _of(count: int, seeds: int) -> str:
    return f" ({count} of {seeds} seeds)" if seeds > 1 else ""
