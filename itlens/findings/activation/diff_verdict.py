"""The answer to a comparison of activations: how many statistics differ significantly, and which differs most.

Every cell of every statistic (layer, head, class of token) is one comparison. All are corrected together
(Benjamini-Hochberg), since the strongest of thousands is always strong. Of those below alpha, the one with the largest
|d_z| is named among those that changed by at least a tenth of the base's value: a change of a hundredth can be the most
consistent one, and is not what tuning did. Where none changed by that much, all count. One that hardly depends on the
prompt is not named where there is another: what the first layers do with the tokens of a fixed template is one
measurement, and its |d_z| grows without bound. The logit lens is left out where
anything else was measured: it reads how likely the response is, and the model that wrote the response is favoured
there by construction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.activation.columns import LARGEST_EFFECT
from itlens.findings.base import Headline, Verdict
from itlens.report.numbers import whole
from itlens.stats.paired import adjust, interval_beside_p, p_text

_LEAST_CHANGE = 0.1  # of the base's value, in size
SPREADS = "Later layers read what earlier ones changed, so the size of a difference says more than the count."


class _Cell(NamedTuple):
    """A statistic at one layer, head and class of token: its measures, and its p corrected over all comparisons."""

    name: str
    measures: dict[str, float]
    p: float


def activations_verdict(ds: xr.Dataset, *, group: str = "all", alpha: float = 0.05) -> str:
    """Return one or two plain sentences on the result of `itlens.diff.activations`: see `activations_answer`.

    Raises ResultError for other results, and for a group that there is not.
    """
    return activations_answer(ds, group=group, alpha=alpha).sentence


def activations_answer(ds: xr.Dataset, *, group: str = "all", alpha: float = 0.05) -> Verdict:
    """Return the verdict on the result of `itlens.diff.activations`, with the figures it rests on; see the module.

    Raises ResultError for other results, and for a group that there is not.
    """
    if not isinstance(ds, xr.Dataset) or ds.attrs.get("probe") != "diff.activations":
        raise ResultError("activations_verdict takes the Dataset of itlens.diff.activations; got something else.")
    if group not in ds["group"].values:
        raise ResultError(f"There is no group {group!r}; there are {', '.join(map(str, ds['group'].values))}.")
    chosen = ds.sel(group=group)
    prompts = int(chosen["prompts"])
    if reason := str(chosen["note"].values):
        return Verdict(f"Not tested: {reason}.", tested=False, short=f"activations were not tested ({reason})")
    statistics = _statistics(chosen)
    if not np.nanmax(np.abs(_cells(statistics, "difference")), initial=0.0) > 0:
        return Verdict(
            f"No change: no activation statistic differs in any prompt (n = {prompts}).",
            short="no activation statistic differs in any prompt",
        )
    corrected = adjust(_cells(statistics, "p_paired"), "fdr_bh")
    significant = corrected < alpha
    if significant.any():
        return _changed(chosen, statistics, corrected, significant)
    return _unchanged(chosen, corrected)


def _statistics(chosen: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the statistics that count, measures in front."""
    names = [str(name) for name in chosen.data_vars]
    names = [name for name in names if not name.startswith("lens_")] or names
    return {name: chosen[name].transpose("measure", ...) for name in names}


def _cells(statistics: dict[str, xr.DataArray], measure: str) -> np.ndarray:
    """Return one measure of all cells of all statistics, flat."""
    return np.concatenate([table.sel(measure=measure).values.ravel() for table in statistics.values()])


