"""The p-values of the diffs between noisy copies of one model, two copies at a time, no copy used twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from itlens.planted.detectors import Detector


@dataclass(frozen=True)
class TestedCopies:
    """One test's p-values. null: of each two copies, exchanged at random (`itlens.planted.nulls`), an array each;
    changed: of the same copies as they are; same: of the model and itself."""

    null: list[np.ndarray] = field(default_factory=list)
    changed: list[np.ndarray] = field(default_factory=list)
    same: list[np.ndarray] = field(default_factory=list)


class Copies:
    """Takes one noisy copy after another of each detector, and tests the second against the first, and so on.

    Made when the model is as it was: that it does not differ from itself is tested first.
    """

    def __init__(self, detectors: Mapping[str, Detector]) -> None:
        self._detectors = detectors
        self._waiting: dict[str, Any] = {}
        self.found: dict[str, TestedCopies] = {}
        for name, detector in detectors.items():
            own = detector.copy()
            if own is not None:
                for test, p in detector.p_values(own, own, exchanged=False).items():
                    self._of(name, test).same.append(p)

    def add(self, name: str, copy: Any) -> None:
        """A detector's copy; tested once there are two. None: nothing to test."""
        if copy is None:
            return
        if name not in self._waiting:
            self._waiting[name] = copy
            return
        one, detector = self._waiting.pop(name), self._detectors[name]
        for test, p in detector.p_values(one, copy, exchanged=True).items():
            self._of(name, test).null.append(p)
        for test, p in detector.p_values(one, copy, exchanged=False).items():
            self._of(name, test).changed.append(p)

    def _of(self, name: str, test: str) -> TestedCopies:
        return self.found.setdefault(f"{name}: {test}", TestedCopies())
