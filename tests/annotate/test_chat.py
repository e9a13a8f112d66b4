"""The chat labeller against a fake server with recorded answers: good, bad, slow, refused; and its cache."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from itlens import AnnotateError
from itlens.annotate import Label, chat
from itlens.annotate.chat_cache import ChatCache
from itlens.annotate.chat_parsing import parse
from tests.annotate.chat_server import GOOD, Answer, fake_server, refusal

pytest.importorskip("openai", reason="the annotate extra is not installed")

KEY = "sk-secret-4711"
WORDS = ["Monday", "Tuesday", "Friday", "Sunday", "tax", "lamp", "weekend", "Saturday", "Thursday"]
DAYS = Label("days of the week", ("daily",), "semantics", 1.0)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def labeller(url: str, tmp_path: Path, **options: Any) -> Any:
    return chat("m", **({"base_url": url, "cache": tmp_path / "cache", "pause": 0.01, "tries": 3} | options))


def test_what_is_asked_and_what_comes_back(tmp_path: Path) -> None:
    """The 15 words, the seed and the temperature go out with the key; the JSON object comes back as a label."""
    with fake_server() as server:
        ask = labeller(server.url, tmp_path, seeds=(3, 8), temperature=0.5)
        words = [f"word{number}" for number in range(20)]
        assert ask(WORDS, seed=8) == DAYS and ask.seeds == (3, 8) and ask.name == "chat:m"
        assert ask(words).confidence == pytest.approx(9 / 15)
    sent = server.asked[1]
    assert sent["model"] == "m" and sent["seed"] == 3 and server.asked[0]["seed"] == 8 and sent["temperature"] == 0.5
    assert sent["messages"][1]["content"] == "Words: " + ", ".join(words[:15])
    assert all(task in sent["messages"][0]["content"] for task in ("daily", "translation", "phonology", "JSON"))
    assert server.keys == [f"Bearer {KEY}"] * 2


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


def test_the_estimate_counts_before_anything_is_asked(tmp_path: Path) -> None:
    """Two lists, one given twice, and five seeds: ten requests; about a token for four letters; no request is made."""
    with fake_server() as server:
        ask = labeller(server.url, tmp_path, seeds=(0, 1, 2, 3, 4))
        cost = ask.estimate([WORDS, WORDS[1:], WORDS])
        assert not server.asked and (cost.calls, cost.cached) == (10, 5)
        ask(WORDS, seed=2)
        cost = ask.estimate([WORDS])
        letters = sum(len(message["content"]) for message in server.asked[0]["messages"])
        assert (cost.calls, cost.cached) == (4, 1) and cost.tokens_out == 240
        assert cost.tokens_in == pytest.approx(4 * letters / 4, rel=0.05)
        assert str(cost).startswith("4 requests (1 more are in the cache), about ")
        for seed in ask.seeds:
            ask(WORDS, seed=seed)
        assert str(ask.estimate([WORDS])) == "no requests: all 5 answers are in the cache"


ANSWERS = [
    ('{"agree": 8, "description": "days", "tasks": [], "level": "semantics"}', Label("days", (), "semantics", 0.8)),
    (
        '```json\n{"agree": 5, "description": "x", "tasks": ["coding", "daily"], "level": "syntax"}\n```\n',
        Label("x", ("daily", "coding"), "syntax", 0.5),
    ),
    ('{"agree": 4, "description": "x", "tasks": [], "level": "syntax"}', Label.unknown),  # fewer than half
    ('{"agree": 9, "description": "Cannot tell.", "tasks": [], "level": ""}', Label.unknown),
    ('{"agree": 9, "description": "a\\u001b[31mb", "tasks": [], "level": "syntax"}',
     Label("a\\x1b[31mb", (), "syntax", 0.9)),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "label"), ANSWERS)
def test_answers_as_asked_for_are_labels(answer: str, label: Label) -> None:
    assert parse(answer, 10) == label


BROKEN = [
    "",
    "Sure! The words are days of the week.",
    "Here it is: " + GOOD,
    GOOD[:-5],
    "[]",
    "null",
    '{"description": "days", "tasks": ["daily"], "level": "semantics"}',
    GOOD[:-1] + ', "note": "x"}',
    GOOD.replace("9", '"nine"'),
    GOOD.replace("9", "true"),
    GOOD.replace("9", "99"),
    GOOD.replace('["daily"]', '"daily"'),
    GOOD.replace('"daily"', '"cooking"'),
    GOOD.replace('"daily"', "[1]"),
    GOOD.replace("semantics", "pragmatics"),
    GOOD.replace('"semantics"', "[]"),
    GOOD.replace("days of the week", " "),
    GOOD.replace("days of the week", "x" * 300),
    "[" * 100_000,
]


@pytest.mark.parametrize("answer", BROKEN, ids=range(len(BROKEN)))
def test_an_answer_that_is_not_as_asked_for_is_none(answer: str) -> None:
    assert parse(answer, 15) is None


def test_what_cannot_be_read_is_cannot_tell_and_counted(tmp_path: Path) -> None:
    """Also when it comes from the cache, as it is the same answer; and "cannot tell" as such is no such case."""
    told = '{"agree": 1, "description": "cannot tell", "tasks": [], "level": ""}'
    empty = Answer(raw='{"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": []}')
    with fake_server(Answer("no JSON"), Answer(""), Answer(None), empty, Answer(told), Answer(GOOD)) as server:
        ask = labeller(server.url, tmp_path, seeds=range(6))
        labels = [ask(WORDS, seed=seed) for seed in range(6)]
        assert labels == [Label.unknown] * 5 + [DAYS] and ask.unparsed == 4
        assert ask(WORDS, seed=0) == Label.unknown and ask.unparsed == 5 and len(server.asked) == 6


@pytest.mark.parametrize(
    "bad",
    [
        refusal(429, "Rate limit reached"),
        refusal(500, "oops"),
        refusal(503, "overloaded"),
        Answer(delay=0.6),
        Answer(cut=True),
    ],
    ids=["429", "500", "503", "timeout", "cut"],
)
def test_what_passes_is_tried_again(bad: Answer, tmp_path: Path) -> None:
    with fake_server(bad, bad, Answer()) as server:
        assert labeller(server.url, tmp_path, timeout=0.3)(WORDS) == DAYS
        assert len(server.asked) == 3


def test_pauses_double_or_are_what_the_server_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("itlens.annotate.chat_server.time.sleep", pauses.append)
    wishes = [refusal(500, "x"), refusal(500, "x"), refusal(429, "x", Retry_After="7"), refusal(503, "x"), Answer()]
    with fake_server(*wishes) as server:
        labeller(server.url, tmp_path, pause=1.0, tries=5)(WORDS)
    pauses = [pause for pause in pauses if pause]  # the fake server's own waits, of 0 seconds, are seen too
    assert pauses == pytest.approx([1, 2, 7, 8], rel=0.2) and pauses[2] == 7


REFUSALS = [
    (refusal(401, f"Incorrect API key provided: {KEY}."), 1, "refuses the key in OPENAI_API_KEY"),
    (refusal(403, "no"), 1, "refuses the key in OPENAI_API_KEY"),
    (refusal(404, "The model `m` does not exist"), 1, "knows no model 'm', or base_url is wrong"),
    (
        refusal(400, f"bad request with {KEY}"),
        1,
        r"answers with an error \(400, not tried again\) to a request for \'m\': .*\[key\]",
    ),
    (refusal(429, "You have no credit", code="insufficient_quota"), 1, "refuses more requests"),
    (refusal(429, "Slow down"), 3, r"refuses more requests \(429, after 3 tries\)"),
    (refusal(502, "bad gateway"), 3, r"answers with an error \(502, after 3 tries\)"),
    (Answer(delay=0.5), 3, r"did not answer in time \(after 3 tries\): give a longer timeout="),
    (Answer(raw="<html>hello</html>", headers={"Content-Type": "text/html"}), 1, "does not answer as an OpenAI-comp"),
    (Answer(raw="{broken", headers={"Content-Type": "application/json"}), 1, "does not answer as an OpenAI-comp"),
    (Answer(raw='{"something": "else"}'), 1, "does not answer as an OpenAI-comp"),
]


@pytest.mark.parametrize(("bad", "requests", "message"), REFUSALS, ids=[row[2][:40] for row in REFUSALS])
def test_what_does_not_pass_is_one_sentence_without_the_key(
    bad: Answer, requests: int, message: str, tmp_path: Path
) -> None:
    with fake_server(bad) as server:
        with pytest.raises(AnnotateError, match=message) as caught:
            labeller(server.url, tmp_path, timeout=0.2 if bad.delay else 5)(WORDS)
        assert len(server.asked) == requests
    assert KEY not in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.__cause__ is None or KEY not in str(caught.value.__cause__)
    assert not list((tmp_path / "cache").rglob("*.json"))  # an error is no answer


def test_a_server_that_is_not_there_is_named_at_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    begun = time.monotonic()
    with pytest.raises(AnnotateError, match=r"cannot be reached .*is the server running\?"):
        labeller(url, tmp_path, pause=30)(WORDS)
    assert time.monotonic() - begun < 10


def test_without_a_key_only_a_server_on_this_machine_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(AnnotateError, match=r"no key for https://api.openai.com/v1: set .* OPENAI_API_KEY"):
        chat("m")
    with pytest.raises(AnnotateError, match=r"no key for https://models.example.org/v1"):
        chat("m", base_url="https://user:word@models.example.org/v1")
    with fake_server(Answer(), refusal(401, "who are you")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
        ask = chat("m", cache=tmp_path / "cache")
        assert ask(WORDS) == DAYS and repr(ask) == f"chat('m', base_url='{server.url}', seeds=(0, 1, 2, 3, 4))"
        with pytest.raises(AnnotateError, match="wants a key: set OPENAI_API_KEY"):
            ask(WORDS[1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": " "}, "expected the name by which the server knows the model"),
        ({"base_url": "localhost:8000"}, "base_url is no address"),
        ({"base_url": "ftp://x/v1"}, "base_url is no address"),
        ({"seeds": ()}, "expected different whole numbers from 0 on"),
        ({"seeds": (1, 1)}, "expected different whole numbers from 0 on"),
        ({"seeds": (-1,)}, "expected different whole numbers from 0 on"),
        ({"seeds": 5}, "expected different whole numbers from 0 on"),
        ({"tries": 0}, "tries=0; expected a whole number of at least 1"),
        ({"workers": 1.5}, "workers=1.5; expected a whole number"),
        ({"timeout": 0}, "timeout=0; expected a number of at least 0.01"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"cache": __file__}, "is a file; give a folder"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AnnotateError, match=message):
        chat(**({"model": "m", "base_url": "http://localhost:1/v1"} | options))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(AnnotateError, match=r"needs the package openai: pip install 'itlens\[annotate\]'"):
        chat("m", base_url="http://localhost:1/v1")


def test_a_cache_of_another_version_or_of_something_else_is_named(tmp_path: Path) -> None:
    with fake_server() as server:
        ask = labeller(server.url, tmp_path)
        ask(WORDS)
        (file,) = (tmp_path / "cache").rglob("*.json")
        content = json.loads(file.read_text())
        for change, message in (
            ({"version": 2}, "a cached answer of version 2, and this itlens reads version 1"),
            ({"asked": {}}, "does not hold the answer that its name says"),
            ({"answer": 5}, "does not hold the answer that its name says"),
        ):
            file.write_text(json.dumps(content | change))
            with pytest.raises(AnnotateError, match=message):
                ask(WORDS)
        assert len(server.asked) == 1


_ENDLESS = """
import sys
from itlens.annotate.chat_cache import ChatCache
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
