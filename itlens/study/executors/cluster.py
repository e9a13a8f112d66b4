"""A Ray cluster: reached, with room for workers, and its errors in one sentence."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from itlens.errors import ClusterError
from itlens.foreign import foreign

_DEADLINE = 5.0  # seconds until somebody must answer at an address
_OWN = ("auto", "local")  # addresses that are no places


def refuse_unreachable(address: str | None) -> None:
    """Raise ClusterError where Ray is not installed, for what is no address, and where nobody answers there."""
    if find_spec("ray") is None:
        raise ClusterError("executor='ray' needs Ray, which is not installed: pip install 'itlens[ray]'.")
    if address is None or address in _OWN:
        return
    host, _, port = str(address).removeprefix("ray://").rpartition(":")
    if not isinstance(address, str) or not host or not port.isdecimal():
        raise ClusterError(
            f"ray_address={address!r} is no address; expected host:port (as `ray start --head` prints it), "
            "ray://host:port, or auto for the cluster of this machine."
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_DEADLINE) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                _refuse_other_server(connection, address)
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"No Ray cluster answers at {address} ({getattr(error, 'strerror', None) or error}); start one with `ray "
            "start --head`, and give the address that it prints."
        ) from error


def _refuse_other_server(connection: socket.socket, address: str) -> None:
    """Raise ClusterError for a server of something else: Ray's speak HTTP/2, which begins with a SETTINGS frame. Ray
    itself would try for minutes."""
    connection.settimeout(_DEADLINE)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
    start = b""
    try:
        while len(start) < 4 and (more := connection.recv(4 - len(start))):
            start += more
    except OSError:
        start = b""
    if start[3:] != b"\x04":
        raise ClusterError(
            f"What answers at {address} is no Ray cluster; give the address that `ray start --head` prints."
        )


@contextmanager
def connected(address: str | None) -> Iterator[str]:
    """Connect to a Ray cluster while the block runs; its address. A connection that is there already is used, and kept.

    Raises ClusterError where that fails, or is to another cluster.
    """
    import ray

    if ray.is_initialized():
        held = str(ray.get_runtime_context().gcs_address)
        if address not in (None, "auto", held):
            raise ClusterError(
                f"ray_address is {address}, and this process is connected to {held} already; leave ray_address out, or "
                "call ray.shutdown() first."
            )
        yield held
        return
    try:
        _connect(address)
        yield str(ray.get_runtime_context().gcs_address)
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    """Call ray.init, which takes the handler of SIGTERM away and reports to its makers unless it is told not to."""
    import ray

    main = threading.current_thread() is threading.main_thread()
    before, said = signal.getsignal(signal.SIGTERM), os.environ.get("RAY_USAGE_STATS_ENABLED")
    os.environ["RAY_USAGE_STATS_ENABLED"] = said or "0"
    where = "a Ray cluster of this machine" if address in (None, *_OWN) else f"the Ray cluster at {address}"
    try:
        with foreign(ClusterError, f"Cannot start or reach {where}"):
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    finally:
        if said is None:
            del os.environ["RAY_USAGE_STATS_ENABLED"]
        if main:
            signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class Room:
    """How many workers a cluster has room for, and on what. gpus: of each worker, 0 or 1."""

    workers: int
    cpus: int
    gpus: int

    @property
    def device(self) -> str:
        """Where the models run."""
        return "cuda" if self.gpus else "cpu"


def room_for_workers(nodes: list[dict[str, Any]], cpus: int, device: str | None) -> Room:
    """Return the room of a cluster. nodes: of `ray.nodes()`. cpus: of each worker. device: the one asked for.

    Where the cluster has GPUs (and device is not "cpu"), each worker has one. Raises ClusterError where no node has
    room for a worker.
    """
    there = [node["Resources"] for node in nodes if node["Alive"]]
    has_gpus = any(node.get("GPU", 0) >= 1 for node in there)
    if device is not None and device.split(":")[0] not in ("cpu", "cuda"):
        raise ClusterError(f"Workers of a Ray cluster run on cpu or cuda, and device is {device!r}; give one of these.")
    gpus = int(device != "cpu" and (has_gpus or device is not None))
    places = [int(node.get("CPU", 0)) // cpus for node in there]
    if gpus:
        places = [min(place, int(node.get("GPU", 0))) for place, node in zip(places, there, strict=True)]
    if not sum(places):
        most = max((int(node.get("CPU", 0)) for node in there), default=0)
        what = f"{cpus} CPU{'' if cpus == 1 else 's'}{' and a GPU' if gpus else ''}"
        raise ClusterError(
            f"No node of the Ray cluster has {what} for a worker (the largest has {most} CPUs"
            f"{', and none has a GPU' if gpus and not has_gpus else ''}); give fewer ray_cpus or another device."
        )
    return Room(sum(places), cpus, gpus)


def one_line(error: BaseException) -> str:
    """Return what an error of Ray says, without its remote traceback: the last line, at most 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    return f"{text[:200].rstrip('.')}."
