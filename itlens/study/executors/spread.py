"""The executor of a Ray cluster: jobs spread over workers that each hold a model.

1. Connect, and see how many workers have room (`cluster`). 2. Start them, each with the study's request (`remote`); Ray
places them, and one that has no place yet gets no job. 3. Give every worker a job at a time, and one more that waits,
so that it never waits for the driver (`queue` says which). 4. What comes back is given to the study, which writes it;
what a job asks for is looked up in the run folder and sent with it. 5. Where a worker is lost, another one is
started and its jobs are computed again. 6. At the end, or at an interruption, the workers are stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from itlens.errors import ClusterError, ItlensError
from itlens.study.executors.base import Executor, Finished, Job, Phase, StudyWork
from itlens.study.executors.cluster import Room, connected, one_line, room_for_workers
from itlens.study.executors.queue import TRIES, AnyJob, JobQueue, ResponseJob
from itlens.study.executors.remote import Asked, RemoteWorker, own_versions, packed_request
from itlens.study.executors.worker import unit_failure
from itlens.study.failure import Failure

_IN_FLIGHT = 2  # jobs of a worker: one that is computed, one that waits
_LOSSES = 2 * TRIES  # for each worker, without a finished job in between: then it is not the jobs' fault


@contextmanager
def on_cluster(work: StudyWork, *, address: str | None, cpus: int) -> Iterator[Executor]:
    """Open the executor of a Ray cluster. Raises ClusterError; see `itlens.study.executors.cluster`."""
    import ray

    with ExitStack() as stack:
        with work.tell.busy("connecting to the Ray cluster"):
            where = stack.enter_context(connected(address))
        device = work.pair.arguments("base").get("device")
        room = room_for_workers(ray.nodes(), cpus, None if device is None else str(device))
        executor = RayExecutor(work, where, room)
        stack.callback(executor.stop)
        yield executor


@dataclass
class _Seat:
    """A worker as the driver sees it. hello: its greeting, None once it has come. flying: its jobs, in order."""

    actor: Any
    hello: Any
    flying: dict[Any, AnyJob] = field(default_factory=dict)

    @property
    def refs(self) -> list[Any]:
        """What it owes: its greeting, or its jobs."""
        return [*self.flying] if self.hello is None else [self.hello]


class RayExecutor:
    """Computes the jobs on the workers of a Ray cluster; made by `on_cluster`."""

    def __init__(self, work: StudyWork, where: str, room: Room) -> None:
        self._work, self._where, self._room = work, where, room
        self.workers = max(1, min(room.workers, work.units))
        self._packed: Any = None
        self._seats: list[_Seat] = []
        self._losses = 0
        self._part = ("", "")  # label and finding that progress names

    @property
    def place(self) -> str:
        """The cluster, how many workers there are, and their device."""
        count = f"{self.workers} worker{'' if self.workers == 1 else 's'}"
        return f"Ray cluster {self._where}, {count}, {self._room.device}"

    def run(self, phase: Phase) -> Iterator[Finished]:
        """Compute the jobs; see `Executor`. Units that are left out come last, in their order."""
        tell, label = self._work.tell, phase.label
        if phase.writes and self._work.reading is not None:
            numbers = self._work.reading.missing(phase.side)
            tell.start(written := f"responses of the {label}", 0, len(numbers))
            queue = JobQueue([ResponseJob(phase.side, number) for number in numbers], self._find)
            for _ in self._computed(queue, phase, written, writes=True):
                pass  # responses are kept as they come
        if not label:
            tell.start(label := "both models", 0, len(phase.jobs))
        left_out: dict[Job, Finished] = {}
        queue = JobQueue(phase.jobs, self._find)
        for finished in self._computed(queue, phase, label):
            failure = finished.failure
            if failure is not None and failure.left_out:
                left_out[finished.job] = finished
            elif failure is None or phase.is_wanted(finished.job):
                yield finished
                if failure is None:
                    tell.advance(label)
        yield from (left_out[job] for job in phase.jobs if job in left_out)

    def release(self, side: str) -> None:
        """A worker lets go of its model when it is given a job of the other one."""

    def stop(self) -> None:
        """Stop the workers, whatever they are doing."""
        while self._seats:
            self._stopped(self._seats.pop())

    # ---- the loop

    def _computed(self, queue: JobQueue, phase: Phase, label: str, *, writes: bool = False) -> Iterator[Finished]:
        """Have all jobs of a queue computed. Each is given back, but for responses, which are kept.

        writes: whether these are responses that the study needs: it ends where one cannot be written.
        """
        from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError

        while not queue.is_done:
            self._hand_out(queue, phase, label)
            if queue.is_done:
                return
            seat, ref = self._next_answer()
            try:
                reply = self._got(ref)
            except (RayActorError, ObjectLostError, OutOfMemoryError) as error:
                job = self._replace(seat, queue, error)
                if job is None:
                    continue
                reply = self._given_up(job, error)
            else:
                if ref == seat.hello:
                    self._greeted(seat, reply)
                    continue
                self._losses, job = 0, seat.flying.pop(ref)
            if isinstance(reply, Asked):
                queue.wait_for(reply.job, reply.keys)
            elif isinstance(job, Job):
                queue.end(job)
                yield reply
            elif isinstance(reply, Failure):
                if writes:
                    raise reply.error
                queue.end(job, reply.error)
            else:
                self._keep(job, reply)
                queue.end(job)
                if writes:
                    self._work.tell.advance(label)

    def _hand_out(self, queue: JobQueue, phase: Phase, label: str) -> None:
        """Give jobs to the workers that have few. What reads both models takes long: there no worker holds a job while
        another one has none."""
        most = _IN_FLIGHT if phase.label else 1
        self._start_all()
        while seats := [seat for seat in self._seats if seat.hello is None and len(seat.flying) < most]:
            job = queue.next(lambda job: not isinstance(job, Job) or phase.is_wanted(job))
            if job is None:
                return
            if isinstance(job, Job) and self._part != (label, job.finding):
                self._part = label, job.finding
                self._work.tell.name_part(*self._part)
            seat = min(seats, key=lambda seat: len(seat.flying))
            seat.flying[seat.actor.compute.remote(job, queue.given(job), phase.loads)] = job

    def _next_answer(self) -> tuple[_Seat, Any]:
        import ray

        owed = {ref: seat for seat in self._seats for ref in seat.refs}
        ready, _ = ray.wait([*owed], num_returns=1)
        return owed[ready[0]], ready[0]

    def _got(self, ref: Any) -> Any:
        """Return what a worker sent back. Raises what it raised where that is an error of itlens."""
        import ray

        try:
            return ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ItlensError):
                raise error.cause from error
            raise

    def _find(self, job: AnyJob) -> Any:
        """Return what the run folder has of a job."""
        if isinstance(job, Job):
            return self._work.find_saved(job.finding, job.side, job.unit)
        return None if self._work.reading is None else self._work.reading.stored(job.side, job.number)

    def _keep(self, job: ResponseJob, response: Any) -> None:
        assert self._work.reading is not None  # nobody asks for responses without prompts
        self._work.reading.keep(job.side, job.number, response)

    # ---- workers

    def _start_all(self) -> None:
        """Start the workers, once, and wait for the first."""
        import ray

        if self._packed is not None:
            return
        self._packed = ray.put(packed_request(self._work, self._room.device))
        self._seats = [self._started() for _ in range(self.workers)]
        with self._work.tell.busy("starting workers of the Ray cluster"):
            ray.wait([seat.hello for seat in self._seats], num_returns=1)

    def _started(self) -> _Seat:
        import ray

        options = {"num_cpus": self._room.cpus, "num_gpus": self._room.gpus, "max_restarts": 0}
        actor: Any = ray.remote(RemoteWorker).options(**options, scheduling_strategy="SPREAD").remote(self._packed)
        return _Seat(actor, actor.hello.remote())

    def _stopped(self, seat: _Seat) -> None:
        import ray

        ray.kill(seat.actor)

    def _greeted(self, seat: _Seat, versions: Any) -> None:
        """Take a worker in. Raises ClusterError where its packages are others than this process's."""
        seat.hello = None
        others = [name for name, version in own_versions().items() if versions.get(name) != version]
        if others:
            name = others[0]
            raise ClusterError(
                f"A worker of the Ray cluster has {name.removesuffix('_version')} {versions.get(name)}, and this "
                f"process has {own_versions()[name]}; install the same versions on all nodes."
            )

    def _replace(self, seat: _Seat, queue: JobQueue, error: Exception) -> AnyJob | None:
        """Start another worker in the place of a lost one, whose jobs are computed again; the job that was lost too
        often. Raises ClusterError where workers are lost whatever they compute."""
        self._seats.remove(seat)
        self._stopped(seat)  # it may only have been out of reach
        self._losses += 1
        first = next(iter(seat.flying.values()), None)
        if self._losses >= max(TRIES + 1, _LOSSES * self.workers):
            doing = "before its first job" if first is None else f"while it computed {first}"
            raise ClusterError(
                f"Workers of the Ray cluster were lost {self._losses} times in a row, the last one {doing} "
                f"({one_line(error).rstrip('.')}); look at the memory of its nodes (a worker holds a model), at what "
                "is installed there, and run the same command again, which keeps what is finished."
            ) from error
        given_up = queue.lost(seat.flying.values())
        self._seats.append(self._started())
        return given_up

    def _given_up(self, job: AnyJob, error: Exception) -> Any:
        """Return what becomes of a job that was lost with its worker too often."""
        lost = ClusterError(
            f"{job} was given to {TRIES} workers of the Ray cluster, and each was lost while it computed it "
            f"({one_line(error).rstrip('.')}); give the workers more memory, or leave it out."
        )
        if isinstance(job, ResponseJob):
            return Failure("response", "run", lost)
        return Finished(
            job, unit_failure(self._work.findings[job.finding], self._work.plans[job.finding], job, lost), 0.0
        )
