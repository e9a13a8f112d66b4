"""Every Python block of the README and the documentation runs, and prints what the page shows; see `doc_pages`.

Pages share one folder, so that a study which two of them name alike is computed once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.doc_pages import PRINTED, blocks, fewer_words, having, name, printed, run_block, same_output

pytestmark = pytest.mark.documentation


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture
def in_folder(shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shared_folder)
    fewer_words(monkeypatch)


@pytest.mark.parametrize("page", having("python"), ids=name)
def test_python_blocks_run(page: Path, in_folder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(page.stem)  # dataclasses look their module up
    monkeypatch.setitem(sys.modules, page.stem, module)
    shown = printed(page)
    reasons = []
    for line, code, reason in blocks(page, "python"):
        if reason:
            reasons.append(f"{page.name}, line {line}: {reason}")
            continue
        got = run_block(code, str(page), line, vars(module))
        if line in shown:
            assert same_output(shown[line], got), f"{page.name}, line {line} prints\n{got}and shows\n{shown[line]}"
        elif shown:
            assert not got, f"{page.name}, line {line} prints what the page does not show:\n{got}"
    explained = "; ".join(reasons)
    if explained:
        pytest.skip(explained)


def test_outputs_of_pages_are_found() -> None:
    pages = [page for page in having("python") if PRINTED in page.read_text(encoding="utf-8")]
    assert len(pages) >= 3
    for page in pages:
        assert len(printed(page)) == page.read_text(encoding="utf-8").count(PRINTED), page.name


def test_outputs_are_compared_by_their_numbers() -> None:
    assert same_output("a 1.00\nb -0.52", "a 1.01\nb   -0.53")
    assert not same_output("a 1.00", "a 1.20")
    assert not same_output("a 1.00", "b 1.00")
    assert not same_output("a 1.00", "a 1.00 c")
