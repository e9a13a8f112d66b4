"""The worker of a Ray cluster: a process on some node that loads the models of a study there, and computes jobs.

It gets the study's request once (`Request`): names of models and how to load them, findings with their options, and the
prompts. No model is ever sent, and the run folder is not read: what a unit reads beside its model is asked for
(`Asked`), and comes with the same unit again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from itlens.errors import ClusterError, ItlensError
from itlens.findings import findings, register
from itlens.findings.base import Finding, Plan
from itlens.models import load_pair
from itlens.results.provenance import provenance
from itlens.study.executors.base import Finished, Job, StudyWork
from itlens.study.executors.queue import AnyJob, ResponseJob
from itlens.study.executors.worker import Worker
from itlens.study.failure import Failure, guarded, let_go
from itlens.study.prompts import StudyPrompts
from itlens.study.responses import StudyResponses
from itlens.tokenization import Response


@dataclass(frozen=True)
class Request:
    """What every worker of a study gets. pair: the arguments of `load_pair`. findings, plans: by name."""

    pair: Mapping[str, Any]
    findings: Mapping[str, Finding]
    plans: Mapping[str, Plan]
    read: StudyPrompts | None


@dataclass(frozen=True)
class Asked:
    """What a job has to be given, before it can be computed."""

    job: Job
    keys: Collection[AnyJob]


class NotGiven(BaseException):
    """A unit reads what the worker does not have. It is no error, and no finding may catch it."""

    def __init__(self, keys: Collection[AnyJob]) -> None:
        self.keys = tuple(keys)


def packed_request(work: StudyWork, device: str) -> bytes:
    """Return the request of a study as bytes. device: of every worker.

    A finding goes as its class: by the name of its module, which the workers import, or whole where it was written in
    the caller's own script. Raises ClusterError, naming the finding, for options that cannot be sent.
    """
    from ray import cloudpickle

    base, tuned = work.pair.arguments("base"), work.pair.arguments("tuned")
    pair = {**tuned, "base": base["name_or_path"], "tuned": tuned["name_or_path"], "device": device}
    del pair["name_or_path"]
    for name, finding in work.findings.items():
        try:
            cloudpickle.dumps((finding, work.plans[name]))
        except (TypeError, ValueError, AttributeError, RecursionError, NotImplementedError, ImportError) as error:
            raise ClusterError(
                f"The finding {name!r} cannot be sent to the workers of a Ray cluster ({error}): one of its options "
                "holds what is of this process alone; leave that option out, or use executor='local'."
            ) from error
    packed: bytes = cloudpickle.dumps(Request(pair, work.findings, work.plans, work.read))
    return packed


def own_versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    return {name: str(value) for name, value in provenance("").items() if name.endswith("_version")}


class RemoteWorker:
    """A worker; Ray makes an actor of it. packed: of `packed_request`."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._given: dict[AnyJob, Any] = {}
        self._responses: dict[AnyJob, Response] = {}

    def hello(self) -> dict[str, str]:
        """Read the request, and return the versions of the worker's packages. Raises ClusterError where a package of
        the caller's is missing here."""
        from ray import cloudpickle

        try:
            request: Request = cloudpickle.loads(self._packed)
        except (ImportError, AttributeError) as error:
            raise ClusterError(
                f"A worker of the Ray cluster cannot read what it is sent ({error}); install the packages of this "
                "process, and those of its findings, on all nodes."
            ) from error
        for name, finding in request.findings.items():
            if name not in findings():
                register(finding)
        self._reading = None if request.read is None else StudyResponses(request.read, self)
        self._worker = Worker(
            load_pair(**request.pair),
            request.findings,
            request.plans,
            self._reading,
            self._saved,
            lambda name: nullcontext(),
        )
        return own_versions()

    def compute(self, job: AnyJob, given: Mapping[AnyJob, Any], loads: bool) -> Finished | Asked | Response | Failure:
        """Compute a job; see `Worker`. given: what it asked for before. Raises what loading a model raises."""
        self._given = dict(given)
        if isinstance(job, ResponseJob):
            return self._written(job)
        try:
            finished = self._worker.compute(job, self._worker.source(job, loads))
        except NotGiven as missing:
            return Asked(job, missing.keys)
        failure = finished.failure
        return finished if failure is None else replace(finished, result=_portable(failure))

    def _written(self, job: ResponseJob) -> Response | Failure:
        assert self._reading is not None  # nobody asks for responses without prompts
        model, failed = self._worker.model(job.side), list[Failure]()
        with guarded("response", "run", failed):
            return self._reading.generated(model, job.number)
        let_go(failed[0].error)
        return _portable(failed[0])

    # ---- what units read beside their model

    def _saved(self, name: str, side: str, unit: str) -> Any:
        return self._look_up(Job(name, side, unit))

    def _look_up(self, key: AnyJob) -> Any:
        if key not in self._given:
            raise NotGiven([key])
        if isinstance(found := self._given[key], Exception):
            raise found
        return found

    def expect(self, writer: str, numbers: Sequence[int]) -> None:
        """Ask for all of the responses at once."""
        keys = [ResponseJob(writer, number) for number in numbers]
        if missing := [key for key in keys if key not in self._responses and key not in self._given]:
            raise NotGiven(missing)

    def read(self, writer: str, number: int) -> Response | None:
        """Return a response that was given; None where its writer has not written it."""
        key = ResponseJob(writer, number)
        if key not in self._responses:
            if (found := self._look_up(key)) is None:
                return None
            self._responses[key] = found
        return self._responses[key]

    def write(self, writer: str, number: int, response: Response) -> None:
        """Responses are jobs of their own: a unit is computed when those that it reads are there."""
        raise ItlensError(f"A worker was to write {ResponseJob(writer, number)}, which the study should have given it.")


def _portable(failure: Failure) -> Failure:
    """Return a failure whose error can be sent: an exception that cannot is one of the same name and words."""
    from ray import cloudpickle

    error = failure.error
    failed: list[Failure] = []
    with guarded(failure.finding, failure.stage, failed):
        cloudpickle.loads(cloudpickle.dumps(error))
    if not failed:
        return failure
    kind = ItlensError if isinstance(error, ItlensError) else type(type(error).__name__, (Exception,), {})
    return replace(failure, error=kind(str(error)))
