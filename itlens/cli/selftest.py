"""`itlens selftest [MODEL]`: does the toolkit find changes that are known to be there?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from itlens.cli.options import AdapterOption, Backend, BackendOption, DeviceOption, Dtype, DtypeOption, RemoteOption

_DEFAULT = "Default: by --thorough."


def selftest(
    model: Annotated[
        str | None, typer.Argument(help="Hub id, folder or .gguf file; default: the embedded base.")
    ] = None,
    probes: Annotated[str, typer.Option(help="all, or names joined by commas.")] = "all",
    plants: Annotated[str, typer.Option(help="all, or names joined by commas.")] = "all",
    strengths: Annotated[
        str, typer.Option(help="Of the plants, in units of the noise, joined by commas.")
    ] = "0.25,2,16,64",
    noise: Annotated[float, typer.Option(help="Everywhere, as a share of each tensor's size.")] = 0.01,
    repeats: Annotated[int | None, typer.Option(help=f"Planted pairs of each kind. {_DEFAULT}")] = None,
    calibration: Annotated[int | None, typer.Option(help=f"Noise-only pairs for the thresholds. {_DEFAULT}")] = None,
    prompts: Annotated[str | None, typer.Option(help="builtin, demo, or a .jsonl or .tsv file.")] = None,
    limit: Annotated[int | None, typer.Option(help=f"Only so many prompts, the shortest. {_DEFAULT}")] = None,
    words: Annotated[int | None, typer.Option(help=f"So many words of the vocabulary. {_DEFAULT}")] = None,
    layers: Annotated[int | None, typer.Option(help=f"At most so many layers, evenly spread. {_DEFAULT}")] = None,
    seed: Annotated[int, typer.Option(help="Of noise, plants and places.")] = 0,
    thorough: Annotated[bool, typer.Option("--thorough", help="More repeats, words, prompts, and all layers.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write this .json, and a picture (.html) beside it.")] = None,
    dtype: DtypeOption = Dtype.float32,
    device: DeviceOption = None,
    backend: BackendOption = Backend.hooked,
    adapter: AdapterOption = None,
    trust_remote_code: RemoteOption = False,
) -> None:
    """Plant known changes into a model, and print which probes find them and how often they find what is not there."""
    if model is None:
        # a model of three million parameters only gets slower with more threads; torch reads this when it is imported
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    from itlens.planted.running import selftest as run
    from itlens.terminal.selftest import print_selftest

    found = run(
        model,
        probes=probes,
        plants=plants,
        strengths=_numbers(strengths),
        noise=noise,
        repeats=repeats,
        calibration=calibration,
        prompts=prompts,
        limit=limit,
        words=words,
        most_layers=layers,
        seed=seed,
        thorough=thorough,
        out=out,
        dtype=dtype.value,
        device=device,
        backend=backend.value,
        adapter=adapter,
        trust_remote_code=trust_remote_code,
    )
    print_selftest(found, [] if out is None else [out, out.with_suffix(".html")])


def _numbers(given: str) -> list[float | str]:
    """The numbers of a list; what is none stays as it is, to be named by the error."""
    out: list[float | str] = []
    for part in given.split(","):
        try:
            out.append(float(part))
        except ValueError:
            out.append(part.strip())
    return out
