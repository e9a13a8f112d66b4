"""The result of `patch`: effects and what follows from them, on labelled axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from itlens.probes.patches.parts import Parts
from itlens.probes.running.forced import Forced
from itlens.provenance import provenance
from itlens.ranks import rank_correlation, rank_correlation_interval
from itlens.recovery import Gap, paired_tests, recovered


@dataclass
class Effects:
    """What was measured: by prompt and part (effect, estimated), by prompt (donor, receiver), and jointly (curve)."""

    prompts: list[Forced]
    parts: Parts
    donor: np.ndarray
    receiver: np.ndarray
    gap: Gap
    effect: np.ndarray
    estimated: np.ndarray
    is_exact: bool
    is_estimated: bool
    seed: int
    order: np.ndarray | None = None
    judged: np.ndarray | None = None
    curve: xr.Dataset | None = None
    curve_note: str = ""


def dataset(found: Effects, said: dict[str, Any]) -> xr.Dataset:
    """See `itlens.patch`."""
    ids = np.array([one.id for one in found.prompts], dtype=object)
    groups = np.array([one.group for one in found.prompts], dtype=object)
    coords: dict[str, Any] = {"prompt": ids, "group": ("prompt", groups), "layer": found.parts.layers}
    if found.parts.axis:
        coords[found.parts.axis] = found.parts.heads
    variables = {"donor": ("prompt", found.donor), "receiver": ("prompt", found.receiver)}
    out = xr.Dataset(variables | _exact(found) | _estimates(found), coords=coords)
    if found.curve is not None:
        out = out.merge(found.curve).assign(_order(found))
    correlation = {name: float(out[name]) for name in map(str, out) if name.startswith("rank_correlation")}
    gap = {"gap": found.gap.mean, "gap_low": found.gap.low, "gap_high": found.gap.high}
    said = said | {"note": _note(found, said)}
    return out.assign_attrs(provenance("patch", **said, **gap, **correlation))


def _order(found: Effects) -> dict[str, Any]:
    """The parts from best to worst, as the curve takes them, and on which prompts it is judged."""
    assert found.order is not None and found.judged is not None
    listed = [found.parts.listed()[number] for number in found.order]
    out: dict[str, Any] = {"order_layer": ("rank", [part.layer for part in listed])}
    if found.parts.axis:
        out[f"order_{found.parts.axis}"] = ("rank", [part.head for part in listed])
    return out | {"judged": ("prompt", np.isin(np.arange(len(found.prompts)), found.judged))}


def _on_parts(found: Effects, values: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    return found.parts.dims, values.reshape(found.parts.shape)


def _by_prompt(found: Effects, values: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    return ("prompt", *found.parts.dims), values.reshape(-1, *found.parts.shape)


def _exact(found: Effects) -> dict[str, Any]:
    if not found.is_exact:
        return {}
    names = ("recovered", "recovered_low", "recovered_high", "t", "p", "p_bh")
    numbers = (*recovered(found.effect, found.gap, seed=found.seed), *paired_tests(found.effect))
    return {
        "effect": _by_prompt(found, found.effect),
        **{name: _on_parts(found, values) for name, values in zip(names, numbers, strict=True)},
    }


def _estimates(found: Effects) -> dict[str, Any]:
    if not found.is_estimated:
        return {}
    out: dict[str, Any] = {
        "estimated_effect": _by_prompt(found, found.estimated),
        "estimated": _on_parts(found, recovered(found.estimated, found.gap, seed=found.seed)[0]),
    }
    if found.is_exact:
        both = found.estimated.mean(axis=0), found.effect.mean(axis=0)
        low, high = rank_correlation_interval(*both, seed=found.seed)
        values = {"": rank_correlation(*both), "_low": low, "_high": high}
        out |= {f"rank_correlation{end}": value for end, value in values.items()}
    return out


def _note(found: Effects, said: dict[str, Any]) -> str:
    """What could not be had, and what stands in for something else."""
    notes = [said["note"], found.gap.note]
    if not found.is_estimated and said["what"] == "weights":
        notes.append("weights have no first-order estimate here")
    elif not found.is_estimated and said["metric"] == "importance":
        notes.append("the importance score has no first-order estimate")
    if found.curve is None and said["what"] == "resid":
        notes.append("no curve: the residual stream of a later layer overwrites that of an earlier one")
    if found.curve_note and found.judged is not None and not found.gap.note:
        notes.append(f"no curve: on the {found.judged.size} prompts that judge it {found.curve_note}")
    if found.curve is not None and len(found.prompts) < 4:
        notes.append("fewer than 4 prompts: the curve is judged on the prompts that its order was chosen on")
    if said["unit"] == "head" and found.parts.shared > 1:
        notes.append(
            f"{found.parts.shared} query heads share each key-value head: a head's weights are its W_Q and W_O only, "
            'unit="group" takes whole groups with W_K and W_V'
        )
    return "; ".join(note for note in notes if note)
