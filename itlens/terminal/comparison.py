"""A comparison in the terminal: the answer, the tables behind it, notes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from itlens.files import visible
from itlens.study.comparison import Comparison
from itlens.terminal.running import print_running
from itlens.terminal.turned import print_turned

_GROUPS = {
    "group": "group",
    "n": "n",
    "base_mean": "base",
    "tuned_mean": "tuned",
    "difference": "diff",
    "ci_low": "95 % interval",
    "effect_size": "d_z",
    "p_paired": "p",
    "p_holm": "Holm p",
    "p_welch": "Welch p",
}
_VERBS = {
    "group": "group",
    "changed_heads": "changed",
    "instruction_share": "instr. %",
    "general_share": "other %",
    "difference": "diff",
    "ci_low": "95 % interval",
    "effect_size": "d",
    "p_welch": "Welch p",
    "p_null": "null p",
}
_POINTS = {"instruction_share": "{:.0f}", "general_share": "{:.0f}"}
_POINTS |= dict.fromkeys(("difference", "ci_low", "ci_high"), "{:+.0f}")
_COUNTS = ("n", "changed_heads")
_ROOMY = 110  # columns of a terminal
_LEGEND = (
    "diff: tuned - base, paired, with bootstrap interval; d_z: effect size; p: paired t-test; Holm p: over the groups; "
    "Welch p: the paper's unpaired one-sided test"
)
_VERB_LEGEND = (
    "changed: heads with another number of instruction or general verbs in their word pairs; instr. %, other %: of "
    "these, where a verb's number rose, mean over instruction and over general verbs; diff: in points, with bootstrap "
    "interval; d: Cohen's; Welch p: the paper's test; null p: the larger of two nulls (random verb sets; base and "
    "tuned swapped in random heads)"
)


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """The verdict, the tables of groups, of verbs and of concepts, notes, and where the report is."""
    console = console or Console()
    for answer in comparison.answers:
        console.print(visible(answer), style="bold", markup=False, highlight=False)
    roomy = console.width >= _ROOMY
    for table in (
        None if comparison.diff is None else _groups(comparison.diff.groups, roomy),
        None if comparison.verb_shares is None else _verbs(comparison.verb_shares, roomy),
    ):
        if table is not None:
            console.print()
            console.print(table)
    if comparison.concepts:
        print_turned(comparison.concepts.values(), console)
    print_running(comparison, console)
    for note in comparison.notes:
        console.print(visible(f"Note: {note}"), style="dim", markup=False, highlight=False)
    console.print(visible(f"Report: {comparison.report_path}"), markup=False, highlight=False, soft_wrap=True)


def _groups(groups: pd.DataFrame, roomy: bool) -> Table:
    return _table("Importance density of the instruction", _LEGEND, _GROUPS, groups, roomy)


def _verbs(shares: pd.DataFrame, roomy: bool) -> Table:
    shown = shares.astype(dict.fromkeys(_POINTS, object))
    for name, form in _POINTS.items():
        shown[name] = [form.format(100 * value) if np.isfinite(value) else "" for value in shares[name]]
    shown["ci_low"] = [
        f"{row['ci_low']} to {row['ci_high']}" if row["ci_low"] else _short(row["note"]) for _, row in shown.iterrows()
    ]
    return _table("Verbs in the word pairs of attention heads", _VERB_LEGEND, _VERBS, shown, roomy)


def _table(title: str, legend: str, columns: dict[str, str], rows: pd.DataFrame, roomy: bool) -> Table:
    table = Table(
        title=title,
        caption=legend,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1) if roomy else 0,
    )
    for name in columns.values():  # where room is short, names are folded and never numbers cut
        numeric = name != "group"
        table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for _, row in rows.iterrows():
        table.add_row(*(_cell(name, row) for name in columns), end_section=row["group"] == "all")
    return table


def _cell(name: str, row: pd.Series) -> Text:
    value = row[name]
    if isinstance(value, str):
        return Text(visible(value))
    if name in _COUNTS:
        return Text(str(int(value)))
    if name == "ci_low":
        return Text(f"{value:+.2f} to {row['ci_high']:+.2f}" if np.isfinite(value) else _short(row["note"]))
    if not np.isfinite(value):
        return Text("")
    if name.startswith("p_"):
        return Text("< 0.001" if value < 0.001 else f"{value:.3f}")
    return Text(f"{value:+.2f}" if name in ("difference", "effect_size") else f"{value:.2f}")


def _short(note: object) -> str:
    return "too few" if str(note).startswith("too few") else str(note)
