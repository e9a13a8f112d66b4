"""How few parts carry the difference: the best parts patched jointly, against as many random ones.

1. Order the parts by their effect on one half of the prompts, those that close the gap most first.
2. On the other half, patch the first 1, 2, 3, 5, 8 ... of them together, up to all: joint(count).
3. The same counts of randomly ordered parts, `controls` times: their mean and the range of 95 % of them.
Choosing and judging on the same prompts would make any order look good.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from itlens.findings.patching.diff_recovery import Gap, recovered
from itlens.findings.patching.probe_parts import Part
from itlens.findings.patching.probe_runs import Set

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
