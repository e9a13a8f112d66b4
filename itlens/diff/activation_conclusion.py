"""What a comparison of activations says: how much of it can be told from chance, and what changed most."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from itlens.diff.statistics import adjust, p_text
from itlens.errors import ResultError


class _Cell(NamedTuple):
    """One statistic at one layer, head and class, with its measures and its p corrected over everything."""

    words: str
    measures: dict[str, float]
    p: float


def activations_verdict(ds: xr.Dataset, *, group: str = "all", alpha: float = 0.05) -> str:
    """One to three plain sentences on the result of `itlens.diff.activations`.

    Every cell of every statistic is one comparison, and all of them are corrected together (Benjamini-Hochberg): the
    strongest of thousands is always strong. Of those below alpha, the one with the largest |d_z| is named. The logit
    lens is left out where anything else was measured: it reads how likely the response is, and the model that wrote the
    response is favoured there by construction.

    Raises ResultError for other results, and for a group that there is not.
    """
    if not isinstance(ds, xr.Dataset) or ds.attrs.get("probe") != "diff.activations":
        raise ResultError("activations_verdict takes the Dataset of itlens.diff.activations; got something else.")
    if group not in ds["group"].values:
        raise ResultError(f"There is no group {group!r}; there are {', '.join(map(str, ds['group'].values))}.")
    part = ds.sel(group=group)
    if str(part["note"].values):
        return f"Nothing can be concluded: {part['note'].values!s}."
    names = [str(name) for name in part.data_vars]
    names = [name for name in names if not name.startswith("lens_")] or names
    tables = {name: part[name].transpose("measure", ...) for name in names}
    p = np.concatenate([table.sel(measure="p_paired").values.ravel() for table in tables.values()])
    difference = np.concatenate([table.sel(measure="difference").values.ravel() for table in tables.values()])
    if not np.nanmax(np.abs(difference), initial=0.0) > 0:
        return f"Base and tuned model run alike: no statistic differs in any prompt (n={int(part['prompts'])})."
    corrected = adjust(p, "fdr_bh")
    return " ".join(filter(None, [_told(part, tables, corrected, alpha), _texts(part)]))


def _told(part: xr.Dataset, tables: dict[str, xr.DataArray], corrected: np.ndarray, alpha: float) -> str:
    n, compared, told = int(part["prompts"]), int(np.isfinite(corrected).sum()), int((corrected < alpha).sum())
    if not told:
        lowest = p_text(float(np.nanmin(corrected))) if compared else "no p-value"
        return (
            f"No difference can be told between base and tuned model: of {compared:,} comparisons over {n} prompts "
            f"none holds once corrected for their number (the strongest: {lowest})."
        )
    cell = _strongest(tables, corrected, alpha)
    of = cell.measures
    return (
        f"Of {compared:,} comparisons over {n} prompts {told:,} differ between base and tuned model once corrected for "
        f"their number. Most: {cell.words}, {of['tuned_mean']:.3g} in the tuned model against {of['base_mean']:.3g} "
        f"(difference {of['difference']:+.3g}, 95 % interval {of['ci_low']:.3g} to {of['ci_high']:.3g}, d_z "
        f"{of['effect_size']:.2f}, corrected {p_text(cell.p)})."
    )


def _strongest(tables: dict[str, xr.DataArray], corrected: np.ndarray, alpha: float) -> _Cell:
    """Of the cells below alpha, the one with the largest |d_z|."""
    effect = np.concatenate([table.sel(measure="effect_size").values.ravel() for table in tables.values()])
    place = int(np.argmax(np.where(corrected < alpha, np.nan_to_num(np.abs(effect)), -1.0)))
    p = float(corrected[place])
    for name, table in tables.items():
        size = int(np.prod(table.shape[1:]))
        if place < size:
            cell = table.stack(cell=table.dims[1:]).isel(cell=place) if table.ndim > 1 else table
            measures = dict(zip(table["measure"].values.tolist(), cell.values.tolist(), strict=True))
            return _Cell(_words(name, table, cell), measures, p)
        place -= size
    raise ResultError("The result has no cells; compute it anew.")


def _words(name: str, table: xr.DataArray, cell: xr.DataArray) -> str:
    """ "attention mass on instruction tokens, head L3H1" """
    at: dict[str, Any] = {str(dim): cell[dim].values for dim in table.dims[1:] if dim in cell.coords}
    words = str(table.attrs.get("long_name", name))
    words += f" on {at.pop('token_class')} tokens" if "token_class" in at else ""
    layer, head = at.pop("layer", None), at.pop("head", None)
    if layer is not None:
        words += f", layer {layer}" if head is None else f", head L{layer}H{head}"
    return words + "".join(f", {dim} {value}" for dim, value in at.items())


def _texts(part: xr.Dataset) -> str:
    n, same = int(part["prompts"]), int(part["same_tokens"])
    if same == n:
        return ""
    return (
        f"The two models read different texts on {n - same} of {n} prompts (each its own response), so differences are "
        "of what they read as well; give both the same responses to set that apart."
    )
