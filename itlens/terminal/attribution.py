"""One prompt's attribution in the terminal: coloured tokens, and the strongest of them."""

from __future__ import annotations

import json
from pathlib import Path

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
