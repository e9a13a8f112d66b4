"""p-values where the null hypothesis is true: two noisy copies of one model, exchanged at random.

Two copies of a model with a draw of noise each are exchangeable: nothing but chance says which is called base. Noise
moves both copies on all prompts at once, though, so that ONE pair of copies truly differs, and a paired test over
prompts may find that. The null of such a test is true once the two copies are exchanged prompt by prompt, at random:
each prompt's difference is then as likely positive as negative, whatever the others are. Of n prompts there are
2^(n-1) exchanges that differ in more than the names of both sides; all of them are tested (of many prompts `_MOST`
random ones), which gives the share of small p-values without sampling error for these differences.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from itlens.planted.altering import generator

_MOST = 32  # exchanges

Test = Callable[[np.ndarray, np.ndarray], np.ndarray]


def exchanges(prompts: int) -> np.ndarray:
    """Which prompts are exchanged, (exchange, prompt) bool: all that keep the last, or `_MOST` random ones."""
    if 2 ** (prompts - 1) <= _MOST:
        kept = list(product((False, True), repeat=prompts - 1))
        return np.array([(*ways, False) for ways in kept], dtype=bool)
    seed = generator("exchanges", prompts).initial_seed()
    return np.random.default_rng(seed).random((_MOST, prompts)) < 0.5


def p_under_exchange(base: np.ndarray, tuned: np.ndarray, test: Test, *, exchanged: bool) -> np.ndarray:
    """The p-values of `test`(base, tuned), both on (prompt, ...), under each exchange; else of the two as they are."""
    ways = exchanges(len(base)) if exchanged else np.zeros((1, len(base)), dtype=bool)
    found = []
    for way in ways:
        where = way.reshape(-1, *[1] * (base.ndim - 1))
        found.append(np.ravel(test(np.where(where, tuned, base), np.where(where, base, tuned))))
    return np.concatenate(found)
