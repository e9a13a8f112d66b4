"""One process at a time in a run folder: a lock of the operating system, which ends with the process that holds it.

`.itlens.lock` is locked while a study writes into the folder; `.itlens.holder` says who does so. Both are taken away at
the end. What a killed process leaves of them is of no account: its lock is gone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from itlens.errors import StoreError
from itlens.files import read_json, system_reason, write_json, written

LOCK, HOLDER = ".itlens.lock", ".itlens.holder"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made where it is missing, while the block runs.

    Nobody waits: two studies that take turns in one folder would compute the same twice.
    Raises StoreError where another process (or thread) holds it, with its number, its machine and since when.
    """
    from filelock import FileLock, Timeout

    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / LOCK, timeout=0), folder / HOLDER
    try:
        lock.acquire()
    except Timeout:
        raise StoreError(
            f"{folder} is in use by {_holder(holder)}; wait until it has ended, or give another folder."
        ) from None
    except OSError as error:
        raise StoreError(f"Cannot lock {folder}: {system_reason(error)}.") from error
    try:
        since = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        with suppress(OSError):  # before the release: nobody else's lock is deleted
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def _holder(file: Path) -> str:
    """Say who holds the lock; the file is only being written in the first instant."""
    try:
        known = read_json(file)
    except StoreError:
        return "another process"
    if not isinstance(known, dict):
        return "another process"
    return f"another process (pid {known.get('pid')} on {known.get('host')}, since {known.get('since')})"
