"""Options that several commands have, and what they can be."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


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


class Template(str, Enum):
    """How `itlens compare` uses the chat template."""

    off = "off"
    on = "on"
    both = "both"


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
NewTokensOption = Annotated[int, typer.Option(min=1, help="At most so many tokens of a generated response.")]
VocabularyOption = Annotated[str, typer.Option(help="Words: builtin, or a text or TSV file from frequent to rare.")]
VectorsOption = Annotated[str, typer.Option(help="Word vectors that tell what is related: builtin, or a file.")]
TopKOption = Annotated[int, typer.Option(min=1, help="Words per head dimension, as queries and as keys.")]
ProbesOption = Annotated[
    str,
    typer.Option(help="all, or names by commas: attribution, attention, mlp, activation, patching, faithfulness."),
]
