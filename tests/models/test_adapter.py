"""Adapters: the tuned model is everything that the adapter's folder says, or one sentence before any weights load."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from itlens.errors import ModelError
from itlens.models import describe_model, load_model, load_pair, pair, source_of
from tests.tiny import BACKENDS, tiny_folder, tiny_hf_model, tiny_tokenizer

peft = pytest.importorskip("peft", reason="the peft extra is not installed")

FILE = "adapter_model.safetensors"
TEMPLATE = "{% for m in messages %}<|u|>{{ m['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("adapter") / "base", "llama")


def adapter(folder: Path, model: Any = None, config: Any = None, *, trained: bool = True) -> Path:
    """An adapter's folder; `trained`: its B is not zero."""
    wrapped = _wrapped(model, config, trained)
    wrapped.save_pretrained(folder)
    return folder


def _wrapped(model: Any = None, config: Any = None, trained: bool = True) -> Any:
    torch.manual_seed(7)
    own = copy.deepcopy(model) if model is not None else tiny_hf_model("llama")
    wrapped = peft.get_peft_model(own, config or peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if trained and ("lora_B" in name or "lora_embedding_B" in name):
                parameter.normal_(0, 0.5)
            if trained and "modules_to_save" in name:
                parameter.add_(0.3)
    return wrapped.eval()


def changed(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    save_file(change(load_file(folder / FILE)), folder / FILE, metadata={"format": "pt"})
    return folder


def refused(words: str, call: Callable[..., Any], *args: Any, **options: Any) -> str:
    with pytest.raises(ModelError, match=words) as error:
        call(*args, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@torch.no_grad()
def logits(model: Any) -> Tensor:
    ids = torch.arange(3, 30)[None]
    out = model(ids)
    found: Tensor = getattr(out, "logits", out)
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda held: {key.replace("model.layers", "model.nested.layers"): value for key, value in held.items()},
            r"nowhere: 0 of the 4 modules .*, and 8 of its 8 weights have no place in the model \(base_model",
        ),
        (
            lambda held: {key: value for key, value in held.items() if "layers.1." not in key},
            r"in part: 2 of the 4 modules .*missing: model\.layers\.1\.mlp\.down_proj, model\.layers\.1\.self_attn",
        ),
        (
            lambda held: held | {"base_model.model.score.weight": torch.ones(2, 32)},
            r"in part: 4 of the 4 modules .*, and 1 of its 9 weights have no place in the model \(.*score",
        ),
    ],
)
def test_an_adapter_that_fits_in_part_is_refused_with_counts(
    base: Path, tmp_path: Path, change: Any, words: str
) -> None:
    folder = changed(adapter(tmp_path), change)
    refused(words, load_model, base, adapter=folder)
    refused(words, load_pair(base, adapter=folder).check)
    refused(words, describe_model, base, adapter=folder, check=False)


def test_a_module_that_the_file_should_hold_whole(base: Path, tmp_path: Path) -> None:
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    folder = changed(adapter(tmp_path, config=config), lambda held: {k: v for k, v in held.items() if "lora" in k})
    refused(r"2 of the 3 modules .*missing: lm_head", load_model, base, adapter=folder)