def _changed(
    chosen: xr.Dataset, statistics: dict[str, xr.DataArray], corrected: np.ndarray, significant: np.ndarray
) -> Verdict:
    prompts, compared, count = int(chosen["prompts"]), int(np.isfinite(corrected).sum()), int(significant.sum())
    cell = _strongest(statistics, corrected, significant)
    at = cell.measures
    most = (
        f"most consistently {cell.name}: {at['tuned_mean']:.3g} in the tuned model, {at['base_mean']:.3g} in the base"
    )
    values = (at[name] for name in ("p_paired", "difference", "ci_low", "ci_high"))
    low, high = interval_beside_p(int(at["n"]), *values)
    differ = "differs" if count == 1 else "differ"
    sentence = (
        f"{whole(count)} of {whole(compared)} activation statistics {differ} significantly (n = {prompts} prompts), "
        f"{most} (difference {at['difference']:+.3g}, 95 % interval {low:.3g} to {high:.3g}, "
        f"d_z {at['effect_size']:.2f}, {p_text(cell.p)} after correction)."
    )
    texts = _other_texts(chosen)
    strongest = Headline(f"difference of {cell.name}", at["difference"], low, high, cell.p, int(at["n"]))
    return Verdict(
        f"{sentence} {texts or SPREADS}",
        direction="changed",
        caveat=SPREADS if texts else "",
        numbers=(strongest, _share(count, compared)),
        short=f"{whole(count)} of {whole(compared)} activation statistics {differ}, {most}",
    )


def _unchanged(chosen: xr.Dataset, corrected: np.ndarray) -> Verdict:
    prompts, compared = int(chosen["prompts"]), int(np.isfinite(corrected).sum())
    lowest = float(np.nanmin(corrected)) if compared else float("nan")
    sentence = (
        f"No significant change: none of {whole(compared)} activation statistics differs after correction "
        f"(n = {prompts} prompts; the strongest: {p_text(lowest)})."
    )
    return Verdict(
        " ".join(filter(None, [sentence, _other_texts(chosen)])),
        numbers=(_share(0, compared, lowest),),
        short=f"none of {whole(compared)} activation statistics differs significantly ({p_text(lowest)})",
    )


def _share(count: int, compared: int, p: float | None = None) -> Headline:
    share = count / compared if compared else None
    return Headline("share of activation statistics that differ significantly", share, p=p, n=compared)


def _strongest(statistics: dict[str, xr.DataArray], corrected: np.ndarray, significant: np.ndarray) -> _Cell:
    """Return the significant cell with the largest |d_z|: one that depends on the prompt and changed by a tenth of the
    base's value where there is any, else one that depends on the prompt, else any."""
    effect = np.nan_to_num(np.abs(_cells(statistics, "effect_size")))
    base, difference = (np.abs(_cells(statistics, name)) for name in ("base_mean", "difference"))
    varied = significant & (effect < LARGEST_EFFECT)
    large = varied & (difference >= _LEAST_CHANGE * base)
    named = next((chosen for chosen in (large, varied) if chosen.any()), significant)
    place = int(np.argmax(np.where(named, effect, -1.0)))
    p = float(corrected[place])
    for name, table in statistics.items():
        size = int(np.prod(table.shape[1:]))
        if place < size:
            cell = table.stack(cell=table.dims[1:]).isel(cell=place) if table.ndim > 1 else table
            measures = dict(zip(table["measure"].values.tolist(), cell.values.tolist(), strict=True))
            return _Cell(_cell_name(name, table, cell), measures, p)
        place -= size
    raise ResultError("The result has no cells; compute it again.")


def _cell_name(name: str, table: xr.DataArray, cell: xr.DataArray) -> str:
    """ "attention mass on instruction tokens in head L3H1" """
    at = {str(dim): cell[dim].values for dim in table.dims[1:] if dim in cell.coords}
    words = str(table.attrs.get("long_name", name))
    words += f" on {at.pop('token_class')} tokens" if "token_class" in at else ""
    layer, head = at.pop("layer", None), at.pop("head", None)
    if layer is not None:
        words += f" in layer {layer}" if head is None else f" in head L{layer}H{head}"
    return words + "".join(f", {dim} {value}" for dim, value in at.items())


def _other_texts(chosen: xr.Dataset) -> str:
    """Say where the two models read different texts; "" where they did not."""
    prompts, same = int(chosen["prompts"]), int(chosen["same_tokens"])
    if same == prompts:
        return ""
    return (
        f"The models read different responses on {prompts - same} of {prompts} prompts, so differences of the texts "
        "count as well; give both the same responses to separate the two."
    )
