"""A tiny pair, and one finished run of every finding on it, shared by the tests of studies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import itlens
from itlens.findings import findings
from itlens.study import Comparison
from itlens.study.outcome import write_outcome
from tests.study.studies import registered, small, without_page
from tests.study.toy import Louder
from tests.tiny import tiny_folder

NAMES = (*findings(), "louder")


class Runs(dict[str, Comparison]):
    """Finished runs by finding, each computed when a test first reads it."""

    def __init__(self, folders: tuple[Path, Path], root: Path) -> None:
        super().__init__()
        self._folders, self._root = folders, root

    def __missing__(self, name: str) -> Comparison:
        with pytest.MonkeyPatch.context() as patch:  # with its page, also where the test that reads it writes none
            patch.setattr("itlens.study.pair.write_outcome", write_outcome)
            self[name] = itlens.compare(*self._folders, probes=name, out=self._root / "deep" / name, **small())
        return self[name]


@pytest.fixture(scope="session")
def pair_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("study-pair")
    return tiny_folder(root / "base", "llama", seed=0), tiny_folder(root / "tuned", "llama", seed=1)


@pytest.fixture(scope="module", autouse=True)
def toy() -> Iterator[Louder]:
    """The toy finding, known while a file of these tests runs; other tests of the same process must not see it."""
    with registered(Louder) as finding:
        yield finding


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's own studies write no tables and no page, at which it does not look."""
    without_page(monkeypatch)


@pytest.fixture(scope="session")
def runs(pair_folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """By finding: a finished run of it alone. Tests read them and never write into their folders."""
    return Runs(pair_folders, tmp_path_factory.mktemp("study-finished"))


@pytest.fixture(scope="session")
def finished(runs: Runs) -> Comparison:
    """An uninterrupted run of six prompts, of the finding that reads them one by one."""
    return runs["attribution"]
