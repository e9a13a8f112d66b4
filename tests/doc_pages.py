"""The README and the pages of the documentation, and the code blocks in them.

Python blocks of a page run in order, in one namespace (test_docs_python), and so do its commands (test_docs_commands).
In commands, BASE and TUNED stand for the embedded pair and prompts.jsonl for the page's JSON block; sizes are cut. What
a block prints is below it where the page marks it so, and compared; `python -m tests.doc_pages PAGE` writes it again.
A Python block that cannot run would need `<!-- not run: reason -->` above it, and shows up as skipped with that reason.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from itlens import Vocabulary
from itlens.demo import base_path, tuned_path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# what stands in shell blocks besides `itlens`: installing is what `make test` itself has done
NOT_RUN = {"pip": "needs a package index", "make": "its target is checked instead"}
# what changes how long a command takes, and not whether it runs
FEWER = "--vocabulary few.txt --top-k 20 --components 20 --resamples 2 --concept-words 15 --labelled 5"
SMALLER = {
    "demo": ["--limit", "4", "--probes", "attribution"],
    "compare": ["--limit", "4", "--max-new-tokens", "4", "--sample", "3", *FEWER.split()],
    "selftest": ["--probes", "concepts", "--repeats", "2", "--calibration", "19"],
}

# what a Python block names and no test machine has, and what takes its place
STANDS_FOR = {
    '"google/gemma-3-270m", adapter="my-lora"': f"{str(base_path())!r}, {str(tuned_path())!r}",
}
PRINTED = "<!-- printed -->"  # above the text block with what the Python block before it prints

# all parts at once run from Python (results.md)
FEWER_PARTS = {"compare": ["--probes", "attribution,activation"]}

FEW_WORDS = 2500  # of the built-in vocabulary where a page asks for all 20,000


def fewer_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the built-in vocabulary: weights are probed word by word, and the pages do it a dozen times."""
    load = Vocabulary.load

    def load_few(path_or_name: Any, size: int | None = None) -> Vocabulary:
        return load(path_or_name, size or (FEW_WORDS if str(path_or_name) == "builtin" else None))

    monkeypatch.setattr(Vocabulary, "load", load_few)


def blocks(page: Path, *languages: str) -> list[tuple[int, str, str]]:
    """(line, code, reason not to run it) of the page's fenced blocks in one of the languages."""
    text = page.read_text(encoding="utf-8")
    pattern = rf"(?:<!-- not run: (.+?) -->\n)?^```(?:{'|'.join(languages)})\n(.*?)^```$"
    found = re.finditer(pattern, text, flags=re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, m.start(2)) + 1, m.group(2), m.group(1) or "") for m in found]


def printed(page: Path) -> dict[int, str]:
    """What blocks print, by the line of the Python block, as the page has it below."""
    text = page.read_text(encoding="utf-8")
    pattern = rf"^```python\n((?:(?!^```).)*?)^```\n\n{PRINTED}\n```text\n(.*?)^```$"
    found = re.finditer(pattern, text, flags=re.MULTILINE | re.DOTALL)
    return {text.count("\n", 0, m.start(1)) + 1: m[2] for m in found}


def with_printed(page: Path, outputs: dict[int, str]) -> str:
    """Return the page with what its blocks printed (by line of the block) below each."""
    text = re.sub(rf"\n\n{PRINTED}\n```text\n.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    places = list(re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))
    shown = [outputs.get(line, "") for line, _, _ in blocks(page, "python")]
    for place, output in reversed(list(zip(places, shown, strict=True))):
        if output:
            end = place.end()
            text = f"{text[:end]}\n\n{PRINTED}\n```text\n{output.rstrip()}\n```{text[end:]}"
    return text


def run_block(code: str, name: str, line: int, namespace: dict[str, Any]) -> str:
    """Run a block in a namespace; what it prints. A traceback names the page's line."""
    for words, instead in STANDS_FOR.items():
        code = code.replace(words, instead)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile("\n" * (line - 1) + code, name, "exec"), namespace)
    return out.getvalue()


def same_output(shown: str, got: str) -> bool:
    """Whether two outputs have the same words, and numbers that agree to 5 % or 0.02."""
    words, others = _WORDS.split(" ".join(shown.split())), _WORDS.split(" ".join(got.split()))
    return len(words) == len(others) and all(map(_same_word, words, others))


_WORDS = re.compile(r"(-?\d+(?:\.\d+)?)")


def _same_word(word: str, other: str) -> bool:
    if word == other:
        return True
    try:
        return abs(float(word) - float(other)) <= max(0.02, 0.05 * abs(float(word)))
    except ValueError:
        return False


def commands(page: Path) -> list[list[str]]:
    """The commands of a page's shell blocks that are run, as words, without where their output goes."""
    run = [code for _, code, reason in blocks(page, "sh") if not reason]
    lines = (line for code in run for line in code.splitlines() if line.strip())
    return [words for line in lines if (words := shlex.split(line.partition(" > ")[0], comments=True))]


def having(*languages: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, *languages)]


def name(page: Path) -> str:
    return page.name


def main() -> None:
    """Run pages and write what their blocks print into them."""
    for path in map(Path, sys.argv[1:]):
        module = ModuleType(path.stem)
        sys.modules[path.stem] = module
        page = path.resolve()
        found = blocks(page, "python")
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            outputs = {
                line: run_block(code, page.name, line, vars(module)) for line, code, reason in found if not reason
            }
            os.chdir(ROOT)
        page.write_text(with_printed(page, outputs), encoding="utf-8")


if __name__ == "__main__":
    main()
