"""Every `itlens` command of the README and the documentation runs; see `doc_pages`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

import itlens
from itlens import cli
from tests.doc_pages import FEWER_PARTS, ROOT, SMALLER, blocks, commands, fewer_words, having, name

pytestmark = pytest.mark.documentation


@pytest.mark.parametrize("page", [p for p in having("sh") if any(c[0] == "itlens" for c in commands(p))], ids=name)
def test_commands_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fewer_words(monkeypatch)
    examples = [code for _, code, _ in blocks(page, "json")] or [
        code for _, code, _ in blocks(ROOT / "README.md", "json")
    ]
    (tmp_path / "prompts.jsonl").write_text("".join(examples), encoding="utf-8")
    few = itlens.Vocabulary.load("builtin", size=600)
    (tmp_path / "few.txt").write_text("\n".join(few.words), encoding="utf-8")
    stands_for = {"BASE": str(itlens.demo.base_path()), "TUNED": str(itlens.demo.tuned_path())}
    for command in commands(page):
        if command[0] != "itlens":
            continue
        words = [stands_for.get(word, word) for word in command] + SMALLER.get(command[1], [])
        words += [] if "--probes" in words else FEWER_PARTS.get(command[1], [])
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as done:
            cli.main()
        assert done.value.code == 0, shlex.join(command)