def test_an_adapter_that_was_never_trained_is_told(base: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path, trained=False)
    (notice,) = load_pair(base, adapter=folder).check().notices
    assert "was never trained and changes nothing" in notice and "every difference is zero" in notice
    model = load_model(base, adapter=folder)
    assert source_of(model).notices == (notice,)
    assert torch.equal(model.W_E, load_model(base).W_E)
    part = changed(folder, lambda held: {k: v + 1.0 * ("layers.0" in k) for k, v in held.items()})
    (notice,) = load_pair(base, adapter=part).check().notices
    assert "changes nothing in 2 of the 4 modules" in notice
    assert "changes 2 of the 4 modules" in source_of(load_model(base, adapter=part)).notices[0]


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(r=2, target_modules=["q_proj"], use_dora=True, layers_to_transform=[1]),
        peft.LoraConfig(r=2, target_modules=["embed_tokens", "v_proj"]),
        peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
        peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]),
        peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
        peft.VeraConfig(r=4, target_modules=["q_proj"], save_projection=False),
    ],
    ids=["dora", "lora of embeddings", "saved embeddings", "saved head", "ia3", "vera"],
)
@pytest.mark.parametrize("tied", [False, True])
def test_a_merged_model_computes_what_peft_computes_without_merging(tmp_path: Path, config: Any, tied: bool) -> None:
    model = tiny_hf_model("llama", tie_word_embeddings=tied)
    wrapped = _wrapped(model, copy.deepcopy(config))
    wrapped.save_pretrained(tmp_path)
    for backend in BACKENDS if tied else ("hooked",):
        own = load_model(copy.deepcopy(model), adapter=tmp_path, backend=backend, tokenizer=False)
        torch.testing.assert_close(logits(own), logits(wrapped), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", ["prompt", "prefix", "p-tuning"])
def test_what_has_nothing_to_merge_is_refused_before_anything_loads(
    base: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = {
        "prompt": peft.PromptTuningConfig,
        "prefix": peft.PrefixTuningConfig,
        "p-tuning": peft.PromptEncoderConfig,
    }
    more = {"encoder_hidden_size": 8} if kind == "p-tuning" else {}
    adapter(tmp_path, config=configs[kind](task_type="CAUSAL_LM", num_virtual_tokens=4, **more), trained=False)
    both = load_pair(base, adapter=tmp_path)
    monkeypatch.setattr(pair, "load_model", None)
    refused("adds virtual tokens.* such as LoRA", both.check)


def test_broken_adapters_are_told_before_the_base_loads(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = adapter(tmp_path / "a")
    both = load_pair(base, adapter=folder)
    monkeypatch.setattr(pair, "load_model", None)
    whole = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(whole[:-40])
    refused("weights of the adapter .* cannot be read", both.check)
    (folder / FILE).write_bytes(whole)
    changed(folder, lambda held: {key: value * float("nan") for key, value in held.items()})
    refused("holds NaN or infinity", both.check)
    (folder / FILE).unlink()
    refused("holds no weights; expected adapter_model.safetensors", both.check)
    held = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(held | {"peft_type": "NONESUCH"}))
    refused("peft_type 'NONESUCH', which the installed peft does not know", both.check)
    (folder / "adapter_config.json").write_text("[1]")
    refused("holds a list; expected a JSON object", both.check)


def test_an_adapter_for_another_shape_says_the_sizes(base: Path, tmp_path: Path) -> None:
    other = adapter(tmp_path, tiny_hf_model("llama", hidden_size=16, num_attention_heads=2))
    refused(r"does not fit .*size mismatch for .*\[2, 16\].*\[2, 32\]", load_model, base, adapter=other)


def test_a_resized_vocabulary(base: Path, tmp_path: Path) -> None:
    big = tiny_hf_model("llama")
    big.resize_token_embeddings(304)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    wrapped = _wrapped(big, config)
    wrapped.save_pretrained(tmp_path)
    own = tiny_tokenizer()
    own.add_tokens(["<a>", "<b>", "<c>", "<d>"])
    own.save_pretrained(tmp_path)
    both = load_pair(base, adapter=tmp_path)
    assert both.side("tuned").facts["vocabulary"] == 304
    assert "vocabulary size 300 and 304" in both.check().notices
    assert both.tuned.cfg.d_vocab == 304
    torch.testing.assert_close(logits(both.tuned), logits(wrapped), rtol=0, atol=1e-3)
    found = describe_model(base, adapter=tmp_path, check=False)
    assert (found["vocabulary"], found["parameters"]) == (304, sum(p.numel() for p in big.parameters()))
    head = changed(tmp_path, lambda held: {k: v for k, v in held.items() if "embed_tokens" not in k})
    refused("holds 304 output embeddings, but .* has 300 of each", load_model, base, adapter=head)


def test_tokenizer_template_and_stop_tokens_beside_the_adapter_are_the_tuned_models(base: Path, tmp_path: Path) -> None:
    wide = tiny_folder(tmp_path / "wide", "llama", vocab_size=310)
    folder = adapter(tmp_path / "a", tiny_hf_model("llama", vocab=310))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    assert load_pair(wide, adapter=folder).side("tuned").tokenizer.chat_template == TEMPLATE
    own = tiny_tokenizer(chat_template=TEMPLATE)
    own.add_special_tokens({"additional_special_tokens": ["<|u|>", "<|e|>"]})
    own.save_pretrained(folder)
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 301]}')
    both = load_pair(wide, adapter=folder)
    assert both.side("tuned").tokenizer.chat_template == TEMPLATE
    assert both.side("base").tokenizer.chat_template is None
    assert both.side("tuned").tokenizer("<|u|>")["input_ids"] == [1, 300]
    source = source_of(both.tuned)
    assert source.tokenizer("<|u|>")["input_ids"] == [1, 300] and source.stop == (2, 301)
    found = describe_model(wide, adapter=folder, check=False)
    assert found["tokenizer_source"] == found["template_source"] == str(folder)
    assert found["stop"] == "</s> <|e|>"
    plain = load_pair(wide, adapter=folder, tokenizer=tiny_tokenizer())
    assert plain.side("tuned").tokenizer.chat_template is None  # a given tokenizer goes first


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_updates_are_added_in_float32_and_rounded_once(
    tmp_path: Path, stored: torch.dtype, dtype: torch.dtype
) -> None:
    with torch.no_grad():
        model = tiny_hf_model("llama")
        wrapped = _wrapped(model)
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.02)
        wrapped.save_pretrained(tmp_path / "a")
    base = tiny_folder(tmp_path / "b", "llama", dtype=stored)
    exact = load_model(base, adapter=tmp_path / "a").blocks[0].attn.W_Q
    half = load_model(base, adapter=tmp_path / "a", dtype=dtype)
    assert torch.equal(half.blocks[0].attn.W_Q, exact.to(dtype))
    assert {parameter.dtype for parameter in half.parameters()} == {dtype}
    (notice,) = source_of(half).notices
    assert "did not move: their update is lost in rounding" in notice
    assert any("are lost" in said for said in load_pair(base, adapter=tmp_path / "a", dtype=dtype).check().notices)


