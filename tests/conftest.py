"""What holds for every test: no network, fixed seeds, one thread, and shapes that are enforced.

This file runs before any module of itlens is imported, which is what the import hook needs.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import shapes
from tests.browser import browser

__all__ = ["browser"]

# Nothing that is imported while tests are collected is garbage, and the collector would go through it a hundred times.
gc.disable()

# Before torch or transformers are imported: both read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models of a few thousand parameters get slower with more
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HYPOTHESIS_NO_PLUGINS", "1")  # trio's imports all of trio, in every process

# The modules that compute. Not itlens.prompts, itlens.results.store and what only compares results of the user's: their
# own one-sentence errors must be what a test sees, not a type checker's.
ENFORCED = (
    "itlens.hooked",
    "itlens.weights",
    "itlens.stats.paired",
    "itlens.stats.ranks",
    "itlens.stats.subspaces",
    "itlens.results.density",
    "itlens.results.aggregate",
    "itlens.tokenization",
    "itlens.vocabulary.tokens",
    "itlens.findings.attribution.diff_scores",
    *(
        f"itlens.findings.{path.parent.name}.{path.stem}"
        for path in sorted((Path(__file__).parents[1] / "itlens" / "findings").glob("*/probe*.py"))
    ),
)
shapes.install(ENFORCED)
LONG = tuple(f"tests/{folder}/" for folder in ("study", "views", "cli", "planted", "annotate"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folders with the longest files first: no worker is alone with one in the end. `make test` keeps this."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_collection_finish() -> None:
    """Look for garbage again, from here on among what tests leave."""
    gc.freeze()
    gc.enable()
    modules = len(sys.modules)

    def collected(phase: str, about: dict[str, int]) -> None:
        """A first study imports half a million objects, and collects garbage thirty times."""
        nonlocal modules
        if phase == "stop" and about["generation"] == 2 and len(sys.modules) > modules + 20:
            gc.freeze()
            modules = len(sys.modules)

    gc.callbacks.append(collected)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random numbers, whichever tests run before it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:  # the tests that need no torch should not wait for it
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache, nor what another test kept there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache" / os.urandom(4).hex()))


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command line, inside the test process."""
    from tests.commands import Commands

    return Commands(monkeypatch, capsys)


@pytest.fixture(autouse=True, scope="module")
def _few_to_collect() -> None:
    """Thousands of collections, ours and those of libraries, need not go through all imported modules again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """What is written need not survive a power cut; a study of six prompts waits for the disk a hundred times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield
