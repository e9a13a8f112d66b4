"""`itlens inspect`: what a model is, how it will be loaded, and how exactly it computes what Hugging Face does."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
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
)
from itlens.files import json_line, visible
from itlens.models.configuration import refuse_at_a_glance
from itlens.progress import late_bar


def inspect_command(
    model: Annotated[str, typer.Argument(help="Hub id, folder or .gguf file.")],
    dtype: DtypeOption = Dtype.float32,
    device: DeviceOption = None,
    backend: BackendOption = Backend.hooked,
    adapter: AdapterOption = None,
    check: Annotated[bool, typer.Option(help="Load the model and compare its logits with Hugging Face.")] = True,
    trust_remote_code: RemoteOption = False,
    no_cache: NoCacheOption = False,
    as_json: JsonOption = False,
    quiet: NoProgressOption = False,
) -> None:
    """Show what a model is, how it will be loaded, and how exactly it computes what Hugging Face does."""
    refuse_at_a_glance(model)
    with late_bar(f"inspecting {model}", show=not quiet):
        from itlens.models import describe_model

        found = describe_model(
            model,
            adapter=adapter,
            device=device,
            dtype=dtype.value,
            backend=backend.value,
            check=check,
            trust_remote_code=trust_remote_code,
        )
    if as_json:
        sys.stdout.write(json_line(found))
    else:
        print_facts(found)


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
