"""How much of one model's variance the other model's components explain, and where a spectrum is degenerate.

The rows' covariance is known by its kept components t_j and their shares e_j of the variance; the rest of the variance,
1 - sum e_j, lies somewhere beyond. A subspace B of k dimensions explains sum_j e_j |B t_j|^2 of it for sure (the lower
bound); of the rest it explains at most all, and at most e_next, the share of the next component (e_last, where that is
not known), for each dimension that B has beyond the kept components (the upper bound). Both are divided by what the
model's own first k components explain, the most that k dimensions can.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

DEGENERATE = 1e-3


class Transfer(NamedTuple):
    """Explained variance relative to the model's own components, 0 to 1, for each k; NaN without any variance."""

    low: Float[np.ndarray, " ks"]
    high: Float[np.ndarray, " ks"]
    own: Float[np.ndarray, " ks"]


def variance_transfer(
    inside: Float[np.ndarray, "components components"],
    explained: Float[np.ndarray, " components"],
    ks: Sequence[int],
    following: float | None = None,
) -> Transfer:
    """inside: squared cosines (component of the other model, component of this one); explained: this model's shares.

    following: the share of the component behind the last, where it is known. own is the share that this model's own
    first k components explain.
    """
    at = np.asarray(ks) - 1
    within = np.cumsum(inside, axis=0)[at]  # (ks, components): |B t_j|^2
    rest = max(0.0, 1.0 - float(explained.sum()))
    sure = within @ explained
    beyond = np.maximum(np.asarray(ks) - within.sum(axis=1), 0.0)
    most = sure + np.minimum(rest, (float(explained[-1]) if following is None else following) * beyond)
    own = np.cumsum(explained)[at]
    return Transfer(_share(sure, own), _share(most, own), own)


def _share(part: np.ndarray, own: np.ndarray) -> np.ndarray:
    out = np.full(own.shape, np.nan)
    return np.minimum(np.divide(part, own, out=out, where=own > 0), 1.0)


def spectrum_gap(
    explained: Float[np.ndarray, " components"], ks: Sequence[int], rank: int, following: float | None = None
) -> Float[np.ndarray, " ks"]:
    """(e_k - e_k+1) / e_k: how well the first k components are told from the next one; 0 when there is no k-th.

    following: the share of the component behind the last that was kept. Where it is not known (None), the mean of the
    rest of the variance over the components that are left of `rank` stands for it, and the gap is an upper bound there.
    """
    rest = max(0.0, 1.0 - float(explained.sum())) / max(rank - explained.size, 1)
    beyond = min(rest if following is None else following, float(explained[-1]))
    last, after = explained[np.asarray(ks) - 1], np.append(explained[1:], beyond)[np.asarray(ks) - 1]
    gap = np.divide(last - after, last, out=np.zeros(last.shape), where=last > 1e-12)
    return np.maximum(gap, 0.0)
