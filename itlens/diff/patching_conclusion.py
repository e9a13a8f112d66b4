"""What patching says: how much of the gap heads carry, how few of them and which, and what random ones do."""

from __future__ import annotations

import numpy as np
import xarray as xr

from itlens.diff.statistics import p_text
from itlens.errors import ResultError

_LEVEL = 0.05
_NAMED = 3


def patching_verdict(patched: xr.Dataset) -> str:
    """A few plain sentences on a result of `itlens.patch` over heads, with its random-head control.

    Raises ResultError for another kind of result.
    """
    if not isinstance(patched, xr.Dataset) or patched.attrs.get("probe") != "patch" or "head" not in patched.dims:
        raise ResultError("patching_verdict takes a Dataset of itlens.patch over heads; got something else.")
    donor, receiver = str(patched.attrs["direction"]).split("->")
    if "recovered" not in patched or not np.isfinite(patched["recovered"]).any():
        why = str(patched.attrs.get("note", "")) or "it was not computed exactly"
        return f"What heads carry cannot be told from {_prompts(patched)}: {why}."
    return " ".join([_gap(patched, donor, receiver), *_together(patched, donor, receiver), _single(patched)])


def _gap(patched: xr.Dataset, donor: str, receiver: str) -> str:
    gap = float(patched.attrs["gap"])
    if patched.attrs.get("metric") != "logprob":
        unit = str(patched.attrs.get("unit_of_effect", "")) or "units"
        return f"The {donor} model's metric is {gap:+.3g} {unit} from the {receiver} model's ({_prompts(patched)})."
    more, less = (donor, receiver) if gap > 0 else (receiver, donor)
    return (
        f"The {more} model gives these responses {abs(gap):.2f} nats more per token than the {less} model does "
        f"({_prompts(patched)})."
    )


def _together(patched: xr.Dataset, donor: str, receiver: str) -> list[str]:
    if "joint" not in patched:
        return []
    heads = patched["layer"].size * patched["head"].size
    if not np.isfinite(patched["joint"][-1]):
        return ["What heads do together cannot be told: on the prompts left for it the models do not differ enough."]
    chosen = "judged" in patched and not bool(patched["judged"].all())
    where = "on the prompts that the order of heads was not chosen on" if chosen else "on the same prompts"
    said = (
        f"The {heads} heads of the {donor} model, put into the {receiver} model together, recover "
        f"{_share(patched['joint'][-1])} of that {where}"
    )
    few = float(patched["needed_80_of_all"])
    if not np.isfinite(few):
        return [f"{said}."]
    at = patched.sel(count=int(few))
    control = ""
    if np.isfinite(at["joint_random"]) and int(few) < heads:
        control = (
            f", as many random heads {_share(at['joint_random'])} on average (95 % of the draws: "
            f"{_share(at['joint_random_low'])} to {_share(at['joint_random_high'])})"
        )
        control += ", so that the choice is no better than chance" if at["joint"] <= at["joint_random_high"] else ""
    return [f"{said}; the best {int(few)} alone recover {_share(at['joint'])}{control}."]


def _single(patched: xr.Dataset) -> str:
    """The heads that carry most by themselves, of those that hold over prompts, and those that work against it."""
    cells = patched[["recovered", "p_bh"]].stack(cell=("layer", "head"))
    if not np.isfinite(cells["p_bh"]).any():
        return "Single heads were not tested: there are too few prompts."
    held = cells.isel(cell=np.flatnonzero(cells["p_bh"].values < _LEVEL)).sortby("recovered", ascending=False)
    values = held["recovered"].values
    for_, against = held.isel(cell=values > 0), held.isel(cell=values < 0).isel(cell=slice(None, None, -1))
    if not values.size:
        return f"No single head's effect holds once corrected for their number ({p_text(float(cells['p_bh'].min()))})."
    parts = [
        f"{found.sizes['cell']} {verb} it (first {_names(found)})"
        for verb, found in (("close", for_), ("widen", against))
        if found.sizes["cell"]
    ]
    return (
        f"By themselves, beyond chance (corrected p < {_LEVEL:g}), {' and '.join(parts)}; such shares need not add up."
    )


def _names(held: xr.Dataset) -> str:
    best = held.isel(cell=slice(_NAMED))
    return ", ".join(
        f"L{layer}H{head} {_share(value)}"
        for (layer, head), value in zip(best["cell"].values.tolist(), best["recovered"].values.tolist(), strict=True)
    )


def _share(value: object) -> str:
    return f"{100 * float(value):.0f} %"  # type: ignore[arg-type]


def _prompts(patched: xr.Dataset) -> str:
    count = patched.sizes["prompt"]
    return f"{count} prompt{'' if count == 1 else 's'}"
