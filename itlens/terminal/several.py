"""Several comparisons in the terminal: the answers, the tables behind them, notes, and where the pages are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from itlens.files import visible
from itlens.study.series_comparison import SeriesComparison
from itlens.study.template_comparison import TemplateComparison

_EFFECTS = {"effect": "effect", "n": "n", "mean": "mean", "ci_low": "95 % interval"}
_EFFECTS |= {"effect_size": "d_z", "p_holm": "Holm p"}
_EFFECT_LEGEND = (
    "weights: tuned less base; template: with it less without; interaction: how much more the template does to the "
    "tuned model; total: tuned with its template less base without; Holm p: over the first three"
)
_DIFFERENCES = {"reference": "from", "model": "to", "n": "n", "difference": "diff"}
_DIFFERENCES |= {"ci_low": "95 % interval", "effect_size": "d_z", "p_holm": "Holm p"}
_DIFFERENCE_LEGEND = "diff: paired over prompts, with bootstrap interval; d_z: effect size; Holm p: over the pairs"
_APART_LEGEND = "overlap: 1 is the same; gap: nats per token; what needs both models only with the first one"
_SHOWN_EFFECTS = ("weights", "template", "interaction", "total")


def print_several(found: TemplateComparison | SeriesComparison, console: Console | None = None) -> None:
    """What a comparison without and with the template, or a series, came to."""
    console = console or Console()
    for answer in found.answers:
        console.print(visible(answer), style="bold", markup=False, highlight=False)
    for title, rows, columns, legend in _tables(found):
        parts = rows.groupby("statistic", sort=False) if "statistic" in rows else [("", rows)]
        for statistic, part in parts:  # a table each: names of statistics are wide, and terminals are not
            console.print()
            console.print(
                _table(f"{title}{': ' if statistic else ''}{str(statistic).replace('_', ' ')}", part, columns)
            )
        console.print(Text(legend, style="dim italic"))
    for note in found.notes:
        console.print(visible(f"Note: {note}"), style="dim", markup=False, highlight=False)
    console.print(visible(f"Report: {found.report_path}"), markup=False, highlight=False, soft_wrap=True)


def _tables(found: TemplateComparison | SeriesComparison) -> list[tuple[str, pd.DataFrame, dict[str, str], str]]:
    if isinstance(found, TemplateComparison):
        effects = found.effects.effects
        shown = effects[(effects["group"] == "all") & effects["effect"].isin(_SHOWN_EFFECTS)]
        return [("Weights or template?", shown, _EFFECTS, _EFFECT_LEGEND)]
    tables = []
    if found.first is not None and found.neighbours is not None:
        for title, series in (("Against the first model", found.first), ("Between neighbours", found.neighbours)):
            rows = series.differences[series.differences["group"] == "all"]
            tables.append((title, rows, _DIFFERENCES, _DIFFERENCE_LEGEND))
    if len(found.distances.columns) > 3:
        rows = _named_pairs(found.distances)
        columns = {str(name): "\n".join(str(name).replace("_", " ").rsplit(" ", 1)) for name in rows.columns}
        tables.append(("How far apart", rows, columns, _APART_LEGEND))
    return tables


def _named_pairs(distances: pd.DataFrame) -> pd.DataFrame:
    """A row per two models, with one column that names them."""
    models = distances["reference"].astype(str) + " -> " + distances["model"].astype(str)
    rows = distances.drop(columns=["against", "reference", "model"])
    rows.insert(0, "models", models)
    return rows


def _table(title: str, rows: pd.DataFrame, columns: dict[str, str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for name, shown in columns.items():
        text = not pd.api.types.is_numeric_dtype(rows[name])
        table.add_column(shown, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for _, row in rows.iterrows():
        table.add_row(*(_cell(name, row) for name in columns))
    return table


def _cell(name: str, row: pd.Series) -> str:
    value: Any = row[name]
    if isinstance(value, str):
        return visible(value)
    if name == "ci_low":
        return f"{value:+.3g} to {row['ci_high']:+.3g}" if np.isfinite(value) else visible(str(row.get("note", "")))
    if not np.isfinite(value):
        return ""
    if name.startswith("p_"):
        return "< 0.001" if value < 0.001 else f"{value:.3f}"
    if name == "n":
        return str(int(value))
    return f"{value:.3g}" if name.endswith(("overlap", "residual_change")) else f"{value:+.3g}"
