"""What a finding's benchmark is, to `itlens bench`: ratios against a named reference, measured in the same run.

A finding lists its benchmarks (`Finding.benchmarks`); they live in its folder, in `benchmarks.py`. The clocks, models
and sizes come from an `itlens.shapes.workbench.Workbench`. docs/benchmarks.md shows the table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

if TYPE_CHECKING:
    from itlens.shapes.workbench import Workbench

Better: TypeAlias = Literal["higher", "lower"]
FALL = 0.25  # a ratio that got worse by this share is named
LITTLE = 0.05  # of a reference: what lies below (memory that is hardly used) varies from run to run


@dataclass(frozen=True)
class Ratio:
    """One figure. what: what was measured ("word pairs of a layer"); against: the reference, measured in the same run.

    better: which way is good. goal: the least (or most) it should be, where there is one. detail: the figures behind
    it.
    """

    what: str
    against: str
    value: float
    better: Better
    goal: float | None = None
    detail: str = ""

    @property
    def key(self) -> str:
        """Return the name under which two runs are compared."""
        return f"{self.what}, against {self.against}"

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal

    def fell(self, before: Ratio) -> bool:
        """Return whether it got worse by a quarter or more."""
        if self.better == "higher":
            return self.value <= before.value * (1 - FALL)
        return self.value >= max(before.value, LITTLE) / (1 - FALL)


class Benchmark(ABC):
    """Something whose cost is measured. name: of --only. measures: what, in a sentence without its full stop."""

    name: ClassVar[str]
    measures: ClassVar[str]

    @abstractmethod
    def run(self, bench: Workbench) -> Iterator[Ratio]:
        """Yield ratios, each when it is measured."""


def gigabytes(memory: int | None) -> str:
    """Return bytes in words: "0.42 GB", or "memory not measured"."""
    return "memory not measured" if memory is None else f"{memory / 1e9:.2f} GB"
