"""Show the progress of long work: bars on standard error where that is a terminal, plain lines in a notebook, else
nothing.

Time left is estimated over all that this run has done, and not over the last half minute: one prompt of a real model
may take longer than that. What has no count (loading, writing) shows how long it has taken. A terminal is refreshed ten
times a second, whatever the work does. Sentences (`Reporter.say`) stay on the screen; the command line also prints them
where standard error is no terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Lock, Timer
from time import monotonic
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

PATIENCE = 2.0  # seconds after which a single call's work counts as long
_BLANK = 1.0  # seconds without a sign of life in a terminal
_EVERY = 10.0  # seconds between two lines in a notebook


@dataclass
class Work:
    """Work that is counted, or only named (everything None). first: what was finished before this run."""

    name: str
    first: int = 0
    everything: int | None = None
    part: str = ""
    done: int = 0
    begun: float = field(default_factory=monotonic)
    ended: float | None = None

    def __post_init__(self) -> None:
        self.done = self.first

    @property
    def label(self) -> str:
        """Its name, and that of the part that is computed."""
        return f"{self.name}: {self.part}" if self.part else self.name

    @property
    def count(self) -> str:
        """How much of it is done, "" where that is not known."""
        return "" if self.everything is None else f"{self.done}/{self.everything}"

    def reach(self, done: int, everything: int | None) -> None:
        """Set progress to `done` of `everything`; the clock stops with the last."""
        self.done, self.everything = done, everything
        self.ended = monotonic() if done == everything else None

    def left(self, now: float) -> float | None:
        """Return the seconds left, if what is left takes as long as what this run has done; None: not known."""
        if self.everything is None or self.done <= self.first or self.done == self.everything:
            return None
        return (now - self.begun) / (self.done - self.first) * (self.everything - self.done)

    def times(self, now: float) -> str:
        """Return the time taken, and about the time left."""
        left = self.left(now)
        taken = (now if self.ended is None else self.ended) - self.begun
        return f"{_clock(taken)}{'' if left is None else f', about {_clock(left)} left'}"

    def line(self, now: float) -> str:
        """Return all of it in one line."""
        return f"{self.label} ... {self.count}{', ' if self.count else ''}{self.times(now)}"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    hours = f"{whole // 3600}:{whole // 60 % 60:02d}" if whole >= 3600 else f"{whole // 60}"
    return f"{hours}:{whole % 60:02d}"


class Reporter:
    """Shows what a study is doing: a line for each model, one for each result of both, and what is not counted."""

    def __init__(self, display: _Display) -> None:
        self._display = display
        self._works: dict[str, Work] = {}
        self._opening: Work | None = None

    def opening(self, name: str) -> None:
        """Name what comes before any counted work, until that begins."""
        self._opened()
        self._opening = Work(name)
        self._display.show(self._opening, now=True)

    def _opened(self) -> None:
        if self._opening is not None:
            self._display.hide(self._opening)
        self._opening = None

    def say(self, sentence: str) -> None:
        """Print a sentence that stays."""
        self._display.say(sentence)

    def start(self, which: str, done: int, everything: int | None) -> None:
        """Begin with a model or result, of which `done` units were finished before. everything: None if not known
        yet."""
        self._opened()
        self._works[which] = Work(which, done, everything)
        self._display.show(self._works[which])

    def name_part(self, which: str, part: str) -> None:
        """Name what is computed now. Time that passed before the first unit (loading) does not count for it."""
        work = self._works[which]
        work.part = part
        if work.done == work.first:
            work.begun = monotonic()
        self._display.show(work, now=True)

    def advance(self, which: str) -> None:
        """Count one more prompt or layer as finished."""
        work = self._works[which]
        work.reach(work.done + 1, work.everything)
        self._display.show(work)

    def reach(self, which: str, done: int, everything: int) -> None:
        """Set progress to `done` of `everything`."""
        work = self._works[which]
        work.reach(done, everything)
        self._display.show(work)

    @contextmanager
    def busy(self, name: str) -> Iterator[None]:
        """Name work that has no count (loading, writing) while the block runs."""
        self._opened()
        work = Work(name)
        self._display.show(work, now=True)
        try:
            yield
        finally:
            self._display.hide(work)


@contextmanager
def reporter(show: bool | Reporter) -> Iterator[Reporter]:
    """Show progress while the block runs. show: whether to; or a reporter that is shown already, which goes on.

    Sentences are printed on standard error also where nobody watches (in a log).
    """
    if isinstance(show, Reporter):
        yield show
        return
    display = _display(show, transient=False)
    with display if isinstance(display, _Bars) else nullcontext():
        yield Reporter(display)


@contextmanager
def late_bar(description: str, show: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Give a function of (done, all) that shows progress, but only once the work has taken `PATIENCE` seconds.

    In a terminal it is shown then even where the function was not called yet.
    """
    display, work = _display(show, transient=True), Work(description)

    def tell(done: int, everything: int) -> None:
        work.reach(done, everything)
        if monotonic() - work.begun > PATIENCE:
            display.show(work)

    if not isinstance(display, _Bars):
        yield tell
        return
    late = Timer(_BLANK, display.show, [work])
    late.daemon = True
    late.start()
    try:
        yield tell
    finally:
        late.cancel()
        display.close()


