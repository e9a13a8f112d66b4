"""What holds for every test: no network, fixed seeds, one thread, and shapes that are enforced.

This file runs before any module of itlens is imported, which is what the import hook needs.
"""

from __future__ import annotations

import gc
import os
import random
import sys

import numpy as np
import pytest
from jaxtyping import install_import_hook

import tests.shapes

# Before torch or transformers are imported: both read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models of a few thousand parameters get slower with more
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The modules that compute. Not itlens.prompts, itlens.store and diff.attributions: what they are given is the
# user's, and their own one-sentence errors must be what a test sees, not a type checker's.
ENFORCED = (
    "itlens.probes",
    "itlens.density",
    "itlens.aggregate",
    "itlens.tokenization",
    "itlens.vocabulary.tokens",
    "itlens.weights",
    "itlens.diff.component_match",
    "itlens.diff.length_regression",
    "itlens.diff.principal_angles",
    "itlens.diff.response_profile",
    "itlens.diff.rotation_nulls",
    "itlens.diff.sensitivity_grid",
    "itlens.diff.statistics",
    "itlens.diff.variance_transfer",
)
install_import_hook(ENFORCED, f"{tests.shapes.__name__}.check")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random numbers, whichever tests run before it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:  # the tests that need no torch should not wait for it
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _few_to_collect() -> None:
    """Thousands of collections, ours and those of libraries, need not go through all imported modules again."""
    gc.collect()
    gc.freeze()
