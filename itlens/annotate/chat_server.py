"""Requests to an OpenAI-compatible server, and their answers on disk, so that nothing is requested twice.

A request is tried again where that can help, and ends in one sentence where it cannot. The key comes from the
environment (OPENAI_API_KEY) and goes nowhere but into the request: it is no argument, is not kept on disk, and is taken
out of what a server answers before that is shown.

The cache holds one JSON file per answer. Its name is a hash of the whole request: server, model, messages, seed,
temperature, longest answer; no key is in it. Files are written atomically: a program that is killed leaves whole
answers or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

from itlens.errors import AnnotateError, StoreError
from itlens.files import read_json, visible, write_json

VERSION = 1  # of cached answers
KEY, BASE_URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"
_LONGEST_PAUSE = 60.0  # seconds
_LOCAL = ("localhost", "127.0.0.1", "::1")
_SECRET = 8  # characters from which on a key is taken out of answers
_SHOWN = 200  # characters of a server's message


class ChatCache:
    """Answers in a folder, which need not exist yet."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise AnnotateError(f"cache={str(folder)!r} is a file; give a folder.")

    def get(self, request: dict[str, Any]) -> str | None:
        """Return the answer to a request; None where there is none yet, or a file that holds no answer to it: it is
        asked for again.

        Raises AnnotateError for an answer of another version.
        """
        path = self.path(request)
        try:
            content = read_json(path) if path.exists() else None
        except StoreError:  # a broken file
            return None
        if not isinstance(content, dict) or content.get("asked") != request:
            return None
        if content.get("version") != VERSION:
            raise AnnotateError(
                f"{path} is a cached answer of version {str(content.get('version'))[:20]}, and this itlens reads "
                f"version {VERSION}; give another folder as cache=, or delete this one."
            )
        answer = content.get("answer")
        return answer if isinstance(answer, str) else None

    def put(self, request: dict[str, Any], answer: str) -> None:
        """Keep an answer. Raises StoreError where it cannot be written."""
        write_json(self.path(request), {"version": VERSION, "asked": request, "answer": answer})

    def path(self, request: dict[str, Any]) -> Path:
        """Return where the answer is, or would be."""
        text = json.dumps(request, sort_keys=True)
        name = hashlib.sha256(text.encode("ascii")).hexdigest()
        return self.folder / name[:2] / f"{name}.json"


