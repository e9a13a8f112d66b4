"""What the command line prints: results as tables and coloured text. No other module prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from itlens.density import importance_density, span_mask, span_score
from itlens.files import visible, write_text
from itlens.prompts import Prompt
from itlens.store import save
from itlens.study.comparison import Comparison

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
_ROOMY = 110  # columns of a terminal
_LEGEND = (
    "diff: tuned - base, paired, with bootstrap interval; d_z: effect size; p: paired t-test; Holm p: over the groups; "
    "Welch p: the paper's unpaired one-sided test"
)


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """The verdict, the table of groups, notes, and where the report is."""
    console = console or Console()
    console.print(visible(comparison.verdict), style="bold", markup=False, highlight=False)
    console.print()
    console.print(_groups(comparison.diff.groups, roomy=console.width >= _ROOMY))
    for note in comparison.notes:
        console.print(visible(f"Note: {note}"), style="dim", markup=False, highlight=False)
    console.print(visible(f"Report: {comparison.report_path}"), markup=False, highlight=False, soft_wrap=True)


def _groups(groups: pd.DataFrame, roomy: bool) -> Table:
    table = Table(
        title="Importance density of the instruction",
        caption=_LEGEND,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1) if roomy else 0,
    )
    for name in _GROUPS.values():  # where room is short, names are folded and never numbers cut
        numeric = name != "group"
        table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for _, row in groups.iterrows():
        table.add_row(*(_cell(name, row) for name in _GROUPS), end_section=row["group"] == "all")
    return table


def _cell(name: str, row: pd.Series) -> Text:
    value = row[name]
    if isinstance(value, str):
        return Text(visible(value))
    if name == "n":
        return Text(str(int(value)))
    if name == "ci_low":
        short = "too few" if str(row["note"]).startswith("too few") else str(row["note"])
        return Text(f"{value:+.2f} to {row['ci_high']:+.2f}" if np.isfinite(value) else short)
    if not np.isfinite(value):
        return Text("")
    if name.startswith("p_"):
        return Text("< 0.001" if value < 0.001 else f"{value:.3f}")
    return Text(f"{value:+.2f}" if name in ("difference", "effect_size") else f"{value:.2f}")


def print_attribution(found: xr.Dataset, prompt: Prompt, output: str, console: Console | None = None) -> None:
    """One prompt's tokens with their importance density, as a table, JSON or CSV."""
    console = console or Console()
    table = attribution_table(found)
    if output == "csv":
        console.file.write(table.to_csv(index=False))
        return
    if output == "json":
        content = {"response": found.attrs["response_text"], "tokens": table.to_dict("records")}
        console.file.write(json.dumps(content, ensure_ascii=False) + "\n")
        return
    _print_tokens(found, table, prompt, console)


def attribution_table(found: xr.Dataset) -> pd.DataFrame:
    """A row per prompt token: its text, characters, importance density, and sum of scores over the response."""
    return pd.DataFrame(
        {
            "token": found.source_token.values,
            "start": found.source_start.values,
            "stop": found.source_stop.values,
            "importance_density": importance_density(found).values,
            "score_sum": found.score.sum("target").values,
        }
    )


def save_attribution(found: xr.Dataset, prompt: Prompt, out: Path) -> None:
    """The scores as netCDF, or a token view as an offline page, by the name's ending."""
    if out.suffix == ".nc":
        save(found, out)
        return
    from itlens.views import tokens

    write_text(out, tokens(found, prompt=prompt).html)


def _print_tokens(found: xr.Dataset, table: pd.DataFrame, prompt: Prompt, console: Console) -> None:
    highest = max(float(table["importance_density"].max()), 1e-9)
    shown = Text()
    for token, density in zip(table["token"], table["importance_density"], strict=True):
        strength = density / highest
        red, green = int(255 - 140 * strength), int(255 - 90 * strength)
        shown.append(visible(str(token)), style=f"on rgb({red},{green},255) black")
    console.print(Text("Prompt, by importance density (darker: more):", style="bold"))
    console.print(shown)
    console.print(Text("Response:", style="bold"))
    console.print(Text(visible(str(found.attrs["response_text"])) or "(empty: every score is 0)"))
    console.print(Text(f"Tokens by importance density (over {found.sizes['target']} response tokens):", style="bold"))
    listed = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in (("token", "left"), ("density", "right"), ("sum of scores", "right")):
        listed.add_column(name, justify=justify)  # type: ignore[arg-type]
    for _, row in table.sort_values("importance_density", ascending=False, kind="stable").head(15).iterrows():
        listed.add_row(Text(repr(row["token"])), f"{row['importance_density']:.3f}", f"{row['score_sum']:.3g}")
    console.print(listed)
    if prompt.instruction:
        score = span_score(importance_density(found), span_mask(found, prompt, "instruction"))
        console.print(f"Importance density of the instruction: {score:.3f}", highlight=False)


def print_facts(facts: Mapping[str, Any], console: Console | None = None) -> None:
    """Names and values, one per line; long values are not broken, so that they can be copied and searched."""
    console = console or Console()
    width = max(map(len, facts), default=0) + 2
    for name, value in facts.items():
        shown = f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if _counts(name, value) else str(value)
        line = Text(name.replace("_", " ").ljust(width), style="bold")
        console.print(line.append(visible(shown) or "none", style="not bold"), soft_wrap=True)


def _counts(name: str, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
