"""Which component of one model stands beside which of the other, so that their words can be read side by side.

An optimal one-to-one matching on |cosine| (Hungarian method). It is never a statistic: components of nearly equal
variance mix freely, and a mixed one has no single partner. What turned is measured on subspaces.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment


def match_components(
    inner: Float[np.ndarray, "components components"],
) -> tuple[Int[np.ndarray, " components"], Float[np.ndarray, " components"]]:
    """For each component of the tuned model the place of the base model's, and |cosine| of the two.

    inner: cosines (component of base, component of tuned). The sum of |cosine| over all pairs is the largest there is.
    """
    sizes = np.abs(inner)
    base, tuned = linear_sum_assignment(sizes, maximize=True)
    place = np.empty(len(sizes), dtype=np.int64)
    place[tuned] = base
    return place, np.minimum(sizes[place, np.arange(len(sizes))], 1.0)
