"""The command line: `itlens demo | compare | attribute | report | inspect`.

Exit codes: 0 done; 2 wrong input, with one sentence on standard error; 130 interrupted, with everything finished kept.
Heavy modules load inside the commands, so that `itlens --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from enum import Enum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from itlens.errors import ItlensError
from itlens.files import visible

app = typer.Typer(
    name="itlens",
    help="What did instruction tuning change inside the model?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# typer brings its own copy of click or uses the installed one; its exceptions are reached through its public names
_ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


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


class Format(str, Enum):
    """How `itlens attribute` prints."""

    table = "table"
    json = "json"
    csv = "csv"


DtypeOption = Annotated[Dtype, typer.Option(help="Precision of weights and activations.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, mps; default: cuda where there is one.")]
BackendOption = Annotated[Backend, typer.Option(help="HookedTransformer or TransformerBridge.")]
AdapterOption = Annotated[str | None, typer.Option(help="A PEFT adapter to merge (into TUNED in `compare`).")]
RemoteOption = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")]
NewTokensOption = Annotated[int, typer.Option(min=1, help="At most so many tokens of a generated response.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for results and report.")] = Path("runs/demo"),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts.")] = None,
    resume: Annotated[bool, typer.Option(help="Keep the prompts that are finished in --out.")] = True,
) -> None:
    """Compare the embedded pair on its own prompts; needs no network."""
    from itlens import demo as pair

    # models of three million parameters only get slower with more threads; torch reads this when it is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _compare(
        str(pair.base_path()),
        str(pair.tuned_path()),
        "demo",
        out,
        limit=limit,
        resume=resume,
        max_new_tokens=16,
        labels=("demo base", "demo tuned"),
    )


@app.command()
def compare(
    base: Annotated[str, typer.Argument(help="The pre-trained model: hub id, folder or .gguf file.")],
    tuned: Annotated[str | None, typer.Argument(help="Its tuned self; may be left out with --adapter.")] = None,
    prompts: Annotated[str, typer.Option(help="builtin, demo, or a .jsonl or .tsv file.")] = "builtin",
    out: Annotated[Path, typer.Option(help="Folder for results and report.")] = Path("runs/comparison"),
    probes: Annotated[str, typer.Option(help="all, or names joined by commas: attribution.")] = "all",
    dtype: DtypeOption = Dtype.float32,
    device: DeviceOption = None,
    backend: BackendOption = Backend.hooked,
    adapter: AdapterOption = None,
    prompt_format: Annotated[str, typer.Option("--format", help="raw, chat, or a text with {prompt}.")] = "raw",
    method: Annotated[
        str, typer.Option(help="input_x_gradient, saliency or integrated_gradients.")
    ] = "input_x_gradient",
    objective: Annotated[str, typer.Option(help="prob, logprob, logit or contrastive.")] = "prob",
    max_new_tokens: NewTokensOption = 200,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Derivatives at a time; default: by memory.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap intervals.")] = 0,
    resume: Annotated[bool, typer.Option(help="Keep the prompts that are finished in --out.")] = True,
    trust_remote_code: RemoteOption = False,
) -> None:
    """Compare two models on prompts, and write tables and report.html into --out."""
    _compare(
        base,
        tuned,
        prompts,
        out,
        probes=[name.strip() for name in probes.split(",")],
        dtype=dtype.value,
        device=device,
        backend=backend.value,
        adapter=adapter,
        format=prompt_format,
        method=method,
        objective=objective,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        limit=limit,
        seed=seed,
        resume=resume,
        trust_remote_code=trust_remote_code,
    )


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="A folder that `itlens compare` wrote.")]) -> None:
    """Write tables and report.html again, from the finished prompts of a run folder."""
    from itlens.study.comparison import open_comparison, write_outcome
    from itlens.terminal import print_comparison

    comparison = open_comparison(folder)
    write_outcome(comparison)
    print_comparison(comparison)


@app.command()
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
    from itlens.models import load_model
    from itlens.probes.attribution import attribute as run
    from itlens.prompts import Prompt
    from itlens.terminal import print_attribution, save_attribution

    asked = Prompt(prompt, instruction=[instruction] if instruction else [])
    if out is not None and out.suffix not in (".nc", ".html"):
        raise ItlensError(f"--out is {out.name!r}; expected a name that ends in .nc or .html.")
    loaded = load_model(
        model,
        adapter=adapter,
        device=device,
        dtype=dtype.value,
        backend=backend.value,
        trust_remote_code=trust_remote_code,
    )
    found = run(loaded, asked, response, method=method, objective=objective, max_new_tokens=max_new_tokens)
    if out is not None:
        save_attribution(found, asked, out)
    print_attribution(found, asked, output.value)


@app.command()
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


def _compare(base: str, tuned: str | None, prompts: str, out: Path, **options: Any) -> None:
    from itlens.study.running import compare as run
    from itlens.terminal import print_comparison

    try:
        comparison = run(base, tuned, prompts, out=out, **options)
    except KeyboardInterrupt:
        finished = len(list(Path(out).glob("attributions/*/*.nc")))
        kept = (
            f"{finished} finished results are kept in {out}: the same command goes on"
            if finished
            else "nothing was finished"
        )
        print(f"Stopped; {kept}.", file=sys.stderr)
        raise
    print_comparison(comparison)


def main() -> None:
    """The console script: run a command and exit with its code."""
    for stream in (sys.stdout, sys.stderr):  # a token that the terminal's encoding lacks is shown escaped
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except _ClickException as error:
        _fail(error.format_message())
    except ItlensError as error:
        _fail(str(error))
    except OSError as error:  # what no module foresaw: a disk that fails while a model is fetched, a closed pipe
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.")
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(sentence: str) -> None:
    if sentence:  # a bare `itlens` has shown its help already
        print(f"itlens: {visible(' '.join(sentence.split()))}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
