"""What a selftest is asked for, refused in one sentence before any model is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

from itlens.errors import ProbeError, StoreError
from itlens.planted.plants import PLANTS
from itlens.planted.probed import DETECTORS
from itlens.planted.scoring import pairs_needed

STRENGTHS = (0.25, 2.0, 16.0, 64.0)


class Choices(NamedTuple):
    """The settings of a selftest; see `itlens.selftest`."""

    probes: list[str]
    plants: list[str]
    strengths: list[float]
    noise: float
    repeats: int
    calibration: int
    level: float
    limit: int
    targets: int
    words: int
    most_layers: int
    seed: int

    @classmethod
    def of(cls, probes: Any, plants: Any, strengths: Any, *, thorough: bool, **numbers: Any) -> Choices:
        """Checked settings. Raises ProbeError."""
        usual = _THOROUGH if thorough else _USUAL
        chosen: dict[str, Any] = {name: usual.get(name) if value is None else value for name, value in numbers.items()}
        for name in ("repeats", "limit", "targets", "words", "most_layers"):
            chosen[name] = _whole(name, chosen[name], 1)
        chosen["seed"] = _whole("seed", chosen["seed"], 0)
        for name, highest in (("noise", 1.0), ("level", 0.5)):
            chosen[name] = _number(name, chosen[name], highest)
        needed = pairs_needed(chosen["level"])
        chosen["calibration"] = _whole("calibration", chosen["calibration"], needed, f" for level={chosen['level']:g}")
        asked = _names("probe", probes, DETECTORS), _names("plant", plants, PLANTS)
        _refuse_unseen(*asked)
        return cls(
            probes=asked[0],
            plants=asked[1],
            strengths=_strengths(strengths),
            **chosen,
        )


_USUAL = {"repeats": 20, "calibration": 30, "limit": 5, "targets": 6, "words": 2000, "most_layers": 6}
_THOROUGH = {"repeats": 100, "calibration": 99, "limit": 12, "targets": 16, "words": 4000, "most_layers": 1000}


def refuse_out(out: Any) -> Path | None:
    """The file to write to. Raises StoreError for a name that does not end in .json, and where nothing can be written.

    That is tried with a file that vanishes, in the nearest folder that exists: nothing is left behind.
    """
    if out is None:
        return None
    path = Path(out)
    if path.suffix != ".json":
        raise StoreError(f"--out is {path.name!r}; expected a name that ends in .json (the picture goes beside it).")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    taken = next((one for one in (path, path.with_suffix(".html")) if one.is_dir()), None)
    try:
        if taken is not None:
            raise IsADirectoryError(f"{taken.name} is a folder")
        with TemporaryFile(dir=there):
            return path
    except OSError as error:
        raise StoreError(f"--out {path} cannot be written ({error.strerror or error}); give another place.") from error


def _names(what: str, asked: Any, known: Iterable[str]) -> list[str]:
    listed = list(known)
    if isinstance(asked, str):
        asked = listed if asked == "all" else [name.strip() for name in asked.split(",")]
    names = list(asked) if isinstance(asked, Iterable) else [asked]
    unknown = [name for name in names if name not in listed]
    if unknown or not names:
        got = f"Unknown {what} {unknown[0]!r}" if unknown else f"No {what} is asked for"
        raise ProbeError(f'{got}; expected "all" or some of {", ".join(listed)}.')
    return [name for name in listed if name in names]


def _refuse_unseen(probes: list[str], plants: list[str]) -> None:
    """Raise ProbeError where no probe is meant to see any of the plants: there would be no recall to report."""
    seen = {plant for probe in probes for plant in DETECTORS[probe].sees}
    if not seen & set(plants):
        able = [name for name, detector in DETECTORS.items() if set(detector.sees) & set(plants)]
        raise ProbeError(
            f"{' and '.join(probes)}: not meant to see {' or '.join(plants)}; add one of the probes {', '.join(able)}, "
            f"or one of the plants {', '.join(name for name in PLANTS if name in seen)}."
        )


def _strengths(asked: Any) -> list[float]:
    values = STRENGTHS if asked is None else asked
    values = list(values) if isinstance(values, Iterable) else [values]
    wrong = [value for value in values if not _is_strength(value)]
    if wrong or not values:
        got = f"strength {wrong[0]!r}" if wrong else "no strengths"
        raise ProbeError(f"Got {got}; expected numbers above 0 (1: as large as the noise).")
    return sorted({float(value) for value in values})


def _is_strength(value: Any) -> bool:
    try:
        return not isinstance(value, (bool, str)) and 0 < float(value) < math.inf
    except (TypeError, ValueError):
        return False


def _whole(name: str, value: Any, least: int, why: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ProbeError(f"{name}={value!r}; expected a whole number of at least {least}{why}.")
    return value


def _number(name: str, value: Any, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) <= highest:
        raise ProbeError(f"{name}={value!r}; expected a number above 0 and at most {highest:g}.")
    return float(value)
