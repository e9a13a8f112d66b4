"""`itlens attend`: the attention patterns of one layer, as an offline page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from itlens.cli.options import (
    AdapterOption,
    Backend,
    BackendOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    NoCacheOption,
    QuietOption,
    RemoteOption,
)
from itlens.errors import ItlensError
from itlens.files import write_text
from itlens.models.configuration import refuse_at_a_glance


def attend_command(
    model: Annotated[str, typer.Argument(help="Hub id, folder or .gguf file; the base model of a pair.")],
    prompt: Annotated[str, typer.Option(help="The text.")],
    tuned: Annotated[
        str | None, typer.Argument(help="Its tuned version: base, tuned and their difference.", show_default=False)
    ] = None,
    layer: Annotated[int, typer.Option(min=0, help="The layer, from 0.")] = 0,
    head: Annotated[int | None, typer.Option(min=0, help="One head only, from 0.", show_default=False)] = None,
    response: Annotated[str | None, typer.Option(help="Read after the prompt.", show_default=False)] = None,
    prompt_format: Annotated[str, typer.Option(help="raw, chat, or a text with {prompt}.")] = "raw",
    dtype: DtypeOption = Dtype.float32,
    device: DeviceOption = None,
    backend: BackendOption = Backend.hooked,
    adapter: AdapterOption = None,
    out: Annotated[Path, typer.Option(help="The page (.html), or the numbers (.nc).")] = Path("attention.html"),
    trust_remote_code: RemoteOption = False,
    no_cache: NoCacheOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write the attention patterns of one layer of a model, or of base and tuned, as a page."""
    if out.suffix not in (".html", ".nc"):
        raise ItlensError(f"--out is {out.name!r}; expected a name that ends in .html or .nc.")
    refuse_at_a_glance(model, tuned, layer=layer, head=head)
    options: dict[str, Any] = {"dtype": dtype.value, "backend": backend.value, "device": device}
    options["trust_remote_code"] = trust_remote_code
    from itlens.models import load_model, load_pair

    loaded = (
        load_model(model, **options)
        if tuned is None and adapter is None
        else load_pair(model, tuned, adapter=adapter, **options)
    )
    from itlens.findings.activation.view_patterns import attention
    from itlens.results.store import save

    view = attention(loaded, prompt, layer, head, response=response, format=prompt_format)
    if out.suffix == ".nc":
        save(view.patterns, out)
    else:
        write_text(out, view.html)
    if quiet:
        return
    if view.note:
        typer.echo(f"The text is {view.note}.")
    typer.echo(f"Attention of layer {layer}: {out}")
