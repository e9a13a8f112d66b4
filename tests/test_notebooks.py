"""The notebooks: committed as their sources make them, run from nothing, with the numbers that their text claims.

Every notebook but that of the real pair is run here, in this process; `test_examples` runs one in a kernel of its own.
"""

from __future__ import annotations

import importlib.util
import os
import re
import socket
from pathlib import Path
from typing import Any

import nbformat
import pytest

from itlens.findings import findings, unregister
from tests.doc_pages import ROOT, same_output

pytestmark = pytest.mark.documentation

SOURCES = sorted((ROOT / "scripts" / "notebooks").glob("*.py"))
REAL = "real_pair"
FIGURE = "application/vnd.plotly.v1+json"


def _makers() -> Any:
    spec = importlib.util.spec_from_file_location("make_notebooks", ROOT / "scripts" / "make_notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


makers = _makers()


def committed(path: Path) -> Any:
    return nbformat.read(ROOT / "examples" / f"{path.stem}.ipynb", as_version=4)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"the notebook asks the network for {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_committed_notebook_is_made_from_its_source(path: Path) -> None:
    cells = makers.cells_of(path.read_text(encoding="utf-8"))
    book = committed(path)
    assert [cell.cell_type for cell in book.cells] == [kind for kind, _ in cells]
    for cell, (kind, text) in zip(book.cells, cells, strict=True):
        if kind == "code":
            assert cell.source == text
        else:
            parts = [re.escape(part) for part in re.split(r"\{\{.+?\}\}", text)]
            assert re.fullmatch("(.+?)".join(parts), cell.source, flags=re.DOTALL), text


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_committed_notebook_shows_its_outputs_and_is_small(path: Path) -> None:
    shown = [output for cell in committed(path).cells for output in cell.get("outputs", [])]
    assert shown
    assert not [output for output in shown if output.output_type == "error"]
    text = (ROOT / "examples" / f"{path.stem}.ipynb").read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    assert not re.search(r"[\"' ]/(home|root|tmp|work|Users)/", text), "a path of the machine that made it"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_notebook_runs_and_its_text_is_true(path: Path, offline: None) -> None:
    """Run again from nothing: the same text with the same numbers, what is printed, and as many figures."""
    if path.stem == REAL and not {"ITLENS_REAL_BASE", "ITLENS_REAL_ADAPTER"} <= set(os.environ):
        pytest.skip("no real pair is at hand (ITLENS_REAL_BASE and ITLENS_REAL_ADAPTER)")
    before = set(findings())
    try:
        made, held = makers.run(path), committed(path)
    finally:
        for name in set(findings()) - before:
            unregister(name)
    for new, old in zip(made.cells, held.cells, strict=True):
        if new.cell_type == "markdown":
            assert same_output(old.source, new.source), f"the text is\n{old.source}\nand what ran says\n{new.source}"
            continue
        assert kinds(new) == kinds(old), new.source
        assert same_output(printed(old), printed(new)), (
            f"{new.source}\nprints\n{printed(new)}\nand shows\n{printed(old)}"
        )


def kinds(cell: Any) -> list[str]:
    """What a cell shows: a printed text, a figure, a page or a value."""
    shown = []
    for output in cell.outputs:
        data = output.get("data", {})
        shown.append(next((kind for kind in (FIGURE, "text/html", "text/plain") if kind in data), "printed"))
    return shown


def printed(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_text_takes_its_numbers_from_what_ran() -> None:
    assert makers.filled("n is {{n:.1f}} of {{len(names)}}", {"n": 1.26, "names": "ab"}) == "n is 1.3 of 2"


def test_cells_are_read_from_a_source() -> None:
    source = "# %% [markdown]\n# # Title\n#\n# text\n\n# %%\na = 1\na\n"
    assert makers.cells_of(source) == [("markdown", "# Title\n\ntext"), ("code", "a = 1\na")]


def test_a_cell_that_fails_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text("# %%\n1 / 0\n", encoding="utf-8")
    with pytest.raises(ZeroDivisionError):
        makers.run(tmp_path / "wrong.py")


# ---- what the committed outputs show


def outputs(stem: str, call: str) -> list[dict[str, Any]]:
    """The displayed data of the cells that contain `call`."""
    book = nbformat.read(ROOT / "examples" / f"{stem}.ipynb", as_version=4)
    cells = [cell for cell in book.cells if cell.cell_type == "code" and call in cell.source]
    assert cells, f"no cell calls {call}"
    return [output["data"] for cell in cells for output in cell.outputs if "data" in output]


@pytest.mark.parametrize("call", ["views.tokens(", "views.token_pair("])
def test_token_views_are_coloured(call: str) -> None:
    (shown,) = outputs("finding1", call)
    page = shown["text/html"]
    coloured = re.findall(r'<span class="t[^"]*"[^>]*style="background-color:rgba\(var\(--rgb\),(0\.\d+)\)"', page)
    assert any(float(strength) > 0.5 for strength in coloured)
    assert page.count('class="itlens-tokens') == (1 if call == "views.tokens(" else 2)
    assert not re.search(r"(src|href)=[\"'](https?:)?//", page)


CHARTS = {
    "finding1": ("heatmap", "scores", "sensitivity", "effects"),
    "finding2": ("heads", "verbs", "patching"),
    "finding3": ("angles", "shares", "activations"),
}


@pytest.mark.parametrize(("stem", "name"), [(stem, name) for stem, names in CHARTS.items() for name in names])
def test_figures_have_data(stem: str, name: str) -> None:
    (shown,) = outputs(stem, f"views.{name}(")
    assert shown[FIGURE]["data"], "the figure has no traces"


def test_concepts_are_visible_with_their_labels() -> None:
    (shown,) = outputs("finding3", "views.concepts(")
    page = shown["text/html"]
    assert len(re.findall(r">([a-z-]{3,})<", page)) >= 3 * 2 * 15
    assert page.count("cannot tell") + page.count("morphology") + page.count("syntax") + page.count("phonology") >= 6
