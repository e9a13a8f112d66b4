"""The pairs of a selftest, made and read one after another: calibration, identical, noise alone, planted, clean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import NamedTuple

import numpy as np

from itlens.planted.choices import Choices
from itlens.planted.copies import Copies, TestedCopies
from itlens.planted.detectors import Detector, Setup
from itlens.planted.ground import place_of
from itlens.planted.plants import PLANTS, Place, Plant
from itlens.planted.probed import DETECTORS
from itlens.planted.scoring import pairs_needed

Values = dict[str, np.ndarray]
_CALIBRATION, _EVALUATION = 0, 1  # part of the noise's seed, so that no draw is used twice


class Planted(NamedTuple):
    """What a detector read of one planted pair: its units' values, and where the plant was."""

    plant: str
    probe: str
    strength: float
    place: Place
    values: np.ndarray
    repeat: int


class Readings(NamedTuple):
    """Everything that was read. calibration, null: (pair, unit) by probe; p: by test; seconds: per whole reading."""

    detectors: dict[str, Detector]
    identical: Values
    calibration: Values
    null: Values
    planted: list[Planted]
    clean: list[Planted]
    p: dict[str, TestedCopies]
    seconds: dict[str, float]


class Bench:
    """Reads all pairs of a selftest. tell: called with (done, all)."""

    def __init__(self, setup: Setup, asked: Choices, tell: Callable[[int, int], None]) -> None:
        self._setup, self._asked, self._tell = setup, asked, tell
        self._detectors = {name: DETECTORS[name](setup) for name in asked.probes}
        self._plants = [PLANTS[name] for name in asked.plants]
        self._copies = Copies(self._detectors)
        self._times: dict[str, list[float]] = defaultdict(list)
        self._done = 0

    def run(self) -> Readings:
        """See the module."""
        identical = {name: detector.read() for name, detector in self._detectors.items()}
        calibration = [self._noise(number) for number in range(self._asked.calibration)]
        null, planted = [], []
        for repeat in range(self._asked.repeats):
            with self._setup.altered.noise(self._asked.noise, self._asked.seed, _EVALUATION, repeat):
                alone = self._whole([name for name in self._detectors if repeat < self._repeats(name)])
                planted += list(self._all_planted(repeat, alone, self._strengths))
            null.append(alone)
            self._step()
        clean = [one for repeat in range(self._checks) for one in self._all_planted(repeat, identical, self._strongest)]
        return Readings(
            detectors=self._detectors, identical=identical, calibration=_stacked(calibration), null=_stacked(null),
            planted=planted, clean=clean, p=self._copies.found,
            seconds={name: float(np.median(times)) for name, times in self._times.items()},
        )  # fmt: skip

    @property
    def _checks(self) -> int:
        """Repeats in which a detector also reads what it is not meant to see."""
        return max(1, self._asked.repeats // 4)

    def _strengths(self, plant: Plant, probe: str, repeat: int) -> list[float]:
        if plant.name in DETECTORS[probe].sees:
            return self._asked.strengths if repeat < self._repeats(probe) else []
        place = place_of(self._setup, plant.name, plant.kind, repeat)
        telling = repeat < self._checks and self._detectors[probe].judged(place).any()
        return self._asked.strengths[-1:] if telling else []

    def _strongest(self, plant: Plant, probe: str, repeat: int) -> list[float]:
        return self._asked.strengths[-1:] if plant.name in DETECTORS[probe].sees else []

    def _repeats(self, probe: str) -> int:
        """Repeats in which a detector reads what it is meant to see."""
        return -(-self._asked.repeats // 2) if DETECTORS[probe].slow else self._asked.repeats

    def _calibrations(self, probe: str) -> int:
        """Noise-only pairs that a detector's threshold comes from: two thirds of them where it runs the model."""
        number = self._asked.calibration
        return max(pairs_needed(self._asked.level), -(-2 * number // 3)) if DETECTORS[probe].slow else number

    def _noise(self, number: int) -> Values:
        with self._setup.altered.noise(self._asked.noise, self._asked.seed, _CALIBRATION, number):
            found = self._whole([name for name in self._detectors if number < self._calibrations(name)])
        self._step()
        return found

    def _whole(self, names: list[str]) -> Values:
        """These detectors on a pair that differs by noise alone."""
        out = {}
        for name in names:
            detector = self._detectors[name]
            begun = perf_counter()
            out[name] = detector.read()
            self._times[name].append(perf_counter() - begun)
            self._copies.add(name, detector.copy())
        return out

    def _all_planted(
        self, repeat: int, alone: Values, strengths: Callable[[Plant, str, int], list[float]]
    ) -> Iterator[Planted]:
        """Every plant of a repeat on top of the weights as they are; `alone`: what is read without the plant."""
        for plant in self._plants:
            place = place_of(self._setup, plant.name, plant.kind, repeat)
            wanted = {name: strengths(plant, name, repeat) for name in self._detectors}
            for strength in self._asked.strengths:
                readers = [name for name, listed in wanted.items() if strength in listed]
                if not readers:
                    continue
                # the change is made of the weights as they are, with their noise: a scaled head scales that as well
                edits = plant.edits(self._setup.ground, place, strength, (self._asked.seed, repeat))
                with self._setup.altered.plant(edits):
                    for name in readers:
                        values = self._values(name, place, alone[name])
                        yield Planted(plant.name, name, strength, place, values, repeat)

    def _values(self, name: str, place: Place, alone: np.ndarray) -> np.ndarray:
        detector = self._detectors[name]
        if not detector.local or place.layer < 0:
            return detector.read()
        there = np.array([unit.layer == place.layer for unit in detector.units])
        return np.where(there, detector.read([place.layer]), alone)

    def _step(self) -> None:
        self._done += 1
        self._tell(self._done, self._asked.calibration + self._asked.repeats)


def _stacked(found: list[Values]) -> Values:
    return {name: np.stack([one[name] for one in found if name in one]) for name in found[0]}
