"""What commands share: options and what they can be, loading one model, and the form of what is printed or written."""

from __future__ import annotations

import logging
import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from itlens.errors import ItlensError
from itlens.findings import findings
from itlens.findings.base import Finding, Plan
from itlens.progress import late_bar


class Dtype(str, Enum):
    """Precisions a model can be loaded in."""

    float32 = "float32"
    float64 = "float64"
    float16 = "float16"
    bfloat16 = "bfloat16"


class Backend(str, Enum):
    """How a model is hooked: HookedTransformer or TransformerBridge."""

    hooked = "hooked"
    bridge = "bridge"


class ResponsesChoice(str, Enum):
    """Whose responses both models are read on."""

    own = "own"
    tuned = "tuned"
    base = "base"


class Template(str, Enum):
    """How `itlens compare` uses the chat template."""

    off = "off"
    on = "on"
    both = "both"


class ExecutorChoice(str, Enum):
    """Where the units of a study are computed."""

    local = "local"
    ray = "ray"


class Format(str, Enum):
    """How `itlens attribute` prints."""

    table = "table"
    json = "json"
    csv = "csv"


class WordFormat(str, Enum):
    """What `itlens words` prints, or writes to --out."""

    table = "table"
    csv = "csv"
    parquet = "parquet"
    json = "json"


class Vectors(str, Enum):
    """Whose concepts `itlens concepts` shows: what neurons write, or what they look for."""

    value = "value"
    key = "key"
    gate = "gate"


class ConceptFormat(str, Enum):
    """What `itlens concepts` prints, or writes to --out."""

    table = "table"
    csv = "csv"
    json = "json"
    nc = "nc"


DtypeOption = Annotated[Dtype, typer.Option(help="Precision of weights and activations.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, mps; default: cuda where there is one.")]
BackendOption = Annotated[Backend, typer.Option(help="HookedTransformer or TransformerBridge.")]
AdapterOption = Annotated[str | None, typer.Option(help="A PEFT adapter to merge (into TUNED in `compare`).")]
RemoteOption = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")]
ExecutorOption = Annotated[
    ExecutorChoice, typer.Option(help="local: this machine, one model at a time; ray: the workers of a Ray cluster.")
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(help="host:port, ray://host:port or auto; default: RAY_ADDRESS, else a cluster of this machine."),
]
RayCpusOption = Annotated[int | None, typer.Option(min=1, help="CPUs of each worker of the Ray cluster. [default: 1]")]
NewTokensOption = Annotated[int, typer.Option(min=1, help="At most so many tokens of a generated response.")]


def _printed_form(given: str) -> Format:
    """Read the output's form; what is a prompt's form is told its own option."""
    try:
        return Format(given)
    except ValueError as error:
        raise typer.BadParameter(
            f"{given!r} is not one of {', '.join(repr(form.value) for form in Format)}; --format is how to print, "
            f"the prompt's form is {PROMPT_FORMAT}"
        ) from error


PROMPT_FORMAT = "--prompt-format"
PROMPT_FORMAT_HELP = "The prompt's form: raw, chat (the model's template), or a text with {prompt}."
PrintedFormOption = Annotated[
    Format | None,
    typer.Option("--format", parser=_printed_form, metavar="[table|json|csv]", help="How to print. [default: table]"),
]


def _hush(asked: bool) -> bool:
    """Keep what modules log off the terminal."""
    if asked:
        logging.getLogger("itlens").setLevel(logging.WARNING)
    return asked


def _without_copies(asked: bool) -> bool:
    if asked:
        os.environ["ITLENS_NO_CACHE"] = "1"  # also for what this process starts
    return asked


QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=_hush, help="Show no progress, and print nothing but what failed."),
]
NoProgressOption = Annotated[bool, typer.Option("--quiet", "-q", callback=_hush, help="Show no progress and no notes.")]
NoCacheOption = Annotated[
    bool,
    typer.Option("--no-cache", callback=_without_copies, help="Keep and use no converted copy of a .gguf file."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output; everything else goes to standard error.")
]
VocabularyOption = Annotated[str, typer.Option(help="Words: builtin, or a text or TSV file from frequent to rare.")]
VectorsOption = Annotated[str, typer.Option(help="Word vectors that tell what is related: builtin, or a file.")]
TopKOption = Annotated[int, typer.Option(min=1, help="Words per head dimension, as queries and as keys.")]


def _finding_names(begun: str) -> list[str]:
    """Complete the last name of a list by commas."""
    before, comma, last = begun.rpartition(",")
    return [f"{before}{comma}{name}" for name in (*findings(), "all") if name.startswith(last)]


ProbesOption = Annotated[
    str,
    typer.Option(help="all, or names by commas; `itlens findings` lists them.", autocompletion=_finding_names),
]
ResponsesOption = Annotated[
    ResponsesChoice,
    typer.Option(help="own: each model is read on its own responses (the paper); tuned or base: both on that model's."),
]


_BINARY = ("parquet", "nc")


def form_of(
    kinds: type[WordFormat] | type[ConceptFormat], output: Enum | None, out: Path | None, as_json: bool = False
) -> str:
    """What is asked for: by --format (or --json), else by the ending of --out, else a table."""
    asked = None if output is None else str(output.value)
    if as_json:
        asked = json_form(asked)
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


def json_form(asked: str | None) -> str:
    """Return "json" for --json. Raises ItlensError where --format says something else."""
    if asked not in (None, "json"):
        raise ItlensError(f"--json and --format {asked} do not go together; leave one of them out.")
    return "json"


def plan_of_one(finding: Finding, model: str, adapter: str | None, trust_remote_code: bool, **options: Any) -> Plan:
    """Return the plan of a finding for one model, from its config and tokenizer alone, with its options checked."""
    from itlens.models.compatibility import Side
    from itlens.study.request import checked_options

    side = Side.of("base", model, adapter=adapter, trust_remote_code=trust_remote_code)
    checked = checked_options([finding], {name: value for name, value in options.items() if value is not None})
    layers, heads = int(side.facts.get("layers") or 0), int(side.facts.get("heads") or 0)
    return Plan(checked.of[finding.name], {"base": side}, layers=tuple(range(layers)), heads=heads)


def loaded_model(model: str, dtype: Dtype, backend: Backend, *, quiet: bool = False, **options: Any) -> Any:
    """Load the model of a command (`itlens.load_model`), and say so where that takes long, unless it is quiet."""
    with late_bar(f"loading {model}", show=not quiet):
        from itlens.models import load_model

        return load_model(model, dtype=dtype.value, backend=backend.value, **options)


def opened_weights(model: str, dtype: Dtype, backend: Backend, *, quiet: bool = False, **options: Any) -> Any:
    """Return the weights of a command's model: read from its files a layer at a time where they allow it, else those of
    the loaded model."""
    with late_bar(f"opening {model}", show=not quiet):
        from itlens.weights.stored import streamed

        found = streamed(model, dtype=dtype.value, backend=backend.value, **options)
    return loaded_model(model, dtype, backend, quiet=quiet, **options) if found is None else found
