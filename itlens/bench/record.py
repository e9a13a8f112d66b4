"""One run of benchmarks as a file: ratios, machine and date. It is compared with an earlier one, and shown in docs.

The file is JSON with the keys format (1), itlens, date, full, machine and ratios; each ratio has benchmark, what,
against, value, better, goal and detail. Two files are comparable where both are of the same sizes (`full`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from itlens.errors import ItlensError
from itlens.files import write_text
from itlens.findings.benchmark import Better, Ratio
from itlens.foreign import read_settings

FORMAT = 1
BEGIN, END = "<!-- itlens bench: begin -->", "<!-- itlens bench: end -->"


class BenchError(ItlensError):
    """Benchmarks that do not exist, or a file that is none of `itlens bench`."""


@dataclass(frozen=True)
class BenchRecord:
    """Ratios of one run by the name of their benchmark, and what they depend on."""

    ratios: Mapping[str, Sequence[Ratio]]
    machine: Mapping[str, Any]
    date: str
    version: str
    full: bool

    def fallen(self, before: BenchRecord) -> list[tuple[Ratio, Ratio]]:
        """Return the ratios that got worse by a quarter or more, each with the earlier one.

        Raises BenchError where the other run is of other sizes, or has none of these ratios.
        """
        if self.full != before.full:
            sizes = {True: "of the whole shapes (--full)", False: "of the smaller shapes"}
            raise BenchError(
                f"The earlier figures are {sizes[before.full]} and these are {sizes[self.full]}; compare two runs of "
                "the same sizes."
            )
        known = {ratio.key: ratio for ratios in before.ratios.values() for ratio in ratios}
        shared = [
            (ratio, known[ratio.key]) for ratios in self.ratios.values() for ratio in ratios if ratio.key in known
        ]
        if not shared:
            raise BenchError("The earlier figures hold none of the ratios that were measured; compare the same --only.")
        return [(ratio, old) for ratio, old in shared if ratio.fell(old)]

    def write(self, path: Path) -> None:
        """Write the file."""
        rows = [{"benchmark": name} | asdict(ratio) for name, ratios in self.ratios.items() for ratio in ratios]
        content = {"format": FORMAT, "itlens": self.version, "date": self.date, "full": self.full}
        whole = content | {"machine": dict(self.machine), "ratios": rows}
        write_text(path, json.dumps(whole, indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> BenchRecord:
        """Read a file. Raises BenchError for anything else."""
        held = read_settings(path, BenchError, f"The figures {path}")
        if held.get("format") != FORMAT:
            raise BenchError(
                f"{path} has the format {held.get('format')!r}; expected a file of `itlens bench --json` (format "
                f"{FORMAT})."
            )
        try:
            ratios: dict[str, list[Ratio]] = {}
            for row in held["ratios"]:
                fields = {name: row[name] for name in ("what", "against", "better", "goal", "detail")}
                if row["better"] not in get_args(Better):
                    raise ValueError(row["better"])
                ratios.setdefault(row["benchmark"], []).append(Ratio(value=float(row["value"]), **fields))
            return cls(ratios, dict(held["machine"]), str(held["date"]), str(held["itlens"]), bool(held["full"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BenchError(
                f"{path} is no whole file of `itlens bench --json` ({error}); measure it again."
            ) from error

    def markdown(self) -> str:
        """Return the table as Markdown, with machine and date."""
        rows = ["| measured | against | ratio | goal | figures |", "| --- | --- | --- | --- | --- |"]
        for ratios in self.ratios.values():
            rows += [
                f"| {ratio.what} | {ratio.against} | {ratio_text(ratio)} | {goal_text(ratio)} | {ratio.detail} |"
                for ratio in ratios
            ]
        return "\n".join([self.machine_line(), "", *rows])

    def machine_line(self) -> str:
        """Return where and when it was measured, in a sentence."""
        known = self.machine
        return (
            f"Measured on {self.date} with itlens {self.version}: {known['processor']}, {known['threads']} of "
            f"{known['cores']} cores, {known['memory_gb']:g} GB, torch {known['torch']}, matrix products at "
            f"{known['matrix_products_gflops']:g} GFLOP/s in float32. Seconds are processor time."
        )

    def write_into(self, path: Path) -> None:
        """Put the table between the two marks of a Markdown file. Raises BenchError where they are not there."""
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        front, begin, rest = text.partition(BEGIN)
        _, end, back = rest.partition(END)
        if not (begin and end):
            raise BenchError(f"{path} has no marks for the table; expected a line {BEGIN} and, below it, a line {END}.")
        write_text(path, f"{front}{BEGIN}\n\n{self.markdown()}\n\n{END}{back}")


def ratio_text(ratio: Ratio) -> str:
    """Return a ratio with three digits: "3.91", "0.62", "24.1"."""
    return f"{ratio.value:.3g}" if ratio.value < 1000 else f"{ratio.value:.0f}"


def goal_text(ratio: Ratio) -> str:
    """Return the goal ("at most 2.5, reached"); "" where there is none."""
    if ratio.goal is None:
        return ""
    bound = f"at least {ratio.goal:g}" if ratio.better == "higher" else f"at most {ratio.goal:g}"
    return f"{bound}, {'reached' if ratio.reached else 'missed'}"
