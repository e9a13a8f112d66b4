"""The pairs of a selftest, made and read one after another: calibration, identical, noise alone, planted, clean.

p-VALUES come from noisy copies of one model, two at a time, no copy used twice. Two copies with a draw of noise each
are exchangeable: only chance says which is called base. Noise moves both copies on all prompts at once, though, so that
ONE pair of copies truly differs, and a paired test over prompts may find that. The null of such a test is true once the
two copies are exchanged prompt by prompt, at random (`itlens.stats.p_values`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple, TypeAlias

import numpy as np

from itlens.findings.detector import Detector, Unit
from itlens.planted.plants import PLANTS, Plant
from itlens.planted.scoring import pairs_needed
from itlens.planted.setup import Choices, PlantingSetup, unit_of

Values: TypeAlias = dict[str, np.ndarray]
_CALIBRATION, _EVALUATION = 0, 1  # part of the noise's seed, so that no draw is used twice


class PlantedReading(NamedTuple):
    """What a detector read of one planted pair: the values of its units, and the unit of the plant."""

    plant: str
    probe: str
    strength: float
    unit: Unit
    values: np.ndarray
    repeat: int


class Readings(NamedTuple):
    """Everything that was read. calibration, null: (pair, unit) by probe; p: by test; seconds: per whole reading."""

    detectors: dict[str, Detector]
    identical: Values
    calibration: Values
    null: Values
    planted: list[PlantedReading]
    clean: list[PlantedReading]
    p: dict[str, TestedCopies]
    seconds: dict[str, float]


class PairReader:
    """Reads all pairs of a selftest. progress: called with (done, all)."""

    def __init__(self, setup: PlantingSetup, choices: Choices, progress: Callable[[int, int], None]) -> None:
        self._setup, self._choices, self._progress = setup, choices, progress
        self._detectors = {name: detector(setup) for name, detector in choices.detectors.items()}
        self._plants = [PLANTS[name] for name in choices.plants]
        self._copies = Copies(self._detectors)
        self._times: dict[str, list[float]] = defaultdict(list)
        self._done = 0

    def run(self) -> Readings:
        """Read all pairs; see the module."""
        choices = self._choices
        identical = {name: detector.read() for name, detector in self._detectors.items()}
        calibration = [self._calibration(number) for number in range(choices.calibration)]
        null, planted = [], []
        for repeat in range(choices.repeats):
            with self._setup.altered.noise(choices.noise, choices.seed, _EVALUATION, repeat):
                alone = self._whole([name for name in self._detectors if repeat < self._repeats(name)])
                planted += list(self._all_planted(repeat, alone, self._strengths))
            null.append(alone)
            self._step()
        clean = [
            reading
            for repeat in range(self._checks)
            for reading in self._all_planted(repeat, identical, self._strongest)
        ]
        return Readings(
            detectors=self._detectors, identical=identical, calibration=_stacked(calibration), null=_stacked(null),
            planted=planted, clean=clean, p=self._copies.tested,
            seconds={name: float(np.median(times)) for name, times in self._times.items()},
        )  # fmt: skip

    @property
    def _checks(self) -> int:
        """Repeats in which a detector also reads what it is not meant to see."""
        return max(1, self._choices.repeats // 4)

    def _strengths(self, plant: Plant, probe: str, repeat: int) -> Sequence[float]:
        """Return the strengths at which a detector reads a plant on top of noise."""
        detector = self._detectors[probe]
        if plant.name in detector.sees:
            return self._choices.strengths if repeat < self._repeats(probe) else []
        unit = unit_of(self._setup, plant.name, plant.kind, repeat)
        informative = repeat < self._checks and detector.judged(unit).any()
        return self._choices.strengths[-1:] if informative else []

    def _strongest(self, plant: Plant, probe: str, repeat: int) -> Sequence[float]:
        """Return the strengths at which a detector reads a plant without noise."""
        return self._choices.strengths[-1:] if plant.name in self._detectors[probe].sees else []

    def _repeats(self, probe: str) -> int:
        """Return the number of repeats in which a detector reads what it is meant to see."""
        repeats = self._choices.repeats
        return -(-repeats // 2) if self._detectors[probe].slow else repeats

    def _calibrations(self, probe: str) -> int:
        """Return the number of noise-only pairs for a detector's threshold: two thirds where it runs the model."""
        number = self._choices.calibration
        if not self._detectors[probe].slow:
            return number
        return max(pairs_needed(self._choices.level), -(-2 * number // 3))

    def _calibration(self, number: int) -> Values:
        with self._setup.altered.noise(self._choices.noise, self._choices.seed, _CALIBRATION, number):
            values = self._whole([name for name in self._detectors if number < self._calibrations(name)])
        self._step()
        return values

    def _whole(self, names: Sequence[str]) -> Values:
        """Read all units with these detectors, on a pair that differs by noise alone."""
        values = {}
        for name in names:
            detector = self._detectors[name]
            start = perf_counter()
            values[name] = detector.read()
            self._times[name].append(perf_counter() - start)
            self._copies.add(name, detector.copy())
        return values

    def _all_planted(
        self, repeat: int, alone: Values, strengths: Callable[[Plant, str, int], Sequence[float]]
    ) -> Iterator[PlantedReading]:
        """Read every plant of a repeat on top of the weights as they are; `alone`: the values without the plant."""
        for plant in self._plants:
            unit = unit_of(self._setup, plant.name, plant.kind, repeat)
            wanted = {name: strengths(plant, name, repeat) for name in self._detectors}
            for strength in self._choices.strengths:
                readers = [name for name, listed in wanted.items() if strength in listed]
                if not readers:
                    continue
                # the change is made of the weights as they are, with their noise: a scaled head scales that as well
                edits = plant.edits(self._setup.ground, unit, strength, (self._choices.seed, repeat))
                with self._setup.altered.plant(edits):
                    for name in readers:
                        values = self._values(name, unit, alone[name])
                        yield PlantedReading(plant.name, name, strength, unit, values, repeat)

    def _values(self, name: str, planted: Unit, alone: np.ndarray) -> np.ndarray:
        detector = self._detectors[name]
        if not detector.local or planted.layer < 0:
            return detector.read()
        changed = np.array([unit.layer == planted.layer for unit in detector.units])
        return np.where(changed, detector.read([planted.layer]), alone)

    def _step(self) -> None:
        self._done += 1
        self._progress(self._done, self._choices.calibration + self._choices.repeats)


def _stacked(pairs: Sequence[Values]) -> Values:
    return {name: np.stack([values[name] for values in pairs if name in values]) for name in pairs[0]}


@dataclass(frozen=True)
class TestedCopies:
    """One test's p-values, an array for each two copies. null: exchanged at random; changed: as they are; same: of the
    model and itself."""

    null: list[np.ndarray] = field(default_factory=list)
    changed: list[np.ndarray] = field(default_factory=list)
    same: list[np.ndarray] = field(default_factory=list)


class Copies:
    """Takes one noisy copy after another of each detector, and tests the second against the first, and so on.

    Made while the model is unchanged: its difference from itself is tested first. tested: by "detector: test".
    """

    def __init__(self, detectors: Mapping[str, Detector]) -> None:
        self._detectors = detectors
        self._waiting: dict[str, object] = {}
        self.tested: dict[str, TestedCopies] = {}
        for name, detector in detectors.items():
            unchanged = detector.copy()
            if unchanged is not None:
                for test, p in detector.p_values(unchanged, unchanged, exchanged=False).items():
                    self._of(name, test).same.append(p)

    def add(self, name: str, copy: object) -> None:
        """Add a detector's copy, tested once there are two. None: nothing to test."""
        if copy is None:
            return
        if name not in self._waiting:
            self._waiting[name] = copy
            return
        first, detector = self._waiting.pop(name), self._detectors[name]
        for test, p in detector.p_values(first, copy, exchanged=True).items():
            self._of(name, test).null.append(p)
        for test, p in detector.p_values(first, copy, exchanged=False).items():
            self._of(name, test).changed.append(p)

    def _of(self, name: str, test: str) -> TestedCopies:
        return self.tested.setdefault(f"{name}: {test}", TestedCopies())
