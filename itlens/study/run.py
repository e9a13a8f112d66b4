"""Computing what a study has not finished yet: model by model, finding by finding, unit by unit.

A finding that fails is left out from there on and the others go on: hours of them must not be without tables and report
for it. What reads one model comes first; what needs both models on the same tokens comes last. What will be done is
said before it begins, and about how long it takes after the first prompt (`preview`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from itlens.errors import ItlensError
from itlens.findings.base import SIDES, Finding, Plan
from itlens.models import ModelPair
from itlens.progress import Reporter
from itlens.study.failure import Failure, guarded, let_go
from itlens.study.folder import RunFolder
from itlens.study.preview import Pending, estimate, preview
from itlens.study.prompts import StudyPrompts
from itlens.study.record import Study
from itlens.study.responses import StudyResponses
from itlens.study.results import result_parts

if TYPE_CHECKING:
    from itlens.models import HookedModel
    from itlens.weights import Weights


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
    pending: list[Pending] = field(default_factory=list)
    timed: bool = False

    def all_units(self) -> list[Failure]:
        """Compute every unit that is not finished; what kept findings from being computed."""
        if self.read is not None:
            self.responses = StudyResponses(self.read, self.folder, self.study)
        self.pending = [self._pending(finding) for finding in self.chosen]
        for line in preview(self.study, self.folder.path, self.pair.device, self.pending):
            self.tell.say(line)
        of_pair = [finding for finding in self.chosen if finding.reads == "pair"]
        todo = {finding.name: self._todo(finding, "pair") for finding in of_pair}
        both = any(todo.values())
        own = [finding for finding in self.chosen if finding.reads == "prompts"]
        needed = both or any(self._todo(finding, side) for finding in own for side in SIDES)
        order: Sequence[str] = SIDES[::-1] if self.read is not None and self.read.responses == "tuned" else SIDES
        for side in order:
            self._one_model(side, needed)
            if side == order[0] or not both:  # of what needs both models, the last one is needed first
                self.pair.release(side)
        self._both_weights()
        for finding in of_pair:
            self._both_models(finding, self.pair, todo[finding.name])
        for side in SIDES:
            self.pair.release(side)
        return self.failed

    def _pending(self, finding: Finding) -> Pending:
        sides = ("pair",) if finding.reads_both else SIDES
        units = len(finding.units(self.plans[finding.name]))
        return Pending(finding, units, {side: len(self._todo(finding, side)) for side in sides})

    def _one_model(self, side: str, needed: bool) -> None:
        """Do what is not finished of one model; a model that has nothing to do is not loaded. needed: whether
        somebody reads responses."""
        findings = [finding for finding in self.chosen if not finding.reads_both]
        todo = {finding.name: self._todo(finding, side) for finding in findings}
        everything = sum(len(finding.units(self.plans[finding.name])) for finding in findings)
        left = sum(map(len, todo.values()))
        label = f"{side} model"
        self.tell.start(label, everything - left, everything)
        writes = self.read is not None and self.read.responses == side and needed
        if not left and not writes:
            return
        of_model = writes or any(todo[finding.name] for finding in findings if finding.reads == "prompts")
        with self.tell.busy(f"loading the {label}"):
            model = self._loaded(side) if of_model else None
        if writes and self.responses is not None:
            written = f"responses of the {label}"
            self.tell.start(written, 0, None)
            self.responses.write_all(model, side, partial(self.tell.reach, written))
        weights = None
        for finding in findings:
            if not todo[finding.name]:
                continue
            self.tell.name_part(label, finding.name)
            if finding.reads == "weights" and weights is None:
                with self.tell.busy(f"opening the {label}"):
                    weights = self._weights(side, model)
            source = weights if finding.reads == "weights" else model
            self._units(finding, side, source, todo[finding.name], partial(self.tell.advance, label))

    def _loaded(self, side: str) -> HookedModel:
        return self.pair.base if side == "base" else self.pair.tuned

    def _weights(self, side: str, model: HookedModel | None) -> Weights:
        """Return the weights of a model: from its files where nothing else of the study needs it loaded."""
        from itlens.weights import weights_of
        from itlens.weights.stored import streamed

        found = streamed(**self.pair.arguments(side)) if model is None else None
        return weights_of(model or self._loaded(side)) if found is None else found

    def _both_weights(self) -> None:
        """Compute what reads the weights of both models, from their files where these allow it."""
        findings = [finding for finding in self.chosen if finding.reads == "weight_pair"]
        todo = {finding.name: units for finding in findings if (units := self._todo(finding, "pair"))}
        if not todo:
            return
        from itlens.weights import WeightPair

        with self.tell.busy("opening both models"):
            source = WeightPair(*(self._weights(side, None) for side in SIDES))
        for finding in findings:
            self._both_models(finding, source, todo.get(finding.name, ()))

    def _both_models(self, finding: Finding, source: Any, units: Sequence[str]) -> None:
        def begin(unit: str) -> Callable[[int, int], None]:
            label = f"{finding.name}: {unit}"
            self.tell.start(label, 0, None)
            return partial(self.tell.reach, label)

        if units and not self._has_failed(finding):
            self._units(finding, "pair", source, units, lambda: None, begin)

    def _units(
        self,
        finding: Finding,
        side: str,
        source: Any,
        units: Sequence[str],
        done: Callable[[], None],
        begin: Callable[[str], Callable[[int, int], None]] | None = None,
    ) -> None:
        """Open a finding's source once, and run unit by unit; each is on disk when it counts as done.

        What fails is kept, without what it held in memory. A prompt (or layer) that the model does not allow is left
        out, where the finding does without; anything else ends the finding.
        """
        before = len(self.failed)
        with guarded(finding.name, "run", self.failed):
            plan = replace(self.plans[finding.name], side=side, reading=self.responses, find_saved=self._saved)
            opened = finding.open(source, plan)
            for unit in units:
                started = monotonic()
                own = plan if begin is None else replace(plan, tell=begin(unit))
                try:
                    result = finding.run(opened, unit, own)
                except ItlensError as error:
                    if not finding.leaves_out(error):
                        raise
                    name = plan.prompts[plan.number_of(unit)].id if finding.by_prompt else f"{side}/{unit}"
                    self._leave_out(finding, name, error)
                    continue
                _refuse_other(result)
                self.folder.write(self.study, finding.name, side, unit, result)  # type: ignore[arg-type]
                done()
                self._say_how_long(finding, monotonic() - started)
        for failure in self.failed[before:]:
            let_go(failure.error)

    def _say_how_long(self, finding: Finding, seconds: float) -> None:
        """Say once, after the first prompt, about how long the others take."""
        if self.timed or not finding.by_prompt:
            return
        self.timed = True
        measured = next(each for each in self.pending if each.finding is finding)
        if measured.units > 1:
            self.tell.say(estimate(seconds, measured, self.pending))

    def _leave_out(self, finding: Finding, name: str, error: ItlensError) -> None:
        """Keep why a unit has no result: one sentence for all of a finding."""
        let_go(error)
        known = next((each for each in self.failed if each.finding == finding.name and each.left_out), None)
        if known is None:
            self.failed.append(Failure(finding.name, "run", error, left_out=(name,), unit=finding.unit))
        elif name not in known.left_out:
            self.failed[self.failed.index(known)] = replace(known, left_out=(*known.left_out, name))

    def _saved(self, name: str, side: str, unit: str) -> Any:
        return self.folder.read(self.study, name, side, unit) if name in self.study["findings"] else None

    def _todo(self, finding: Finding, side: str) -> list[str]:
        if self._has_failed(finding):
            return []
        units = list(finding.units(self.plans[finding.name]))
        done = {*self.folder.finished(self.study, finding.name, side, units)}
        return [unit for unit in units if unit not in done]

    def _has_failed(self, finding: Finding) -> bool:
        return any(each.finding == finding.name and not each.left_out for each in self.failed)


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
