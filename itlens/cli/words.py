"""`itlens words`: one head's word pairs, the distinct pairs by strength or the pairs of each dimension."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from itlens.cli.options import (
    AdapterOption,
    Backend,
    BackendOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    JsonOption,
    NoCacheOption,
    NoProgressOption,
    RemoteOption,
    TopKOption,
    VectorsOption,
    VocabularyOption,
    WordFormat,
    form_of,
    opened_weights,
    plan_of_one,
)
from itlens.files import json_line, visible, write_text
from itlens.models.configuration import refuse_at_a_glance
from itlens.results.store import csv_text, save

_PER_DIMENSION = 4  # pairs named in the row of a dimension
_LEGEND = (
    "dims: head dimensions that hold the pair; score: query x key activation summed over them, which is what they add "
    "to the attention score of the two word vectors, before scaling; ordered by relatedness x score"
)


def words_command(
    model: Annotated[str, typer.Argument(help="Hub id, folder or .gguf file.")],
    layer: Annotated[int, typer.Option(help="The head's layer, from 0.")],
    head: Annotated[int, typer.Option(help="The head's number in its layer, from 0.")],
    vocabulary: VocabularyOption = "builtin",
    vectors: VectorsOption = "builtin",
    top_k: TopKOption = 100,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the printed table.")] = 30,
    by_dimension: Annotated[bool, typer.Option("--by-dimension", help="The pairs of each head dimension.")] = False,
    dtype: DtypeOption = Dtype.float32,
    device: DeviceOption = None,
    backend: BackendOption = Backend.hooked,
    adapter: AdapterOption = None,
    output: Annotated[WordFormat | None, typer.Option("--format", help="Default: table, or --out's ending.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write all rows here: .csv, .parquet or .json.")] = None,
    as_json: JsonOption = False,
    quiet: NoProgressOption = False,
    trust_remote_code: RemoteOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Show which words one attention head relates, from its weights; see `compare` for a pair of models."""
    refuse_at_a_glance(model, layer=layer, head=head)
    from itlens.findings.attention.finding import FINDING
    from itlens.findings.attention.probe import qk_layers
    from itlens.selection import chosen

    form = form_of(WordFormat, output, out, as_json)
    plan = plan_of_one(FINDING, model, adapter, trust_remote_code, vocabulary=vocabulary, vectors=vectors, top_k=top_k)
    for name, number in (("layer", layer), ("head", head)):
        chosen(name, number, plan.models["base"].facts[f"{name}s"] or 0)
    FINDING.check(plan)
    given: dict[str, Any] = {"adapter": adapter, "device": device, "trust_remote_code": trust_remote_code}
    weights = opened_weights(model, dtype, backend, quiet=quiet, **given)
    options = plan.options
    (result,) = qk_layers(
        weights, options.vocabulary, vectors=options.vectors, layers=layer, heads=head, top_k=options.top_k
    )
    if out is not None:
        save_words(result.pairs, out, say=not quiet)
    else:
        print_words(result.pairs, result.energy, form, rows=rows, by_dimension=by_dimension)


def head_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """One head's distinct pairs by relatedness x score: query, key, relatedness, dims, score.

    pairs: a head's rows of `itlens.qk_word_pairs`. dims: in how many dimensions the pair stands; score: the sum of its
    query and key activations' products over these.
    """
    rows = pairs[["query", "key", "relatedness"]].assign(
        score=pairs["query_activation"].astype(float) * pairs["key_activation"].astype(float)
    )
    grouped = rows.groupby(["query", "key"], observed=True, sort=False)
    table = grouped.agg(relatedness=("relatedness", "first"), dims=("score", "size"), score=("score", "sum"))
    strength = table["relatedness"] * table["score"].abs()
    return table.iloc[(-strength).argsort(kind="stable")].reset_index()