class Counted:
    """Counts what is done, for a function of (done, all)."""

    def __init__(self, tell: Callable[[int, int], None], everything: int) -> None:
        self._tell, self._all, self._done = tell, everything, 0

    def __call__(self, more: int = 1) -> None:
        self._done += more
        self._tell(self._done, self._all)


class _Display:
    """Shows no progress; sentences go to `stream` (None: nowhere)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def say(self, sentence: str) -> None:
        """Print a sentence that stays."""
        if self._stream is not None:
            self._stream.write(f"{sentence}\n")
            self._stream.flush()

    def show(self, work: Work, *, now: bool = False) -> None:
        """Show how far some work is; now: its name has changed."""

    def hide(self, work: Work) -> None:
        """Show it no longer."""


class _Lines(_Display):
    """Plain lines, for a notebook: a bar needs ipywidgets there, and leaves warnings where they are missing."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self._console = Console(file=sys.stdout, force_jupyter=False, force_terminal=False, width=200)
        self._last = monotonic()

    def show(self, work: Work, *, now: bool = False) -> None:
        if now or monotonic() - self._last > _EVERY:
            self._last = monotonic()
            self._console.print(work.line(self._last), markup=False, highlight=False, soft_wrap=True)


class _Times(ProgressColumn):
    """Time taken, and about the time left."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["work"].times(monotonic()), style="progress.remaining")


class _Bars(_Display):
    """Bars in a terminal, from the first piece of work that is shown on."""

    def __init__(self, console: Console, *, transient: bool) -> None:
        text = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[work].count}"))
        super().__init__()
        self._progress = Progress(*text, _Times(), console=console, transient=transient)
        self._tasks: dict[int, TaskID] = {}
        self._lock, self._closed = Lock(), False

    def show(self, work: Work, *, now: bool = False) -> None:
        with self._lock:
            if self._closed:
                return
            if not self._progress.live.is_started:
                self._progress.start()
            if id(work) not in self._tasks:
                self._tasks[id(work)] = self._progress.add_task(work.label, total=work.everything, work=work)
            task = self._tasks[id(work)]
            self._progress.update(task, description=work.label, completed=work.done, total=work.everything)

    def say(self, sentence: str) -> None:
        self._progress.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def hide(self, work: Work) -> None:
        with self._lock:
            if (task := self._tasks.pop(id(work), None)) is not None:
                self._progress.remove_task(task)

    def close(self) -> None:
        """Stop; what is shown later (by a timer that just ended) is not."""
        with self._lock:
            self._closed = True
            if self._progress.live.is_started:  # stopping prints a line end even where nothing was shown
                self._progress.stop()

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _display(show: bool, *, transient: bool) -> _Display:
    console = Console(file=sys.stderr)  # this stream, also while a library's own output is taken away
    if show and console.is_jupyter:
        return _Lines()
    if show and console.is_terminal:
        return _Bars(console, transient=transient)
    return _Display(sys.stderr if show else None)