class ChatServer:
    """A server and a model on it. Nothing is sent before `ask`."""

    def __init__(self, model: str, base_url: str | None, *, timeout: float, tries: int, pause: float) -> None:
        self.model, self._tries, self._pause = model, tries, pause
        url = (base_url or os.environ.get(BASE_URL, "").strip() or OPENAI).rstrip("/")
        parts = _split(url)
        self.url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self._key = _key()
        self._secrets = [secret for secret in (self._key, parts.password, parts.username) if secret]
        if not self._key and parts.hostname not in _LOCAL:
            raise AnnotateError(
                f"There is no key for {self.url}: set the environment variable {KEY}, or use a server on this machine "
                "(base_url='http://localhost:8000/v1')."
            )
        openai = _openai()
        from itlens.annotate.chat_client import BoundedClient

        self._client = openai.OpenAI(
            api_key=self._key or "none",
            base_url=url,
            timeout=timeout,
            max_retries=0,
            http_client=BoundedClient(timeout),
        )

    def ask(self, request: dict[str, Any]) -> str:
        """Return the text that the model answers, without the key; "" where it answers none. Raises AnnotateError."""
        openai = _openai()
        from itlens.annotate.chat_client import AnswerTooLarge, content_of

        for number in range(self._tries):
            try:
                answer = self._client.chat.completions.with_raw_response.create(**request)
            except (openai.APIError, AnswerTooLarge) as error:
                if number + 1 == self._tries or not _passes(openai, error):
                    self._fail(openai, error, number + 1)
                time.sleep(_wait(error, self._pause * 2**number))
                continue
            text = content_of(answer.content)
            if text is None:
                raise AnnotateError(
                    f"{self.url} does not answer as an OpenAI-compatible server does; base_url ends in /v1."
                )
            return self.scrub(text)
        raise AssertionError("unreachable")

    def scrub(self, text: str) -> str:
        """Return a text of the server without the key, also where it is spelled out in an answer.

        Keys of a few letters (servers on this machine take any) are left: they are in many words.
        """
        for secret in self._secrets:
            text = text.replace(secret, "[key]") if len(secret) >= _SECRET else text
        return text

    def _fail(self, openai: Any, error: Any, tries: int) -> NoReturn:
        """One sentence on why there is no answer, without the key, and without the client's own exception."""
        said, times = self._clean(_said(error)), f"after {tries} tries" if tries > 1 else "not tried again"
        if (large := _too_large(error)) is not None:
            why = f"{self.url} answers a request for {self.model!r} with a body that is not read: {large}"
        elif isinstance(error, openai.APITimeoutError):
            why = f"{self.url} did not answer in time ({times}): give a longer timeout="
        elif isinstance(error, openai.APIConnectionError):
            why = f"{self.url} cannot be reached ({self._clean(str(error.__cause__ or error))}): is the server running?"
        elif isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            why = f"{self.url} refuses the key in {KEY}" if self._key else f"{self.url} wants a key: set {KEY}"
        elif isinstance(error, openai.NotFoundError):
            why = f"{self.url} knows no model {self.model!r}, or base_url is wrong (it ends in /v1): {said}"
        elif isinstance(error, openai.RateLimitError):
            why = f"{self.url} refuses more requests (429, {times}): wait, then run again: {said}"
        else:
            status = getattr(error, "status_code", "no status")
            why = f"{self.url} answers with an error ({status}, {times}) to a request for {self.model!r}: {said}"
        raise AnnotateError(why.rstrip(".") + ("" if why.endswith("?") else ".")) from None

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        text = " ".join(visible(text).split())
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _said(error: Any) -> str:
    """What the server says in the body, in one of the forms that servers use; else what the client says."""
    body = getattr(error, "body", None)
    for key in ("message", "detail", "error"):
        if isinstance(body, dict) and body.get(key):
            return str(body[key])
    response = getattr(error, "response", None)
    return response.text if response is not None and response.text.strip() else str(error)


def _openai() -> Any:
    try:
        import openai
    except ImportError:
        raise AnnotateError(
            "The chat labeller needs the package openai: pip install 'itlens[annotate]'; labeller='lexicon' needs "
            "nothing."
        ) from None
    return openai


def _key() -> str:
    """The key, "" where there is none. One that no header can carry is refused here: the client would quote it."""
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise AnnotateError(f"The key in {KEY} holds characters that no key has (a line end, an accent): set it again.")
    return key


def _split(url: str) -> Any:
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket that is not closed
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AnnotateError("base_url is no address of a server; expected something like 'http://localhost:8000/v1'.")
    return parts


def _too_large(error: Any) -> Exception | None:
    """Return what the client says of a body without end; openai hands it on, or wraps it in its own error."""
    from itlens.annotate.chat_client import AnswerTooLarge

    return next((each for each in (error, error.__cause__) if isinstance(each, AnswerTooLarge)), None)


def _passes(openai: Any, error: Any) -> bool:
    """Whether it may go better the next time: 408, 409, 429 (but not an empty account), 5xx, and timeouts."""
    if isinstance(error, openai.APITimeoutError):
        return True
    if _too_large(error) is not None:
        return False
    if isinstance(error, openai.APIConnectionError):
        return type(error.__cause__).__name__ != "ConnectError"  # nobody listens there
    if getattr(error, "code", None) == "insufficient_quota":
        return False
    status = getattr(error, "status_code", 0)
    return status in (408, 409, 429) or status >= 500


def _wait(error: Any, pause: float) -> float:
    """Seconds: what the server asks for (Retry-After), else the pause, spread a little so that threads part."""
    response = getattr(error, "response", None)
    wished = response.headers.get("retry-after", "") if response is not None else ""
    seconds = _seconds(wished.strip())
    return min(pause * random.uniform(0.8, 1.2) if seconds is None else seconds, _LONGEST_PAUSE)


def _seconds(wished: str) -> float | None:
    """Read a Retry-After: seconds, or a date; None for anything else."""
    try:
        if wished.isascii() and wished.replace(".", "", 1).isdigit():
            return float(wished)
        return max(0.0, parsedate_to_datetime(wished).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