def print_words(
    pairs: pd.DataFrame,
    energy: pd.DataFrame,
    output: str,
    *,
    rows: int = 30,
    by_dimension: bool = False,
    console: Console | None = None,
) -> None:
    """One head's pairs: a table to read, or all rows as CSV or JSON. energy: the same head's (`itlens.qk_energy`)."""
    console = console or Console()
    if output == "csv":
        console.file.write(visible(csv_text(pairs)))
    elif output == "json":
        console.file.write(_json(pairs))
    else:
        distinct = head_table(pairs)
        _print_heading(pairs, distinct, console)
        if len(pairs):
            console.print(_dimensions(pairs, energy, rows) if by_dimension else _pairs(distinct, rows))


def save_words(pairs: pd.DataFrame, out: Path, console: Console | None = None, *, say: bool = True) -> None:
    """Write all rows as .csv, .parquet or .json, by the name's ending; say: where they are."""
    if out.suffix == ".json":
        write_text(out, _json(pairs))
    else:
        save(pairs, out)
    if say:
        (console or Console()).print(visible(f"Saved: {out}"), markup=False, highlight=False, soft_wrap=True)


def _json(pairs: pd.DataFrame) -> str:
    rows = pairs.astype({"query": object, "key": object}).to_dict("records")
    return json_line({"attrs": pairs.attrs, "pairs": rows})


def _print_heading(pairs: pd.DataFrame, distinct: pd.DataFrame, console: Console) -> None:
    said = pairs.attrs
    (layer,), (head,) = said["layers"], said["heads"]
    group = said["n_heads"] // said["n_key_value_heads"]
    shared = f", which reads key head {head // group}" if group > 1 else ""
    title = f"Head L{layer}H{head} of {said['model']}{shared}"
    found = f"{len(distinct):,} pairs of related words over {said['d_head']} dimensions"
    console.print(Text(visible(title), style="bold"), soft_wrap=True)
    console.print(Text(visible(f"{found}; {_words(said)}.")), soft_wrap=True)
    if not len(pairs):
        console.print(Text("No pair of its top words is related: there is nothing to show."))


def _words(said: dict[Any, Any]) -> str:
    words = f"{said['vocabulary_size']:,} words ({said['vocabulary_name'] or 'given'})"
    unknown = f"{said['unknown_to_tokenizer']:,} unknown to the tokenizer and {said['unknown_to_vectors']:,}"
    return f"{words}, {unknown} to the word vectors ({said['vectors_name'] or 'given'})"


def _pairs(distinct: pd.DataFrame, rows: int) -> Table:
    more = len(distinct) - rows
    table = _table(_LEGEND + (f". {more:,} more pairs: --rows, --format csv" if more > 0 else ""))
    for name in ("query", "key"):
        table.add_column(name, overflow="fold")
    for name in ("relatedness", "dims", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    for _, row in distinct.head(rows).iterrows():
        words = (Text(_shown(row[name])) for name in ("query", "key"))
        table.add_row(*words, f"{row['relatedness']:.2f}", str(row["dims"]), f"{row['score']:.3g}")
    return table


def _dimensions(pairs: pd.DataFrame, energy: pd.DataFrame, rows: int) -> Table:
    """The dimensions from high to low energy, each with its most related pairs."""
    share = energy.set_index("dim")["energy"] / max(float(energy["energy"].sum()), 1e-300)
    of_dim = dict(list(pairs.groupby("dim", sort=False)))
    table = _table("energy: the dimension's share of the head's; pairs: query > key, the most related ones")
    for name, justify in (("dim", "right"), ("energy", "right"), ("pairs", "right"), ("most related", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for dim in share.sort_values(ascending=False, kind="stable").index[:rows]:
        held = of_dim.get(dim, pairs.head(0))
        best = held.sort_values("rank").head(_PER_DIMENSION)
        named = ", ".join(f"{_shown(q)} > {_shown(k)}" for q, k in zip(best["query"], best["key"], strict=True))
        table.add_row(str(dim), f"{100 * share[dim]:.1f} %", f"{len(held):,}", Text(named))
    return table


def _table(caption: str) -> Table:
    return Table(caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _shown(word: Any) -> str:
    """A word on one line, with nothing in it that steers a terminal."""
    return visible(str(word)).replace("\n", "\\n").replace("\t", "\\t")
