"""At how many places of a response a logit lens reads, and at which.

Reading every layer costs products with W_U that grow with layers and vocabulary: on a small model with a large
vocabulary many times its forward pass. So by default a few of the positions that predict are read, evenly spread from
the first to the last: as many as cost about half a forward pass, at least 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SHARE = 0.5
LEAST = 2


def lens_count(
    asked: Any, targets: int, *, read: int, width: int, vocabulary: int, layers: int, blocks: int, readings: int = 1
) -> int:
    """How many of `targets` places the lens reads. asked: None (see the module), "all" or a number.

    read: tokens of the forward pass; blocks: parameters of all blocks; readings: products with W_U per layer, place and
    forward pass.
    """
    if asked == "all":
        return targets
    one_pass, one_place = read * (blocks + width * vocabulary), readings * layers * width * vocabulary
    return min(targets, max(LEAST, int(SHARE * one_pass / one_place)) if asked is None else asked)


def spread(targets: int, count: int) -> np.ndarray:
    """`count` of the numbers 0 .. targets - 1, from the first to the last (a single one: the middle)."""
    picks = np.linspace(0, targets - 1, count) if count > 1 else np.array([(targets - 1) / 2] * count)
    return np.round(picks).astype(np.int64)
