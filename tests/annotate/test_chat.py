"""The chat labeller against a fake server with recorded answers: good, bad, slow, refused."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from itlens import AnnotateError
from itlens.annotate import Label, chat
from itlens.annotate.chat_prompt import parse
from tests.annotate.chat_server import DAYS, GOOD, KEY, WORDS, Answer, fake_server, labeller, refusal

pytest.importorskip("openai", reason="the annotate extra is not installed")

pytestmark = pytest.mark.usefixtures("chat_environment")


def test_what_is_asked_and_what_comes_back(tmp_path: Path) -> None:
    """The 15 words, the seed and the temperature go out with the key; the JSON object comes back as a label."""
    with fake_server() as server:
        ask = labeller(server.url, tmp_path, seeds=(3, 8), temperature=0.5)
        words = [f"word{number}" for number in range(20)]
        assert ask(WORDS, seed=8) == DAYS and ask.seeds == (3, 8) and ask.name == "chat:m"
        assert ask(words).confidence == pytest.approx(9 / 15)
        assert ask.identity == "chat:m at 127.0.0.1, temperature 0.5", "what its labels depend on, without a password"
    sent = server.asked[1]
    assert sent["model"] == "m" and sent["seed"] == 3 and server.asked[0]["seed"] == 8 and sent["temperature"] == 0.5
    assert sent["messages"][1]["content"] == "Words: " + ", ".join(words[:15])
    assert all(task in sent["messages"][0]["content"] for task in ("daily", "translation", "phonology", "JSON"))
    assert server.keys == [f"Bearer {KEY}"] * 2


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": " "}, "expected the name by which the server knows the model"),
        ({"base_url": "localhost:8000"}, "base_url is no address"),
        ({"base_url": "ftp://x/v1"}, "base_url is no address"),
        ({"base_url": "http://[x/v1"}, "base_url is no address"),
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
