"""Holm's correction of a few p-values, many times over: `itlens.diff.statistics.adjust` without its fixed cost.

adjust() calls statsmodels, which collects garbage each time (a fifth of a second in a large process).
"""

from __future__ import annotations

from typing import Any

import numpy as np


def holm(p: Any) -> np.ndarray:
    """p-values corrected for their number by Holm; NaN stays and does not count.

    Sorted ascending, p_(i) becomes the largest of (n - j) p_(j) for j = 0 .. i, at most 1.
    """
    values = np.asarray(p, dtype=float)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    out = np.full(values.shape, np.nan)
    out[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(order.size, 0, -1)), 1.0)
    return out
