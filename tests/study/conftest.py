"""One tiny pair, its prompts and one finished run, shared by the tests of studies."""

from __future__ import annotations

from pathlib import Path

import pytest

import itlens
from itlens.study import Comparison
from tests.study.runs import NEW_TOKENS, six_prompts
from tests.tiny import tiny_folder


@pytest.fixture(scope="session")
def pair_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("study-pair")
    return tiny_folder(root / "base", "llama", seed=0), tiny_folder(root / "tuned", "llama", seed=1)


@pytest.fixture(scope="session")
def finished(pair_folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """An uninterrupted run of six prompts, attribution only; tests read it and never write into its folder."""
    out = tmp_path_factory.mktemp("study-finished") / "deep" / "run"
    return itlens.compare(
        *pair_folders, six_prompts(), out=out, max_new_tokens=NEW_TOKENS, seed=3, probes="attribution"
    )
