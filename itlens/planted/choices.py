"""The settings of a selftest, checked before any model is loaded: each mistake is one sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

from itlens.errors import ItlensError, ProbeError
from itlens.findings import findings
from itlens.findings.detector import Detector
from itlens.planted.plants import PLANTS
from itlens.planted.scoring import pairs_needed

STRENGTHS = (0.25, 2.0, 16.0, 64.0)
_READS = ("weights", "prompts", "pair")  # from fast to slow
_USUAL = {"repeats": 20, "calibration": 30, "limit": 5, "targets": 6, "words": 2000, "most_layers": 6}
_THOROUGH = {"repeats": 100, "calibration": 99, "limit": 12, "targets": 16, "words": 4000, "most_layers": 1000}


def all_detectors() -> dict[str, type[Detector]]:
    """Return the detectors of all findings by name: first of those that read weights, then prompts, then both models.

    Raises ItlensError where two findings have a detector of the same name.
    """
    detectors: dict[str, type[Detector]] = {}
    for finding in sorted(findings().values(), key=lambda finding: _READS.index(finding.reads)):
        for detector in finding.detectors():
            if detector.name in detectors:
                raise ItlensError(f"{finding.name}: a detector called {detector.name!r} is there already; rename it.")
            detectors[detector.name] = detector
    return detectors


class Choices(NamedTuple):
    """The settings of a selftest; see `itlens.selftest`."""

    detectors: Mapping[str, type[Detector]]
    plants: Sequence[str]
    strengths: Sequence[float]
    noise: float
    repeats: int
    calibration: int
    level: float
    limit: int
    targets: int
    words: int
    most_layers: int
    seed: int

    @property
    def probes(self) -> list[str]:
        """The names of the detectors."""
        return list(self.detectors)

    @classmethod
    def of(
        cls,
        probes: str | Sequence[str],
        plants: str | Sequence[str],
        strengths: float | Sequence[float] | None,
        *,
        thorough: bool,
        **numbers: float | None,
    ) -> Choices:
        """Return checked settings. Raises ProbeError."""
        usual = _THOROUGH if thorough else _USUAL
        chosen: dict[str, Any] = {name: usual.get(name) if value is None else value for name, value in numbers.items()}
        for name in ("repeats", "limit", "targets", "words", "most_layers"):
            chosen[name] = _whole(name, chosen[name], 1)
        chosen["seed"] = _whole("seed", chosen["seed"], 0)
        for name, highest in (("noise", 1.0), ("level", 0.5)):
            chosen[name] = _number(name, chosen[name], highest)
        needed = pairs_needed(chosen["level"])
        chosen["calibration"] = _whole("calibration", chosen["calibration"], needed, f" for level={chosen['level']:g}")
        known = all_detectors()
        detectors = {name: known[name] for name in _names("probe", probes, known)}
        plants = _names("plant", plants, PLANTS)
        _refuse_unseen(detectors, plants, known)
        return cls(detectors=detectors, plants=plants, strengths=_strengths(strengths), **chosen)


def _names(what: str, chosen: str | Sequence[str], known: Iterable[str]) -> list[str]:
    listed = list(known)
    if isinstance(chosen, str):
        chosen = listed if chosen == "all" else [name.strip() for name in chosen.split(",")]
    names = list(chosen) if isinstance(chosen, Iterable) else [chosen]
    unknown = [name for name in names if name not in listed]
    if unknown or not names:
        got = f"Unknown {what} {unknown[0]!r}" if unknown else f"No {what} is requested"
        raise ProbeError(f'{got}; expected "all" or some of {", ".join(listed)}.')
    return [name for name in listed if name in names]


def _refuse_unseen(
    detectors: Mapping[str, type[Detector]], plants: Sequence[str], known: Mapping[str, type[Detector]]
) -> None:
    """Raise ProbeError where no probe is meant to see any of the plants: there would be no recall to report."""
    seen = {plant for detector in detectors.values() for plant in detector.sees}
    if not seen & set(plants):
        able = [name for name, detector in known.items() if set(detector.sees) & set(plants)]
        raise ProbeError(
            f"{' and '.join(detectors)}: not meant to see {' or '.join(plants)}; add one of the probes "
            f"{', '.join(able)}, or one of the plants {', '.join(name for name in PLANTS if name in seen)}."
        )


def _strengths(chosen: float | Sequence[float] | None) -> list[float]:
    values = STRENGTHS if chosen is None else chosen
    values = list(values) if isinstance(values, Iterable) else [values]
    wrong = [value for value in values if not _is_strength(value)]
    if wrong or not values:
        got = f"strength {wrong[0]!r}" if wrong else "no strengths"
        raise ProbeError(f"Got {got}; expected numbers above 0 (1: as large as the noise).")
    return sorted({float(value) for value in values})


def _is_strength(value: float) -> bool:
    try:
        return not isinstance(value, (bool, str)) and 0 < float(value) < math.inf
    except (TypeError, ValueError):
        return False


def _whole(name: str, value: object, least: int, reason: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ProbeError(f"{name}={value!r}; expected a whole number of at least {least}{reason}.")
    return value


def _number(name: str, value: object, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) <= highest:
        raise ProbeError(f"{name}={value!r}; expected a number above 0 and at most {highest:g}.")
    return float(value)
