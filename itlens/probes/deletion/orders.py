"""In which order prompt tokens are removed, and which of them are gone at each step: arrays of numbers only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

DIRECTIONS = ("deletion", "insertion")


class Masks(NamedTuple):
    """Which tokens are removed: every different mask once, and which of them each point of each curve needs.

    removed: (mask, source). points: (order, direction, fraction), numbers of masks; order 0 is the attribution's.
    """

    removed: Bool[np.ndarray, "mask source"]
    points: Int[np.ndarray, "order direction fraction"]


def token_order(
    importance: Float[np.ndarray, " source"], second: Float[np.ndarray, " source"], rng: np.random.Generator
) -> Int[np.ndarray, " source"]:
    """Token numbers from most to least important; ties go by `second`, then by chance.

    Most tokens have an importance density of exactly 0; left in their order they would be removed front to back.
    """
    return np.lexsort((rng.random(importance.size), -second, -importance))


def removed_counts(tokens: int, steps: int) -> Int[np.ndarray, " fraction"]:
    """How many of `tokens` are removed at the fractions 0, 1/steps .. 1: rounded, halves up."""
    return np.floor(np.arange(steps + 1) * tokens / steps + 0.5).astype(np.int64)


def removal_masks(orders: Int[np.ndarray, "order source"], steps: int) -> Masks:
    """Deletion removes the first tokens of an order; insertion starts from nothing and puts the first ones back.

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
