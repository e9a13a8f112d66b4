"""What people and programs see first: badges, CITATION.cff, llms.txt, the notebooks' and the README's promises."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import itlens
from tests.doc_pages import ROOT

SCHEMA = Path(__file__).parent / "data" / "cff-1.2.0.schema.json"


@pytest.fixture(scope="module")
def citation() -> dict[str, Any]:
    return yaml.load((ROOT / "CITATION.cff").read_text(encoding="utf-8"), yaml.BaseLoader)


def numbers(entry: Any) -> Any:
    """The same with whole numbers as numbers, where the schema wants them."""
    if isinstance(entry, dict):
        wanted = {"year", "start", "end"}
        return {key: int(value) if key in wanted else numbers(value) for key, value in entry.items()}
    return [numbers(each) for each in entry] if isinstance(entry, list) else entry


def test_citation_follows_the_schema(citation: dict[str, Any]) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    problems = list(jsonschema.Draft7Validator(schema).iter_errors(numbers(citation)))
    assert [problem.message for problem in problems] == []


def test_the_schema_would_see_a_mistake(citation: dict[str, Any]) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    wrong = numbers({**citation, "license": "no such licence"})
    assert list(jsonschema.Draft7Validator(schema).iter_errors(wrong))


def test_citation_is_of_this_version_and_paper(citation: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("\n> ", "\n")
    assert citation["version"] == itlens.__version__
    assert citation["preferred-citation"]["doi"] in readme
    assert " ".join(citation["preferred-citation"]["title"].split()) in " ".join(readme.split())


def test_badges_say_what_the_project_says() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    shown = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "images").glob("badge-*.svg")}
    badges = re.findall(
        r"^!\[[^\]]*\]\(docs/images/badge-([a-z]+)\.svg\)", (ROOT / "README.md").read_text("utf-8"), re.M
    )
    least = re.search(r'requires-python = ">=([\d.]+)"', project)
    assert badges
    assert least is not None
    assert f"{least[1]} or newer" in shown["badge-python"]
    assert 'license = "MIT"' in project
    assert ">MIT<" in shown["badge-licence"]
    assert not any("http" in text.replace("http://www.w3.org/2000/svg", "") for text in shown.values())


def test_every_path_in_llms_txt_exists() -> None:
    text = (ROOT / "llms.txt").read_text(encoding="utf-8")
    paths = re.findall(r"\]\(([^)]+)\)", text)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_llms_txt_names_every_page_and_only_public_names() -> None:
    text = (ROOT / "llms.txt").read_text(encoding="utf-8")
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if not path.name.startswith("api-")}
    assert pages - {"docs/index.md"} <= set(re.findall(r"\]\(([^)]+)\)", text))
    for name in re.findall(r"`([a-z_]+)`(?=[,;. ])", text.split("\n## ")[0]):
        assert hasattr(itlens, name), name


def test_the_menu_names_every_page() -> None:
    """mkdocs warns of a page that the menu lacks; here it is said without building the site."""
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    named = set(re.findall(r"(\S+\.md)$", menu, flags=re.MULTILINE))
    notebooks = {f"notebooks/{path.stem}.md" for path in (ROOT / "examples").glob("*.ipynb")}
    assert named == {path.name for path in (ROOT / "docs").glob("*.md")} | notebooks


def test_the_readme_fits_before_the_embedded_pair() -> None:
    """One screen says what it is; benchmarks have a page of their own."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index("## Install") < text.index("## Six lines on a real pair") < text.index("## Without any model")
    assert "seconds (" not in text
    assert len(text.split()) < 1600
