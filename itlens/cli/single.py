"""Commands on one model: `itlens attribute | words | concepts | inspect`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from itlens.cli.options import (
    AdapterOption,
    Backend,
    BackendOption,
    ConceptFormat,
    DeviceOption,
    Dtype,
    DtypeOption,
    Format,
    NewTokensOption,
    RemoteOption,
    TopKOption,
    Vectors,
    VectorsOption,
    VocabularyOption,
    WordFormat,
)
from itlens.errors import ItlensError


def attribute(
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
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.table,
    out: Annotated[Path | None, typer.Option(help="Also save the scores (.nc) or a token view (.html).")] = None,
    trust_remote_code: RemoteOption = False,
) -> None:
    """Show how much each token of one prompt drives the response."""
    from itlens.probes.attribution import attribute as run
    from itlens.prompts import Prompt
    from itlens.terminal import print_attribution, save_attribution

    asked = Prompt(prompt, instruction=[instruction] if instruction else [])
    if out is not None and out.suffix not in (".nc", ".html"):
        raise ItlensError(f"--out is {out.name!r}; expected a name that ends in .nc or .html.")
    loaded = _loaded(model, dtype, backend, adapter=adapter, device=device, trust_remote_code=trust_remote_code)
    found = run(loaded, asked, response, method=method, objective=objective, max_new_tokens=max_new_tokens)
    if out is not None:
        save_attribution(found, asked, out)
    print_attribution(found, asked, output.value)


def words(
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
    trust_remote_code: RemoteOption = False,
) -> None:
    """Show which words one attention head relates, from its weights; see `compare` for a pair of models."""
    from itlens.models.compatibility import Side
    from itlens.probes.attention import qk_layers
    from itlens.probes.grid import chosen
    from itlens.study.asked_words import AskedWords
    from itlens.terminal import print_words, save_words

    form = _form(WordFormat, output, out)
    side = Side.of("model", model, adapter=adapter, trust_remote_code=trust_remote_code)
    for name, number in (("layer", layer), ("head", head)):
        chosen(name, number, side.facts[f"{name}s"] or 0)
    asked = AskedWords.of(vocabulary, vectors, top_k)
    asked.refuse_unknown(side)
    loaded = _loaded(model, dtype, backend, adapter=adapter, device=device, trust_remote_code=trust_remote_code)
    (found,) = qk_layers(loaded, asked.vocabulary, vectors=asked.vectors, layers=layer, heads=head, top_k=top_k)
    if out is not None:
        save_words(found.pairs, out)
    else:
        print_words(found.pairs, found.energy, form, rows=rows, by_dimension=by_dimension)


def concepts(
    model: Annotated[str, typer.Argument(help="Hub id, folder or .gguf file.")],
    layer: Annotated[int, typer.Option(help="The layer, from 0.")],
    side: Annotated[Vectors, typer.Option(help="What neurons write (value) or look for (key, gate).")] = Vectors.value,
    components: Annotated[int, typer.Option(min=1, help="So many, from high to low variance.")] = 10,
    words: Annotated[int, typer.Option(min=1, help="Words of each.")] = 15,
    signed: Annotated[bool, typer.Option("--signed", help="The words of a component's two ends apart.")] = False,
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
    trust_remote_code: RemoteOption = False,
) -> None:
    """Show what one feed-forward layer knows, in words: the principal components of its neurons' vectors."""
    from itlens.models.compatibility import Side
    from itlens.probes.grid import chosen
    from itlens.probes.mlp import mlp_concepts
    from itlens.study.asked_concepts import READ, AskedConcepts, with_labels
    from itlens.terminal import print_concepts, save_concepts

    form = _form(ConceptFormat, output, out)
    known = Side.of("model", model, adapter=adapter, trust_remote_code=trust_remote_code)
    chosen("layer", layer, known.facts["layers"] or 0)
    asked = AskedConcepts.of(vocabulary, side.value, components, words, known)
    loaded = _loaded(model, dtype, backend, adapter=adapter, device=device, trust_remote_code=trust_remote_code)
    found = mlp_concepts(
        loaded,
        asked.vocabulary,
        side=side.value,
        layers=layer,
        components=asked.components,
        top_k=max(asked.top_k, READ) if label else asked.top_k,
        signed=signed,
    )
    if label:
        found = with_labels(found, asked.top_k)
    if out is not None:
        save_concepts(found, out)
    else:
        print_concepts(found, form)


_BINARY = ("parquet", "nc")


def _form(kinds: type[WordFormat] | type[ConceptFormat], output: Enum | None, out: Path | None) -> str:
    """What is asked for: by --format, else by the ending of --out, else a table."""
    asked = None if output is None else str(output.value)
    if out is None:
        if asked in _BINARY:
            raise ItlensError(f"--format {asked} is no text for a terminal; give a file with --out.")
        return asked or "table"
    ending = out.suffix.removeprefix(".")
    forms = [form.value for form in kinds if form.value != "table"]
    if ending not in forms:
        raise ItlensError(f"--out is {out.name!r}; expected a name that ends in .{', .'.join(forms)}.")
    if asked not in (None, ending):
        raise ItlensError(f"--out is {out.name!r} and --format {asked}; leave one of them out.")
    return ending


def _loaded(model: str, dtype: Dtype, backend: Backend, **options: Any) -> Any:
    from itlens.models import load_model

    return load_model(model, dtype=dtype.value, backend=backend.value, **options)


def inspect(
    model: Annotated[str, typer.Argument(help="Hub id, folder or .gguf file.")],
    dtype: DtypeOption = Dtype.float32,
    device: DeviceOption = None,
    backend: BackendOption = Backend.hooked,
    adapter: AdapterOption = None,
    check: Annotated[bool, typer.Option(help="Load the model and compare its logits with Hugging Face.")] = True,
    trust_remote_code: RemoteOption = False,
) -> None:
    """Tell what a model is, how it will be loaded, and how exactly it computes what Hugging Face does."""
    from itlens.models import describe_model
    from itlens.terminal import print_facts

    found = describe_model(
        model,
        adapter=adapter,
        device=device,
        dtype=dtype.value,
        backend=backend.value,
        check=check,
        trust_remote_code=trust_remote_code,
    )
    print_facts(found)
