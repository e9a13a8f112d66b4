"""What patches recover in each group of prompts: the numbers of `itlens.patch`, group by group."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from itlens.diff.statistics import too_few
from itlens.errors import ResultError
from itlens.provenance import provenance
from itlens.recovery import gap_of, paired_tests, recovered

_NAMES = ("recovered", "recovered_low", "recovered_high", "t", "p", "p_bh")


def patch_groups(patched: xr.Dataset, *, seed: int = 0, minimum: int = 5) -> xr.Dataset:
    """Recovered fractions over all prompts and per group of prompts, with intervals and tests.

    patched: of `itlens.patch` with exact effects. seed: of the bootstrap over prompts. minimum: groups of fewer prompts
    get no interval and no test.

    Returns, on (group, layer, head) or the axes that were patched: recovered, recovered_low, recovered_high (ratio of
    sums, 95 % bootstrap over the group's prompts), t, p, p_bh (paired t over prompts; Benjamini-Hochberg over the parts
    within the group). On (group), "all" first: gap, gap_low, gap_high (of the metric's unit; 95 % by Student's t),
    prompts, note (why there is no number: too few prompts, or models that do not differ there beyond chance).

    Raises ResultError for another kind of result.
    """
    if not isinstance(patched, xr.Dataset) or patched.attrs.get("probe") != "patch" or "effect" not in patched:
        raise ResultError("patch_groups takes a Dataset of itlens.patch with exact effects; got something else.")
    named = patched["group"].values
    groups = {"all": np.ones(named.size, dtype=bool)} | {
        str(name): named == name for name in dict.fromkeys(named.tolist()) if name
    }
    parts = [_group(patched.isel(prompt=np.flatnonzero(chosen)), seed, minimum) for chosen in groups.values()]
    known = ("what", "unit", "direction", "metric", "unit_of_effect", "responses", "base_model", "tuned_model")
    said: dict[str, Any] = {name: patched.attrs[name] for name in known if name in patched.attrs}
    return (
        xr.concat([part for part, _ in parts], dim="group", coords="minimal", compat="override")
        .assign_coords(
            group=list(groups),
            prompts=("group", np.array([int(chosen.sum()) for chosen in groups.values()])),
            note=("group", np.array([note for _, note in parts], dtype=np.str_)),
        )
        .assign_attrs(provenance("diff.patch_groups", **said, seed=seed, minimum=minimum))
    )


def _group(part: xr.Dataset, seed: int, minimum: int) -> tuple[xr.Dataset, str]:
    """The numbers of some prompts, and why there are none."""
    effect = part["effect"].transpose("prompt", ...)
    cells, count = effect.values.reshape(len(effect), -1), len(effect)
    gap = gap_of(part["donor"].values, part["receiver"].values)
    values = [*recovered(cells, gap, seed=seed), *paired_tests(cells)]
    few = too_few(count, minimum)
    if few:
        values[1:] = [np.full(cells.shape[1], np.nan)] * (len(values) - 1)
    found = {
        name: (effect.dims[1:], value.reshape(effect.shape[1:])) for name, value in zip(_NAMES, values, strict=True)
    }
    ends = (np.nan, np.nan) if few else (gap.low, gap.high)
    coords = {name: part[name] for name in effect.dims[1:]}
    of_group = {"gap": gap.mean, "gap_low": ends[0], "gap_high": ends[1]}
    return xr.Dataset(found | of_group, coords=coords), "; ".join(filter(None, (few, gap.note)))
