from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import itlens
from itlens import Vocabulary, WordVectors
from itlens.prompts import Prompt
from itlens.study import Comparison
from tests.study.studies import WORDS, small
from tests.tiny import tiny_folder
from tests.views.factory import HOSTILE


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A finished run of every finding; all that has a name or a text there would like to be mark-up."""
    root = tmp_path_factory.mktemp("hostile-study")
    pair = [tiny_folder(root / side, "llama", seed=seed) for seed, side in enumerate(("base", "tuned"))]
    prompts = [
        Prompt(f"Translate the word: {evil}.", instruction="Translate the word", id=f"{evil}{n}", group=HOSTILE[n % 2])
        for n, evil in enumerate(HOSTILE[:6])
    ]
    words, noise = (*HOSTILE[:5], *WORDS), np.random.default_rng(0)
    heaps = noise.normal(size=(10, 16))[np.arange(len(words)) % 10]
    vectors = WordVectors(words, heaps + 0.1 * noise.normal(size=heaps.shape), name=HOSTILE[1])
    options = small(prompts=prompts, vocabulary=Vocabulary(words, name=HOSTILE[0]), vectors=vectors)
    return itlens.compare(*pair, out=root / "run", labels=HOSTILE[:2], **options)


@pytest.fixture(scope="session")
def report(comparison: Comparison) -> Path:
    """The page of that run."""
    return comparison.report_path
