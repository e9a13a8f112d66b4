"""Which job is computed next, where several are computed at a time: the order, what waits, and what was lost.

Jobs keep their order. A job may read the result of an earlier one (`Plan.saved`) or a response; what it reads is not
known before, so it is computed without, and asks (`wait_for`). If what it asks for is still being computed it waits for
that; a response that nobody has written yet becomes a job of its own, in front of the others. Then the job is computed
again, with what it asked for. So it reads what it would have read in a run of one job after another.

A job whose worker is lost is computed again, but no more than `TRIES` times in all; those that only waited on that
worker do not count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from itlens.study.executors.base import Job

TRIES = 3


@dataclass(frozen=True)
class ResponseJob:
    """The response of a model to prompt `number` (from 0), to be generated. It also names that response."""

    side: str
    number: int

    def __str__(self) -> str:
        return f"the {self.side} model's response to prompt {self.number + 1}"


AnyJob: TypeAlias = Job | ResponseJob


class JobQueue:
    """The jobs of a phase. find: what is finished of a job, None where nothing is."""

    def __init__(self, jobs: Sequence[AnyJob], find: Callable[[AnyJob], Any]) -> None:
        self._find = find
        self._ready: deque[AnyJob] = deque(jobs)
        self._open: dict[AnyJob, int] = {job: place for place, job in enumerate(jobs)}  # not finished, by place
        self._asked: dict[AnyJob, set[AnyJob]] = {}
        self._waiting: dict[AnyJob, None] = {}
        self._refused: dict[AnyJob, Exception] = {}
        self._lost: dict[AnyJob, int] = {}

    @property
    def is_done(self) -> bool:
        """Whether every job has come to its end."""
        return not self._open

    def next(self, is_wanted: Callable[[AnyJob], bool]) -> AnyJob | None:
        """Return the job that is computed next; None where all others are being computed, or wait. One that is not
        wanted any more comes to its end here."""
        while self._ready:
            job = self._ready.popleft()
            if is_wanted(job):
                return job
            self.end(job)
        return None

    def given(self, job: AnyJob) -> Mapping[AnyJob, Any]:
        """Return what a job has asked for: None for what is not there, an exception for what could not be made."""
        return {key: self._refused.get(key, self._find(key)) for key in self._asked.get(job, ())}

    def wait_for(self, job: Job, asked: Collection[AnyJob]) -> None:
        """Note what a job asked for; it is computed again when all of that is known."""
        self._asked.setdefault(job, set()).update(asked)
        missing = [key for key in asked if isinstance(key, ResponseJob) and self._is_to_write(job, key)]
        for key in sorted(missing, key=lambda key: key.number, reverse=True):
            self._open[key] = -1  # earlier than every unit
            self._ready.appendleft(key)
        self._waiting[job] = None
        self._resume()

    def _is_to_write(self, job: Job, key: ResponseJob) -> bool:
        may_write = job.side in (key.side, "pair")
        return may_write and key not in self._open and key not in self._refused and self._find(key) is None

    def end(self, job: AnyJob, refused: Exception | None = None) -> None:
        """Take a job out; those that waited for it go on. refused: why there will be no result, for these."""
        self._open.pop(job, None)
        if refused is not None:
            self._refused[job] = refused
        self._resume()

    def _resume(self) -> None:
        """Put the waiting jobs whose answers are known back in front, in their order."""
        free = [job for job in self._waiting if not any(map(self._comes_before(job), self._asked[job]))]
        for job in sorted(free, key=lambda job: self._open[job], reverse=True):
            del self._waiting[job]
            self._ready.appendleft(job)

    def _comes_before(self, job: AnyJob) -> Callable[[AnyJob], bool]:
        place = self._open[job]
        return lambda key: key in self._open and self._open[key] < place

    def lost(self, jobs: Iterable[AnyJob]) -> AnyJob | None:
        """Put the jobs of a lost worker back in front; the first was being computed. Return it where it was lost
        `TRIES` times: then it is not tried again, and `end` is called for it."""
        listed = list(jobs)
        given_up = None
        if listed:
            first = listed[0]
            self._lost[first] = self._lost.get(first, 0) + 1
            if self._lost[first] == TRIES:
                given_up = listed.pop(0)
        self._ready.extendleft(reversed(listed))
        return given_up
