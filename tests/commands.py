"""Running the command line inside the test process: the exit code, and what went to standard output and error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from itlens import cli

ROOT = Path(__file__).parents[1]


class Outcome(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


class Commands:
    """`run("compare", base, tuned, ...)` as the console script would run it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def run(self, *words: object) -> Outcome:
        self._monkeypatch.setattr(sys, "argv", ["itlens", *map(str, words)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Outcome(int(ended.value.code or 0), *self._capsys.readouterr())

    def refused(self, *words: object) -> str:
        """The one sentence of a command that must fail: exit code 2, one line on standard error, no output."""
        code, out, err = self.run(*words)
        assert (code, out) == (2, "")
        assert err.startswith("itlens: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert err[:-1].isprintable()
        return err.removeprefix("itlens: ").rstrip("\n")


def interrupted(ready: Callable[[], bool], *words: object) -> Outcome:
    """Run a command in a process of its own, and press Ctrl-C when it is `ready`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "itlens.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job would ignore it
    )
    deadline = time.monotonic() + 120
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return Outcome(process.returncode, out, err)
