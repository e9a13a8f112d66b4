"""A fake OpenAI-compatible server on loopback that plays recorded answers, one a request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from itlens.annotate import Label, chat

KEY = "sk-secret-4711"
WORDS = ["Monday", "Tuesday", "Friday", "Sunday", "tax", "lamp", "weekend", "Saturday", "Thursday"]
DAYS = Label("days of the week", ("daily",), "semantics", 1.0)
GOOD = '{"agree": 9, "description": "days of the week", "tasks": ["daily"], "level": "semantics"}'


def labeller(url: str, tmp_path: Path, **options: Any) -> Any:
    """A chat labeller on this server that keeps its answers in tmp_path/cache and is not patient."""
    return chat("m", **({"base_url": url, "cache": tmp_path / "cache", "pause": 0.01, "tries": 3} | options))


@dataclass
class Answer:
    """One recorded answer. body: what stands in the message's content, or the whole body where `raw` is set."""

    content: str | None = GOOD
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: str | None = None
    delay: float = 0.0
    cut: bool = False  # the connection ends in the middle of the body

    def body(self) -> bytes:
        if self.raw is not None:
            return self.raw.encode()
        message = {"role": "assistant", "content": self.content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        return json.dumps(whole).encode()


def refusal(status: int, message: str, *, code: str = "", **headers: str) -> Answer:
    """An error as such servers word it."""
    error = json.dumps({"error": {"message": message, "type": "error", "code": code}})
    return Answer(status=status, raw=error, headers=headers)


class FakeServer:
    """Plays its answers in turn and the last one ever after; keeps what it was sent."""

    def __init__(self, url: str, answers: list[Answer]) -> None:
        self.url, self.answers = url, answers
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.lock = threading.Lock()

    def next_answer(self, body: dict[str, Any], key: str) -> Answer:
        with self.lock:
            self.asked.append(body)
            self.keys.append(key)
            return self.answers[min(len(self.asked), len(self.answers)) - 1]


@contextmanager
def fake_server(*answers: Answer) -> Iterator[FakeServer]:
    """A running server; its `url` is a base_url."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = fake.next_answer(body, self.headers.get("Authorization", ""))
            time.sleep(answer.delay)
            data = answer.body()
            try:
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if answer.cut else data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client has given up, which is what a timeout is
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = FakeServer(f"http://127.0.0.1:{server.server_port}/v1", list(answers) or [Answer()])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
