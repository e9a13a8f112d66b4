"""Show the progress of long work on standard error; nothing is shown where that is no terminal or notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

PATIENCE = 2.0  # seconds after which a single call's work counts as long


class Reporter:
    """A bar per model, and one per result that needs both."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def start(self, which: str, done: int, everything: int | None) -> None:
        """Return a turn begins; `done` of its parts were finished before. everything: None where that is not known
        yet."""
        self._tasks[which] = self._bars.add_task(which, total=everything, completed=done)

    def advance(self, which: str) -> None:
        """Return one more prompt or layer is finished."""
        self._bars.advance(self._tasks[which])

    def reach(self, which: str, done: int, everything: int) -> None:
        """Set progress to `done` of `everything`."""
        self._bars.update(self._tasks[which], completed=done, total=everything)


def _bars(show: bool, *, transient: bool = False) -> tuple[Progress, bool]:
    """Return bars on standard error, and whether there is somebody to see them."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=transient), show and (
        console.is_terminal or console.is_jupyter
    )


@contextmanager
def reporter(show: bool) -> Iterator[Reporter]:
    """Show progress bars while the block runs."""
    bars, wanted = _bars(show)
    bars.disable = not wanted
    with bars:
        yield Reporter(bars)


class Counted:
    """Counts what is done, for a function of (done, all)."""

    def __init__(self, tell: Callable[[int, int], None], everything: int) -> None:
        self._tell, self._all, self._done = tell, everything, 0

    def __call__(self, more: int = 1) -> None:
        self._done += more
        self._tell(self._done, self._all)


@contextmanager
def late_bar(description: str, show: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Give a function of (done, all) that shows a bar, but only once the work has taken `PATIENCE` seconds."""
    bars, wanted = _bars(show, transient=True)
    task, begun = bars.add_task(description), monotonic()

    def tell(done: int, everything: int) -> None:
        if wanted and not bars.live.is_started and monotonic() - begun > PATIENCE:
            bars.start()
        bars.update(task, completed=done, total=everything)

    try:
        yield tell
    finally:
        if bars.live.is_started:  # stopping prints a line end even where nothing was shown
            bars.stop()