def test_an_adapter_is_no_model(base: Path, tmp_path: Path) -> None:
    model = tiny_hf_model("llama")
    model.config._name_or_path = model.name_or_path = "org/base-model"
    folder = adapter(tmp_path, model)
    for call in (load_model, describe_model):
        sentence = refused("is a PEFT adapter of org/base-model, not a model", call, folder)
        assert "--adapter" in sentence
    refused("is a PEFT adapter", load_pair(base, folder).check)
    assert "names org/base-model as its base" in load_pair(base, adapter=folder).check().notices[0]
    model.save_pretrained(folder)
    refused("holds a model and a PEFT adapter", load_model, folder)


def test_an_object_with_adapter_layers_that_are_not_merged_is_refused() -> None:
    inner = _wrapped().get_base_model()
    refused("adapter layers that are not merged", load_model, inner, tokenizer=False)


def test_inspect_counts_a_head_that_the_adapter_unties(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path / "b", "qwen3")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    folder = adapter(tmp_path / "a", tiny_hf_model("qwen3"), config)
    number = sum(p.numel() for p in tiny_hf_model("qwen3").parameters()) + 300 * 32
    found = describe_model(base, adapter=folder)
    assert found["parameters"] == number == source_of(load_model(base, adapter=folder)).parameters
    assert found["adapter_coverage"] == "all 3 modules that it selects have weights"
    assert found["adapter_type"] == "LORA" and "rotary_base" in found["rotary"] and found["stored"] == "float32"
