"""Answers of a chat model on disk: nothing is asked twice, and what is kept is whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from itlens import AnnotateError, StoreError
from itlens.annotate import chat
from itlens.annotate.chat_server import ChatCache
from tests.annotate.chat_server import DAYS, KEY, WORDS, fake_server, labeller

pytest.importorskip("openai", reason="the annotate extra is not installed")

pytestmark = pytest.mark.usefixtures("chat_environment")


def test_nothing_is_asked_twice_and_everything_else_anew(tmp_path: Path) -> None:
    with fake_server() as server:
        ask = labeller(server.url, tmp_path)
        assert [ask(WORDS, seed=0) for _ in range(3)] == [DAYS] * 3 and len(server.asked) == 1
        assert labeller(server.url, tmp_path)(WORDS, seed=0) == DAYS and len(server.asked) == 1
        ask(WORDS, seed=1)
        ask([*WORDS[1:], WORDS[0]], seed=0)  # the order is what the model sees
        labeller(server.url, tmp_path, temperature=0.0)(WORDS, seed=0)
        chat("other", base_url=server.url, cache=tmp_path / "cache")(WORDS, seed=0)
        assert len(server.asked) == 5
    files = list((tmp_path / "cache").rglob("*.json"))
    assert len(files) == 5 and all(KEY not in file.read_text() for file in files)
    assert labeller(server.url, tmp_path)(WORDS, seed=1) == DAYS  # the server is gone by now


def test_the_cache_is_in_the_users_cache_folder_by_default(tmp_path: Path) -> None:
    with fake_server() as server:
        chat("m", base_url=server.url)(WORDS)
    assert len(list((tmp_path / "home" / "itlens" / "chat").rglob("*.json"))) == 1


def test_a_cache_of_another_version_is_named(tmp_path: Path) -> None:
    with fake_server() as server:
        ask = labeller(server.url, tmp_path)
        ask(WORDS)
        (file,) = (tmp_path / "cache").rglob("*.json")
        content = json.loads(file.read_text())
        file.write_text(json.dumps(content | {"version": 2}))
        with pytest.raises(AnnotateError, match="a cached answer of version 2, and this itlens reads version 1"):
            ask(WORDS)
        assert len(server.asked) == 1


@pytest.mark.parametrize("answer", [5, ["a"], {"text": "a"}, None])
def test_a_cached_answer_that_is_no_text_is_asked_for_again(tmp_path: Path, answer: object) -> None:
    with fake_server() as server:
        ask = labeller(server.url, tmp_path)
        ask(WORDS)
        (file,) = (tmp_path / "cache").rglob("*.json")
        content = json.loads(file.read_text())
        for text in (json.dumps(content | {"answer": answer}), json.dumps(content)[:-20], "[" * 100_000, "[]",
                     json.dumps(content | {"asked": {}})):  # fmt: skip
            file.write_text(text)
            assert ask.estimate([WORDS]).calls == len(ask.seeds) and ask(WORDS) == DAYS
            assert json.loads(file.read_text()) == content
        assert len(server.asked) == 6


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with fake_server() as server, pytest.raises(StoreError, match=r"Cannot write .*file"):
        labeller(server.url, tmp_path, cache=tmp_path / "file" / "cache")(WORDS)


_ENDLESS = """
import sys
from itlens.annotate.chat_server import ChatCache
cache = ChatCache(sys.argv[1])
number = 0
while True:
    cache.put({"seed": number}, "answer " * 20_000 + str(number))
    number += 1
    print(number, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL, which Windows does not have")
def test_the_cache_survives_kill_9(tmp_path: Path) -> None:
    """Killed while it writes, five times: every answer that was reported kept is whole, and no other is broken."""
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        child = subprocess.Popen(
            [sys.executable, "-c", _ENDLESS, str(folder)], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        assert child.stdout is not None
        for _ in range(3 + attempt):
            child.stdout.readline()
        child.kill()
        kept = max(int(line) for line in [*child.communicate()[0].split(), "3"])
        cache = ChatCache(folder)
        answers = [cache.get({"seed": number}) for number in range(kept + 3)]
        assert all(answer is not None and answer.endswith(f" {number}") for number, answer in enumerate(answers[:kept]))
        whole = [json.loads(file.read_text())["answer"] for file in folder.rglob("*.json")]
        assert len(whole) >= kept and all(len(answer) >= 140_000 for answer in whole)
