"""From what was read to the table of a selftest: scores by plant, probe and strength on labelled axes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from itlens.planted.choices import Choices
from itlens.planted.detectors import Detector
from itlens.planted.overall import ALL, Counted, overall
from itlens.planted.pairs import Planted, Readings
from itlens.planted.plants import PLANTS
from itlens.planted.scoring import Scale, Trial, binomial_interval, calibrate, score, uniformity

SCORES = ("recall", "recall_low", "recall_high", "false_discoveries", "false_pairs", "auroc", "rank")
_TESTS = ("count", "pairs", "share", "share_low", "share_high", "ks", "ks_p")


def outcome(found: Readings, asked: Choices) -> xr.Dataset:
    """See `itlens.selftest`."""
    scales = {name: calibrate(values, asked.level) for name, values in found.calibration.items()}
    scores = np.full((len(SCORES), len(asked.plants), len(asked.probes), len(asked.strengths)), np.nan)
    trials = np.zeros(scores.shape[1:], dtype=np.int64)
    for place in np.ndindex(trials.shape):
        plant, probe, strength = asked.plants[place[0]], asked.probes[place[1]], asked.strengths[place[2]]
        chosen = [one for one in found.planted if one[:3] == (plant, probe, strength)]
        trials[place] = len(chosen)
        if chosen:
            named = score(_trials(chosen, found.detectors[probe], scales[probe]), scales[probe].threshold)
            scores[:, place[0], place[1], place[2]] = [named[name] for name in SCORES]
    axes = ("plant", "probe", "strength")
    return xr.Dataset(
        {name: (axes, values) for name, values in zip(SCORES, scores, strict=True)}
        | {"trials": (axes, trials)}
        | _matrix(found, asked)
        | _on_probes(found, asked, scales)
        | overall(_counted(found, asked, scales), asked.probes)
        | _tests(found),
        coords={
            "plant": asked.plants,
            "probe": asked.probes,
            "strength": asked.strengths,
            "test": sorted(found.p),
            "scope": [ALL, *asked.probes],
            "plant_about": ("plant", [PLANTS[name].about for name in asked.plants]),
            "probe_about": ("probe", [found.detectors[name].about for name in asked.probes]),
            "kind": ("probe", [found.detectors[name].kind for name in asked.probes]),
        },
    )


def _trials(chosen: Iterable[Planted], detector: Detector, scale: Scale) -> list[Trial]:
    out = []
    for one in chosen:
        planted = detector.units.index(one.place) if one.place in detector.units else -1
        out.append(Trial(one.values, scale.excess(one.values), planted, detector.judged(one.place)))
    return out


def _counted(found: Readings, asked: Choices, scales: dict[str, Scale]) -> list[Counted]:
    """The strongest plants, read by what is meant to see them."""
    out = []
    for one in found.planted:
        detector, scale = found.detectors[one.probe], scales[one.probe]
        if one.strength == asked.strengths[-1] and one.plant in detector.sees:
            out.append(Counted(one.probe, one.repeat, _trials([one], detector, scale)[0], scale.threshold))
    return out


def _matrix(found: Readings, asked: Choices) -> dict[str, Any]:
    """meant, clean_first: on (plant, probe)."""
    shape = len(asked.plants), len(asked.probes)
    meant, first = np.zeros(shape, dtype=bool), np.full(shape, np.nan)
    for place in np.ndindex(shape):
        plant, probe = asked.plants[place[0]], asked.probes[place[1]]
        detector = found.detectors[probe]
        meant[place] = plant in detector.sees
        chosen = [one for one in found.clean if (one.plant, one.probe) == (plant, probe)]
        if chosen:
            first[place] = np.mean([_comes_first(one, detector, found.identical[probe]) for one in chosen])
    return {"meant": (("plant", "probe"), meant), "clean_first": (("plant", "probe"), first)}


def _comes_first(one: Planted, detector: Detector, identical: np.ndarray) -> bool:
    if one.place not in detector.units:
        return False
    own, values = detector.units.index(one.place), np.nan_to_num(one.values)
    others = values[detector.judged(one.place)].max(initial=-np.inf)
    return bool(values[own] > max(others, np.nan_to_num(identical).max()))


def _on_probes(found: Readings, asked: Choices, scales: dict[str, Scale]) -> dict[str, Any]:
    rows = []
    for name in asked.probes:
        excess = np.stack([scales[name].excess(values) for values in found.null[name]])
        alarms = int((excess > scales[name].threshold).any(axis=1).sum())
        low, high = binomial_interval(alarms, len(excess))
        rows.append(
            {
                "units": len(found.detectors[name].units),
                "threshold": scales[name].threshold,
                "identical": float(np.nan_to_num(found.identical[name]).max()),
                "null_false_pairs": alarms / len(excess),
                "null_false_pairs_low": low,
                "null_false_pairs_high": high,
                "seconds": found.seconds[name],
            }
        )
    return {key: ("probe", np.array([row[key] for row in rows])) for key in rows[0]}


def _tests(found: Readings) -> dict[str, Any]:
    tested = [found.p[name] for name in sorted(found.p)]
    rows = [uniformity(one.null) for one in tested]
    changed = [uniformity(one.changed)["share"] for one in tested]
    named = {f"p_{key}": [row[key] for row in rows] for key in _TESTS}
    named |= {"p_changed_share": changed, "p_identical": [_smallest(one.same) for one in tested]}
    return {name: ("test", np.array(values, dtype=float)) for name, values in named.items()}


def _smallest(p: list[np.ndarray]) -> float:
    """1 where nothing was tested: nothing was found."""
    known = np.concatenate([np.ones(1), *map(np.ravel, p)])
    return float(np.nanmin(known))
