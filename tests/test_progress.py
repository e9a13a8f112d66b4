"""Progress: what is shown, where, and how time left is estimated."""

from __future__ import annotations

import io
import sys
import time
import warnings

import pytest

from itlens import progress
from itlens.progress import Reporter, Work, late_bar, reporter


class Terminal(io.StringIO):
    """Standard error of somebody who watches."""

    def isatty(self) -> bool:
        return True


def watched(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Put a terminal in the place of standard error (in the test itself: pytest sets it again after the set-up)."""
    seen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", seen)
    return seen


def test_time_left_is_estimated_over_the_whole_run_without_what_was_finished_before() -> None:
    """100 units, 40 of an earlier run; 20 in 600 seconds leave 40 for 1,200."""
    work = Work("base model", first=40, everything=100, begun=1000.0)
    assert work.left(1600.0) is None, "nothing of this run is done yet"
    work.reach(60, 100)
    assert work.left(1600.0) == pytest.approx(1200.0)
    assert work.times(1600.0) == "10:00, about 20:00 left"
    assert work.line(1000.0 + 7384).startswith("base model ... 60/100, 2:03:04, about 4:06:")
    work.reach(100, 100)
    assert work.left(9999.0) is None and "left" not in work.times(9999.0)
    assert work.times(5.0) == work.times(99999.0), "the clock stops with the last unit"


def test_loading_does_not_count_for_the_estimate() -> None:
    shown: list[Work] = []
    tell = Reporter(type("Seen", (progress._Display,), {"show": lambda self, work, now=False: shown.append(work)})())
    tell.start("base model", 0, 10)
    shown[0].begun -= 500
    tell.name_part("base model", "attribution")
    assert time.monotonic() - shown[0].begun < 100 and shown[0].label == "base model: attribution"


def test_a_terminal_shows_the_part_loading_and_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    with reporter(True) as tell:
        tell.opening("reading models and prompts")
        tell.start("base model", 0, 2)
        with tell.busy("loading the base model"):
            pass
        tell.name_part("base model", "attribution")
        tell.advance("base model")
        with reporter(tell) as same, same.busy("writing tables and report"):
            assert same is tell
    shown = terminal.getvalue()
    for words in (
        "reading models and prompts",
        "loading the base model",
        "base model: attribution",
        "1/2",
        "writing tab",
    ):
        assert words in shown


def test_long_work_is_shown_before_it_reports_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    monkeypatch.setattr(progress, "_BLANK", 0.05)
    with late_bar("loading org/model[x]"):
        time.sleep(0.3)
        assert "loading org/model[x]" in terminal.getvalue()


def test_short_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    with late_bar("loading") as tell:
        tell(1, 2)
    assert terminal.getvalue() == ""


def test_nothing_is_shown_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter(True) as tell, tell.busy("loading"):
        tell.start("base model", 0, 2)
        tell.advance("base model")
    assert capsys.readouterr() == ("", "")


def test_a_notebook_gets_plain_lines_and_no_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with warnings.catch_warnings(), reporter(True) as tell:
        warnings.simplefilter("error")
        with tell.busy("loading the base model"):
            pass
        tell.start("base model", 0, 2)
        tell.name_part("base model", "attribution")
        tell.advance("base model")
    printed, err = capsys.readouterr()
    assert err == "" and printed.splitlines()[0] == "loading the base model ... 0:00"
    assert "base model: attribution ... 0/2, 0:00" in printed
