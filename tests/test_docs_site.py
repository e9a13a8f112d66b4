"""What the documentation site makes itself: argument tables from docstrings, pages from notebooks."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.browser import open_browser
from tests.doc_pages import ROOT

pytestmark = pytest.mark.documentation

griffe = pytest.importorskip("griffe", reason="the docs extra is not installed")
pytest.importorskip("mkdocs", reason="the docs extra is not installed")


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


arguments, site = module("docs_arguments"), module("docs_site")


def test_sentences_on_arguments_become_a_section() -> None:
    text = "Sum both.\n\na, b: two numbers. c: another one,\nor None. Raises ProbeError for a text.\n\nIt is: quick."
    assert arguments.with_section(text, ["a", "b", "c", "d"], "Args", {"d": "Common."}) == (
        "Sum both.\n\nRaises ProbeError for a text.\n\nIt is: quick.\n\n"
        "Args:\n    a: Two numbers.\n    b: Two numbers.\n    c: Another one, or None.\n    d: Common."
    )


def test_text_without_arguments_stays() -> None:
    text = "Say so.\n\n    code: stays\n\nUnits: nats."
    assert arguments.with_section(text, ["code"], "Args") == text


@pytest.fixture(scope="module")
def package() -> Any:
    extensions = griffe.load_extensions(str(ROOT / "scripts" / "docs_arguments.py"))
    return griffe.load("itlens", search_paths=[str(ROOT)], extensions=extensions)


def test_most_arguments_of_public_functions_are_in_a_table(package: Any) -> None:
    pages = sorted((ROOT / "docs").glob("api-*.md"))
    names = [
        full for page in pages for full in re.findall(r"^::: itlens\.(\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]
    described, every = 0, 0
    for function in (package[name] for name in names):
        if function.is_function:
            sections = function.docstring.parse("google")
            table = [each.name for section in sections if section.kind.value == "parameters" for each in section.value]
            own = [parameter.name.lstrip("*") for parameter in function.parameters]
            assert set(table) <= set(own), function.path
            described, every = described + len(table), every + len(own)
    assert every > 400
    assert described / every > 0.85


def test_compare_has_a_row_for_what_its_docstring_describes(package: Any) -> None:
    text = package["study.pair.compare"].docstring.value
    assert "    labels: What to call the two models." in text.splitlines()
    assert "    seed: Of intervals, permutations and random draws." in text.splitlines()


def test_a_notebook_becomes_a_page_with_its_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "ROOT", tmp_path)
    figure = {"data": [{"type": "bar", "y": [1], "name": "</script>"}], "layout": {"height": 300}}
    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="a < b\n\nc\n"),
        nbformat.v4.new_output("display_data", data={site.FIGURE: figure}),
        nbformat.v4.new_output("display_data", data={"text/html": "<b>x</b>\n\n<i>y</i>", "text/plain": "x"}),
    ]
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("1 + 1", outputs=outputs)]
    nbformat.write(book, tmp_path / "own.ipynb")
    page = site.notebook_page(tmp_path / "own.ipynb")
    assert page.startswith("# Title\n\n*This page is the notebook `own.ipynb`")
    assert "```python\n1 + 1\n```" in page
    assert "a &lt; b&#10;&#10;c" in page
    assert "<b>x</b>\n<i>y</i>" in page, "a blank line would end the block"
    assert page.count("</script>") == 3, "text of a figure cannot end its script"
    assert 'src="../assets/plotly.min.js"' in page


@pytest.fixture(scope="module")
def small_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pages in the theme, with the plugins and the hook of the real site."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    (folder / "docs" / "assets").mkdir(parents=True)
    for name in ("site.css", "iframe-worker.js"):
        (folder / "docs" / "assets" / name).write_bytes((ROOT / "docs" / "assets" / name).read_bytes())
    (folder / "docs" / "index.md").write_text("# Home\n\n## A heading about patching\n\nHeads are patched.\n", "utf-8")
    config = load_config(
        str(ROOT / "mkdocs.yml"),
        docs_dir=str(folder / "docs"),
        site_dir=str(folder / "site"),
        nav=[{"Home": "index.md"}],
        strict=False,
    )
    build(config)
    return folder / "site"


def test_the_site_loads_nothing_from_a_network(small_site: Path) -> None:
    for page in small_site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "unpkg" not in text, page.name
        assert not site._REMOTE.search(text), page.name


def test_search_works_from_a_folder(small_site: Path, tmp_path: Path) -> None:
    """In a browser, from file://, as somebody reads the site without a server."""
    with open_browser(tmp_path) as page:
        page.open(small_site / "index.html")
        page.wait("!document.querySelector('[data-md-component=search]').hidden")
        box = page.driver.find_element("css selector", "input.md-search__input")
        box.click()
        box.send_keys("patching")
        page.wait("document.querySelectorAll('.md-search-result__item').length > 0")
        assert "patching" in page.run("document.querySelector('.md-search-result__item').textContent")
        assert [url for url in page.requests() if not url.startswith("file:")] == []
        assert page.complaints() == []
