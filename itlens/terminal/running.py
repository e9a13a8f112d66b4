"""What comes of the running models, in the terminal: the heads that carry most, and faithfulness."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from itlens.study.comparison import Comparison
from itlens.study.running_results import FaithfulResults, PatchResults

_SHOWN = 8
_HEADS = ("head", "recovered", "95 % interval", "BH p", "estimate", "moved")
_HEAD_LEGEND = (
    "recovered: how much of the difference in log-probability of the tuned model's responses one of its heads closes "
    "in the base model, with bootstrap interval over prompts; BH p: paired t-test of that effect, corrected over the "
    "heads; estimate: the same to first order; moved: relative change of what the head writes, on the same tokens"
)
_FAITHFUL = ("test", "n", "base", "tuned", "diff", "95 % interval", "Holm p")
_FAITHFUL_LEGEND = (
    "Faithfulness: by how many points of the response's log-probability, between everything removed and nothing, the "
    "attribution's order of tokens beats random orders; diff: tuned - base"
)


def print_running(comparison: Comparison, console: Console) -> None:
    """The tables of what there is."""
    if (patching := comparison.patching) is not None:
        _print(_heads(patching, comparison), _HEAD_LEGEND, console)
    if (faithful := comparison.faithfulness) is not None:
        _print(_faithful(faithful), _FAITHFUL_LEGEND, console)


def _print(table: Table, legend: str, console: Console) -> None:
    console.print()
    console.print(table)
    console.print(Text(legend, style="dim italic"))


def _heads(results: PatchResults, comparison: Comparison) -> Table:
    names = ["recovered", "recovered_low", "recovered_high", "p_bh", "estimated"]
    rows = results.patched[names].to_dataframe().reset_index()
    moved = None if comparison.activation is None else comparison.activation.heads
    if moved is not None:
        rows = rows.merge(moved[["layer", "head", "mean"]], on=["layer", "head"], how="left")
    table = _table(
        "The heads that carry most of the tuned model's responses", _HEADS if moved is not None else _HEADS[:-1]
    )
    for row in rows.sort_values("recovered", ascending=False, kind="stable").head(_SHOWN).to_dict("records"):
        interval = _interval(row["recovered_low"], row["recovered_high"], 100, "{:+.0f} %")
        cells = [f"L{row['layer']}H{row['head']}", _number(row["recovered"], 100, "{:+.0f} %"), interval]
        cells += [_p(row["p_bh"]), _number(row["estimated"], 100, "{:+.0f} %")]
        table.add_row(*cells, *([_number(row["mean"], 1, "{:.2f}")] if moved is not None else []))
    return table


def _faithful(results: FaithfulResults) -> Table:
    table = _table("Are the attributions faithful?", _FAITHFUL)
    for row in results.table.to_dict("records"):
        shares = [_number(row[name], 100, "{:+.0f}") for name in ("base_advantage", "tuned_advantage", "difference")]
        interval = _interval(row["ci_low"], row["ci_high"], 100, "{:+.0f}")
        table.add_row(row["direction"], str(row["n"]), *shares, interval, _p(row["p_holm"]))
    return table


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    return table


def _number(value: Any, times: float, form: str) -> str:
    return form.format(times * value) if pd.notna(value) and np.isfinite(value) else ""


def _interval(low: float, high: float, times: float, form: str) -> str:
    ends = _number(low, times, form), _number(high, times, form)
    return " to ".join(ends) if all(ends) else ""


def _p(value: float) -> str:
    return "" if not np.isfinite(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
