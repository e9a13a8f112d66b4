"""Deletion and insertion in numbers: in which order tokens are removed, and what the curves come to. Arrays only.

1. `token_order`, `removal_masks`: which prompt tokens are gone at each point of each curve.
2. `curve_numbers`: areas, advantage over random orders, comprehensiveness, sufficiency of the measured curves.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.integrate import trapezoid

LEAST_GAP = 0.05  # nats per response token; where removing the whole prompt costs less, a share of it is one of noise
ERASER_UP_TO = 0.5  # as DeYoung et al. 2020, who average over up to half of the tokens
DIRECTIONS = ("deletion", "insertion")
_TINY = 1e-12
Variables: TypeAlias = dict[str, tuple[tuple[str, ...], np.ndarray | float]]


class Masks(NamedTuple):
    """Which tokens are removed: every different mask once, and which of them each point of each curve needs.

    removed: (mask, source). points: (order, direction, fraction), numbers of masks; order 0 is the attribution's.
    """

    removed: Bool[np.ndarray, "mask source"]
    points: Int[np.ndarray, "order direction fraction"]


def token_order(
    importance: Float[np.ndarray, " source"], second: Float[np.ndarray, " source"], rng: np.random.Generator
) -> Int[np.ndarray, " source"]:
    """Return token numbers from most to least important; ties go by `second`, then by chance.

    Most tokens have an importance density of exactly 0; left in their order they would be removed front to back.
    """
    return np.lexsort((rng.random(importance.size), -second, -importance))


def removed_counts(tokens: int, steps: int) -> Int[np.ndarray, " fraction"]:
    """Return how many of `tokens` are removed at the fractions 0, 1/steps .. 1: rounded, halves up."""
    return np.floor(np.arange(steps + 1) * tokens / steps + 0.5).astype(np.int64)


def removal_masks(orders: Int[np.ndarray, "order source"], steps: int) -> Masks:
    """Return the masks of all curves: deletion removes the first tokens of an order, insertion puts them back.

    The random orders (all but the first) are put back from their end: then what is gone in an insertion was gone in a
    deletion too, and one run serves both. A random order backwards is a random order.
    """
    tokens = orders.shape[1]
    rank = np.argsort(orders, axis=1)
    counts = removed_counts(tokens, steps)
    back = np.concatenate([rank[:1], tokens - 1 - rank[1:]])
    gone = np.stack([rank[:, None] < counts[:, None], back[:, None] >= counts[:, None]], axis=1)
    removed, inverse = np.unique(gone.reshape(-1, tokens), axis=0, return_inverse=True)
    return Masks(removed, inverse.reshape(gone.shape[:3]).astype(np.int64))


def curve_numbers(
    curves: Float[np.ndarray, "order direction fraction"], fraction: Float[np.ndarray, " fraction"]
) -> Variables:
    """Return the variables of `itlens.faithfulness`, from curves in nats.

    Order 0 is the attribution's, the others are random.
    """
    intact, removed = float(curves[0, 0, 0]), float(curves[0, 0, -1])
    gap = intact - removed if intact - removed >= LEAST_GAP else np.nan
    mean = np.stack([curves[0], curves[1:].mean(axis=0)])
    low, high = np.quantile(curves[1:], [0.025, 0.975], axis=0)
    nats = trapezoid(curves, fraction, axis=-1)  # (order, direction)
    area = (nats - removed) / gap
    area_low, area_high = np.quantile(area[1:], [0.025, 0.975], axis=0)
    better = np.array([-1.0, 1.0])  # a deletion that falls fast, an insertion that rises fast
    eraser = (fraction > 0) & (fraction <= ERASER_UP_TO + _TINY)
    drop = (intact - mean[:, :, eraser]).mean(axis=-1) if eraser.any() else np.full((2, 2), np.nan)
    on_direction = {
        "area_low": area_low,
        "area_high": area_high,
        "advantage": better * (area[0] - area[1:].mean(axis=0)),
        "advantage_nats": better * (nats[0] - nats[1:].mean(axis=0)),
        "p": (1 + (better * (nats[1:] - nats[0]) >= -_TINY).sum(axis=0)) / len(nats),
    }
    return {
        "curve": (("order", "direction", "fraction"), mean),
        "curve_low": (("direction", "fraction"), low),
        "curve_high": (("direction", "fraction"), high),
        "share": (("order", "direction", "fraction"), (mean - removed) / gap),
        "area": (("order", "direction"), np.stack([area[0], area[1:].mean(axis=0)])),
        "area_draws": (("draw", "direction"), area[1:]),
        **{name: (("direction",), values) for name, values in on_direction.items()},
        "comprehensiveness": (("order",), drop[:, 0]),
        "sufficiency": (("order",), drop[:, 1]),
        "intact": ((), intact),
        "removed": ((), removed),
    }
