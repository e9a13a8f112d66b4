"""Computing what a study has not finished yet: model by model, finding by finding, unit by unit.

A finding that fails is left out from there on and the others go on: hours of them must not be without tables and report
for it. What reads one model comes first; what needs both models on the same tokens comes last.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd
import xarray as xr

from itlens.errors import ItlensError
from itlens.findings.base import SIDES, Finding, Plan
from itlens.models import ModelPair
from itlens.progress import Reporter
from itlens.study.comparison import Failure
from itlens.study.folder import RunFolder
from itlens.study.prompts import StudyPrompts
from itlens.study.record import Study
from itlens.study.responses import StudyResponses
from itlens.study.results import result_parts


@dataclass
class Run:
    """One run of a study. chosen: its findings, in order; plans: by finding's name; read: None without prompts."""

    pair: ModelPair
    folder: RunFolder
    study: Study
    chosen: Sequence[Finding]
    plans: Mapping[str, Plan]
    read: StudyPrompts | None
    tell: Reporter
    failed: list[Failure] = field(default_factory=list)
    responses: StudyResponses | None = None

    def all_units(self) -> list[Failure]:
        """Compute every unit that is not finished; what kept findings from being computed."""
        if self.read is not None:
            self.responses = StudyResponses(self.read, self.folder, self.study)
        of_pair = [finding for finding in self.chosen if finding.reads == "pair"]
        todo = {finding.name: self._todo(finding, "pair") for finding in of_pair}
        both = any(todo.values())
        order: Sequence[str] = SIDES[::-1] if self.read is not None and self.read.responses == "tuned" else SIDES
        for side in order:
            self._one_model(side, both)
            if side == order[0] or not both:  # of what needs both models, the last one is needed first
                self.pair.release(side)
        for finding in of_pair:
            self._both_models(finding, todo[finding.name])
        for side in SIDES:
            self.pair.release(side)
        return self.failed

    def _one_model(self, side: str, both: bool) -> None:
        """Do what is not finished of one model; a model that has nothing to do is not loaded."""
        findings = [finding for finding in self.chosen if finding.reads != "pair"]
        todo = {finding.name: self._todo(finding, side) for finding in findings}
        everything = sum(len(finding.units(self.plans[finding.name])) for finding in findings)
        left = sum(map(len, todo.values()))
        label = f"{side} model"
        self.tell.start(label, everything - left, everything)
        writes = self.read is not None and self.read.responses == side and (both or self._unread(findings))
        if not left and not writes:
            return
        with self.tell.busy(f"loading the {label}"):
            model = self.pair.base if side == "base" else self.pair.tuned
        if writes and self.responses is not None:
            with self.tell.busy(f"responses of the {label}"):
                self.responses.write_all(model, side)
        for finding in findings:
            if todo[finding.name]:
                self.tell.name_part(label, finding.name)
                self._units(finding, side, model, todo[finding.name], partial(self.tell.advance, label))

    def _unread(self, findings: Sequence[Finding]) -> bool:
        """Whether a finding that reads prompts has units to compute, of either model."""
        return any(self._todo(finding, side) for finding in findings if finding.reads == "prompts" for side in SIDES)

    def _both_models(self, finding: Finding, units: Sequence[str]) -> None:
        def begin(unit: str) -> Callable[[int, int], None]:
            label = f"{finding.name}: {unit}"
            self.tell.start(label, 0, None)
            return partial(self.tell.reach, label)

        if units and not self._has_failed(finding):
            self._units(finding, "pair", self.pair, units, lambda: None, begin)

    def _units(
        self,
        finding: Finding,
        side: str,
        model: Any,
        units: Sequence[str],
        done: Callable[[], None],
        begin: Callable[[str], Callable[[int, int], None]] | None = None,
    ) -> None:
        """Open a finding's source once, and run unit by unit; each is on disk when it counts as done.

        What fails is kept, without what it held in memory. A prompt that the model does not allow is left out, where a
        unit is a prompt; anything else ends the finding.
        """
        try:
            plan = replace(self.plans[finding.name], side=side, reading=self.responses, find_saved=self._saved)
            source = finding.open(self._source(finding, model), plan)
            for unit in units:
                own = plan if begin is None else replace(plan, tell=begin(unit))
                try:
                    result = finding.run(source, unit, own)
                except ItlensError as error:
                    if not finding.by_prompt:
                        raise
                    self._leave_out(finding, plan.prompts[plan.number_of(unit)].id, error)
                    continue
                _refuse_other(result)
                self.folder.write(self.study, finding.name, side, unit, result)  # type: ignore[arg-type]
                done()
        except Exception as error:  # a finding's own code, perhaps of another package: the others still run
            trace = traceback.format_exc()
            _let_go(error)
            self.failed.append(Failure(finding.name, "run", error, trace))

    def _leave_out(self, finding: Finding, prompt: str, error: ItlensError) -> None:
        """Keep why a prompt has no result: one sentence for all prompts of a finding."""
        _let_go(error)
        known = next((each for each in self.failed if each.finding == finding.name and each.prompts), None)
        if known is None:
            self.failed.append(Failure(finding.name, "run", error, prompts=(prompt,)))
        elif prompt not in known.prompts:
            self.failed[self.failed.index(known)] = replace(known, prompts=(*known.prompts, prompt))

    def _saved(self, name: str, side: str, unit: str) -> Any:
        return self.folder.read(self.study, name, side, unit) if name in self.study["findings"] else None

    def _source(self, finding: Finding, model: Any) -> Any:
        if finding.reads != "weights":
            return model
        from itlens.weights import weights_of

        return weights_of(model)

    def _todo(self, finding: Finding, side: str) -> list[str]:
        if self._has_failed(finding):
            return []
        units = list(finding.units(self.plans[finding.name]))
        done = {*self.folder.finished(self.study, finding.name, side, units)}
        return [unit for unit in units if unit not in done]

    def _has_failed(self, finding: Finding) -> bool:
        return any(each.finding == finding.name and not each.prompts for each in self.failed)


def _let_go(error: BaseException) -> None:
    """Drop the tracebacks of an error that is kept: their frames, and those that called them, hold a whole model."""
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or any(each is other for other in seen):  # an error raised again can be in its own chain
            continue
        seen.append(each)
        each.__traceback__ = None
        todo += [each.__cause__, each.__context__]


def _refuse_other(result: Any) -> None:
    """Raise ItlensError for a result that is no labelled data."""
    for part in result_parts(
        dict(result) if isinstance(result, Mapping) and not isinstance(result, xr.Dataset) else result
    ):
        if not isinstance(part, (xr.Dataset, xr.DataArray, pd.DataFrame)):
            raise ItlensError(
                f"run returned a {type(part).__name__}; expected an xarray Dataset, a pandas DataFrame, "
                "or a mapping of them."
            )
