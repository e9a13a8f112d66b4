"""What tuning did to one kind of neuron vectors, in the terminal: a row per layer, and shares of the labels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from itlens.files import visible
from itlens.study.concept_results import SIDE_NAMES, ConceptResults

_LAYERS = ("layer", "overlap", "random", "floor", "angle", "moved", "gap")
_LAYER_LEGEND = (
    "Turned: overlap of the spans of the first k concepts of base and tuned model, 1 is the same space; random: that "
    "of two random spaces; floor: of one model with itself, its neurons drawn anew; angle: mean principal angle, "
    "degrees; moved: overlap under that of every such draw; gap: none where chance decides which are the first k"
)
_SHARES = ("concepts", "base %", "tuned %", "diff", "95 % interval", "p", "Holm p")
_SHARE_LEGEND = (
    "Labels: of the concepts that could be labelled (known: of all that were tried), without categories of neither "
    "model; diff: tuned - base in points, with bootstrap interval; p: permutation; Holm p: over the levels, or the "
    "tasks (a concept may serve several)"
)
_KINDS = {"level": "level: ", "task": "task: ", "known": ""}


def print_turned(sides: Iterable[ConceptResults], console: Console) -> None:
    """Each side's layers, at the quoted size of subspaces, and shares of levels and tasks; then what columns mean."""
    for results in sides:
        for table in (_layers(results), _shares(results)):
            if table is not None:
                console.print()
                console.print(table)
    for legend in (_LAYER_LEGEND, _SHARE_LEGEND):
        console.print(Text(legend, style="dim italic"))
    console.print()


def _layers(results: ConceptResults) -> Table:
    name = SIDE_NAMES[results.side]
    table = _table(f"{name}: how far the first {results.k} concepts of a layer turned")
    for column in _LAYERS:
        table.add_column(column, justify="right", no_wrap=True)
    for row in results.per_layer.to_dict("records"):
        numbers = [_number(row[name]) for name in ("overlap", "random_overlap", "floor")]
        flags = ["yes" if row["below_floor"] else "", "none" if row["degenerate"] else ""]
        table.add_row(str(row["layer"]), *numbers, _number(row["mean_angle"], "{:.1f}"), *flags)
    return table


def _shares(results: ConceptResults) -> Table | None:
    if results.shares is None:
        return None
    shares = results.shares[results.shares["group"] == "all"]
    labeller = str(results.shares.attrs.get("labeller", ""))
    table = _table(f"{SIDE_NAMES[results.side]}: what concepts are about, labels of {labeller}")
    for column in _SHARES:
        first = column == _SHARES[0]
        table.add_column(column, justify="left" if first else "right", no_wrap=not first, overflow="fold")
    for kind in _KINDS:
        rows = shares[(shares["kind"] == kind) & ((shares[["base", "tuned"]] != 0).any(axis=1) | _whole(shares))]
        for place, (_, row) in enumerate(rows.iterrows(), start=1):
            table.add_row(*_cells(kind, row), end_section=place == len(rows))
    return table


def _whole(shares: pd.DataFrame) -> pd.Series:
    """Rows that sum up, shown though they be 0."""
    return shares["category"].isin(["any", "known"])


def _cells(kind: str, row: pd.Series) -> list[Text]:
    shares = [_number(100 * row[name], "{:.0f}") for name in ("base", "tuned")]
    difference = _points(row["difference"])
    interval = f"{_points(row['ci_low'])} to {_points(row['ci_high'])}" if np.isfinite(row["ci_low"]) else "too few"
    tests = [_p(row["p"]), "" if row["category"] in ("any", "none", "known") else _p(row["p_holm"])]
    name = visible(f"{_KINDS[kind]}{row['category']}")
    return [Text(cell) for cell in (name, *shares, difference, interval, *tests)]


def _table(title: str) -> Table:
    return Table(title=visible(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _points(share: float) -> str:
    """Without "-0"."""
    return f"{round(100 * share):+d}" if np.isfinite(share) else ""


def _number(value: float, form: str = "{:.3f}") -> str:
    return form.format(value) if np.isfinite(value) else ""


def _p(value: float) -> str:
    return "" if not np.isfinite(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
