"""Everything that can be wrong with a checkpoint ends in one clear sentence."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from itlens.errors import ModelError
from itlens.models import check, describe_model, fingerprint, load_model, locate
from tests.tiny import BACKENDS, tiny_folder, tiny_hf_model, tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_folder(tmp_path / "model", "llama")


def refused(words: str, *args: Any, **options: Any) -> None:
    with pytest.raises(ModelError, match=words) as error:
        load_model(*args, **options)
    assert "\n" not in str(error.value)


def weights(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_there_is_nothing(tmp_path: Path) -> None:
    refused("There is no model at", tmp_path / "nowhere")
    refused("There is no model at", "./nowhere")
    refused("There is no model at", "nowhere.gguf")
    refused("There is no model at", "a/b/c")


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    refused("has no config.json", tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    refused("is a file, not a model", tmp_path / "notes.txt")


def test_a_hub_id_that_is_not_cached_fails_at_once_when_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    started = time.monotonic()
    refused("HF_HUB_OFFLINE is set", "nobody/no-such-model")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("content", ["{not json", "[1, 2]", '{"a": 1}', ""])
def test_a_broken_config(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    refused("config.json of .* (is not readable JSON|names no model_type|holds a list)", folder)


def test_an_unknown_architecture_names_the_known_ones(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "nonesuch"}))
    refused("nonesuch", folder)


@pytest.mark.skipif("hooked" not in BACKENDS, reason="TransformerLens 4 has the bridge only, which knows it")
def test_an_architecture_that_only_the_bridge_may_know(tmp_path: Path) -> None:
    from transformers import BloomConfig, BloomForCausalLM

    BloomForCausalLM(BloomConfig(vocab_size=300, hidden_size=16, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    refused("BloomForCausalLM.*supported: Llama, Mistral", tmp_path)


def test_truncated_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    refused("weights of .* cannot be loaded", folder)
    path.write_bytes(b"\x00" * 50)
    refused("weights of .* cannot be loaded", folder)
    path.unlink()
    refused("weights of .* cannot be loaded", folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(folder: Path, value: float) -> None:
    weights(folder, lambda tensors: tensors["model.layers.1.mlp.up_proj.weight"][3].fill_(value))
    refused("model.layers.1.mlp.up_proj.weight of .* NaN or infinity", folder)


def test_weights_that_do_not_fit_the_dtype(folder: Path) -> None:
    weights(folder, lambda tensors: tensors["model.norm.weight"][0].fill_(1e6))
    refused("infinity in float16.*do not fit", folder, dtype="float16")


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    weights(folder, lambda tensors: [tensors.pop(f"model.layers.{n}.self_attn.q_proj.weight") for n in (0, 1)])
    refused("2 weights of .* missing.*layers.0.self_attn.q_proj", folder)


def test_weights_of_another_shape(folder: Path) -> None:
    weights(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(5)}))
    refused(r"1 weights of .* \(such as model\.norm\.weight: \(5,\) in its files, \(32,\) by the config\)", folder)


def test_no_tokenizer(folder: Path) -> None:
    for path in folder.glob("token*"):
        path.unlink()
    refused("No tokenizer.*backend tokenizer.*pass tokenizer=", folder)
    assert load_model(folder, tokenizer=False).tokenizer is None


def test_a_tokenizer_that_is_too_large(folder: Path) -> None:
    refused("has only 300 embeddings", folder, tokenizer=tiny_tokenizer("metaspace", vocab=400))


def test_wrong_arguments(folder: Path) -> None:
    refused("backend is 'hook'", folder, backend="hook")
    refused("dtype is 'int8'", folder, dtype="int8")
    refused("device 'nonesuch' is not available", folder, device="nonesuch")
    refused("load_model got a list", [folder])
    refused("only be merged into a Hugging Face model", load_model(folder), adapter="somewhere")


def test_broken_adapters(folder: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="the peft extra is not installed")
    refused("no adapter_config.json", folder, adapter=folder)
    refused("There is no model at", folder, adapter=tmp_path / "nowhere")
    other = peft.get_peft_model(tiny_hf_model("gpt2"), peft.LoraConfig(r=2, target_modules=["c_fc"]))
    other.save_pretrained(tmp_path / "adapter")
    refused("does not fit", folder, adapter=tmp_path / "adapter")


def test_extras_that_are_not_installed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util
    import sys

    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "adapter_config.json").write_text("{}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused(r'gguf.*pip install "itlens\[gguf\]"', tmp_path / "model.gguf")
    monkeypatch.setitem(sys.modules, "peft", None)
    refused(r'pip install "itlens\[peft\]"', folder, adapter=tmp_path)


def test_a_broken_gguf_file(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the gguf extra is not installed")
    (tmp_path / "model.gguf").write_bytes(b"GGUF nothing else")
    refused("config of .* cannot be read", tmp_path / "model.gguf")
    refused("config of .* cannot be read", tmp_path)  # a folder with one .gguf file means that file


def test_a_conversion_that_computes_something_else_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads((folder / "config.json").read_text())
    real = check.own_logits
    monkeypatch.setattr("itlens.models.load.own_logits", lambda model, ids: real(model, ids) * 1.01)
    refused(
        r"does not compute what Hugging Face computes: logits differ by .*allowed 1e-03.*backend=\"bridge\"", folder
    )
    monkeypatch.setattr("itlens.models.load.own_logits", lambda model, ids: real(model, ids) * float("nan"))
    refused("does not compute", folder)
    assert load_model(folder, check=False).cfg.n_layers == config["num_hidden_layers"]


def test_the_load_check_by_hand() -> None:
    reference = torch.tensor([[0.0, 4.0], [2.0, 1.0]])
    found = check.figures(reference, torch.tensor([[0.0, 3.0], [1.0, 1.5]]))
    assert found == {
        "max_difference": 1.0,
        "relative_difference": 0.25,
        "argmax_agreement": 0.5,
        "tokens": 2,
    }


def test_the_fingerprint_changes_with_the_weights(folder: Path) -> None:
    before = fingerprint(folder)
    assert before == fingerprint(folder)
    assert before.startswith("sha256:")
    weights(folder, lambda tensors: tensors["model.norm.weight"][0].add_(1e-3))
    after = fingerprint(folder)
    assert after != before
    (folder / "README.md").write_text("words")
    assert fingerprint(folder) == after
    assert load_model(folder).itlens_source.revision == after


def test_large_files_are_sampled(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(80 << 20)  # zeros that take no room
    before = fingerprint(tmp_path)
    for place, length in ((-1, 1), (50 << 20, 200_000)):  # the end, and one small matrix in the middle
        with (tmp_path / "model.safetensors").open("r+b") as file:
            file.seek(place if place >= 0 else (80 << 20) + place)
            file.write(b"\1" * length)
        after = fingerprint(tmp_path)
        assert after != before
        before = after


def test_files_of_small_models_are_read_whole(folder: Path) -> None:
    path, marks = folder / "model.safetensors", set()
    whole = path.read_bytes()
    for place in range(len(whole) // 2, len(whole), len(whole) // 16):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        marks.add(fingerprint(folder))
    path.write_bytes(whole)
    assert len(marks | {fingerprint(folder)}) >= 9


def test_inspect_tells_what_a_name_leads_to(folder: Path) -> None:
    found = describe_model(folder)
    assert {
        name: found[name] for name in ("architecture", "layers", "heads", "key_value_heads", "d_model", "d_head")
    } == {
        "architecture": "LlamaForCausalLM",
        "layers": 2,
        "heads": 4,
        "key_value_heads": 2,
        "d_model": 32,
        "d_head": 12,
    }
    assert found["parameters"] == tiny_hf_model("llama").num_parameters()
    assert (found["front"], found["bos"], found["chat_template"], found["conversion"]) == (
        "<s>",
        "<s>",
        False,
        "itlens",
    )
    assert found["check_argmax_agreement"] == 1.0
    assert found["revision"] == fingerprint(folder)
    assert all(isinstance(value, (str, int, float)) for value in found.values())
    assert "check_tokens" not in describe_model(folder, check=False)


def test_hub_places(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    import huggingface_hub

    commit = folder.parent / "0123abcd"
    folder.rename(commit)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **options: str(commit))
    assert locate.locate("owner/name").commit == "0123abcd"
    model = load_model("owner/gemma-3-name")
    assert (model.itlens_source.revision, model.itlens_source.architecture) == ("0123abcd", "LlamaForCausalLM")
