"""Requests with an end: a deadline over the whole answer, a limit on its size, and one check of what it holds.

The HTTP client's timeouts are per read: a server that sends a byte now and then would be waited for without end. So a
request is sent in a thread of its own, and given up when its time is over. Loaded by `ChatServer`, as it needs openai;
the HTTP library is the one that openai is built on (httpx, in its newest versions httpx2).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from threading import Thread
from typing import Any

import openai

_CLIENT = next(base for base in openai.DefaultHttpxClient.__mro__ if base.__name__ == "Client")
_http: Any = import_module(_CLIENT.__module__.partition(".")[0])

MOST = 1 << 22  # bytes of an answer, of which a label takes some hundred


class AnswerTooLarge(Exception):
    """A body of more than `MOST` bytes, or one that is packed, so that its size is not known."""


class BoundedClient(openai.DefaultHttpxClient):
    """An HTTP client whose requests end after `seconds`, body and all, and whose bodies have at most `MOST` bytes."""

    def __init__(self, seconds: float) -> None:
        super().__init__(timeout=seconds, headers={"Accept-Encoding": "identity"})
        self._seconds = seconds

    def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """Send a request and read the whole answer. Raises the HTTP library's ReadTimeout, and AnswerTooLarge."""
        request.headers["Accept-Encoding"] = "identity"
        plain = super().send

        def read() -> Any:
            response = plain(request, stream=True, **options)
            try:
                return _whole(response, request)
            finally:
                response.close()

        return _in_time(read, self._seconds, request)


def _whole(response: Any, request: Any) -> Any:
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise AnswerTooLarge("it is packed, which was not asked for")
    body = bytearray()
    for part in response.iter_raw():
        body += part
        if len(body) > MOST:
            raise AnswerTooLarge(f"it has more than {MOST:,} bytes")
    return _http.Response(
        response.status_code, headers=response.headers, content=bytes(body), request=request,
        extensions={"http_version": response.extensions.get("http_version", b"HTTP/1.1")},
    )  # fmt: skip


def _in_time(call: Callable[[], Any], seconds: float, request: Any) -> Any:
    """Return what a call returns, or raise what it raises; ReadTimeout when it is not done in time."""
    done: list[Any] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(call())
        except Exception as error:  # raised again below, in the thread that waits
            failed.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise _http.ReadTimeout("the answer was not complete in time", request=request)
    return done[0]


def content_of(body: bytes) -> str | None:
    """Return the text of the first choice in an answer, "" where there is none; None for any other body."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list):
        return None
    if not choices:
        return ""
    message = choices[0].get("message") if isinstance(choices[0], dict) else None
    if not isinstance(message, dict):
        return None
    content = message.get("content")
    return content if isinstance(content, str) else "" if content is None else None
