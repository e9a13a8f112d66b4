"""The result of `patch`: effects and what follows from them, on labelled axes; and how few parts carry the difference.

The best parts are patched jointly, against as many random ones:
1. Order the parts by their effect on one half of the prompts, those that close the gap most first.
2. On the other half, patch the first 1, 2, 3, 5, 8 ... of them together, up to all: joint(count).
3. The same counts of randomly ordered parts, `controls` times: their mean and the range of 95 % of them.
Choosing and judging on the same prompts would make any order look good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from itlens.findings.patching.diff import Gap, paired_tests, recovered
from itlens.findings.patching.probe_parts import Part, Parts
from itlens.findings.patching.probe_runs import Set
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


# ---- how few parts carry the difference

SHARE = 0.8


def halves(prompts: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two halves of the prompts' numbers, drawn with the seed: to order parts on, and to judge the order on.

    With fewer than four prompts both are all of them.
    """
    everything = np.arange(prompts)
    if prompts < 4:
        return everything, everything
    drawn = np.random.default_rng(seed).permutation(prompts)
    return np.sort(drawn[: prompts // 2]), np.sort(drawn[prompts // 2 :])


def counts_of(parts: int) -> list[int]:
    """Return 1, 2, 3, 5, 8, 13 ... up to all."""
    listed, following = [1], 2
    while following < parts:
        listed.append(following)
        following = listed[-1] + listed[-2] if len(listed) > 2 else 3
    return sorted({*listed, parts})


def order_of(effect: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Return the numbers of the parts, those whose summed effects (prompt, part) close the summed gap most first."""
    return np.argsort(-effect.sum(axis=0) * np.sign(gap.sum()), kind="stable")


def sets_of(parts: Sequence[Part], order: np.ndarray, controls: int, seed: int) -> list[Set]:
    """Return the sets to patch: for each count the first parts in order, then, control by control, of a random order.

    All parts together are the same whatever the order, and are listed once.
    """
    counts = counts_of(len(parts))
    rng = np.random.default_rng(seed)
    orders = [order, *(rng.permutation(len(parts)) for _ in range(controls))]
    best = [[parts[number] for number in order[:count]] for count in counts]
    return best + [[parts[number] for number in other[:count]] for other in orders[1:] for count in counts[:-1]]


def joint_curve(effect: np.ndarray, gap: Gap, parts: int, controls: int, *, seed: int = 0) -> xr.Dataset:
    """Compute the curve from the effects (prompt, set) of `sets_of`, as shares of the gap of the same prompts.

    joint, joint_low, joint_high(count): recovered and its 95 % interval over prompts. joint_random, joint_random_low,
    joint_random_high(count): mean and 95 % range over the random orders. needed_80: the smallest count on the curve
    that recovers 80 % of the gap; needed_80_of_all: 80 % of what all parts together recover; NaN where none does.
    """
    counts = np.array(counts_of(parts))
    value, low, high = recovered(effect, gap, seed=seed)
    joint = value[: counts.size]
    drawn = np.full((controls, counts.size), joint[-1])
    drawn[:, :-1] = value[counts.size :].reshape(controls, counts.size - 1)
    if controls:
        middle, (below, above) = drawn.mean(axis=0), np.quantile(drawn, [0.025, 0.975], axis=0)
    else:
        middle = below = above = np.full(counts.size, np.nan)
    on_counts = {
        "joint": joint,
        "joint_low": low[: counts.size],
        "joint_high": high[: counts.size],
        "joint_random": middle,
        "joint_random_low": below,
        "joint_random_high": above,
    }
    return xr.Dataset(
        {
            **{name: ("count", values) for name, values in on_counts.items()},
            "needed_80": needed(counts, joint, SHARE),
            "needed_80_of_all": needed(counts, joint, SHARE * joint[-1]),
        },
        coords={"count": counts},
    )


def needed(counts: np.ndarray, joint: np.ndarray, least: float) -> float:
    """Return the smallest count whose joint value reaches `least`; NaN where none does or `least` is not positive."""
    reached = np.flatnonzero(joint >= least) if least > 0 else np.array([], dtype=int)
    return float(counts[reached[0]]) if reached.size else np.nan
