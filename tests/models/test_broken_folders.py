"""Model folders that no model can be made from, and harmless oddities that must load."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from itlens.errors import ModelError
from itlens.models import describe_model, load_model, load_pair, source_of
from itlens.models.locate import locate
from itlens.models.source import refuse_broken_files
from tests.tiny import tiny_folder, tiny_hf_model, tiny_tokenizer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("whole"), "llama")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def settings(folder: Path, file: str = "config.json", **changed: Any) -> Path:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    return folder


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads = 0"),
    "no key-value heads": ({"num_key_value_heads": 0}, "num_key_value_heads = 0"),
    "too many layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000"),
    "negative vocabulary": ({"vocab_size": -1}, "vocab_size = -1"),
    "endless vocabulary": ({"vocab_size": 10**15}, "vocab_size = "),
    "width that heads do not divide": ({"hidden_size": 33}, "33.* is not a multiple"),
    "text for a number": ({"num_hidden_layers": "two"}, "num_hidden_layers.*expected int, got str"),
    "list for a number": ({"hidden_size": [32]}, "hidden_size.*expected int"),
    "half a layer": ({"num_hidden_layers": 1.5}, "num_hidden_layers.*expected int, got float"),
    "number for a word": ({"hidden_act": 5}, "hidden_act.*expected str"),
    "an unknown activation": ({"hidden_act": "nonesuch"}, "nonesuch"),
    "positions without their settings": ({"rope_parameters": {"rope_type": "llama3"}}, "rope_theta|Missing required"),
    "no such kind": ({"model_type": 5}, "model type|Unrecognized|unhashable|model_type|5"),
    "end of text that is no id": ({"eos_token_id": "abc"}, "eos_token_id"),
}


@pytest.mark.parametrize(("changed", "told"), BROKEN.values(), ids=BROKEN)
def test_a_broken_config_ends_in_one_sentence_with_the_reason(folder: Path, changed: Any, told: str) -> None:
    settings(folder, **changed)
    for read in (load_model, lambda path: describe_model(path, check=False)):
        with pytest.raises(ModelError, match=told) as error:
            read(folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("stop", ["abc", [2, "x"], 1.5, True, -7])
def test_stop_tokens_are_ids(folder: Path, stop: Any) -> None:
    with pytest.raises(ModelError, match=r"generation_config.json .*eos_token_id = .*expected a token's id"):
        load_model(settings(folder, "generation_config.json", eos_token_id=stop))


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_json_nested_without_end(folder: Path, file: str) -> None:
    (folder / file).write_text('{"a":' * 200_000)
    with pytest.raises(ModelError, match=r"cannot be|No tokenizer|not readable") as error:
        load_model(folder)
    assert "\n" not in str(error.value)


def test_pickled_weights_are_not_run(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "run").encode() + b"'\ntR.")
    with pytest.raises(ModelError, match=r"weights of .* cannot be loaded") as error:
        load_model(folder)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changed", [{"rms_norm_eps": 1}, {"num_hidden_layers": 2.0}, {"max_position_embeddings": 256.0}]
)
def test_a_number_written_otherwise_is_harmless(folder: Path, changed: dict[str, Any]) -> None:
    model = load_model(settings(folder, **changed))
    assert (model.cfg.n_layers, model.cfg.n_ctx) == (2, 256)
    assert source_of(model).check["argmax_agreement"] == 1.0


def test_a_stale_index_beside_a_whole_file_is_passed_over(folder: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refuse_broken_files(locate(folder))
    assert load_model(folder).cfg.n_layers == 2


def test_an_index_names_files_beside_it(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "elsewhere.safetensors")
    for content in ({"weight_map": {"a": "../elsewhere.safetensors"}}, {"weight_map": []}, {}):
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))
        with pytest.raises(ModelError, match=r"index of weights .* has no weight_map"):
            refuse_broken_files(locate(folder))


def test_a_folder_with_only_a_tokenizer(whole: Path, tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path)
    assert len(source_of(load_model(whole, tokenizer=tmp_path)).tokenizer) == len(tiny_tokenizer())
    with pytest.raises(ModelError, match="holds a tokenizer and no model"):
        load_model(tmp_path)


def test_precision_in_which_the_model_itself_overflows(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        if name.endswith("down_proj.weight"):
            tensors[name] *= 3e4
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_model(folder).cfg.n_layers == 2
    with pytest.raises(ModelError, match=r"Hugging Face's own .* NaN or infinity in float16"):
        load_model(folder, dtype="float16")


def test_weights_that_are_not_in_memory() -> None:
    model = tiny_hf_model("llama")
    model.model.layers[1].mlp.up_proj.to("meta")
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj\.weight .*meta device"):
        load_model(model, tokenizer=False)


def test_weights_that_are_quantised() -> None:
    model = tiny_hf_model("llama")
    layer = model.model.layers[0].mlp.up_proj
    layer.weight = torch.nn.Parameter(torch.zeros_like(layer.weight, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match=r"quantised .int8."):
        load_model(model, tokenizer=False)


@pytest.mark.parametrize("change", [lambda model: model.train(), lambda model: model.set_attn_implementation("sdpa")])
def test_the_callers_model_is_left_as_it_was(change: Callable[[Any], Any]) -> None:
    model = tiny_hf_model("llama")
    model.model.layers[0].eval()
    change(model)
    model.model.layers[1].eval()

    def state() -> Any:
        return (
            [module.training for module in model.modules()],
            [(id(p), p.requires_grad, p.device, float(p.double().sum())) for p in model.parameters()],
            model.config._attn_implementation,
        )

    before = state()
    load_model(model, tokenizer=False)
    assert state() == before


def test_a_tokenizer_is_read_as_its_file_says_and_a_difference_is_told(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    split = {"type": "Split", "pattern": {"String": "e"}, "behavior": "Isolated", "invert": False}
    own = {"type": "Sequence", "pretokenizers": [split, content["pre_tokenizer"]]}
    path.write_text(json.dumps(content | {"pre_tokenizer": own}))
    as_file = Tokenizer.from_file(str(path)).encode("the letter", add_special_tokens=False).ids
    settings(folder, "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    tokenizer = source_of(load_model(folder)).tokenizer
    assert tokenizer("the letter", add_special_tokens=False)["input_ids"] == as_file
    assert tokenizer.bos_token == "<s>"
    assert "GPT2Tokenizer" in tokenizer.itlens_reading and "tokenizer.json" in tokenizer.itlens_reading
    assert any("tokenizer.json" in notice for notice in load_pair(folder, folder).check().notices)
