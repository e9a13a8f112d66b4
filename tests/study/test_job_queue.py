"""The order of jobs that are computed several at a time: what waits, what is asked for, what was lost."""

from __future__ import annotations

from typing import Any

import pytest

from itlens.errors import ClusterError, ProbeError
from itlens.findings import findings
from itlens.study.executors.base import Job, StudyWork
from itlens.study.executors.cluster import Room, room_for_workers
from itlens.study.executors.queue import TRIES, AnyJob, JobQueue, ResponseJob
from itlens.study.executors.spread import RayExecutor, _Seat

ONE, TWO, THREE = (Job("toy", "pair", name) for name in ("one", "two", "three"))


class Files(dict[AnyJob, Any]):
    """What is finished, as the run folder would have it."""

    def queue(self, *jobs: AnyJob) -> JobQueue:
        return JobQueue(jobs, self.get)


def taken(queue: JobQueue) -> list[AnyJob]:
    """Every job that can be computed now, in order."""
    found = []
    while (job := queue.next(lambda job: True)) is not None:
        found.append(job)
    return found


def test_jobs_keep_their_order_and_those_that_are_not_wanted_end() -> None:
    queue = Files().queue(ONE, TWO, THREE)
    assert queue.next(lambda job: job != ONE) == TWO
    assert taken(queue) == [THREE]
    assert not queue.is_done
    queue.end(TWO)
    queue.end(THREE)
    assert queue.is_done


def test_a_job_waits_for_an_earlier_one_and_not_for_a_later_one() -> None:
    files = Files()
    queue = files.queue(ONE, TWO, THREE)
    assert taken(queue) == [ONE, TWO, THREE]
    queue.wait_for(TWO, [ONE, THREE])
    assert taken(queue) == []
    files[ONE] = "the first"
    queue.end(ONE)
    assert taken(queue) == [TWO]
    assert queue.given(TWO) == {ONE: "the first", THREE: None}


def test_what_is_finished_or_never_will_be_is_given_at_once() -> None:
    elsewhere, nowhere = Job("other", "base", "a"), Job("other", "base", "b")
    queue = Files({elsewhere: 1}).queue(ONE, TWO)
    assert taken(queue) == [ONE, TWO]
    queue.wait_for(ONE, [elsewhere, nowhere])
    assert taken(queue) == [ONE]
    assert queue.given(ONE) == {elsewhere: 1, nowhere: None}


def test_a_job_that_failed_is_no_result_for_those_that_waited() -> None:
    queue = Files().queue(ONE, TWO)
    taken(queue)
    queue.wait_for(TWO, [ONE])
    queue.end(ONE)
    assert taken(queue) == [TWO]
    assert queue.given(TWO) == {ONE: None}


def test_a_response_that_nobody_wrote_is_written_once_and_first() -> None:
    files = Files({ResponseJob("tuned", 1): "there"})
    queue = files.queue(ONE, TWO, THREE)
    assert queue.next(lambda job: True) == ONE
    assert queue.next(lambda job: True) == TWO
    responses = [ResponseJob("tuned", number) for number in range(3)]
    queue.wait_for(ONE, responses)
    queue.wait_for(TWO, responses)
    assert taken(queue) == [responses[0], responses[2], THREE]
    files[responses[0]] = "new"
    queue.end(responses[0])
    assert taken(queue) == []
    queue.end(responses[2], ProbeError("too long"))
    assert taken(queue) == [ONE, TWO]
    given = queue.given(TWO)
    assert {key: given[key] for key in responses[:2]} == {responses[0]: "new", responses[1]: "there"}
    assert str(given[responses[2]]) == "too long"


def test_a_model_is_not_asked_for_the_response_of_the_other_one() -> None:
    own, other = ResponseJob("base", 0), ResponseJob("tuned", 0)
    job = Job("toy", "base", "one")
    queue = Files().queue(job)
    taken(queue)
    queue.wait_for(job, [other])
    assert taken(queue) == [job]
    assert queue.given(job) == {other: None}
    queue.wait_for(job, [own])
    assert taken(queue) == [own]


