"""Commands and studies of weights alone take them from files: no model is loaded, and the numbers are the same."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import itlens
from itlens.models import load_model, load_pair
from itlens.weights import weights_of
from itlens.weights.spilled import SpilledWeights, spilled
from itlens.weights.stored import streamed
from tests.study.studies import small, without_page
from tests.tiny import tiny_folder
from tests.weights.adapters import ADAPTERS, adapter, differences


def refuse(*args: Any, **options: Any) -> Any:
    raise AssertionError("a model was loaded")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("pair")
    return tiny_folder(place / "base", "llama", seed=1), tiny_folder(place / "tuned", "llama", seed=2)


def study(pair: tuple[Any, Any], out: Path) -> itlens.Comparison:
    return itlens.compare(*pair, probes=["attention", "weight_delta"], out=out, **small())


def test_a_study_of_weights_loads_no_model_and_has_its_numbers(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_page(monkeypatch)
    loaded = study((load_model(folders[0]), load_model(folders[1])), tmp_path / "models")
    monkeypatch.setattr("itlens.models.load.load_checkpoint", refuse)
    streaming = study(folders, tmp_path / "files")
    for name, table in (("attention", "word_pairs"), ("weight_delta", "weight_delta")):
        own, other = streaming.results[name][table], loaded.results[name][table]
        assert own.drop_attrs().equals(other.drop_attrs()), name
        assert streaming.verdicts[name].sentence == loaded.verdicts[name].sentence
    own, other = (each.results["attention"]["written_changes"] for each in (streaming, loaded))
    assert {"kept", "gained", "lost"} == set(own["change"])
    pd.testing.assert_frame_equal(own, other, check_exact=True)


def test_a_base_with_an_adapter_loads_no_model_either(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_page(monkeypatch)
    own = adapter(tmp_path / "adapter", "llama", **ADAPTERS["lora"])
    asked: dict[str, Any] = {"adapter": own, "probes": ["weight_delta", "mlp", "task_words"], **small()}
    monkeypatch.setattr("itlens.models.load.load_checkpoint", refuse)
    streaming = itlens.compare(folders[0], out=tmp_path / "run", **asked)
    assert not streaming.failures
    changed = streaming.results["weight_delta"]["weight_delta"]["relative"].sel(layer=0)
    moved = [str(name) for name in changed["matrix"].values[changed.values > 0]]
    assert moved == ["W_Q", "W_V", "W_O", "W_gate", "W_out"], "the modules that the adapter selects, and no others"


@pytest.mark.parametrize(
    "line",
    [
        ["words", itlens.demo.tuned_path(), "--layer", "1", "--head", "0", "--top-k", "10", "--rows", "3"],
        ["concepts", itlens.demo.tuned_path(), "--layer", "1", "--components", "3", "--words", "5"],
    ],
    ids=["words", "concepts"],
)
def test_commands_load_no_model(line: list[Any], monkeypatch: pytest.MonkeyPatch, commands: Any) -> None:
    monkeypatch.setattr("itlens.models.load.load_checkpoint", refuse)
    done = commands.run(*line)
    assert done.code == 0, done.err
    assert "demo/tuned" in done.out


def test_what_cannot_be_streamed_is_loaded(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model", "llama")
    assert streamed(folder) is not None
    assert streamed(folder, trust_remote_code=True) is None, "code that comes with a model may compute anything"
    assert streamed(load_model(folder)) is None
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert streamed(folder) is None


def test_a_pair_that_cannot_be_streamed_is_in_memory_one_after_the_other(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for architectures without a map of names: the base is put on the disk before the tuned model is loaded."""
    without_page(monkeypatch)
    streaming = study(folders, tmp_path / "files")
    monkeypatch.setattr("itlens.weights.stored.can_be_streamed", lambda name, **options: False)
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most: list[int] = []
    real = itlens.models.pair.load_model

    def counted(**arguments: Any) -> Any:
        gc.collect()
        most.append(len(alive))
        model = real(**arguments)
        alive.add(model)
        return model

    monkeypatch.setattr("itlens.models.pair.load_model", counted)
    loaded = study(folders, tmp_path / "loaded")
    assert len(most) >= 2
    assert max(most) == 0, "another model was in memory when one was loaded"
    own, other = (each.results["weight_delta"]["weight_delta"] for each in (loaded, streaming))
    assert own.drop_attrs().equals(other.drop_attrs())
    pd.testing.assert_frame_equal(
        *(each.results["weight_delta"]["weight_words"] for each in (loaded, streaming)), check_exact=True
    )


def test_weights_on_the_disk_are_those_of_the_model(tmp_path: Path) -> None:
    weights = weights_of(load_model(tiny_folder(tmp_path / "gemma", "gemma2", dtype=torch.bfloat16), dtype="bfloat16"))
    with spilled(weights, 1) as aside:
        assert isinstance(aside, SpilledWeights)
        assert differences(aside, weights) == []
    with spilled(weights, 1 << 60) as aside:
        assert aside is weights, "there is no such disk"


def test_a_pair_says_how_its_models_are_loaded(tmp_path: Path) -> None:
    pair = load_pair("a", adapter="b", dtype="bfloat16")
    assert pair.arguments("base") == {"name_or_path": "a", "adapter": None, "dtype": "bfloat16"}
    assert pair.arguments("tuned") == {"name_or_path": "a", "adapter": "b", "dtype": "bfloat16"}
