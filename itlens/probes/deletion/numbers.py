"""What deletion and insertion curves come to: areas, advantage over random orders, comprehensiveness, sufficiency."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.integrate import trapezoid

LEAST_GAP = 0.05  # nats per response token; where removing the whole prompt costs less, a share of it is one of noise
ERASER_UP_TO = 0.5  # as DeYoung et al. 2020, who average over up to half of the tokens
_TINY = 1e-12


def curve_numbers(
    curves: Float[np.ndarray, "order direction fraction"], fraction: Float[np.ndarray, " fraction"]
) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Variables of `itlens.faithfulness`, from curves in nats; order 0 is the attribution's, the others are random."""
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
