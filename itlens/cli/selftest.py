"""`itlens selftest [MODEL]`: does the toolkit find known changes? Its tables and conclusions in the terminal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import numpy as np
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
    DeviceOption,
    Dtype,
    DtypeOption,
    NoProgressOption,
    RemoteOption,
)
from itlens.files import visible

_DEFAULT = "Default: by --thorough."


def selftest_command(
    model: Annotated[
        str | None, typer.Argument(help="Hub id, folder or .gguf file; default: the embedded base.")
    ] = None,
    probes: Annotated[str, typer.Option(help="all, or names joined by commas.")] = "all",
    plants: Annotated[str, typer.Option(help="all, or names joined by commas.")] = "all",
    strengths: Annotated[
        str, typer.Option(help="Strengths of the plants, in units of the noise, joined by commas.")
    ] = "0.25,2,16,64",
    noise: Annotated[
        float, typer.Option(help="Noise on all weights, as a share of each tensor's root mean square.")
    ] = 0.01,
    repeats: Annotated[int | None, typer.Option(help=f"Planted pairs of each kind. {_DEFAULT}")] = None,
    calibration: Annotated[int | None, typer.Option(help=f"Noise-only pairs for the thresholds. {_DEFAULT}")] = None,
    prompts: Annotated[str | None, typer.Option(help="builtin, demo, or a .jsonl or .tsv file.")] = None,
    limit: Annotated[int | None, typer.Option(help=f"Number of prompts (the shortest). {_DEFAULT}")] = None,
    words: Annotated[int | None, typer.Option(help=f"Number of words of the vocabulary. {_DEFAULT}")] = None,
    layers: Annotated[int | None, typer.Option(help=f"Largest number of layers, evenly spread. {_DEFAULT}")] = None,
    seed: Annotated[int, typer.Option(help="Seed of noise, plants and their units.")] = 0,
    thorough: Annotated[bool, typer.Option("--thorough", help="More repeats, words, prompts, and all layers.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write this .json, and a picture (.html) beside it.")] = None,
    dtype: DtypeOption = Dtype.float32,
    device: DeviceOption = None,
    backend: BackendOption = Backend.hooked,
    adapter: AdapterOption = None,
    trust_remote_code: RemoteOption = False,
    quiet: NoProgressOption = False,
) -> None:
    """Plant known changes into a model, and print which probes find them and how often they find what is not there."""
    if model is None:
        # a model of three million parameters only gets slower with more threads; torch reads this when it is imported
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    from itlens.planted import selftest as run_selftest

    result = run_selftest(
        model,
        probes=probes,
        plants=plants,
        strengths=_numbers(strengths),  # type: ignore[arg-type]  # what is no number is named by the error
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
        progress=not quiet,
    )
    print_selftest(result, [] if out is None else [out, out.with_suffix(".html")])


def _numbers(text: str) -> list[float | str]:
    """Return the numbers of a list; anything else stays text, to be named by the error."""
    values: list[float | str] = []
    for item in text.split(","):
        try:
            values.append(float(item))
        except ValueError:
            values.append(item.strip())
    return values


_LEGEND = (
    "recall: share of planted units that are found, with exact 95 % interval; false: false discoveries, mean over "
    "pairs; strength: norm of the plant in units of the noise on the same weights"
)
_PROBE_LEGEND = (
    "same: largest value between identical models; alarms: share of noise-only pairs in which anything was found; "
    "seconds: of one reading of all units"
)
_P_LEGEND = (
    "p-values of two noisy copies of the model, exchanged prompt by prompt at random, so that the null is true. "
    "<= 0.05: their share, with 95 % interval over pairs of copies (correct: at most 5 %; less for discrete p-values); "
    "KS p: small if there are too many p-values below 0.2. as is: the same copies without exchange; they differ by "
    "their noise, and a test over prompts finds that: it says that two models differ, not why"
)
_GOAL = 0.95


def print_selftest(result: xr.Dataset, written: list[Path], console: Console | None = None) -> None:
    """Print three tables, the paths of written files, and the conclusions."""
    console = console or Console()
    console.print(_recalls(result))
    console.print(_probes(result))
    if result.sizes["test"]:
        console.print(_tests(result))
    for path in written:
        console.print(visible(f"Saved: {path}"), markup=False, highlight=False, soft_wrap=True)
    for sentence in conclusions(result):
        console.print(visible(sentence), style="bold", markup=False, highlight=False)


def conclusions(result: xr.Dataset) -> list[str]:
    """Return the conclusions in sentences: recall at the strongest plants, false discoveries, identical models."""
    if not _pairs(result):
        return ["None of these probes is meant to see any of these plants."]
    return [_recall_sentence(result), _false_sentence(result), _identical_sentence(result)]


def _recall_sentence(result: xr.Dataset) -> str:
    overall = result.sel(scope="all")
    strength, trials = float(result["strength"][-1]), int(overall["overall_trials"])
    untested = _untested(result)
    if not trials:
        return f"Recall of plants of strength {strength:g}: not tested: {', '.join(untested)}."
    recall, low, high = (float(overall[f"overall_recall{end}"]) for end in ("", "_low", "_high"))
    clauses = [
        f"Recall of plants of strength {strength:g}: {recall:.2f} [{low:.2f}, {high:.2f}], "
        f"{round(recall * trials)} of {trials}"
    ]
    missing = _missing(result)
    clauses.append(f"below {_GOAL}: {', '.join(missing)}" if missing else _reached(result, all_tested=not untested))
    if untested:
        clauses.append(f"not tested: {', '.join(untested)}")
    return "; ".join(clauses) + "."


def _reached(result: xr.Dataset, *, all_tested: bool) -> str:
    """Return that all estimates reach the goal, with the lowest end of their intervals."""
    ends = result["overall_recall_low"].sel(scope=result["probe"].values)
    ends = ends.where(np.isfinite(result["overall_recall"].sel(scope=result["probe"].values)), drop=True)
    lowest = ends.isel(scope=int(np.argmin(ends.values)))
    return (
        f"every {'' if all_tested else 'tested '}probe reaches {_GOAL} (lowest bound of an interval: "
        f"{float(lowest):.2f}, {lowest['scope'].item()})"
    )


def _untested(result: xr.Dataset) -> list[str]:
    """Return the probes that read none of the strongest plants, and plants that a probe should see but could not."""
    recall = result["overall_recall"]
    probes = [str(probe) for probe in result["probe"].values if not np.isfinite(float(recall.sel(scope=probe)))]
    strongest = result["recall"].isel(strength=-1)
    return probes + [
        f"{probe} on {plant}"
        for plant, probe in _pairs(result)
        if probe not in probes and not np.isfinite(float(strongest.sel(plant=plant, probe=probe)))
    ]


def _missing(result: xr.Dataset) -> list[str]:
    """Return the probes below the goal, over all their plants or on one of them."""
    strongest, missing = result.isel(strength=-1), []
    for probe in result["probe"].values:
        recall = float(result["overall_recall"].sel(scope=probe))
        if recall < _GOAL:
            missing.append(f"{probe} ({recall:.2f})")
        for plant in (plant for plant, seeing in _pairs(result) if seeing == probe):
            scores = strongest.sel(plant=plant, probe=probe)
            recall, low, high = (float(scores[f"recall{end}"]) for end in ("", "_low", "_high"))
            if recall < _GOAL:
                interval = f"[{low:.2f}, {high:.2f}]"
                missing.append(f"{probe} on {plant} ({recall:.2f} {interval} of {int(scores['trials'])})")
    return missing


def _false_sentence(result: xr.Dataset) -> str:
    overall, level = result.sel(scope="all"), float(result.attrs["level"])
    rate = float(overall["overall_false"])
    if not np.isfinite(rate):
        return "False discoveries: not tested (the plants reach every unit)."
    low, high = (_percent(float(overall[f"overall_false_{end}"])) for end in ("low", "high"))
    above = [
        f"{probe} ({_percent(float(result['overall_false'].sel(scope=probe)))})"
        for probe in result["probe"].values
        if float(result["overall_false"].sel(scope=probe)) > level
    ]
    probes = f"above {100 * level:g} %: {', '.join(above)}" if above else f"no probe above {100 * level:g} %"
    return f"False discoveries at that strength: {_percent(rate)} [{low} to {high}]; {probes}."


def _identical_sentence(result: xr.Dataset) -> str:
    different = [str(name) for name in result["probe"].values[result["identical"].values > 0]]
    different += [str(name) for name in result["test"].values[result["p_identical"].values < 1]]
    where = f"a difference in {', '.join(different)}" if different else "no difference anywhere"
    return f"Identical models: {where}."


def _pairs(result: xr.Dataset) -> list[tuple[str, str]]:
    """Return (plant, probe) for each plant that a probe is meant to see."""
    names = [(str(plant), str(probe)) for plant in result["plant"].values for probe in result["probe"].values]
    return [(plant, probe) for plant, probe in names if bool(result["meant"].sel(plant=plant, probe=probe))]


def _recalls(result: xr.Dataset) -> Table:
    table = _table("Recall by strength", _LEGEND)
    table.add_column("plant", no_wrap=True)
    table.add_column("probe", overflow="fold")
    for strength in result["strength"].values:
        table.add_column(f"{strength:g}", justify="right", no_wrap=True)
    for name in ("95 %", "false"):
        table.add_column(name, justify="right", no_wrap=True)
    last = ""
    for plant, probe in _pairs(result):
        scores = result.sel(plant=plant, probe=probe)
        strongest = scores.isel(strength=-1)
        interval = f"{float(strongest['recall_low']):.2f}-{float(strongest['recall_high']):.2f}"
        cells = [_decimal(value) for value in scores["recall"].values]
        table.add_row(
            "" if plant == last else plant, probe, *cells, interval, _percent(float(strongest["false_discoveries"]))
        )
        last = plant
    return table


def _probes(result: xr.Dataset) -> Table:
    table = _table("Probes, at the strongest plants", _PROBE_LEGEND)
    for name in ("probe", "units", "recall", "95 %", "false", "same", "alarms", "seconds"):
        table.add_column(name, justify="left" if name == "probe" else "right", no_wrap=name != "probe")
    for probe in result["probe"].values:
        row, pooled = result.sel(probe=probe), result.sel(scope=probe)
        table.add_row(
            Text(str(probe)), f"{int(row['units'])} {row['kind'].item()}s", _decimal(float(pooled["overall_recall"])),
            "-".join(_decimal(float(pooled[f"overall_recall_{end}"])) for end in ("low", "high")),
            _percent(float(pooled["overall_false"])), f"{float(row['identical']):g}",
            _percent(float(row["null_false_pairs"])), f"{float(row['seconds']):.2f}",
        )  # fmt: skip
    return table


def _tests(result: xr.Dataset) -> Table:
    table = _table("p-values under a true null", _P_LEGEND)
    for name in ("test", "pairs", "p-values", "<= 0.05", "95 %", "KS p", "as is"):
        table.add_column(name, justify="left" if name == "test" else "right", no_wrap=name != "test")
    for test in result["test"].values:
        row = result.sel(test=test)
        interval = "-".join(f"{100 * float(row[f'p_share_{end}']):.1f}" for end in ("low", "high"))
        empty = not int(row["p_count"])
        table.add_row(
            Text(str(test)), f"{int(row['p_pairs'])}", f"{int(row['p_count'])}", _percent(float(row["p_share"])),
            "" if empty else f"{interval} %", _decimal(float(row["p_ks_p"])), _percent(float(row["p_changed_share"])),
        )  # fmt: skip
    return table


def _table(title: str, caption: str) -> Table:
    """Return a table for 80 columns: where there is no room, columns of numbers must not crowd out names."""
    return Table(title=title, caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _decimal(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else ""


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if np.isfinite(value) else ""
