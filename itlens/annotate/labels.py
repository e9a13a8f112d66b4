"""What a labeller says of a list of words (`Label`), and what a labeller is (`Labeller`).

Tasks and levels are those of the paper: what users ask for, and the four levels of linguistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from itlens.errors import AnnotateError

TASKS = ("daily", "literary", "professional", "mathematics", "coding", "translation")
LEVELS = ("phonology", "morphology", "syntax", "semantics")
CANNOT_TELL = "cannot tell"
TOP = 15  # words that are read, the strongest


@dataclass(frozen=True)
class Label:
    """What a list of words has in common.

    description: a few words. tasks: some of TASKS, none when the topic serves none of them in particular. level: one
    of LEVELS, or "" where none fits. confidence: 0 to 1, the share of the words that agree as far as the labeller
    knows it (the lexicon) or says so (a chat model). Raises AnnotateError for other tasks, levels and confidences.
    """

    description: str
    tasks: tuple[str, ...] = ()
    level: str = ""
    confidence: float = 0.0

    unknown: ClassVar[Label]  # "cannot tell": fewer than half of the words agree, or no answer could be read

    def __post_init__(self) -> None:
        odd = [task for task in self.tasks if task not in TASKS]
        if odd:
            raise AnnotateError(f"Label: the task {odd[0]!r} is none of {', '.join(TASKS)}.")
        if self.level and self.level not in LEVELS:
            raise AnnotateError(f"Label: the level {self.level!r} is none of {', '.join(LEVELS)}.")
        if not 0 <= self.confidence <= 1:
            raise AnnotateError(f"Label: confidence={self.confidence!r}; expected a number from 0 to 1.")

    @property
    def known(self) -> bool:
        """Whether the labeller could tell."""
        return self != Label.unknown


Label.unknown = Label(CANNOT_TELL)


class Labeller(Protocol):
    """A function of words, the strongest first, of which the first 15 are read.

    name: what tables and reports call it. seeds: those it was asked with; none for a labeller that always says the
    same. With seeds, it takes `seed=` as well.
    """

    @property
    def name(self) -> str: ...

    @property
    def seeds(self) -> tuple[int, ...]: ...

    def __call__(self, words: Sequence[str], *, seed: int | None = None) -> Label: ...


def top_words(words: Sequence[str]) -> list[str]:
    """Return the words that are read. Raises AnnotateError for anything but a list of words."""
    if isinstance(words, str) or not all(isinstance(word, str) for word in words):
        raise AnnotateError("A labeller takes a list of words, the strongest first; got something else.")
    kept = [str(word) for word in words if word.strip()][:TOP]
    if not kept:
        raise AnnotateError("A labeller takes a list of words, and this one has none.")
    return kept
