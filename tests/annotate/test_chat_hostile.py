"""A server that is broken or hostile: an end to each request, in time and size, and nothing of the key kept."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from itlens import AnnotateError
from itlens.annotate import Label
from tests.annotate.chat_server import DAYS, GOOD, KEY, WORDS, Answer, fake_server, labeller, refusal

pytest.importorskip("openai", reason="the annotate extra is not installed")

from itlens.annotate import chat_client

pytestmark = pytest.mark.usefixtures("chat_environment")


@contextmanager
def dripping(head: bytes) -> Iterator[str]:
    """A server that sends `head`, and then a byte every twentieth of a second."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    try:
                        peer.sendall(head)
                        while not ended.wait(0.05):
                            peer.sendall(b" ")
                    except OSError:
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        ended.set()


HEADS = {
    "body": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n",
    "headers": b"HTTP/1.1 200 OK\r\nX-Slow: ",
    "error": b"HTTP/1.1 500 Bad\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_server_that_sends_a_byte_now_and_then_is_given_up_in_time(head: bytes, tmp_path: Path) -> None:
    begun = time.monotonic()
    with dripping(head) as url, pytest.raises(AnnotateError, match=r"did not answer in time \(not tried again\)"):
        labeller(url, tmp_path, timeout=0.5, tries=1)(WORDS)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("status", [200, 500])
def test_a_body_has_a_limit(status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_client, "MOST", 10_000)
    with fake_server(Answer(raw=" " * 10_001, status=status)) as server:
        with pytest.raises(AnnotateError, match="not read: it has more than 10,000 bytes"):
            labeller(server.url, tmp_path)(WORDS)
        assert len(server.asked) == 1


def test_a_packed_body_is_not_unpacked(tmp_path: Path) -> None:
    with fake_server(Answer(headers={"Content-Encoding": "gzip"})) as server:
        ask = labeller(server.url, tmp_path)
        with pytest.raises(AnnotateError, match="not read: it is packed"):
            ask(WORDS)


def message(content: Any) -> str:
    return json.dumps({"choices": [{"message": {"content": content}}]})


BODIES = {
    "list": message([{"type": "text", "text": GOOD}]),
    "number": message(5),
    "dict": message({"text": GOOD}),
    "true": message(True),
    "choice": '{"choices": [5]}',
    "choices": '{"choices": {"0": {}}}',
    "message": '{"choices": [{"message": [1]}]}',
    "no message": '{"choices": [{}]}',
    "array": "[1, 2]",
    "deep": "[" * 100_000,
    "deep within": '{"choices": [{"message": {"content": ' + "[" * 100_000,
    "bytes": "\udcff",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_of_another_form_is_one_sentence_and_is_not_kept(body: str, tmp_path: Path) -> None:
    answer = Answer(raw=body)
    answer.body = lambda: body.encode("utf-8", "surrogateescape")  # type: ignore[method-assign]
    with fake_server(answer, Answer()) as server:
        ask = labeller(server.url, tmp_path)
        with pytest.raises(AnnotateError, match="does not answer as an OpenAI-compatible server does"):
            ask(WORDS)
        assert not list((tmp_path / "cache").rglob("*.json"))
        assert ask(WORDS) == DAYS, "later runs go on"


@pytest.mark.parametrize("escaped", [False, True])
def test_a_key_that_a_server_echoes_is_neither_kept_nor_shown(escaped: bool, tmp_path: Path) -> None:
    key = "".join(f"\\u{ord(c):04x}" for c in KEY) if escaped else KEY
    with fake_server(Answer(GOOD.replace("days", key))) as server:
        ask = labeller(server.url, tmp_path)
        labels = [ask(WORDS), ask(WORDS)]  # the second one from the cache
    assert labels == [Label("[key] of the week", ("daily",), "semantics", 1.0)] * 2
    assert all(KEY not in file.read_text() for file in (tmp_path / "cache").rglob("*.json"))


def test_a_key_of_a_few_letters_does_not_harm_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "e")
    with fake_server() as server:
        assert labeller(server.url, tmp_path)(WORDS) == DAYS


WISHES = {
    **dict.fromkeys(("²", "-5", "soon", "nan", "1e400", "", "Wed, 99 Foo 2020"), 1.0),
    **{"1.5": 1.5, "99999": 60.0, "9" * 500: 60.0, "Wed, 21 Oct 2015 07:28:00 GMT": 0.0},
}


@pytest.mark.parametrize(("wish", "pause"), WISHES.items(), ids=range(len(WISHES)))
def test_any_retry_after_is_a_pause(wish: str, pause: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from itlens.annotate import chat_server

    response = type("Response", (), {"headers": {"retry-after": wish}})
    monkeypatch.setattr("itlens.annotate.chat_server.random.uniform", lambda low, high: 1.0)
    assert chat_server._wait(type("Error", (), {"response": response}), 1.0) == pause


def test_a_date_to_try_again_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("itlens.annotate.chat_server.time.sleep", pauses.append)
    later = formatdate(time.time() + 30, usegmt=True)
    with fake_server(refusal(503, "x", Retry_After=later), Answer()) as server:
        assert labeller(server.url, tmp_path)(WORDS) == DAYS
    assert any(25 < pause < 31 for pause in pauses)