def test_lost_jobs_come_first_again_and_only_the_one_that_was_computed_counts() -> None:
    queue = Files().queue(ONE, TWO, THREE)
    for _ in range(TRIES - 1):
        assert [queue.next(lambda job: True) for _ in range(2)] == [ONE, TWO]
        assert queue.lost([ONE, TWO]) is None
    assert [queue.next(lambda job: True) for _ in range(2)] == [ONE, TWO]
    assert queue.lost([ONE, TWO]) == ONE
    queue.end(ONE)
    assert taken(queue) == [TWO, THREE]
    assert queue.lost([TWO]) is None, "two waited when its worker was lost"


def test_a_lost_worker_that_computed_nothing_costs_no_job_a_try() -> None:
    queue = Files().queue(ONE)
    assert [queue.lost([]) for _ in range(TRIES)] == [None] * TRIES
    assert taken(queue) == [ONE]


# ---- room, and workers that are lost too often


def node(cpus: float, gpus: float = 0, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpus} | ({"GPU": gpus} if gpus else {})}


@pytest.mark.parametrize(
    ("nodes", "cpus", "device", "room"),
    [
        ([node(8), node(4), node(2, alive=False)], 1, None, Room(12, 1, 0)),
        ([node(8), node(5)], 3, None, Room(3, 3, 0)),
        ([node(8, 2), node(16)], 2, None, Room(2, 2, 1)),
        ([node(2, 4)], 1, "cuda", Room(2, 1, 1)),
        ([node(8, 2)], 2, "cpu", Room(4, 2, 0)),
    ],
)
def test_every_worker_has_its_cpus_and_its_gpu_on_one_node(
    nodes: list[dict[str, Any]], cpus: int, device: str | None, room: Room
) -> None:
    assert room_for_workers(nodes, cpus, device) == room


@pytest.mark.parametrize(
    ("nodes", "cpus", "device", "words"),
    [
        ([node(4), node(4)], 5, None, "No node of the Ray cluster has 5 CPUs for a worker .the largest has 4 CPUs"),
        ([node(4)], 1, "cuda", "has 1 CPU and a GPU for a worker .*none has a GPU"),
        ([], 1, None, "the largest has 0 CPUs"),
        ([node(4)], 1, "mps", "run on cpu or cuda, and device is 'mps'"),
    ],
)
def test_no_room_is_said(nodes: list[dict[str, Any]], cpus: int, device: str | None, words: str) -> None:
    with pytest.raises(ClusterError, match=words):
        room_for_workers(nodes, cpus, device)


class Lost(RayExecutor):
    """An executor whose workers are all lost."""

    def _started(self) -> _Seat:
        return _Seat(None, "hello")

    def _stopped(self, seat: _Seat) -> None:
        pass


def test_a_unit_whose_workers_are_lost_is_named_and_lost_workers_end_the_run() -> None:
    plans: Any = {"louder": None}
    work = StudyWork(None, findings(), plans, None, None, lambda *key: None, None, 3)  # type: ignore[arg-type]
    executor = Lost(work, "here", Room(1, 1, 0))
    job, queue = Job("louder", "base", "layer-01"), Files().queue(Job("louder", "base", "layer-01"))
    reason = RuntimeError("The actor died.\nOut of memory.")
    for left in reversed(range(TRIES)):
        executor._seats = [seat := _Seat(None, None, {"ref": taken(queue)[0]})]
        assert executor._replace(seat, queue, reason) == (None if left else job)
    finished = executor._given_up(job, reason)
    assert finished.failure is not None
    assert finished.failure.sentence == (
        "The finding 'louder' could not be computed: louder/base/layer-01 was given to 3 workers of the Ray cluster, "
        "and each was lost while it computed it (Out of memory); give the workers more memory, or leave it out."
    )
    with pytest.raises(ClusterError, match=r"lost 6 times in a row, the last one before its first job \(Out of mem"):
        for _ in range(TRIES):
            executor._seats = [seat := _Seat(None, "hello")]
            executor._replace(seat, queue, reason)
