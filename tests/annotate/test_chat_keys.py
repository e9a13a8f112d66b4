"""The chat labeller and its key: where it comes from, who gets it, and that nobody reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from itlens import AnnotateError
from itlens.annotate import chat
from tests.annotate.chat_server import DAYS, WORDS, Answer, fake_server, labeller, refusal

pytest.importorskip("openai", reason="the annotate extra is not installed")

pytestmark = pytest.mark.usefixtures("chat_environment")


def test_without_a_key_only_a_server_on_this_machine_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(AnnotateError, match=r"no key for https://api.openai.com/v1: set .* OPENAI_API_KEY"):
        chat("m")
    with pytest.raises(AnnotateError, match=r"no key for https://models.example.org/v1"):
        chat("m", base_url="https://models.example.org/v1")
    with fake_server(Answer(), refusal(401, "who are you")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
        ask = chat("m", cache=tmp_path / "cache")
        assert ask(WORDS) == DAYS and repr(ask) == f"chat('m', base_url='{server.url}', seeds=(0, 1, 2, 3, 4))"
        with pytest.raises(AnnotateError, match="wants a key: set OPENAI_API_KEY"):
            ask(WORDS[1:])


@pytest.mark.parametrize(
    "key", ["sk-secret\nsk-4711", "sk-sécret", "sk-\x7f4711"], ids=["two-lines", "accent", "delete"]
)
def test_a_key_that_cannot_be_sent_is_refused_unseen(key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The HTTP client would quote it, escaped, in an error of its own."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with fake_server() as server:
        with pytest.raises(AnnotateError, match="The key in OPENAI_API_KEY holds characters that no key has") as caught:
            labeller(server.url, tmp_path)(WORDS)
        assert not server.asked
    assert caught.value.__cause__ is None and not any(part in str(caught.value) for part in ("4711", "cret"))


def test_a_password_in_the_address_is_nowhere_to_be_seen(tmp_path: Path) -> None:
    with fake_server(Answer(), refusal(400, "no service for user:pass4711")) as server:
        ask = labeller(server.url.replace("//", "//user:pass4711@"), tmp_path)
        assert ask(WORDS) == DAYS
        with pytest.raises(AnnotateError, match=r"\[key\]") as caught:
            ask(WORDS[1:])
    (file,) = (tmp_path / "cache").rglob("*.json")
    assert not any("4711" in text for text in (str(caught.value), repr(ask), file.read_text()))
