"""From readings to the result of a selftest: scores by plant, probe and strength, and one answer for all together.

OVERALL, for all probes and for each:
1. Pool the pairs of every plant that a probe is meant to see, at the strongest of the requested strengths.
2. RECALL with the exact binomial interval of the pooled pairs.
3. FALSE DISCOVERIES as the mean over pairs (`scoring`). Pairs of one repeat share their draw of noise, so that the 95 %
   interval is a bootstrap over repeats (percentile); where no pair has any, the exact one of so many repeats.

On disk it is JSON that any program reads, and a picture beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple, TypeAlias

import numpy as np
import xarray as xr

from itlens.errors import StoreError
from itlens.files import read_json, system_reason, write_json, write_text
from itlens.findings.detector import Detector
from itlens.planted.pairs import PlantedReading, Readings
from itlens.planted.plants import PLANTS
from itlens.planted.scoring import Scale, Trial, calibrate, false_share, score
from itlens.planted.setup import Choices
from itlens.planted.view import selftest_figure
from itlens.stats.p_values import binomial_interval, share_interval, uniformity

ALL = "all"  # the scope of all probes together
SCORES = ("recall", "recall_low", "recall_high", "false_discoveries", "false_pairs", "auroc", "rank")
_TESTS = ("count", "pairs", "share", "share_low", "share_high", "ks", "ks_p")

Columns: TypeAlias = dict[str, tuple[str | tuple[str, ...], np.ndarray]]


def selftest_result(readings: Readings, choices: Choices) -> xr.Dataset:
    """Return the Dataset of `itlens.selftest`, without attributes."""
    scales = {name: calibrate(values, choices.level) for name, values in readings.calibration.items()}
    detectors = [readings.detectors[name] for name in choices.probes]
    return xr.Dataset(
        _scores(readings, choices, scales)
        | _matrix(readings, choices)
        | _on_probes(readings, choices, scales)
        | overall(_strongest(readings, choices, scales), choices.probes)
        | _tests(readings),
        coords={
            "plant": list(choices.plants),
            "probe": choices.probes,
            "strength": list(choices.strengths),
            "test": sorted(readings.p),
            "scope": [ALL, *choices.probes],
            "plant_about": ("plant", [PLANTS[name].about for name in choices.plants]),
            "probe_about": ("probe", [detector.about for detector in detectors]),
            "kind": ("probe", [detector.kind for detector in detectors]),
        },
    )


def _scores(readings: Readings, choices: Choices, scales: Mapping[str, Scale]) -> Columns:
    """Return the scores and trials on (plant, probe, strength)."""
    shape = len(choices.plants), len(choices.probes), len(choices.strengths)
    scores, trials = np.full((len(SCORES), *shape), np.nan), np.zeros(shape, dtype=np.int64)
    for cell in np.ndindex(shape):
        key = choices.plants[cell[0]], choices.probes[cell[1]], choices.strengths[cell[2]]
        read = [reading for reading in readings.planted if (reading.plant, reading.probe, reading.strength) == key]
        trials[cell] = len(read)
        if read:
            scale = scales[key[1]]
            named = score(_trials(read, readings.detectors[key[1]], scale), scale.threshold)
            scores[(slice(None), *cell)] = [named[name] for name in SCORES]
    axes = ("plant", "probe", "strength")
    columns: Columns = {name: (axes, values) for name, values in zip(SCORES, scores, strict=True)}
    return columns | {"trials": (axes, trials)}


def _trials(read: Iterable[PlantedReading], detector: Detector, scale: Scale) -> list[Trial]:
    trials = []
    for reading in read:
        planted = detector.units.index(reading.unit) if reading.unit in detector.units else -1
        trials.append(Trial(reading.values, scale.excess(reading.values), planted, detector.judged(reading.unit)))
    return trials


def _matrix(readings: Readings, choices: Choices) -> Columns:
    """Return meant and clean_first, on (plant, probe)."""
    shape = len(choices.plants), len(choices.probes)
    meant, first = np.zeros(shape, dtype=bool), np.full(shape, np.nan)
    for cell in np.ndindex(shape):
        plant, probe = choices.plants[cell[0]], choices.probes[cell[1]]
        detector = readings.detectors[probe]
        meant[cell] = plant in detector.sees
        read = [reading for reading in readings.clean if (reading.plant, reading.probe) == (plant, probe)]
        if read:
            first[cell] = np.mean([_comes_first(reading, detector, readings.identical[probe]) for reading in read])
    return {"meant": (("plant", "probe"), meant), "clean_first": (("plant", "probe"), first)}


def _comes_first(reading: PlantedReading, detector: Detector, identical: np.ndarray) -> bool:
    if reading.unit not in detector.units:
        return False
    own, values = detector.units.index(reading.unit), np.nan_to_num(reading.values)
    others = values[detector.judged(reading.unit)].max(initial=-np.inf)
    return bool(values[own] > max(others, np.nan_to_num(identical).max()))


def _on_probes(readings: Readings, choices: Choices, scales: Mapping[str, Scale]) -> Columns:
    rows = []
    for name in choices.probes:
        excess = np.stack([scales[name].excess(values) for values in readings.null[name]])
        alarms = int((excess > scales[name].threshold).any(axis=1).sum())
        low, high = binomial_interval(alarms, len(excess))
        rows.append(
            {
                "units": len(readings.detectors[name].units),
                "threshold": scales[name].threshold,
                "identical": float(np.nan_to_num(readings.identical[name]).max()),
                "null_false_pairs": alarms / len(excess),
                "null_false_pairs_low": low,
                "null_false_pairs_high": high,
                "seconds": readings.seconds[name],
            }
        )
    return {key: ("probe", np.array([row[key] for row in rows])) for key in rows[0]}


def _tests(readings: Readings) -> Columns:
    tested = [readings.p[name] for name in sorted(readings.p)]
    rows = [uniformity(copies.null) for copies in tested]
    named = {f"p_{key}": [row[key] for row in rows] for key in _TESTS}
    named["p_changed_share"] = [uniformity(copies.changed)["share"] for copies in tested]
    named["p_identical"] = [_smallest(copies.same) for copies in tested]
    return {name: ("test", np.array(values, dtype=float)) for name, values in named.items()}


def _smallest(p: Sequence[np.ndarray]) -> float:
    """Return the smallest p-value; 1 where nothing was tested."""
    known = np.concatenate([np.ones(1), *map(np.ravel, p)])
    return float(np.nanmin(known))


class StrongestTrial(NamedTuple):
    """A strongest plant that a probe is meant to see: the probe, the repeat, the trial and the probe's threshold."""

    probe: str
    repeat: int
    trial: Trial
    threshold: float


