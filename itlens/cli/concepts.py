"""`itlens concepts`: one feed-forward layer's concepts, the strongest words of each component."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
import xarray as xr
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from itlens.cli.options import (
    AdapterOption,
    Backend,
    BackendOption,
    ConceptFormat,
    DeviceOption,
    Dtype,
    DtypeOption,
    JsonOption,
    NoCacheOption,
    NoProgressOption,
    RemoteOption,
    Vectors,
    VocabularyOption,
    form_of,
    opened_weights,
    plan_of_one,
)
from itlens.files import json_line, visible, write_text
from itlens.models.configuration import refuse_at_a_glance
from itlens.results.store import csv_text, save

_VECTORS = {
    "value": "Values (what neurons write)",
    "key": "Keys (what neurons look for)",
    "gate": "Gates (what neurons look for)",
}
_LEGEND = (
    "explained: the component's share of the variance of the layer's vectors; score: |cosine| with the first and the "
    "last word shown"
)
_LABELS = ("description", "tasks", "level", "confidence")
_UNSIGNED = ". A component has no sign: words of both its ends stand together; --signed parts them"
_SIGNED = ". Which end is called + means nothing"


def concepts_command(
    model: Annotated[str, typer.Argument(help="Hub id, folder or .gguf file.")],
    layer: Annotated[int, typer.Option(help="The layer, from 0.")],
    vectors: Annotated[
        Vectors,
        typer.Option(
            "--concept-vectors", "--side", help="Vectors to analyse: value (W_out rows), key (W_in columns), gate."
        ),
    ] = Vectors.value,
    components: Annotated[int, typer.Option(min=1, help="Number of components, by decreasing variance.")] = 10,
    words: Annotated[int, typer.Option(min=1, help="Words of each.")] = 15,
    signed: Annotated[bool, typer.Option("--signed", help="Show the words of a component's two ends apart.")] = False,
    label: Annotated[
        bool, typer.Option("--label", help="Say what its 15 first words are about, by word lists.")
    ] = False,
    vocabulary: VocabularyOption = "builtin",
    dtype: DtypeOption = Dtype.float32,
    device: DeviceOption = None,
    backend: BackendOption = Backend.hooked,
    adapter: AdapterOption = None,
    output: Annotated[ConceptFormat | None, typer.Option("--format", help="Default: table, or --out's ending.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write them here: .csv, .json or .nc.")] = None,
    as_json: JsonOption = False,
    quiet: NoProgressOption = False,
    trust_remote_code: RemoteOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Show what one feed-forward layer knows, in words: the principal components of its neurons' vectors."""
    refuse_at_a_glance(model, layer=layer)
    from itlens.annotate.concept_labels import with_labels
    from itlens.annotate.labels import TOP
    from itlens.findings.mlp.finding import FINDING
    from itlens.findings.mlp.probe import mlp_concepts
    from itlens.selection import chosen

    form = form_of(ConceptFormat, output, out, as_json)
    options: dict[str, Any] = {"concept_vectors": vectors.value, "components": components, "concept_words": words}
    plan = plan_of_one(FINDING, model, adapter, trust_remote_code, vocabulary=vocabulary, **options)
    chosen("layer", layer, plan.models["base"].facts["layers"] or 0)
    FINDING.check(plan)
    given: dict[str, Any] = {"adapter": adapter, "device": device, "trust_remote_code": trust_remote_code}
    weights = opened_weights(model, dtype, backend, quiet=quiet, **given)
    result = mlp_concepts(
        weights,
        plan.options.vocabulary,
        vectors=vectors.value,
        layers=layer,
        components=components,
        top_k=max(words, TOP) if label else words,
        signed=signed,
    )
    if label:
        result = with_labels(result, words)
    if out is not None:
        save_concepts(result, out, say=not quiet)
    else:
        print_concepts(result, form)


