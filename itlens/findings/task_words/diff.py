"""Which tasks gained a share of what feed-forward layers write and read, by how much, beyond chance.

1. GAIN of a set: tuned less base energy, mean over layers, at the quoted k. EXCESS is the gain less the mean gain of
   the matched control sets; its interval is a bootstrap over layers (percentile; from five layers on), its p_layers
   Wilcoxon's over layers. Both say how uniform the layers are; whether the set gained is asked of the control sets.
2. PERMUTATION: p_matched is the share of the matched control sets whose mean gain is at least as far from their mean as
   the set's (two-sided, the set counted among them); p_topic the same of topics as coherent as the set.
3. p is the larger of the two, and 1 where the gain lies between the means of the two kinds of controls: a set gained
   only where it gained more than words like its own and more than topics like itself. p_holm: Holm over all sets and
   kinds of vectors. The same for the energy of the change.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.task_words.energies import CONTROLS
from itlens.stats.paired import adjust, bootstrap_interval, wilcoxon

LEVEL = 0.05
_FEWEST = 5  # layers, for an interval and a test over them


def task_gains(energy: xr.Dataset, *, seed: int = 0) -> pd.DataFrame:
    """Return a row per kind of vectors and set of `itlens.task_energy`: vectors, task, words, k, layers, base, tuned
    (energies, means over layers), gain, excess with ci_low and ci_high, p_layers, matched_low, matched_high (95 % of
    the matched control sets' gains), topic_low, topic_high, p_matched, p_topic, p, p_holm.

    Raises ResultError for another result.
    """
    _require(energy)
    at = energy.sel(k=energy.attrs["quoted_k"])
    rows = []
    for kind, task, own in _cells(at):
        gain = own["gain"].values
        row = _row(kind, task, own, gain, own["null_layers"].values, own["null_gain"], seed)
        sides = {side: float(own["energy"].sel(side=side).mean()) for side in ("base", "tuned")}
        rows.append({**row, **sides, "gain": _mean(gain)})
    return _corrected(rows, ("base", "tuned", "gain"))


def task_changes(energy: xr.Dataset, *, seed: int = 0) -> pd.DataFrame:
    """Return the same of the energy of the change tuned - base: column change in the place of base, tuned and gain.

    Means are over the layers that changed.
    """
    _require(energy)
    at = energy.sel(k=energy.attrs["quoted_k"])
    rows = []
    for kind, task, own in _cells(at):
        change = own["energy"].sel(side="change").values
        row = _row(kind, task, own, change, own["null_change_layers"].values, own["null_change"], seed)
        rows.append({**row, "change": _mean(change)})
    return _corrected(rows, ("change",))


def _cells(at: xr.Dataset) -> list[tuple[str, str, xr.Dataset]]:
    return [
        (str(kind), str(task), at.sel(vectors=kind, set=task))
        for kind in at["vectors"].values
        for task in at["set"].values
        if at["words"].sel(vectors=kind, set=task) > 0
    ]


def _row(
    kind: str, task: str, own: xr.Dataset, values: np.ndarray, expected: np.ndarray, null: xr.DataArray, seed: int
) -> dict[str, Any]:
    excess = values - expected
    known = excess[np.isfinite(excess)]
    tested = known.size >= _FEWEST
    low, high = bootstrap_interval(known, seed=seed, method="percentile") if tested else (np.nan, np.nan)
    row: dict[str, Any] = {"vectors": kind, "task": task, "words": int(own["words"]), "k": int(own["k"])}
    row |= {"layers": int(known.size), "excess": float(known.mean()) if known.size else np.nan}
    row |= {"ci_low": low, "ci_high": high, "p_layers": wilcoxon(known)[1] if tested else np.nan}
    mean_value = _mean(values)
    for control in CONTROLS:
        drawn = null.sel(control=control).values
        ends = np.quantile(drawn, (0.025, 0.975)) if np.isfinite(drawn).all() else (np.nan, np.nan)
        row |= {f"{control}_low": float(ends[0]), f"{control}_high": float(ends[1])}
        row[f"p_{control}"] = permutation_p(mean_value, drawn)
    signs = {float(np.sign(mean_value - null.sel(control=control).values.mean())) for control in CONTROLS}
    row["p"] = 1.0 if {-1.0, 1.0} <= signs else max(row["p_matched"], row["p_topic"])
    return row


def _mean(values: np.ndarray) -> float:
    """Return the mean over the layers that have a number; NaN where none has."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def permutation_p(value: float, drawn: np.ndarray) -> float:
    """Return the two-sided p of a value among control values: how many are at least as far from their mean, of the
    draws with the value itself. 1 where all are the same; NaN where any is not finite."""
    if not np.isfinite(value) or not np.isfinite(drawn).all():
        return float("nan")
    everything = np.append(drawn, value)
    far = np.abs(everything - everything.mean())
    return float((far >= far[-1] * (1 - 1e-9)).mean())


def _corrected(rows: list[dict[str, Any]], more: tuple[str, ...]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    table["p_holm"] = adjust(table["p"])
    first = ["vectors", "task", "words", "k", "layers", *more]
    return table[[*first, *(name for name in table.columns if name not in first)]]


def _require(energy: Any) -> None:
    if not isinstance(energy, xr.Dataset) or "null_gain" not in energy:
        raise ResultError("diff.task_gains got another result; expected what itlens.task_energy returns.")
