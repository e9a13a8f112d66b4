"""What a comparison of concepts says about rotation, and about rotation toward user tasks: a few honest sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from itlens.diff.concept_inputs import usual_size
from itlens.diff.label_tables import ANY, KNOWN, NONE
from itlens.diff.statistics import p_text
from itlens.errors import ResultError

SAME = 1e-6  # radians; directions are stored with 7 digits


def concepts_verdict(
    ds: xr.Dataset, shares: pd.DataFrame | None = None, *, k: int | None = None, alpha: float = 0.05
) -> str:
    """Finding 3 in plain words: how far the concept subspaces turned, and whether they turned toward user tasks.

    ds: the result of `itlens.diff.concepts`. shares: of `itlens.diff.concept_shares`. k: the size that is quoted (None:
    100, or the largest below). "Seen" needs both: more layers below the noise floor of their rows than chance puts
    there (one in 1 + draws each; binomial, layers taken as independent, below alpha), and a share of concepts that
    serve any user task that rose (permutation p below alpha).

    Raises ResultError for other results, and for a k that was not compared.
    """
    if not isinstance(ds, xr.Dataset) or ds.attrs.get("probe") != "diff.concepts":
        raise ResultError("concepts_verdict takes the Dataset of itlens.diff.concepts; got something else.")
    known = ds["k"].values.tolist()
    if k is not None and k not in known:
        raise ResultError(f"k={k!r} was not compared; there are {', '.join(map(str, known))}.")
    size = k if k is not None else quoted_size(ds)
    part, same = ds.sel(k=size), bool(float(ds["angle"].max()) < SAME)
    said = [_same(ds) if same else _turned(part, size, alpha)]
    if shares is None:
        return said[0]
    return " ".join([*said, *_tasks(shares, None if same else part, alpha)])


def quoted_size(ds: xr.Dataset) -> int:
    """The size k of the subspaces that is quoted where one is enough; see `usual_size`."""
    known = ds["k"].values.tolist()
    said = int(ds.attrs.get("quoted_k", 0))
    return said if said in known else usual_size(known)


def _layers(number: int) -> str:
    return f"{number} layer{'' if number == 1 else 's'}"


def _same(ds: xr.Dataset) -> str:
    number = ds.sizes["layer"]
    return (
        f"Nothing turned: the {ds.attrs['side']} subspaces of base and tuned model are the same "
        f"({_layers(number)}, k = {', '.join(map(str, ds['k'].values))}, no principal angle above {SAME:g} rad)."
    )


def _floor(part: xr.Dataset) -> float:
    """The mean noise floor of both models; NaN when the probe measured none."""
    floors = np.concatenate([part[f"floor_{name}"].values for name in ("base", "tuned")])
    return float(floors[np.isfinite(floors)].mean()) if np.isfinite(floors).any() else np.nan


def _turned(part: xr.Dataset, k: int, alpha: float) -> str:
    overlap, number, floor = part["overlap"], part.sizes["layer"], _floor(part)
    lowest = int(np.argmin(overlap.values))
    beside = f"random subspaces {float(part['random_overlap']):.3f}"
    beside += f", resampled rows of one model {floor:.3f}" if np.isfinite(floor) else ""
    figures = (
        f"the spans of the first {k} {part.attrs['side']} components overlap by {float(overlap.mean()):.3f} on average "
        f"over {_layers(number)} ({beside}; mean angle {np.degrees(float(part['mean_angle'].mean())):.1f} degrees), "
        f"least in layer {int(overlap['layer'][lowest])} ({float(overlap[lowest]):.3f})"
    )
    return f"{_judged(part, number, floor, alpha)}: {figures}.{_flagged(part, number)}"


def _judged(part: xr.Dataset, number: int, floor: float, alpha: float) -> str:
    if bool((part["overlap"] <= part["random_high"]).all()):
        return "The concept subspaces of the two models are no more alike than random ones"
    if not np.isfinite(floor):
        return "Whether tuning turned them more than row noise is not known without resampled rows (`resamples`)"
    moved = int(part["below_floor"].sum())
    if not moved:
        return f"No layer of {number} turned more than resampled rows of one model do"
    by_chance = f"{number * part.attrs['chance_below']:.1f} expected by chance"
    by_chance += "" if beyond_noise(part, alpha) else ", which it may be"
    return f"{moved} of {_layers(number)} turned more than resampled rows of one model do ({by_chance})"


def beyond_noise(part: xr.Dataset, alpha: float = 0.05) -> bool:
    """Whether more layers of a diff at one k are below the noise floor than chance puts there (one-sided binomial)."""
    moved, number = int(part["below_floor"].sum()), part.sizes["layer"]
    return bool(stats.binom.sf(moved - 1, number, part.attrs["chance_below"]) < alpha)


def _flagged(part: xr.Dataset, number: int) -> str:
    flat = int(part["degenerate"].sum())
    if not flat:
        return ""
    return f" In {flat} of {_layers(number)} the spectrum has no gap there, so that the largest angles mean little."


def _tasks(shares: Any, part: xr.Dataset | None, alpha: float) -> list[str]:
    if not isinstance(shares, pd.DataFrame) or not {"group", "kind", "category", "p_holm"} <= {*shares.columns}:
        raise ResultError("shares is no result of itlens.diff.concept_shares.")
    table = shares[shares["group"] == "all"]
    row = table[(table["kind"] == "task") & (table["category"] == ANY)].iloc[0].to_dict()
    if row["note"]:
        return [f"Nothing can be concluded about user tasks: {row['note']}."]
    labelled = "labelled concepts" if shares.attrs.get("of", KNOWN) == KNOWN else "concepts"
    if row["base"] == 0 and row["tuned"] == 0:  # two empty shares are no evidence that nothing turned
        counts = f"{row['base_concepts']:.0f} and {row['tuned_concepts']:.0f} {labelled}"
        said = f"Rotation toward user tasks cannot be judged: none of {counts} serves a user task in either model."
        return [said, _single(table, alpha)]
    figures = (
        f"of the {labelled}, {row['base']:.1%} serve a user task in the base model and {row['tuned']:.1%} in the tuned "
        f"one (difference {100 * row['difference']:+.1f} points, 95 % interval {100 * row['ci_low']:+.1f} to "
        f"{100 * row['ci_high']:+.1f}, permutation {p_text(row['p'])}{_seeds(row, alpha)})"
    )
    return [f"{_toward(row, part, alpha)}: {figures}.", _single(table, alpha)]


def _toward(row: dict[str, Any], part: xr.Dataset | None, alpha: float) -> str:
    if not row["p"] < alpha:
        return "Rotation toward user tasks is not seen"
    if row["difference"] < 0:
        return "Rotation toward user tasks is not seen, rather the opposite"
    if part is not None and beyond_noise(part, alpha):
        return "Rotation toward user tasks is seen"
    if part is None or np.isfinite(_floor(part)):
        return "More concepts serve user tasks, but not by a rotation beyond the noise of rows"
    return "More concepts serve user tasks; whether by a rotation is not known without resampled rows"


def _seeds(row: dict[str, Any], alpha: float) -> str:
    p = row["p_seeds"]
    if not np.isfinite(p) or (p < alpha) == (row["p"] < alpha):
        return ""
    return f", though {p_text(p)} by the paper's t-test over seeds"


def _single(table: pd.DataFrame, alpha: float) -> str:
    """The tasks and levels that stand out one by one."""
    single = table[~table["category"].isin([ANY, NONE, KNOWN]) & (table["p_holm"] < alpha)]
    if single.empty:
        return "No single task or level stands out (Holm)."
    parts = [
        f"{row.category} {'rose' if row.difference > 0 else 'fell'} from {row.base:.1%} to {row.tuned:.1%}"
        for row in single.itertuples()
    ]
    return f"One by one (Holm): {', '.join(parts)}."
