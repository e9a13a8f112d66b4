"""What kept a finding from an answer, and the one place where a finding's own code may fail.

A finding may be of another package, and whatever it raises costs the others nothing: hours of them must not be without
tables and report for it. `guarded` keeps the error as a `Failure`, which becomes one sentence for the reader.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from itlens.errors import ItlensError

Stage: TypeAlias = Literal["run", "compare", "verdict", "notes", "show", "places"]
_DONE = {"run": "be computed", "show": "be shown", "notes": "be shown", "places": "be shown head by head"}
_SHOWN = 5  # ids of prompts in a sentence


@dataclass(frozen=True)
class Failure:
    """What kept a finding from an answer: in which stage, and why. trace: the traceback as text, for its author.

    left_out: prompts (by id) or other units that could not be computed, where the finding does without them; unit:
    what these are, in the plural.
    """

    finding: str
    stage: Stage
    error: Exception
    trace: str = field(default="", repr=False)
    left_out: tuple[str, ...] = ()
    unit: str = "prompts"

    @property
    def expected(self) -> bool:
        """Whether the models or prompts do not allow it; else the finding's code is at fault."""
        return isinstance(self.error, ItlensError)

    @property
    def sentence(self) -> str:
        """For the reader: which finding, and why."""
        done = _DONE.get(self.stage, "be compared")
        reason = str(self.error) if self.expected else f"{type(self.error).__name__}: {self.error}"
        shown = ", ".join(map(repr, self.left_out[:_SHOWN])) + (" ..." if len(self.left_out) > _SHOWN else "")
        on = f" on {len(self.left_out)} {self.unit} ({shown})" if self.left_out else ""
        return f"The finding {self.finding!r} could not {done}{on}: {reason}"

    def raised(self) -> ItlensError:
        """The error to raise where nothing else was found: the finding's own, or one that names the finding."""
        return self.error if isinstance(self.error, ItlensError) else ItlensError(self.sentence)


@contextmanager
def guarded(finding: str, stage: Stage, failed: list[Failure]) -> Iterator[None]:
    """Run a finding's own code; what it raises is added to `failed`, and the block ends there.

    The error keeps its traceback (`let_go` drops it), and the failure has it as text. Ctrl-C goes through.
    """
    try:
        yield
    except Exception as error:  # whatever another package raises
        failed.append(Failure(finding, stage, error, traceback.format_exc()))


def let_go(error: BaseException) -> None:
    """Drop the tracebacks of an error that is kept: their frames, and those that called them, hold a whole model."""
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or any(each is other for other in seen):  # an error raised again can be in its own chain
            continue
        seen.append(each)
        each.__traceback__ = None
        todo += [each.__cause__, each.__context__]
