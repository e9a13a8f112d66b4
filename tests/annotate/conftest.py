"""The environment that a chat labeller finds in tests: a key, no proxy, no server by default, a cache of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.annotate.chat_server import KEY


@pytest.fixture
def chat_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
