"""One worker: it holds the models of a study, one at a time, and computes one job after another.

What reads prompts gets the model; what reads weights gets those of the loaded model where it is loaded anyway, and else
a layer at a time from the files; what reads both models gets the pair. What all units of a finding share is opened once
and kept until a job of another finding comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from itlens.errors import ItlensError
from itlens.findings.base import Finding, Plan, Tokens
from itlens.models import ModelPair
from itlens.study.executors.base import Finished, Job, Phase, StudyWork
from itlens.study.failure import Failure, guarded, let_go
from itlens.study.results import result_parts

if TYPE_CHECKING:
    from itlens.models import HookedModel
    from itlens.weights import Weights


class Worker:
    """Computes jobs with the models of one pair. busy: names what takes long (loading, opening) while it does."""

    def __init__(
        self,
        pair: ModelPair,
        findings: Mapping[str, Finding],
        plans: Mapping[str, Plan],
        reading: Tokens | None,
        find_saved: Callable[[str, str, str], Any],
        busy: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._pair, self._findings, self._busy = pair, findings, busy
        self._plans = {name: replace(plan, reading=reading, find_saved=find_saved) for name, plan in plans.items()}
        self._weights: dict[str, Any] = {}
        self._files = ExitStack()  # of weights that were put on the disk
        self._opened: tuple[tuple[str, str], Any] | None = None

    def model(self, side: str) -> HookedModel:
        """Return the model of a side, which is loaded where it is not in memory."""
        with nullcontext() if self._pair.holds(side) else self._busy(f"loading the {side} model"):
            return self._pair.base if side == "base" else self._pair.tuned

    def source(self, job: Job, loads: bool) -> Any:
        """Return what the job's finding reads. loads: whether weights are those of the loaded model. Raises what
        loading raises."""
        reads = self._findings[job.finding].reads
        if self._opened is not None and self._opened[0] != (job.finding, job.side):
            self._opened = None  # what the last finding opened may be large
        if reads == "pair" or job.side not in self._weights:
            self._close_weights()  # those of a loaded model keep it in memory
        if reads == "pair":
            return self._pair
        if reads == "prompts":
            return self.model(job.side)
        if job.side not in self._weights:
            self._weights[job.side] = self._both() if reads == "weight_pair" else self._of_side(job.side, loads)
        return self._weights[job.side]

    def _of_side(self, side: str, loads: bool) -> Weights:
        from itlens.weights import weights_of

        model = self.model(side) if loads else None
        with self._busy(f"opening the {side} model"):
            return self._stored(side) if model is None else weights_of(model)

    def _both(self) -> Any:
        from itlens.models.memory import parameter_bytes
        from itlens.weights import WeightPair
        from itlens.weights.spilled import spilled

        with self._busy("opening both models"):
            base = self._stored("base")
            if not self._pair.keep_both and self._pair.is_loaded("base"):  # it must not wait in memory for the other
                base = self._files.enter_context(spilled(base, parameter_bytes(self._pair.base)))
                self._pair.release("base")
            return WeightPair(base, self._stored("tuned"))

    def _stored(self, side: str) -> Weights:
        """Return weights read from the files where these allow it, else those of the loaded model."""
        from itlens.weights import weights_of
        from itlens.weights.stored import streamed

        found = streamed(**self._pair.arguments(side))
        return weights_of(self._pair.base if side == "base" else self._pair.tuned) if found is None else found

    def compute(self, job: Job, source: Any, tell: Callable[[int, int], None] | None = None) -> Finished:
        """Compute a job; what its finding's code raises becomes a `Failure`, without what it held in memory.

        A unit that the model does not allow is left out, where the finding does without it; anything else ends the
        finding. tell: called with (done, all) within the unit.
        """
        finding = self._findings[job.finding]
        plan = replace(self._plans[job.finding], side=job.side)
        failed: list[Failure] = []
        result, started = None, monotonic()
        with guarded(finding.name, "run", failed):
            opened = self._open(finding, job, source, plan)
            started = monotonic()
            try:
                result = finding.run(opened, job.unit, plan if tell is None else replace(plan, tell=tell))
            except ItlensError as error:
                if not finding.leaves_out(error):
                    raise
                failed.append(unit_failure(finding, plan, job, error))
            else:
                _refuse_other(result)
        seconds = monotonic() - started
        for failure in failed:
            let_go(failure.error)
        return Finished(job, failed[0] if failed else result, seconds)

    def _open(self, finding: Finding, job: Job, source: Any, plan: Plan) -> Any:
        key = (job.finding, job.side)
        if self._opened is None or self._opened[0] != key:
            self._opened = key, finding.open(source, plan)
        return self._opened[1]

    def forget(self) -> None:
        """Let go of what was opened; a model that is held stays."""
        self._opened = None
        self._close_weights()

    def _close_weights(self) -> None:
        self._weights.clear()
        self._files.close()

    def release(self, side: str) -> None:
        """Let go of the model of a side, and of what was opened."""
        self.forget()
        self._pair.release(side)


class LocalExecutor:
    """Computes the jobs in this process, one after another, with one model in memory at a time."""

    workers = 1

    def __init__(self, work: StudyWork) -> None:
        self._work = work
        self._worker = Worker(work.pair, work.findings, work.plans, work.reading, work.find_saved, work.tell.busy)

    @property
    def place(self) -> str:
        """The device."""
        return self._work.pair.device

    def run(self, phase: Phase) -> Iterator[Finished]:
        """Compute the jobs in order; see `Executor`. Progress within a unit is shown where each job has its line."""
        worker, tell = self._worker, self._work.tell
        try:
            if phase.loads:
                worker.model(phase.side)
            if phase.writes and self._work.reading is not None:
                written = f"responses of the {phase.label}"
                tell.start(written, 0, None)
                self._work.reading.write_all(worker.model(phase.side), phase.side, partial(tell.reach, written))
            part = ""
            for job in filter(phase.is_wanted, phase.jobs):
                source, reach = worker.source(job, phase.loads), None
                if not phase.label:
                    tell.start(label := f"{job.finding}: {job.unit}", 0, None)
                    reach = partial(tell.reach, label)
                elif part != job.finding:
                    part = job.finding
                    tell.name_part(phase.label, part)
                finished = worker.compute(job, source, reach)
                del source
                yield finished
                if phase.label and finished.failure is None:
                    tell.advance(phase.label)
        finally:
            worker.forget()

    def release(self, side: str) -> None:
        """Let go of the model of a side."""
        self._worker.release(side)


def unit_failure(finding: Finding, plan: Plan, job: Job, error: ItlensError) -> Failure:
    """Return why a unit has no result; the unit is left out where the finding does without it."""
    if not finding.leaves_out(error):
        return Failure(finding.name, "run", error)
    name = plan.prompts[plan.number_of(job.unit)].id if finding.by_prompt else f"{job.side}/{job.unit}"
    return Failure(finding.name, "run", error, left_out=(name,), unit=finding.unit)


def _refuse_other(result: Any) -> None:
    """Raise ItlensError for what is no result of a unit."""
    for part in result_parts(
        dict(result) if isinstance(result, Mapping) and not isinstance(result, xr.Dataset) else result
    ):
        if not isinstance(part, (xr.Dataset, xr.DataArray, pd.DataFrame)):
            raise ItlensError(
                f"run returned a {type(part).__name__}; expected an xarray Dataset, a pandas DataFrame, "
                "or a mapping of them."
            )
