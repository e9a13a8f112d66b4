"""The chat labeller against a real server: `transformers serve` on loopback, with a tiny model made on the spot.

The model is random, so its answers are noise: what is tested is the protocol, and that noise is "cannot tell".
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from itlens import AnnotateError
from itlens.annotate import Label, chat
from tests.annotate.serve import serving
from tests.tiny import tiny_folder, tiny_tokenizer

pytest.importorskip("openai", reason="the annotate extra is not installed")
pytest.importorskip("fastapi", reason="the web server of transformers serve is not installed (fastapi, uvicorn)")
pytest.importorskip("uvicorn", reason="the web server of transformers serve is not installed (fastapi, uvicorn)")

_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
WORDS = ["Monday", "Tuesday", "Friday", "Sunday"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(base_url, model) of a server that is stopped in the end."""
    folder = tmp_path_factory.mktemp("served")
    model = tiny_folder(
        folder / "tiny", "llama", tokenizer=tiny_tokenizer(chat_template=_TEMPLATE), max_position_embeddings=4096
    )
    with serving(model, folder / "log") as url:
        yield url, str(model)


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
