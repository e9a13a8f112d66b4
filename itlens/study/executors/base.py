"""The contract of an executor: where the units of a study are computed. What comes back is written by the study.

A study goes phase by phase: one model, the other, the weights of both, both models on the same tokens. A phase is a
list of jobs, and an executor gives back what became of each. `local` computes them one after another in this process;
`ray` on the workers of a Ray cluster. Neither writes into the run folder (but for responses, which are kept as soon as
they are generated), and neither changes a result: the files are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from itlens.findings.base import Finding, Plan
from itlens.models import ModelPair
from itlens.progress import Reporter
from itlens.study.failure import Failure
from itlens.study.prompts import StudyPrompts
from itlens.study.responses import StudyResponses

ExecutorName: TypeAlias = Literal["local", "ray"]
EXECUTORS: tuple[ExecutorName, ...] = ("local", "ray")


@dataclass(frozen=True)
class Job:
    """A unit of work of a finding. side: "base", "tuned" or "pair". It also names the unit's result."""

    finding: str
    side: str
    unit: str

    def __str__(self) -> str:
        return f"{self.finding}/{self.side}/{self.unit}"


@dataclass(frozen=True)
class Phase:
    """Jobs that are computed together, in order.

    side: of all of them. label: of the line of progress, which `units` were counted in before; "": each job has its
    own. loads: whether the model is loaded anyway, so that weights are taken from it and not from its files. writes:
    whether the model of this side first generates all responses that are missing. is_wanted: whether a job still is:
    after a finding has failed, its other jobs are not.
    """

    side: str
    jobs: tuple[Job, ...]
    is_wanted: Callable[[Job], bool]
    label: str = ""
    loads: bool = False
    writes: bool = False


@dataclass(frozen=True)
class Finished:
    """What became of a job: its result, or why there is none. seconds: that `run` took, without loading."""

    job: Job
    result: Any
    seconds: float

    @property
    def failure(self) -> Failure | None:
        """Why there is no result; None where there is one."""
        return self.result if isinstance(self.result, Failure) else None


@dataclass(frozen=True)
class StudyWork:
    """What an executor knows of the study.

    findings, plans: by name. read, reading: the prompts, and how the models read them; None without prompts.
    find_saved: a finished result by finding, side and unit. units: how many are to be computed.
    """

    pair: ModelPair
    findings: Mapping[str, Finding]
    plans: Mapping[str, Plan]
    read: StudyPrompts | None
    reading: StudyResponses | None
    find_saved: Callable[[str, str, str], Any]
    tell: Reporter
    units: int


class Executor(Protocol):
    """Computes the jobs of a study.

    place: where, in words. workers: how many jobs are computed at a time.
    """

    @property
    def place(self) -> str: ...

    @property
    def workers(self) -> int: ...

    def run(self, phase: Phase) -> Iterator[Finished]:
        """Give back what became of each job, as soon as it is known; when the next one is asked for, the last one is
        written.

        A unit that its finding does without (`Finding.leaves_out`) is a `Failure` with `left_out`; another failure ends
        the finding. Raises what loading a model raises.
        """

    def release(self, side: str) -> None:
        """Let go of the model of a side: the phases that follow do not need it first."""


OpenExecutor: TypeAlias = Callable[[StudyWork], AbstractContextManager[Executor]]
