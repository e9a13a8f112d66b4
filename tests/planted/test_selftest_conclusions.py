"""What a selftest says of recall: of probes that were tested only, and with the interval's end."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from itlens.cli.selftest import conclusions

PROBES = ["concepts", "patching"]


def found(recall: list[float], low: list[float], trials: list[int]) -> xr.Dataset:
    """One plant that both probes are meant to see, at one strength."""
    total = sum(trials)
    share = float(np.nansum(np.multiply(recall, trials)) / total) if total else np.nan

    def on(values: list[Any]) -> tuple[list[str], np.ndarray]:
        return ["plant", "probe", "strength"], np.array(values)[None, :, None]

    return xr.Dataset(
        {
            "meant": (("plant", "probe"), [[True, True]]),
            "recall": on(recall), "recall_low": on(low), "recall_high": on([1.0, 1.0]), "trials": on(trials),
            "overall_recall": ("scope", [share, *recall]),
            "overall_recall_low": ("scope", [0.5, *low]),
            "overall_recall_high": ("scope", [1.0, 1.0, 1.0]),
            "overall_trials": ("scope", [total, *trials]),
            "overall_false": ("scope", [np.nan] * 3),
            "identical": ("probe", [0.0, 0.0]),
            "p_identical": ("test", np.ones(0)),
        },
        coords={"plant": ["scaled_head"], "probe": PROBES, "strength": [8.0], "scope": ["all", *PROBES], "test": []},
        attrs={"level": 0.05},
    )  # fmt: skip


def test_a_probe_that_was_not_tested_reaches_nothing() -> None:
    said = conclusions(found([1.0, np.nan], [0.4, 0.0], [4, 0]))[0]
    assert said == (
        "Recall of plants of strength 8: 1.00 [0.50, 1.00], 4 of 4; every tested probe reaches 0.95 "
        "(lowest bound of an interval: 0.40, concepts); not tested: patching."
    )
    both = conclusions(found([1.0, 0.97], [0.9, 0.83], [30, 30]))[0]
    assert both.endswith("every probe reaches 0.95 (lowest bound of an interval: 0.83, patching).")
    under = conclusions(found([0.5, np.nan], [0.1, 0.0], [4, 0]))[0]
    assert "below 0.95: concepts (0.50), concepts on scaled_head" in under and under.endswith("not tested: patching.")


def test_nothing_was_tested() -> None:
    said = conclusions(found([np.nan, np.nan], [0.0, 0.0], [0, 0]))[0]
    assert said == "Recall of plants of strength 8: not tested: concepts, patching."


def test_a_plant_that_a_probe_could_not_be_tested_on_is_named() -> None:
    part = found([1.0, 1.0], [0.4, 0.4], [4, 4])
    other = part.assign(recall=part["recall"] * [[[1.0], [np.nan]]]).assign_coords(plant=["rank_one_qk"])
    whole = xr.concat([part, other], dim="plant", data_vars="minimal")
    assert conclusions(whole)[0].endswith("not tested: patching on rank_one_qk.")
