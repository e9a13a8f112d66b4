"""What deletion and insertion say about both models' attributions, and their mean curves over prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from itlens.diff.content_scores import listed_results
from itlens.diff.paired_cells import interval
from itlens.diff.statistics import p_text
from itlens.errors import ResultError
from itlens.provenance import provenance

_LEVEL = 0.05
_TESTED = ("direction", "n", "base_advantage", "tuned_advantage", "base_p_holm", "tuned_p_holm", "p_holm")


def faithfulness_verdict(table: pd.DataFrame) -> str:
    """One or two plain sentences on the table of `itlens.diff.faithfulness`. Raises ResultError for another table."""
    if not isinstance(table, pd.DataFrame) or not set(_TESTED) <= set(table.columns):
        raise ResultError("faithfulness_verdict takes the table of itlens.diff.faithfulness; got something else.")
    several, unit = len(table["method"].unique()) > 1, str(table.attrs.get("unit", "share"))
    return " ".join(_sentence(row, several, unit) for _, row in table.iterrows())


def _sentence(row: pd.Series, several: bool, unit: str) -> str:
    what = "Removing" if row["direction"] == "deletion" else "Keeping only"
    of = f" (by {row['method']})" if several else ""
    if not np.isfinite(row["base_p_holm"]) and not np.isfinite(row["tuned_p_holm"]):
        why = row["note"] or "too few prompts"
        return f"{what} the tokens that attribution calls important{of} was not tested: {why}."
    sides = ", ".join(_side(row, name, unit) for name in ("base", "tuned"))
    changed = ""
    if np.isfinite(row["p_holm"]):
        held = row["p_holm"] < _LEVEL
        changed = f"; {'tuning changed it' if held else 'no change by tuning can be told'} ({p_text(row['p_holm'])})"
    return f"{what} the tokens that attribution calls important{of}: {sides}{changed}."


def _side(row: pd.Series, name: str, unit: str) -> str:
    """How one model's attributions fare: better or worse only where the test says so."""
    scale, decimals, of = (1, 2, "nats") if unit == "nats" else (100, 0, "points")
    mean, low, high = (scale * float(row[f"{name}_{end}"]) for end in ("advantage", "low", "high"))
    span, p = f"{low:+.{decimals}f} to {high:+.{decimals}f}", float(row[f"{name}_p_holm"])
    if not p < _LEVEL:
        said = "not told from chance" if np.isfinite(p) else "not tested"
        return f"{said} ({name}; {mean:+.{decimals}f} {of}, {span})"
    if mean > 0:
        return f"better than random orders by {mean:+.{decimals}f} {of} ({name}; {span})"
    return f"worse than random orders by {-mean:.{decimals}f} {of} ({name}; {span})"


def faithfulness_curves(
    results: Mapping[str, Any], *, seed: int = 0, resamples: int = 2000, minimum: int = 5
) -> xr.Dataset:
    """Mean deletion and insertion curves of several models over their prompts.

    results: by model label, Datasets of `itlens.faithfulness` of one method, prompts in any number.

    Returns on (model, order, direction, fraction) share, where 0 is everything removed and 1 the prompt as it is, with
    share_low, share_high (95 % bootstrap over prompts); prompts(model): how many have such a share. Raises ResultError
    for other results, for two methods or other fractions.
    """
    if not isinstance(results, Mapping) or not results:
        raise ResultError("faithfulness_curves takes results by model label, such as {'base': [...], 'tuned': [...]}.")
    sides = {str(label): list(listed_results(found).values()) for label, found in results.items()}
    every = [ds for side in sides.values() for ds in side]
    if any(ds.attrs.get("probe") != "faithfulness" for ds in every):
        raise ResultError("faithfulness_curves takes Datasets of itlens.faithfulness only.")
    first = every[0]
    for ds in every[1:]:
        if ds.attrs["method"] != first.attrs["method"] or not np.array_equal(ds["fraction"], first["fraction"]):
            raise ResultError("The results differ in method or steps; draw one method at a time, with the same steps.")
    parts = [_mean_curve(side, seed, resamples, minimum) for side in sides.values()]
    out = xr.concat(parts, dim="model", coords="minimal", compat="override").assign_coords(model=list(sides))
    said = {name: first.attrs.get(name, "") for name in ("method", "by", "baseline", "draws", "steps")}
    return out.assign_attrs(provenance("diff.faithfulness_curves", **said, seed=seed, resamples=resamples))


def _mean_curve(side: list[xr.Dataset], seed: int, resamples: int, minimum: int) -> xr.Dataset:
    share = xr.concat(
        [ds["share"].drop_attrs() for ds in side], dim="prompt", coords="minimal", compat="override", join="exact"
    )
    known = share.isel(prompt=np.flatnonzero(np.isfinite(share).all(["order", "direction", "fraction"])))
    cells = known.values.reshape(known.sizes["prompt"], int(np.prod(known.shape[1:])))
    low = high = mean = np.full(cells.shape[1], np.nan)
    if len(cells):
        mean = cells.mean(axis=0)
    if len(cells) >= minimum:
        low, high = interval(cells, seed=seed, resamples=resamples)
    rows = {"share": mean, "share_low": low, "share_high": high}
    out = xr.Dataset({name: (share.dims[1:], row.reshape(share.shape[1:])) for name, row in rows.items()})
    out = out.assign_coords({name: share[name] for name in share.dims[1:]})
    return out.assign(prompts=len(cells))
