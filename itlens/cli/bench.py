"""`itlens bench`: what the probes cost, as ratios against named references that are measured in the same run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from itlens.cli.options import NoProgressOption
from itlens.files import visible

if TYPE_CHECKING:
    from itlens.bench.record import BenchRecord
    from itlens.findings.benchmark import Ratio

_LEGEND = (
    "ratio: ours by the reference, both measured in this run, in processor time; higher or lower is better as the goal "
    "says"
)


def bench_command(
    only: Annotated[str, typer.Option(help="all, or names of --list joined by commas.")] = "all",
    listed: Annotated[bool, typer.Option("--list", help="List the benchmarks, and run none.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Whole shapes (135M of all layers, layers of 7B): half an hour.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="How often ways that are compared take turns.")] = 2,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch; more than one makes times less exact.")] = 1,
    against: Annotated[
        Path | None, typer.Option(help="An earlier --json file: name ratios that fell by a quarter, exit code 1.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write ratios, machine and date here.")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Write the table into this Markdown file, between its two marks.")
    ] = None,
    quiet: NoProgressOption = False,
) -> None:
    """Measure what the probes cost: ratios against named references, and against this machine's matrix products."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # read when torch and scipy load
        os.environ.setdefault(name, str(threads))
    from itlens.bench.measure import chosen_benchmarks, measure
    from itlens.bench.record import BenchRecord

    chosen, console = chosen_benchmarks(only), Console()
    if listed:
        for name, benchmark in chosen.items():
            console.print(Text.assemble((f"{name:<16}", "bold"), visible(benchmark.measures)))
        return
    before = None if against is None else BenchRecord.read(against)

    def tell(name: str, ratio: Ratio | None) -> None:
        if not quiet:
            progress.print(visible(name if ratio is None else f"  {ratio.what}: {ratio.value:.3g}"), highlight=False)

    progress = Console(stderr=True)
    record = measure(chosen, full=full, rounds=rounds, threads=threads, tell=tell)
    print_record(record, console)
    if json_file is not None:
        record.write(json_file)
    if table is not None:
        record.write_into(table)
    if before is not None:
        _refuse_fallen(record, before, console)


def print_record(record: BenchRecord, console: Console) -> None:
    """Print the ratios and where they were measured."""
    from itlens.bench.record import goal_text, ratio_text

    table = Table(caption=_LEGEND, caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("measured", "against", "ratio", "goal", "figures"):
        table.add_column(name, justify="right" if name == "ratio" else "left", overflow="fold")
    for ratios in record.ratios.values():
        for ratio in ratios:
            cells = (ratio.what, ratio.against, ratio_text(ratio), goal_text(ratio), ratio.detail)
            table.add_row(*(Text(visible(cell)) for cell in cells))
    console.print(table)
    console.print(visible(record.machine_line()), markup=False, highlight=False)


def _refuse_fallen(record: BenchRecord, before: BenchRecord, console: Console) -> None:
    """Name the ratios that fell since an earlier run; exit code 1 where there are some."""
    from itlens.bench.record import ratio_text

    fallen = record.fallen(before)
    for ratio, old in fallen:
        line = f"Fell by a quarter or more: {ratio.key}: {ratio_text(ratio)}, was {ratio_text(old)} on {before.date}."
        console.print(visible(line), style="bold", markup=False, highlight=False)
    if fallen:
        raise typer.Exit(1)
    console.print(f"No ratio fell by a quarter since {before.date}.", highlight=False)
