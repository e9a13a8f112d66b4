"""The README and the pages of the documentation, and the code blocks in them.

Python blocks of a page run in order, in one namespace, in an empty folder (test_docs_python); so do its commands
(test_docs_commands). In commands, BASE and TUNED stand for the embedded pair and prompts.jsonl for the page's JSON
block; sizes are cut. A Python block that cannot run would need `<!-- not run: reason -->` above it, and shows up as
skipped with that reason.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from itlens import Vocabulary

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

# all parts at once run from Python, three times (README, quickstart, results)
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


def commands(page: Path) -> list[list[str]]:
    lines = (line for _, code, _ in blocks(page, "sh") for line in code.splitlines() if line.strip())
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def having(*languages: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, *languages)]


def name(page: Path) -> str:
    return page.name