def _strongest(readings: Readings, choices: Choices, scales: Mapping[str, Scale]) -> list[StrongestTrial]:
    strongest = []
    for reading in readings.planted:
        detector, scale = readings.detectors[reading.probe], scales[reading.probe]
        if reading.strength == choices.strengths[-1] and reading.plant in detector.sees:
            (trial,) = _trials([reading], detector, scale)
            strongest.append(StrongestTrial(reading.probe, reading.repeat, trial, scale.threshold))
    return strongest


def overall(strongest: Sequence[StrongestTrial], probes: Sequence[str]) -> Columns:
    """Return overall_recall and overall_false, with _low and _high, and overall_trials: on scope, "all" or a probe."""
    rows = [_overall_row([trial for trial in strongest if scope in (ALL, trial.probe)]) for scope in (ALL, *probes)]
    return {f"overall_{name}": ("scope", np.array([row[name] for row in rows])) for name in rows[0]}


def _overall_row(strongest: Sequence[StrongestTrial]) -> dict[str, float]:
    planted = [counted for counted in strongest if counted.trial.planted >= 0]
    found = sum(bool(counted.trial.excess[counted.trial.planted] > counted.threshold) for counted in planted)
    low, high = binomial_interval(found, len(planted))
    share = found / len(planted) if planted else np.nan
    row = {"recall": share, "recall_low": low, "recall_high": high, "trials": float(len(planted))}
    judged = [counted for counted in strongest if counted.trial.judged.any()]
    repeats = sorted({counted.repeat for counted in judged})
    false, pairs = np.zeros(len(repeats)), np.zeros(len(repeats))
    for counted in judged:
        false[repeats.index(counted.repeat)] += false_share(counted.trial, counted.threshold)
        pairs[repeats.index(counted.repeat)] += 1
    low, high = share_interval(false, pairs)
    return row | {"false": false.sum() / pairs.sum() if judged else np.nan, "false_low": low, "false_high": high}


# ---- on disk


def checked_path(out: str | Path | None) -> Path | None:
    """Return the file to write to. Raises StoreError for a name that does not end in .json, or an unwritable place.

    Writing is tried with a temporary file in the nearest folder that exists: nothing is left behind.
    """
    if out is None:
        return None
    path = Path(out)
    if path.suffix != ".json":
        raise StoreError(f"--out is {path.name!r}; expected a name that ends in .json (the picture goes beside it).")
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    taken = next((file for file in (path, path.with_suffix(".html")) if file.is_dir()), None)
    if taken is not None:
        raise StoreError(f"--out {path} cannot be written: {taken} is a folder; give another name.")
    try:
        with TemporaryFile(dir=existing):
            return path
    except OSError as error:
        raise StoreError(f"--out {path} cannot be written: {system_reason(error)}.") from error


def write_selftest(result: xr.Dataset, out: str | Path) -> list[Path]:
    """Write `out` (.json, missing numbers as null) and the picture beside it (.html, offline); return both paths."""
    path = Path(out)
    content = result.to_dict()
    for name, variable in (*content["coords"].items(), *content["data_vars"].items()):
        variable["dtype"] = str(result[name].dtype)
    write_json(path, _plain(content))
    picture = path.with_suffix(".html")
    write_text(picture, selftest_figure(result).to_html(include_plotlyjs=True, full_html=True))
    return [path, picture]


def read_selftest(path: str | Path) -> xr.Dataset:
    """Return what `write_selftest` wrote, as the Dataset it was. Raises StoreError for anything else."""
    content = read_json(path)
    try:
        for variable in (*content["coords"].values(), *content["data_vars"].values()):
            variable["data"] = _array(variable["data"], variable["dtype"])
        return xr.Dataset.from_dict(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{path} is no result of a selftest ({error}).") from error


def _plain(value: object) -> object:
    """Return lists, dictionaries, texts and numbers: JSON has no NaN."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else repr(value)
    return value


def _array(data: object, dtype: str) -> np.ndarray:
    values = np.array(data, dtype=object)
    if dtype.startswith("float"):
        numbers = [math.nan if value is None else float(value) for value in values.ravel()]
        return np.array(numbers, dtype=dtype).reshape(values.shape)
    return values.astype(object if dtype == "object" else dtype)
