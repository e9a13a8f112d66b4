"""The chat labeller against a real server: `transformers serve` on loopback, with a tiny model made on the spot.

The model is random, so its answers are noise: what is tested is the protocol, and that noise is "cannot tell".
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from itlens import AnnotateError
from itlens.annotate import Label, chat
from tests.tiny import tiny_folder, tiny_tokenizer

pytest.importorskip("openai", reason="the annotate extra is not installed")
pytest.importorskip("fastapi", reason="the web server of transformers serve is not installed (fastapi, uvicorn)")
pytest.importorskip("uvicorn", reason="the web server of transformers serve is not installed (fastapi, uvicorn)")

_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
_PATIENCE = 120  # seconds until the server must answer
WORDS = ["Monday", "Tuesday", "Friday", "Sunday"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(base_url, model) of a server that is stopped in the end."""
    folder = tmp_path_factory.mktemp("served")
    model = tiny_folder(
        folder / "tiny", "llama", tokenizer=tiny_tokenizer(chat_template=_TEMPLATE), max_position_embeddings=4096
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", server, folder / "log")
            yield f"http://127.0.0.1:{port}/v1", str(model)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and server.poll() is None:
        try:
            with opener.open(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail("transformers serve did not start: " + log.read_text(errors="replace")[-2000:])


def test_a_real_server_answers_and_noise_is_cannot_tell(
    served: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seeds, two answers, both kept; the same again from the cache without the server's help."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    url, model = served
    ask = chat(model, base_url=url, seeds=(0, 1), cache=tmp_path, timeout=120)
    assert ask.estimate([WORDS]).calls == 2
    assert [ask(WORDS, seed=seed) for seed in ask.seeds] == [Label.unknown] * 2 and ask.unparsed == 2
    assert ask.estimate([WORDS]).calls == 0 and len(list(tmp_path.rglob("*.json"))) == 2
    begun = time.monotonic()
    assert ask(WORDS, seed=1) == Label.unknown and time.monotonic() - begun < 1


def test_an_unknown_model_is_one_sentence(
    served: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-4711")
    with pytest.raises(AnnotateError) as caught:
        chat("nobody/no-such-model", base_url=served[0], cache=tmp_path, tries=1)(WORDS)
    assert "no-such-model" in str(caught.value) and "4711" not in str(caught.value) and "\n" not in str(caught.value)
