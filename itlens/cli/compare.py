"""Commands on a base and a tuned model: `itlens demo | compare | report`.

The options of findings come from the findings (`itlens.findings.options`): a new finding's flags and help are there
without a line in this file.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from itlens.cli.options import (
    PROMPT_FORMAT,
    PROMPT_FORMAT_HELP,
    AdapterOption,
    Backend,
    BackendOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    ExecutorChoice,
    ExecutorOption,
    JsonOption,
    NewTokensOption,
    NoCacheOption,
    ProbesOption,
    QuietOption,
    RayAddressOption,
    RayCpusOption,
    RemoteOption,
    ResponsesChoice,
    ResponsesOption,
    Template,
)
from itlens.errors import PairError, PromptError
from itlens.files import visible
from itlens.findings import findings
from itlens.findings.options import Option, options_of
from itlens.models.configuration import refuse_at_a_glance
from itlens.progress import reporter
from itlens.study.folder import FINDINGS_FILE
from itlens.study.request import all_options

_TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool}


def with_finding_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with a flag for each option of the findings, in place of its `**options`."""

    def run(**given: Any) -> None:
        names = {name for name in all_options() if name in given}
        options = {name: _value(all_options()[name], given[name]) for name in names if given[name] is not None}
        command(**{name: value for name, value in given.items() if name not in names}, **options)

    own = [
        each for each in inspect.signature(command, eval_str=True).parameters.values() if each.kind != each.VAR_KEYWORD
    ]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(each))
        for name, each in all_options().items()
        if each.spec.command_line
    ]
    everything = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own] + added
    run.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in everything}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _annotation(each: Option) -> Any:
    """Return the type that typer reads: a flag with help, the default in words, and the least number."""
    spec = each.spec
    flags = [
        spec.flag or f"--{each.name.replace('_', '-')}",
        *(f"--{alias.replace('_', '-')}" for alias in spec.aliases),
    ]
    kind = _TYPES.get(each.kind, str)
    if kind is bool:
        flags = [f"{flags[0]}/--no-{flags[0].removeprefix('--')}", *flags[1:]]
    shown = ",".join(each.default) if isinstance(each.default, (list, tuple)) else each.default
    words = spec.help if each.default is None else f"{spec.help} [default: {shown}]"
    least: dict[str, Any] = {} if spec.at_least is None or kind not in (int, float) else {"min": kind(spec.at_least)}
    return Annotated[
        kind | None,
        typer.Option(*flags, help=words, show_default=False, rich_help_panel=_panel(each), **least),
    ]


def _panel(each: Option) -> str:
    """Return the heading in the help: the findings that have the option."""
    names = [
        finding.name
        for finding in findings().values()
        if any(own.spec is each.spec for own in options_of(finding.Options))
    ]
    return f"Options of {', '.join(names)}"


