"""The result of `patch`: effects and what follows from them, on labelled axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from itlens.findings.patching.diff_recovery import Gap, paired_tests, recovered
from itlens.findings.patching.probe_parts import Parts
from itlens.hooked.tokens import Forced
from itlens.results.provenance import provenance
from itlens.stats.ranks import rank_correlation, rank_correlation_interval


@dataclass
class Effects:
    """What was measured: by prompt and part (effect, estimated), by prompt (donor, receiver), and jointly (curve)."""

    prompts: Sequence[Forced]
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


def dataset(effects: Effects, attrs: dict[str, object]) -> xr.Dataset:
    """Return the result of `itlens.patch`."""
    ids = np.array([prompt.id for prompt in effects.prompts], dtype=object)
    groups = np.array([prompt.group for prompt in effects.prompts], dtype=object)
    coords: dict[str, object] = {"prompt": ids, "group": ("prompt", groups), "layer": effects.parts.layers}
    if effects.parts.axis:
        coords[effects.parts.axis] = effects.parts.heads
    variables = {"donor": ("prompt", effects.donor), "receiver": ("prompt", effects.receiver)}
    out = xr.Dataset(variables | _exact(effects) | _estimates(effects), coords=coords)
    if effects.curve is not None:
        out = out.merge(effects.curve).assign(_order(effects))
    correlation = {name: float(out[name]) for name in map(str, out) if name.startswith("rank_correlation")}
    gap = {"gap": effects.gap.mean, "gap_low": effects.gap.low, "gap_high": effects.gap.high}
    note = _note(effects, attrs)
    result: xr.Dataset = out.assign_attrs(provenance("patch", **(attrs | {"note": note}), **gap, **correlation))
    return result


def _order(effects: Effects) -> dict[str, object]:
    """Return the parts from best to worst, as the curve takes them, and on which prompts it is judged."""
    assert effects.order is not None and effects.judged is not None
    listed = [effects.parts.listed()[number] for number in effects.order]
    out: dict[str, object] = {"order_layer": ("rank", [part.layer for part in listed])}
    if effects.parts.axis:
        out[f"order_{effects.parts.axis}"] = ("rank", [part.head for part in listed])
    return out | {"judged": ("prompt", np.isin(np.arange(len(effects.prompts)), effects.judged))}


def _on_parts(effects: Effects, values: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    return effects.parts.dims, values.reshape(effects.parts.shape)


def _by_prompt(effects: Effects, values: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    return ("prompt", *effects.parts.dims), values.reshape(-1, *effects.parts.shape)


def _exact(effects: Effects) -> dict[str, object]:
    if not effects.is_exact:
        return {}
    names = ("recovered", "recovered_low", "recovered_high", "t", "p", "p_bh")
    numbers = (*recovered(effects.effect, effects.gap, seed=effects.seed), *paired_tests(effects.effect))
    return {
        "effect": _by_prompt(effects, effects.effect),
        **{name: _on_parts(effects, values) for name, values in zip(names, numbers, strict=True)},
    }


def _estimates(effects: Effects) -> dict[str, object]:
    if not effects.is_estimated:
        return {}
    out: dict[str, object] = {
        "estimated_effect": _by_prompt(effects, effects.estimated),
        "estimated": _on_parts(effects, recovered(effects.estimated, effects.gap, seed=effects.seed)[0]),
    }
    if effects.is_exact:
        both = effects.estimated.mean(axis=0), effects.effect.mean(axis=0)
        low, high = rank_correlation_interval(*both, seed=effects.seed)
        values = {"": rank_correlation(*both), "_low": low, "_high": high}
        out |= {f"rank_correlation{end}": value for end, value in values.items()}
    return out


def _note(effects: Effects, attrs: dict[str, object]) -> str:
    """Return what could not be computed, and what replaces something else."""
    notes = [str(attrs["note"]), effects.gap.note]
    if not effects.is_estimated and attrs["what"] == "weights":
        notes.append("weights have no first-order estimate here")
    elif not effects.is_estimated and attrs["metric"] == "importance":
        notes.append("the importance score has no first-order estimate")
    if effects.curve is None and attrs["what"] == "resid":
        notes.append("no curve: the residual stream of a later layer overwrites that of an earlier one")
    if effects.curve_note and effects.judged is not None and not effects.gap.note:
        notes.append(f"no curve: on the {effects.judged.size} prompts that judge it {effects.curve_note}")
    if effects.curve is not None and len(effects.prompts) < 4:
        notes.append("fewer than 4 prompts: the curve is judged on the prompts that its order was chosen on")
    if attrs["unit"] == "head" and effects.parts.shared > 1:
        notes.append(
            f"{effects.parts.shared} query heads share each key-value head: a head's weights are its W_Q and W_O only, "
            'unit="group" takes whole groups with W_K and W_V'
        )
    return "; ".join(note for note in notes if note)
