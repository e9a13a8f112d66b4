"""`itlens attribute`: one prompt's attribution, as coloured tokens and a table of the strongest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
import xarray as xr
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from itlens.cli.options import (
    PROMPT_FORMAT,
    PROMPT_FORMAT_HELP,
    AdapterOption,
    Backend,
    BackendOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    Format,
    JsonOption,
    NewTokensOption,
    NoCacheOption,
    NoProgressOption,
    PrintedFormOption,
    RemoteOption,
    json_form,
)
from itlens.errors import ItlensError
from itlens.files import json_line, visible, write_text
from itlens.models.configuration import refuse_at_a_glance
from itlens.progress import late_bar
from itlens.prompts import Prompt, format_prompts
from itlens.prompts.control_tokens import control_token_notices
from itlens.prompts.formats import EMPTY_RESPONSE
from itlens.report.terminal import printable
from itlens.results.characters import ShownToken, shown_tokens
from itlens.results.density import importance_density, span_mask, span_score
from itlens.results.store import csv_text, save


def attribute_command(
    model: Annotated[str, typer.Argument(help="Hub id, folder or .gguf file.")],
    prompt: Annotated[str, typer.Option(help="The prompt's text.")],
    response: Annotated[str | None, typer.Option(help="The response; default: the model's own.")] = None,
    instruction: Annotated[
        str | None, typer.Option(help="The part of the prompt that instructs; gets a score.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="input_x_gradient, saliency or integrated_gradients.")
    ] = "input_x_gradient",
    objective: Annotated[str, typer.Option(help="prob, logprob, logit or contrastive.")] = "prob",
    max_new_tokens: NewTokensOption = 200,
    dtype: DtypeOption = Dtype.float32,
    device: DeviceOption = None,
    backend: BackendOption = Backend.hooked,
    adapter: AdapterOption = None,
    prompt_format: Annotated[str, typer.Option(PROMPT_FORMAT, help=PROMPT_FORMAT_HELP)] = "raw",
    output: PrintedFormOption = None,
    as_json: JsonOption = False,
    quiet: NoProgressOption = False,
    out: Annotated[Path | None, typer.Option(help="Also save the scores (.nc) or a token view (.html).")] = None,
    trust_remote_code: RemoteOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Show how much each token of one prompt drives the response."""
    from itlens.cli.options import loaded_model

    form = json_form(None if output is None else output.value) if as_json else (output or Format.table).value
    refuse_at_a_glance(model)
    with late_bar("starting", show=not quiet):
        from itlens.hooked.attribution import attribute as run
        from itlens.models import source_of

    asked = Prompt(prompt, instruction=[instruction] if instruction else [])
    if out is not None and out.suffix not in (".nc", ".html"):
        raise ItlensError(f"--out is {out.name!r}; expected a name that ends in .nc or .html.")
    given: dict[str, Any] = {"adapter": adapter, "device": device, "trust_remote_code": trust_remote_code}
    loaded = loaded_model(model, dtype, backend, quiet=quiet, **given)
    said = control_token_notices([asked.replace(response=response)], {"the model": source_of(loaded).tokenizer})
    (asked,) = format_prompts([asked], prompt_format, source_of(loaded).tokenizer)
    options: dict[str, Any] = {
        "method": method,
        "objective": objective,
        "max_new_tokens": max_new_tokens,
    }  # checked there
    with late_bar("response and attribution", show=not quiet) as tell:
        found = run(loaded, asked, response, progress=tell, **options)
    for notice in () if quiet else said:
        print(f"Note: {visible(notice)}", file=sys.stderr)
    if out is not None:
        save_scores(found, asked, out)
    print_scores(found, asked, form)
    if not found.sizes["target"] and not quiet:
        print(f"Note: {EMPTY_RESPONSE}.", file=sys.stderr)


def print_scores(found: xr.Dataset, prompt: Prompt, output: str, console: Console | None = None) -> None:
    """One prompt's tokens with their importance density, as a table, JSON or CSV."""
    console = console or Console()
    table = token_table(found)
    if output == "csv":
        console.file.write(visible(csv_text(table)))
        return
    if output == "json":
        content = {"response": shown_response(found), "tokens": table.to_dict("records")}
        console.file.write(json_line(content))
        return
    _print_tokens(found, table, prompt, console)


def token_table(found: xr.Dataset) -> pd.DataFrame:
    """A row per prompt token: its text, characters, importance density, and sum of scores over the response.

    A character of several tokens is the text of the first; piece and pieces say which token of how many each one is.
    """
    shown = shown_tokens(found, "source")
    return pd.DataFrame(
        {
            "token": [token.text for token in shown],
            "piece": [token.piece for token in shown],
            "pieces": [token.pieces for token in shown],
            "start": found.source_start.values,
            "stop": found.source_stop.values,
            "importance_density": importance_density(found).values,
            "score_sum": found.score.sum("target").values,
        }
    )


def shown_response(found: xr.Dataset) -> str:
    """Return the response, in which bytes that make no character are written out: "<0xF0>"."""
    return "".join(token.text for token in shown_tokens(found, "target"))


def save_scores(found: xr.Dataset, prompt: Prompt, out: Path) -> None:
    """The scores as netCDF, or a token view as an offline page, by the name's ending."""
    if out.suffix == ".nc":
        save(found, out)
        return
    from itlens.findings.attribution.view_tokens import tokens

    write_text(out, tokens(found, prompt=prompt).html)


def _print_tokens(found: xr.Dataset, table: pd.DataFrame, prompt: Prompt, console: Console) -> None:
    tokens = shown_tokens(found, "source")
    highest = max(float(table["importance_density"].max()), 1e-9)
    shown = Text()
    for token, density in zip(tokens, table["importance_density"], strict=True):
        strength = density / highest
        red, green = int(255 - 140 * strength), int(255 - 90 * strength)
        shown.append(printable(token.inline, console, style=f"on rgb({red},{green},255) black"))
    console.print(Text("Prompt, by importance density (darker: more):", style="bold"))
    console.print(shown)
    console.print(Text("Response:", style="bold"))
    console.print(printable(shown_response(found) or "(empty: every score is 0)", console))
    console.print(Text(f"Tokens by importance density (over {found.sizes['target']} response tokens):", style="bold"))
    listed = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in (("token", "left"), ("density", "right"), ("sum of scores", "right")):
        listed.add_column(name, justify=justify)  # type: ignore[arg-type]
    strongest = table.assign(name=[_in_quotes(token) for token in tokens])
    strongest = strongest.sort_values("importance_density", ascending=False, kind="stable").head(15)
    for _, row in strongest.iterrows():
        listed.add_row(
            printable(row["name"], console),
            f"{row['importance_density']:.3f}",
            f"{row['score_sum']:.3g}",
        )
    console.print(listed)
    if prompt.instruction:
        score = span_score(importance_density(found), span_mask(found, prompt, "instruction"))
        console.print(f"Instruction score: {score:.3f}", highlight=False)


def _in_quotes(token: ShownToken) -> str:
    """Return a token so that its white space is seen; a piece of a character as which one it is."""
    return token.place or repr(token.text)