def _value(each: Option, given: Any) -> Any:
    return [name.strip() for name in given.split(",")] if each.kind == "names" else given


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for results and report.")] = Path("runs/demo"),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first prompts, as many as this.")] = None,
    probes: ProbesOption = "all",
    responses: ResponsesOption = ResponsesChoice.tuned,
    resume: Annotated[bool, typer.Option(help="Keep what is finished in --out.")] = True,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare the embedded pair on its own prompts; needs no network."""
    from itlens import demo as pair

    # models of three million parameters only get slower with more threads; torch reads this when it is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    models = [str(pair.base_path()), str(pair.tuned_path())]
    options: dict[str, Any] = {"limit": limit, "resume": resume, "max_new_tokens": 16}
    options |= {"labels": ("demo base", "demo tuned"), "responses": responses.value}
    too = responses is not ResponsesChoice.own
    run_comparison(models, "demo", out, probes, quiet=quiet, as_json=as_json, own_responses_too=too, **options)


def compare_command(
    base: Annotated[str, typer.Argument(help="The pre-trained model: hub id, folder or .gguf file.")],
    tuned: Annotated[
        list[str] | None,
        typer.Argument(
            help="Its tuned version, or several in order; may be left out with --adapter.", show_default=False
        ),
    ] = None,
    prompts: Annotated[str, typer.Option(help="builtin, demo, or a .jsonl or .tsv file.")] = "builtin",
    out: Annotated[Path, typer.Option(help="Folder for results and report.")] = Path("runs/comparison"),
    probes: ProbesOption = "all",
    dtype: DtypeOption = Dtype.float32,
    device: DeviceOption = None,
    backend: BackendOption = Backend.hooked,
    adapter: AdapterOption = None,
    template: Annotated[
        Template | None, typer.Option(help="Chat template: off, on (for both models), or both: template x weights.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="What to call the models, by commas, in order.")] = None,
    interpolate: Annotated[
        str | None, typer.Option(help="Alphas by commas: a series of models from base (0) to tuned (1), and beyond.")
    ] = None,
    parts: Annotated[
        str | None, typer.Option(help="What --interpolate moves: attention, mlp, embedding, layers, by commas.")
    ] = None,
    prompt_format: Annotated[
        str, typer.Option(PROMPT_FORMAT, "--format", help=f"{PROMPT_FORMAT_HELP} (--format: the same)")
    ] = "raw",
    responses: ResponsesOption = ResponsesChoice.own,
    max_new_tokens: NewTokensOption = 200,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first prompts, as many as this.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of intervals, permutations and random draws.")] = 0,
    resume: Annotated[bool, typer.Option(help="Keep what is finished in --out.")] = True,
    executor: ExecutorOption = ExecutorChoice.local,
    ray_address: RayAddressOption = None,
    ray_cpus: RayCpusOption = None,
    trust_remote_code: RemoteOption = False,
    no_cache: NoCacheOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **options: Any,
) -> None:
    """Compare two models (or a series of them), and write tables, findings.json and report.html into --out."""
    run_comparison(
        [base, *(tuned or [])],
        prompts,
        out,
        probes,
        template=template.value if template is not None else None,
        labels=None if labels is None else tuple(name.strip() for name in labels.split(",")),
        interpolate=interpolate,
        parts=parts,
        dtype=dtype.value,
        device=device,
        backend=backend.value,
        adapter=adapter,
        format=prompt_format,
        responses=responses.value,
        max_new_tokens=max_new_tokens,
        limit=limit,
        seed=seed,
        resume=resume,
        executor=executor.value,
        ray_address=ray_address,
        ray_cpus=ray_cpus,
        trust_remote_code=trust_remote_code,
        as_json=as_json,
        quiet=quiet,
        **options,
    )


def report_command(
    folder: Annotated[Path, typer.Argument(help="A folder that `itlens compare` wrote.")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write tables, findings.json and report.html again, from what is finished in a run folder."""
    from itlens.study.several import kind_of

    kind = kind_of(folder)
    if kind is None:
        from itlens.study.comparison import open_comparison
        from itlens.study.outcome import rewrite_outcome

        comparison = open_comparison(folder)
        rewrite_outcome(comparison)
        _print(comparison, quiet=quiet, as_json=as_json)
        return
    from itlens.study.several_outcome import write_again

    _print(write_again(folder, kind), quiet=quiet, as_json=as_json)


