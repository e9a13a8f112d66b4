"""Every Python block of the README and the documentation runs; see `doc_pages`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.doc_pages import blocks, fewer_words, having, name


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fewer_words(monkeypatch)
    return tmp_path


@pytest.mark.parametrize("page", having("python"), ids=name)
def test_python_blocks_run(page: Path, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(page.stem)  # dataclasses look their module up
    monkeypatch.setitem(sys.modules, page.stem, module)
    namespace = vars(module)
    reasons = []
    for line, code, reason in blocks(page, "python"):
        if reason:
            reasons.append(f"{page.name}, line {line}: {reason}")
            continue
        padded = "\n" * (line - 1) + code  # so that a traceback names the page's line
        exec(compile(padded, str(page), "exec"), namespace)
    explained = "; ".join(reasons)
    if explained:
        pytest.skip(explained)
