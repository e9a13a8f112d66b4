"""What the README and the documentation say holds: names, options, figures, links, make targets, reasons to skip."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

import itlens
from itlens import cli
from tests.doc_pages import NOT_RUN, PAGES, ROOT, blocks, commands, having, name


def test_every_other_command_is_known() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for page in PAGES:
        for command in commands(page):
            if command[0] == "make":
                assert set(command[1:]) <= targets, f"{page.name}: {shlex.join(command)}"
            elif command[0] in ("sh", "python"):
                assert (ROOT / command[1]).is_file() or command[1] == "-m", f"{page.name}: {shlex.join(command)}"
            else:
                assert command[0] in {"itlens", *NOT_RUN, ".ci/run"}, f"{page.name}: {shlex.join(command)}"


def test_every_code_block_is_of_a_kind_that_is_checked() -> None:
    for page in PAGES:
        languages = re.findall(r"^```(.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(languages) <= {"python", "sh", "json", "text"}, page.name


@pytest.mark.parametrize("page", having("json"), ids=name)
def test_json_blocks_are_prompts(page: Path, tmp_path: Path) -> None:
    for _, code, _ in blocks(page, "json"):
        (tmp_path / "prompts.jsonl").write_text(code, encoding="utf-8")
        prompts = itlens.load_prompts(tmp_path / "prompts.jsonl")
        assert all(prompt.instruction for prompt in prompts)
        assert [prompt.id for prompt in prompts] == [json.loads(line)["id"] for line in code.splitlines()]


def test_reference_names_exist() -> None:
    pages = sorted((ROOT / "docs").glob("api-*.md"))
    names = [full for page in pages for full in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), flags=re.MULTILINE)]
    for full in names:
        module, _, attribute = full.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), full
    listed = {full.rpartition(".")[2] for full in names}
    missing = {public for public in itlens._HOME if public not in listed}
    assert not missing, f"docs/api-*.md lack {missing}"


def test_options_of_the_command_line_are_the_documented_ones() -> None:
    compare = cli.application().commands["compare"]  # type: ignore[attr-defined]
    options = {parameter.opts[0] for parameter in compare.params if parameter.opts[0].startswith("--")}
    table = re.findall(
        r"^\| `(--[a-z-]+)", (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(table) == options - {"--help"}


def test_figures_in_the_text_are_those_of_the_package() -> None:
    prompts = itlens.load_prompts("builtin")
    groups = {prompt.group for prompt in prompts}
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "docs" / "prompts.md"):
        text = " ".join(page.read_text(encoding="utf-8").split())
        assert f"{len(prompts)} prompts" in text and f"{len(groups)} task families" in text, page.name
    assert f"## {itlens.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            source = ROOT / "examples" / f"{Path(target).stem}.ipynb"  # pages of notebooks are made from these
            there = source.exists() if target.startswith("notebooks/") else (page.parent / target).exists()
            assert there, f"{page.name}: {target}"


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "images").glob("*.png")), ids=name)
def test_pictures_are_small_and_shown(picture: Path) -> None:
    assert picture.stat().st_size < 200_000
    assert any(f"images/{picture.name})" in page.read_text(encoding="utf-8") for page in PAGES), "no page shows it"


GALLERY = sorted((ROOT / "docs" / "gallery").glob("*.html"))


def test_the_gallery_is_small_and_says_when_it_was_made() -> None:
    text = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\(gallery/(\w+\.html)\)", text)) == [page.name for page in GALLERY]
    assert {"pair.html", "template.html", "between.html"} <= {page.name for page in GALLERY}
    sizes = {page.name: page.stat().st_size for page in GALLERY}
    real = sizes.pop("smollm2.html", 0)  # of 30 layers and 270 heads
    assert max(sizes.values()) <= 2_000_000, sizes
    assert sum(sizes.values()) <= 4_000_000, sizes
    assert real <= 5_000_000
    assert re.search(r"Made on \d{4}-\d\d-\d\d with itlens \d+\.\d+\.\d+", text)


@pytest.mark.parametrize("page", GALLERY, ids=name)
def test_a_page_of_the_gallery_stands_alone(page: Path) -> None:
    """No link to a report that is not there, nothing from a network, and no folder of the machine that made it."""
    text = page.read_text(encoding="utf-8")
    made = re.search(r"Made by itlens(?: [\d.]+\w*)? on (\d{4}-\d\d-\d\d)", text)
    assert made and made[1] in (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert not re.findall(r'href="[^"#:]+\.html"', text)
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text)
    assert not re.findall(r"/(?:home|root|tmp|Users|work)/[^\s\"<]+", text)


def test_every_reason_to_skip_a_test_is_listed() -> None:
    listed = (ROOT / "tests" / "QUARANTINES.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for reason in reasons_to_skip(path.read_text(encoding="utf-8")):
            assert f"`{reason}`" in listed, f"{path.name}: {reason}"


def reasons_to_skip(code: str) -> list[str]:
    """The texts in calls of pytest.skip, skipif and the like."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    skips = [call for call in calls if "skip" in ast.unparse(call.func)]
    given = [(call.args if ast.unparse(call.func) == "pytest.skip" else []) for call in skips]
    values = [value for arguments in given for value in arguments]
    values += [keyword.value for call in skips for keyword in call.keywords if keyword.arg == "reason"]
    return [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]


def test_reasons_to_skip_are_read_from_the_code() -> None:
    code = 'pytest.skip("no model")\nmark.skipif(a, reason="no network")\nlay_out(reason="why")'
    assert reasons_to_skip(code) == ["no model", "no network"]
