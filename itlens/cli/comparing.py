"""Which study a `compare` is, a pair, template x weights or a series, and what is printed of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from itlens.errors import PairError, PromptError

_RESULTS = (
    *("attributions/*/*.nc", "words/*/layer-*.parquet", "concepts/*/*.nc"),
    *("activations/*.nc", "patching/*.nc", "faithfulness/*/*.nc"),
)


def run_comparison(
    models: Sequence[str],
    prompts: str,
    out: Path,
    *,
    probes: str,
    template: str | None = None,
    labels: tuple[str, ...] | None = None,
    **options: Any,
) -> None:
    """Run it and print what came out. Raises a subclass of ItlensError for wrong input."""
    named = [name.strip() for name in probes.split(",")]
    _refuse_unfitting(models, template, labels, options)
    if template == "on":
        options["format"] = "chat"
    try:
        _run(models, prompts, named, out, template, labels, options)
    except PromptError as error:
        if template not in ("on", "both") or "chat template" not in str(error):
            raise
        raise PromptError(f"{str(error).removesuffix('.')}; on the command line: --template off.") from error
    except KeyboardInterrupt:
        finished = sum(len(list(Path(out).glob(f"{above}{found}"))) for above in ("", "*/") for found in _RESULTS)
        kept = (
            f"{finished} finished results are kept in {out}: the same command goes on"
            if finished
            else "nothing was finished"
        )
        print(f"Stopped; {kept}.", file=sys.stderr)
        raise


def _run(
    models: Sequence[str], prompts: str, probes: list[str], out: Path, template: Any, labels: Any, options: Any
) -> None:
    if len(models) > 2:
        _print_several(_series(models, prompts, probes, out, labels, options))
    elif template == "both":
        options.pop("format", None)
        _print_several(_templates(models, prompts, probes, out, labels, options))
    else:
        _print_pair(_pair(models, prompts, probes, out, labels, options))


def report_again(path: Path) -> None:
    """Tables and page of a folder, from what is finished in it."""
    from itlens.study.several import kind_of

    kind = kind_of(path)
    if kind is None:
        from itlens.study.comparison import open_comparison
        from itlens.study.outcome import write_outcome

        comparison = open_comparison(path)
        write_outcome(comparison)
        _print_pair(comparison)
        return
    from itlens.study.several_pages import write_several

    _print_several(write_several(path, kind))


def _refuse_unfitting(
    models: Sequence[str], template: str | None, labels: tuple[str, ...] | None, options: dict[str, Any]
) -> None:
    """Raise one sentence for options that do not go together."""
    if len(models) < 2 and options.get("adapter") is None:
        raise PairError("Give TUNED (one or several models), or --adapter for the base with an adapter.")
    if template in ("on", "both") and options.get("format", "raw") != "raw":
        raise PromptError(f"--template {template} reads prompts in the chat template; leave --format out.")
    if template == "both" and len(models) > 2:
        raise PairError(
            f"--template both compares two models, got {len(models)}; run it for each pair, or use on or off."
        )
    if options.get("adapter") is not None and len(models) > 2:
        raise PairError("--adapter belongs to one tuned model; a series takes whole models, merge the adapter first.")
    wanted = max(2, len(models))
    if labels is not None and len(labels) != wanted:
        raise PairError(f"--labels names {len(labels)} models, and there are {wanted}; give one label for each.")


def _pair(
    models: Sequence[str], prompts: str, probes: list[str], out: Path, labels: Any, options: dict[str, Any]
) -> Any:
    from itlens.study.running import compare

    return compare(*_two(models), prompts, probes, out, labels=labels, **options)


def _templates(
    models: Sequence[str], prompts: str, probes: list[str], out: Path, labels: Any, options: dict[str, Any]
) -> Any:
    from itlens.study.templates import compare_templates

    return compare_templates(*_two(models), prompts, probes, out, labels=labels, **options)


def _series(
    models: Sequence[str], prompts: str, probes: list[str], out: Path, labels: Any, options: dict[str, Any]
) -> Any:
    from itlens.study.series import compare_series

    options = {name: value for name, value in options.items() if name != "adapter"}
    return compare_series(list(models), prompts, probes, out, labels=labels, **options)


def _two(models: Sequence[str]) -> tuple[str, str | None]:
    return models[0], models[1] if len(models) > 1 else None


def _print_pair(comparison: Any) -> None:
    from itlens.terminal import print_comparison

    print_comparison(comparison)


def _print_several(found: Any) -> None:
    from itlens.terminal import print_several

    print_several(found)
