"""What the README and the documentation say is run: every Python block, every `itlens` command, every make target.

Python blocks of a page run in order, in one namespace, in an empty folder; so do its commands. In commands, BASE and
TUNED stand for the embedded pair and prompts.jsonl for the page's JSON block; sizes are cut. A Python block that cannot
run would need `<!-- not run: reason -->` above it, and shows up as skipped with that reason.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

import itlens
from itlens import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# what stands in shell blocks besides `itlens`: installing is what `make test` itself has done
NOT_RUN = {"pip": "needs a package index", "make": "its target is checked instead"}
# what changes how long a command takes, and not whether it runs
FEWER = "--vocabulary few.txt --top-k 20 --components 20 --resamples 2 --concept-words 15 --labelled 5"
SMALLER = {
    "demo": ["--limit", "4", "--probes", "attribution"],
    "compare": ["--limit", "4", "--max-new-tokens", "8", *FEWER.split()],
}


def blocks(page: Path, *languages: str) -> list[tuple[int, str, str]]:
    """(line, code, reason not to run it) of the page's fenced blocks in one of the languages."""
    text = page.read_text(encoding="utf-8")
    pattern = rf"(?:<!-- not run: (.+?) -->\n)?^```(?:{'|'.join(languages)})\n(.*?)^```$"
    found = re.finditer(pattern, text, flags=re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, m.start(2)) + 1, m.group(2), m.group(1) or "") for m in found]


def commands(page: Path) -> list[list[str]]:
    lines = (line for _, code, _ in blocks(page, "sh") for line in code.splitlines() if line.strip())
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def having(*languages: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, *languages)]


def name(page: Path) -> str:
    return page.name


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", having("python"), ids=name)
def test_python_blocks_run(page: Path, empty_folder: Path) -> None:
    namespace: dict[str, object] = {"__name__": page.stem}
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


@pytest.mark.parametrize("page", [p for p in having("sh") if any(c[0] == "itlens" for c in commands(p))], ids=name)
def test_commands_run(page: Path, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [code for _, code, _ in blocks(page, "json")] or [
        code for _, code, _ in blocks(ROOT / "README.md", "json")
    ]
    (empty_folder / "prompts.jsonl").write_text("".join(examples), encoding="utf-8")
    few = itlens.Vocabulary.load("builtin", size=600)
    (empty_folder / "few.txt").write_text("\n".join(few.words), encoding="utf-8")
    stands_for = {"BASE": str(itlens.demo.base_path()), "TUNED": str(itlens.demo.tuned_path())}
    for command in commands(page):
        if command[0] != "itlens":
            continue
        words = [stands_for.get(word, word) for word in command] + SMALLER.get(command[1], [])
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as done:
            cli.main()
        assert done.value.code == 0, shlex.join(command)


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
def test_json_blocks_are_prompts(page: Path, empty_folder: Path) -> None:
    for _, code, _ in blocks(page, "json"):
        Path("prompts.jsonl").write_text(code, encoding="utf-8")
        prompts = itlens.load_prompts("prompts.jsonl")
        assert all(prompt.instruction for prompt in prompts)
        assert [prompt.id for prompt in prompts] == [json.loads(line)["id"] for line in code.splitlines()]


def test_reference_names_exist() -> None:
    names = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for full in names:
        module, _, attribute = full.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), full
    listed = {full.rpartition(".")[2] for full in names}
    missing = {public for public in itlens._HOME if public not in listed}
    assert not missing, f"docs/api.md lacks {missing}"


def test_options_of_the_command_line_are_the_documented_ones() -> None:
    import typer.main

    compare = typer.main.get_command(cli.app).commands["compare"]  # type: ignore[attr-defined]
    options = {option for parameter in compare.params for option in parameter.opts if option.startswith("--")}
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
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_picture_is_small() -> None:
    assert (ROOT / "docs" / "images" / "report.png").stat().st_size < 400_000


def test_every_reason_to_skip_a_test_is_listed() -> None:
    listed = (ROOT / "tests" / "QUARANTINES.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for reason in re.findall(r"(?:reason=|pytest\.skip\()\"([^\"]+)\"", path.read_text(encoding="utf-8")):
            assert f"`{reason}`" in listed, f"{path.name}: {reason}"