def run_comparison(
    models: Sequence[str],
    prompts: str,
    out: Path,
    probes: str,
    *,
    template: str | None = None,
    labels: tuple[str, ...] | None = None,
    interpolate: str | None = None,
    parts: str | None = None,
    own_responses_too: bool = False,
    as_json: bool = False,
    quiet: bool = False,
    **options: Any,
) -> None:
    """Run a pair, template x weights or a series, and print what came out; quiet: only what failed.

    as_json: findings.json on standard output, and everything else on standard error.

    own_responses_too: also compare the findings that read prompts on each model's own responses, in out/own-responses,
    and say in the report what that gives. Raises a subclass of ItlensError for wrong input; exits with 1 where the code
    of a finding failed.
    """
    named = [name.strip() for name in probes.split(",")]
    between = _interpolation(models, template, interpolate, parts)
    _refuse_unfitting(models, template, None if between else labels, options)
    options |= between
    refuse_at_a_glance(*models)
    if template == "on":
        options["format"] = "chat"
    try:
        with reporter(not quiet) as tell:
            tell.opening("starting")
            options["progress"] = tell
            found = _run(models, prompts, named, out, template, labels, options)
            if own_responses_too:
                from itlens.study.pair import compare_own_responses

                found = compare_own_responses(found, *_two(models), prompts, labels=labels, **options)
    except PromptError as error:
        if template not in ("on", "both") or "chat template" not in str(error):
            raise
        raise PromptError(f"{str(error).removesuffix('.')}; on the command line: --template off.") from error
    except KeyboardInterrupt:
        from itlens.study.results import count_results

        finished = count_results(out)
        kept = (
            f"{finished} finished results are kept in {out}: the same command goes on"
            if finished
            else "nothing was finished"
        )
        print(f"Stopped; {kept}.", file=sys.stderr)
        raise
    failed = [each for each in getattr(found, "failures", ()) if not each.expected]
    _print(found, quiet=quiet, as_json=as_json)
    for each in failed if quiet else ():
        print(f"itlens: {visible(each.sentence)}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def _run(
    models: Sequence[str],
    prompts: str,
    probes: list[str],
    out: Path,
    template: Any,
    labels: Any,
    options: dict[str, Any],
) -> Any:
    if len(models) > 2 or "interpolate" in options:
        from itlens.study.series import compare_series

        if options.get("adapter") is None:
            options = {name: value for name, value in options.items() if name != "adapter"}
        return compare_series(list(models), prompts, probes, out, labels=labels, **options)
    if template == "both":
        from itlens.study.templates import compare_templates

        options = {name: value for name, value in options.items() if name != "format"}
        return compare_templates(*_two(models), prompts, probes, out, labels=labels, **options)
    from itlens.study.pair import compare as compare_pair

    return compare_pair(*_two(models), prompts, probes, out, labels=labels, **options)


def _interpolation(
    models: Sequence[str], template: str | None, interpolate: str | None, parts: str | None
) -> dict[str, Any]:
    """Return interpolate= and parts= of `compare_series`; nothing where there is no --interpolate."""
    if interpolate is None:
        if parts is not None:
            raise PairError("--parts says what --interpolate moves; give --interpolate, such as 0,0.5,1.")
        return {}
    if len(models) > 2 or template == "both":
        raise PairError(
            "--interpolate goes from one base to one tuned model; leave other models and --template both out."
        )
    try:
        alphas = [float(alpha) for alpha in interpolate.split(",")]
    except ValueError as error:
        raise PairError(f"--interpolate is {interpolate!r}; expected numbers by commas, such as 0,0.5,1.") from error
    listed = None if parts is None else [part.strip() for part in parts.split(",")]
    moved = None if listed is None else [int(part) if part.isdecimal() else part for part in listed]
    return {"interpolate": alphas, "parts": moved}


def _refuse_unfitting(
    models: Sequence[str], template: str | None, labels: tuple[str, ...] | None, options: Mapping[str, Any]
) -> None:
    """Raise one sentence for options that do not go together."""
    if len(models) < 2 and options.get("adapter") is None:
        raise PairError("Give TUNED (one or several models), or --adapter for the base with an adapter.")
    if template in ("on", "both") and options.get("format", "raw") != "raw":
        raise PromptError(f"--template {template} reads prompts in the chat template; leave {PROMPT_FORMAT} out.")
    if template == "both" and len(models) > 2:
        raise PairError(
            f"--template both compares two models, got {len(models)}; run it for each pair, or use on or off."
        )
    if options.get("adapter") is not None and len(models) > 2:
        raise PairError("--adapter belongs to one tuned model; a series takes whole models, merge the adapter first.")
    wanted = max(2, len(models))
    if labels is not None and len(labels) != wanted:
        raise PairError(f"--labels names {len(labels)} models, and there are {wanted}; give one label for each.")


def _two(models: Sequence[str]) -> tuple[str, str | None]:
    return models[0], models[1] if len(models) > 1 else None


def _print(found: Any, *, quiet: bool, as_json: bool) -> None:
    """Print what came out as tables, unless quiet; as_json: these on standard error, and findings.json on output."""
    from rich.console import Console

    from itlens.report.terminal import print_page

    if not quiet:
        print_page(found.page, Console(stderr=True) if as_json else None, report_path=found.report_path)
    if as_json:
        sys.stdout.write((Path(found.out) / FINDINGS_FILE).read_text(encoding="utf-8") + "\n")
