"""Running the benchmarks: those of all findings, or some of them by name, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date

from itlens.bench.record import BenchError, BenchRecord
from itlens.findings import findings
from itlens.findings.benchmark import Benchmark, Ratio
from itlens.results.provenance import version_of


def all_benchmarks() -> dict[str, type[Benchmark]]:
    """Return the benchmarks of all findings by name. Raises BenchError where two have the same one."""
    known: dict[str, type[Benchmark]] = {}
    for finding in findings().values():
        for benchmark in finding.benchmarks():
            if benchmark.name in known:
                raise BenchError(f"{finding.name}: a benchmark called {benchmark.name!r} is there already; rename it.")
            known[benchmark.name] = benchmark
    return known


def chosen_benchmarks(only: str) -> dict[str, type[Benchmark]]:
    """Return the benchmarks of these names, joined by commas ("all": every one). Raises BenchError for others."""
    known = all_benchmarks()
    names = [name.strip() for name in only.split(",")]
    if names == ["all"]:
        return known
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BenchError(f"Unknown benchmark {unknown[0]!r}; expected all, or some of {', '.join(known)} (by commas).")
    return {name: benchmark for name, benchmark in known.items() if name in names}


def measure(
    chosen: dict[str, type[Benchmark]],
    *,
    full: bool = False,
    rounds: int = 2,
    threads: int = 1,
    tell: Callable[[str, Ratio | None], None] = lambda name, ratio: None,
) -> BenchRecord:
    """Run benchmarks and return what they gave.

    full, rounds, threads: of `itlens.shapes.workbench.Workbench`. tell: called with a benchmark's name when it begins
    (and None), and with each of its ratios.
    """
    from itlens.models.quiet import quiet
    from itlens.shapes.workbench import Workbench

    found: dict[str, Sequence[Ratio]] = {}
    with quiet(), Workbench(full=full, rounds=rounds, threads=threads) as bench:
        for name, benchmark in chosen.items():
            tell(name, None)
            ratios = found[name] = list(_told(benchmark().run(bench), name, tell))
            if not ratios:
                raise BenchError(f"The benchmark {name} gave no ratio.")
        machine = bench.machine()
    return BenchRecord(found, machine, date.today().isoformat(), version_of("itlens"), full)


def _told(ratios: Iterator[Ratio], name: str, tell: Callable[[str, Ratio | None], None]) -> Iterator[Ratio]:
    for ratio in ratios:
        tell(name, ratio)
        yield ratio
