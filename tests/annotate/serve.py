"""`transformers serve` on loopback with a model's folder, stopped in the end."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

_PATIENCE = 120  # seconds until the server must answer


@contextmanager
def serving(model: Path, log: Path) -> Iterator[str]:
    """The base_url of a server of this folder's model; what it says goes to `log`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    # a fork: a new interpreter takes ten seconds to import what is loaded here already
    server = multiprocessing.get_context("fork").Process(target=_serve, args=(words, log), daemon=True)
    server.start()
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.join(20)
        if server.is_alive():
            server.kill()
            server.join()


def _serve(words: list[str], log: Path) -> None:
    """What the process does: the command line of transformers, which says what it says to `log`."""
    with log.open("wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    from transformers.cli.transformers import app

    app(words)


def _wait_for(url: str, server: BaseProcess, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and server.is_alive():
        try:
            with opener.open(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail("transformers serve did not start: " + log.read_text(errors="replace")[-2000:])
