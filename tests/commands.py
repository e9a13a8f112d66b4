"""Running the command line inside the test process: the exit code, and what went to standard output and error."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

from itlens import cli


class Outcome(NamedTuple):
    """What a command came to. err: without what a run says before it starts (`Commands.preview`)."""

    code: int
    out: str
    err: str


PREVIEW = tuple(f"{name:<9}" for name in ("models", "device", "prompts", "folder", "to do", "time"))


def _without_preview(err: str) -> tuple[str, list[str]]:
    lines = err.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(PREVIEW)), [
        line.rstrip("\n") for line in lines if line.startswith(PREVIEW)
    ]


class Commands:
    """`run("compare", base, tuned, ...)` as the console script would run it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.preview: dict[str, str] = {}  # what the last run said before it started, by heading

    def run(self, *words: object) -> Outcome:
        self._monkeypatch.setattr(sys, "argv", ["itlens", *map(str, words)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = self._capsys.readouterr()
        err, preview = _without_preview(err)
        self.preview = {line[:9].strip(): line[9:] for line in preview}
        return Outcome(int(ended.value.code or 0), out, err)

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


def apart(*words: object, encoding: str = "utf-8") -> Outcome:
    """Run a command in a process of its own, a fork of this one, whose output goes to files of this encoding."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        child = os.fork()
        if not child:
            _run_and_exit(words, out, err, encoding)
        _, status = os.waitpid(child, 0)
        said, _ = _without_preview(err.read_text(encoding))
        return Outcome(os.waitstatus_to_exitcode(status), out.read_text(encoding), said)


def interrupted(ready: Callable[[], bool], *words: object, by: signal.Signals = signal.SIGINT) -> Outcome:
    """Run a command in a process of its own, and press Ctrl-C (or send another signal) when it is `ready`.

    The process is a fork of this one: a new interpreter takes ten seconds to import what is loaded here already.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        child = os.fork()
        if not child:
            _run_and_exit(words, out, err)
        deadline = time.monotonic() + 120
        ended = 0
        while not ready() and not ended and time.monotonic() < deadline:
            time.sleep(0.002)
            ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.kill(child, by)
            _, status = os.waitpid(child, 0)
        said, _ = _without_preview(err.read_text("utf-8"))
        return Outcome(os.waitstatus_to_exitcode(status), out.read_text("utf-8"), said)


def _run_and_exit(words: Sequence[object], out: Path, err: Path, encoding: str = "utf-8") -> NoReturn:
    """What the child does: it never comes back to the tests."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdout, sys.stderr = out.open("w", encoding=encoding), err.open("w", encoding=encoding)
        sys.argv = ["itlens", *map(str, words)]
        cli.main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
