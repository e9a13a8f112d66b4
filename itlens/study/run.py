"""Computing what a study has not finished yet: model by model, finding by finding, unit by unit.

This is the order of the study, and the only place that writes results; where units are computed is an executor's
(`itlens.study.executors`). A finding that fails is left out from there on and the others go on: hours of them must not
be without tables and report for it. What reads one model comes first; what needs both models on the same tokens comes
last. What will be done is said before it begins, and about how long it takes after the first prompt (`preview`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from itlens.findings.base import SIDES, Finding, Plan
from itlens.models import ModelPair
from itlens.progress import Reporter
from itlens.study.executors.base import Executor, Finished, Job, OpenExecutor, Phase, StudyWork
from itlens.study.failure import Failure, guarded, let_go
from itlens.study.folder import RunFolder
from itlens.study.preview import Pending, estimate, preview
from itlens.study.prompts import StudyPrompts
from itlens.study.record import Study
from itlens.study.responses import FolderResponses, StudyResponses


@dataclass
class Run:
    """One run of a study. chosen: its findings, in order; plans: by finding's name; read: None without prompts.

    open_executor: where the units are computed.
    """

    pair: ModelPair
    folder: RunFolder
    study: Study
    chosen: Sequence[Finding]
    plans: Mapping[str, Plan]
    read: StudyPrompts | None
    tell: Reporter
    open_executor: OpenExecutor
    failed: list[Failure] = field(default_factory=list)
    pending: list[Pending] = field(default_factory=list)
    timed: bool = False

    def all_units(self) -> list[Failure]:
        """Compute every unit that is not finished; what kept findings from being computed."""
        reading = None
        if self.read is not None:
            reading = StudyResponses(self.read, FolderResponses(self.read, self.folder, self.study))
        self.pending = [self._pending(finding) for finding in self.chosen]
        known = {finding.name: finding for finding in self.chosen}
        units = sum(each.units for each in self.pending)
        work = StudyWork(self.pair, known, self.plans, self.read, reading, self._saved, self.tell, units)
        with self.open_executor(work) as executor:
            for line in preview(self.study, self.folder.path, executor.place, self.pending):
                self.tell.say(line)
            self._phases(executor)
        return self.failed

    def _pending(self, finding: Finding) -> Pending:
        sides = ("pair",) if finding.reads_both else SIDES
        units = len(finding.units(self.plans[finding.name]))
        return Pending(finding, units, {side: len(self._todo(finding, side)) for side in sides})

    def _phases(self, executor: Executor) -> None:
        of_pair = [finding for finding in self.chosen if finding.reads == "pair"]
        both = self._jobs(of_pair, "pair")
        own = [finding for finding in self.chosen if finding.reads == "prompts"]
        needed = bool(both) or any(self._todo(finding, side) for finding in own for side in SIDES)
        order: Sequence[str] = SIDES[::-1] if self.read is not None and self.read.responses == "tuned" else SIDES
        for side in order:
            self._one_model(executor, side, needed)
            if side == order[0] or not both:  # of what needs both models, the last one is needed first
                executor.release(side)
        weights = self._jobs([finding for finding in self.chosen if finding.reads == "weight_pair"], "pair")
        for jobs in (weights, both):
            if jobs:
                self._phase(executor, Phase("pair", jobs, self._is_wanted))
        for side in SIDES:
            executor.release(side)

    def _one_model(self, executor: Executor, side: str, needed: bool) -> None:
        """Do what is not finished of one model; a model that has nothing to do is not loaded. needed: whether
        somebody reads responses."""
        findings = [finding for finding in self.chosen if not finding.reads_both]
        jobs = self._jobs(findings, side)
        everything = sum(len(finding.units(self.plans[finding.name])) for finding in findings)
        label = f"{side} model"
        self.tell.start(label, everything - len(jobs), everything)
        writes = self.read is not None and self.read.responses == side and needed
        if not jobs and not writes:
            return
        reading = {finding.name for finding in findings if finding.reads == "prompts"}
        loads = writes or any(job.finding in reading for job in jobs)
        self._phase(executor, Phase(side, jobs, self._is_wanted, label, loads, writes))

    def _jobs(self, findings: Sequence[Finding], side: str) -> tuple[Job, ...]:
        return tuple(Job(finding.name, side, unit) for finding in findings for unit in self._todo(finding, side))

    def _phase(self, executor: Executor, phase: Phase) -> None:
        """Have the jobs computed; each result is on disk before the next one is asked for."""
        for finished in executor.run(phase):
            failure = finished.failure
            if failure is None:
                self._write(executor, finished)
            elif failure.left_out:
                self._leave_out(failure)
            else:
                self.failed.append(failure)

    def _write(self, executor: Executor, finished: Finished) -> None:
        job, before = finished.job, len(self.failed)
        with guarded(job.finding, "run", self.failed):
            self.folder.write(self.study, job.finding, job.side, job.unit, finished.result)
            self._say_how_long(job.finding, finished.seconds, executor.workers)
        for failure in self.failed[before:]:
            let_go(failure.error)

    def _say_how_long(self, name: str, seconds: float, workers: int) -> None:
        """Say once, after the first prompt, about how long the others take."""
        measured = next(each for each in self.pending if each.finding.name == name)
        if self.timed or not measured.finding.by_prompt:
            return
        self.timed = True
        if measured.units > 1:
            self.tell.say(estimate(seconds, measured, self.pending, workers))

    def _leave_out(self, failure: Failure) -> None:
        """Keep why units have no result: one sentence for all of a finding."""
        known = next((each for each in self.failed if each.finding == failure.finding and each.left_out), None)
        if known is None:
            self.failed.append(failure)
        else:
            names = dict.fromkeys((*known.left_out, *failure.left_out))
            self.failed[self.failed.index(known)] = replace(known, left_out=tuple(names))

    def _saved(self, name: str, side: str, unit: str) -> Any:
        return self.folder.read(self.study, name, side, unit) if name in self.study["findings"] else None

    def _todo(self, finding: Finding, side: str) -> list[str]:
        if self._has_failed(finding.name):
            return []
        units = list(finding.units(self.plans[finding.name]))
        done = {*self.folder.finished(self.study, finding.name, side, units)}
        return [unit for unit in units if unit not in done]

    def _is_wanted(self, job: Job) -> bool:
        return not self._has_failed(job.finding)

    def _has_failed(self, name: str) -> bool:
        return any(each.finding == name and not each.left_out for each in self.failed)
