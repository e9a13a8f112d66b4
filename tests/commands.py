"""Running the command line inside the test process: the exit code, and what went to standard output and error."""

from __future__ import annotations

import sys
from typing import NamedTuple

import pytest

from itlens import cli


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