def concept_table(concepts: xr.Dataset) -> pd.DataFrame:
    """A row per word: layer, component, explained, [pole,] rank (1 = strongest), word, score; of `mlp_concepts`.

    Where the concepts have labels, also description, tasks, level, confidence.
    """
    labels = [name for name in _LABELS if name in concepts]
    table = (
        concepts[["word", "score", "explained", *labels]].to_dataframe(dim_order=concepts["word"].dims).reset_index()
    )
    table["rank"] += 1
    table["word"] = table["word"].astype(object)
    poles = ["pole"] if "pole" in table else []
    table = table[["layer", "component", "explained", *poles, "rank", "word", "score", *labels]]
    table.attrs = dict(concepts.attrs)
    return table


def print_concepts(concepts: xr.Dataset, output: str, *, console: Console | None = None) -> None:
    """One layer's concepts: a table to read, or all words as CSV or JSON."""
    console = console or Console()
    if output == "csv":
        console.file.write(visible(csv_text(concept_table(concepts))))
    elif output == "json":
        console.file.write(_json(concepts))
    else:
        _print_heading(concepts, console)
        console.print(_table(concepts))


def save_concepts(concepts: xr.Dataset, out: Path, console: Console | None = None, *, say: bool = True) -> None:
    """Write the words as .csv or .json, or everything, directions included, as .nc; say: where it is."""
    if out.suffix == ".json":
        write_text(out, _json(concepts))
    else:
        save(concept_table(concepts) if out.suffix == ".csv" else concepts, out)
    if say:
        (console or Console()).print(visible(f"Saved: {out}"), markup=False, highlight=False, soft_wrap=True)


def _json(concepts: xr.Dataset) -> str:
    table = concept_table(concepts)
    return json_line({"attrs": table.attrs, "concepts": table.to_dict("records")})


def _print_heading(concepts: xr.Dataset, console: Console) -> None:
    said = concepts.attrs
    (layer,), (neurons,) = concepts["layer"].values.tolist(), concepts["rows"].values.tolist()
    shown, there = concepts.sizes["component"], min(neurons - 1, said["d_model"])
    held = f"{100 * float(concepts['explained'].sum()):.1f} %"
    title = f"{_VECTORS[said['vectors']]} of layer {layer} of {said['model']}"
    found = f"{shown} of {there} principal components hold {held} of the variance of {neurons:,} neurons"
    words = f"{said['vocabulary_size']:,} words ({said['vocabulary_name'] or 'given'})"
    unknown = f"{said['unknown_to_tokenizer']:,} unknown to the tokenizer"
    console.print(Text(visible(title), style="bold"), soft_wrap=True)
    console.print(Text(visible(f"{found}; {words}, {unknown}.")), soft_wrap=True)


def _table(concepts: xr.Dataset) -> Table:
    poles = [str(pole) for pole in concepts["pole"].values] if "pole" in concepts.dims else []
    caption = _LEGEND + (_SIGNED if poles else _UNSIGNED)
    table = Table(caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("concept", "explained", *(["end"] if poles else []), "score"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("words", overflow="fold")
    for number, explained in zip(concepts["component"].values, concepts["explained"].values[0], strict=True):
        concept = concepts.isel(layer=0).sel(component=number)
        front = [str(number), f"{100 * float(explained):.1f} %"]
        for pole in poles:
            table.add_row(*front, pole, *_words(concept.sel(pole=pole)))
            front = ["", ""]
        if not poles:
            table.add_row(*front, *_words(concept))
    return table


def _words(concept: xr.Dataset) -> tuple[str, Text]:
    scores: np.ndarray = concept["score"].values
    shown = (visible(str(word)).replace("\n", "\\n").replace("\t", "\\t") for word in concept["word"].values)
    text = Text(", ".join(shown))
    if "description" in concept:
        text = Text.assemble((_about(concept), "bold"), "\n", text)
    return f"{scores[0]:.2f} to {scores[-1]:.2f}", text


def _about(concept: xr.Dataset) -> str:
    """Its label on one line: what the words share, then level and tasks where there are any."""
    said, level, tasks = (str(concept[name].item()) for name in ("description", "level", "tasks"))
    kinds = "; ".join(part for part in (level, tasks) if part)
    return visible(f"{said} ({kinds})" if kinds else said)
