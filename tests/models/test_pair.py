"""Pairs: one model in memory at a time, and one error that names every difference that matters."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from itlens.errors import ModelError, PairError
from itlens.models import ModelPair, load_model, load_pair, pair, source_of
from itlens.models.compatibility import Side
from tests.tiny import BACKENDS, tiny_folder, tiny_hf_model, tiny_tokenizer


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("pair")
    return tiny_folder(root / "base", "llama", seed=0), tiny_folder(root / "tuned", "llama", seed=1)


def test_models_load_on_first_use_and_one_at_a_time(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    real = pair.load_model

    def noted(name_or_path: Path, **options: Any) -> Any:
        loaded.append(name_or_path.name)
        return real(name_or_path, **options)

    both = load_pair(*folders)
    monkeypatch.setattr(pair, "load_model", noted)
    assert loaded == []
    base = weakref.ref(both.base)
    assert both.base is base()
    assert loaded == ["base"]
    assert source_of(both.tuned).name == str(folders[1])
    gc.collect()
    assert base() is None
    assert "loaded=['tuned']" in repr(both)
    both.release("tuned")
    both.release("tuned")
    assert "loaded=[]" in repr(both)
    assert loaded == ["base", "tuned"]


@pytest.mark.skipif("hooked" not in BACKENDS, reason="TransformerLens 4 has no HookedTransformer")
def test_a_released_model_is_free_and_collected_only_where_it_is_still_there(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    collected: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: collected.append(1))
    both = load_pair(*folders, check=False)
    base = weakref.ref(both.base)
    both.release("base")
    assert base() is None, "its memory is free at once"
    assert collected == []
    held = both.tuned
    both.release("tuned")
    assert held is not None
    assert collected == [1], "somebody holds it, or a cycle does"


def test_both_are_kept_when_asked(folders: tuple[Path, Path]) -> None:
    both = load_pair(*folders, keep_both=True, dtype="float64", check=False)
    base = both.base
    assert both.tuned.cfg.dtype == torch.float64
    assert both.base is base
    with pytest.raises(ModelError, match='expected "base" or "tuned"'):
        both.release("other")  # type: ignore[arg-type]


def test_arguments(folders: tuple[Path, Path]) -> None:
    with pytest.raises(PairError, match="no tuned model"):
        load_pair(folders[0])
    with pytest.raises(ModelError, match="unknown arguments 'dtyp'; expected some of backend, cache, check"):
        load_pair(*folders, dtyp="float32")


def test_an_adapter_goes_into_the_tuned_model(folders: tuple[Path, Path], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="the peft extra is not installed")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(tiny_hf_model("llama"), config).save_pretrained(tmp_path)
    for tuned in (None, folders[0]):
        both = load_pair(folders[0], tuned, adapter=tmp_path, keep_both=True)
        assert isinstance(both, ModelPair)
        assert not torch.equal(both.base.blocks[0].attn.W_Q, both.tuned.blocks[0].attn.W_Q)
        assert torch.equal(both.base.W_E, both.tuned.W_E)
        assert both.check().notices == ()


def test_a_comparable_pair_needs_no_weights(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    both, twice = load_pair(*folders), load_pair(folders[0], folders[0])
    monkeypatch.setattr(pair, "load_model", None)
    report = both.check()
    assert report.notices == ()
    assert report.base["layers"] == report.tuned["layers"] == 2
    assert "same weights" in twice.check().notices[0]


def test_one_error_names_every_difference_that_matters(folders: tuple[Path, Path], tmp_path: Path) -> None:
    other = tiny_folder(
        tmp_path,
        "mistral",
        tokenizer=tiny_tokenizer("metaspace"),
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        hidden_size=16,
        intermediate_size=40,
        head_dim=8,
    )
    with pytest.raises(PairError) as error:
        load_pair(folders[0], other).check()
    for words in (
        "LlamaForCausalLM and MistralForCausalLM",
        "layers 2 and 3",
        "heads 4 and 2",
        "key-value heads 2 and 1",
        "d_model 32 and 16",
        "head size 12 and 8",
        "d_mlp 56 and 40",
        "tokens have other ids",
        "10 of 10 texts",
    ):
        assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_harmless_differences_are_told(folders: tuple[Path, Path], tmp_path: Path) -> None:
    own = tiny_tokenizer(bos=False, chat_template="{{ messages[0]['content'] }}")
    own.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|bot|>"], "eos_token": "<|bot|>"})
    tuned = tiny_folder(tmp_path, "llama", tokenizer=own, vocab_size=320)
    notices = load_pair(folders[0], tuned).check().notices
    assert notices == (
        "vocabulary size 300 and 320",
        "2 tokens only in the tuned vocabulary: '<|bot|>', '<|user|>'",
        "only the tuned tokenizer has a chat template",
        "special tokens in front: ['<s>'] (base) and [] (tuned); prepend_bos= makes them the same",
        "end of text: '</s>' (base) and '<|bot|>' (tuned)",
    )


def test_an_added_word_changes_how_ordinary_text_is_read(folders: tuple[Path, Path], tmp_path: Path) -> None:
    own = tiny_tokenizer()
    own.add_tokens(["fox"])
    with pytest.raises(PairError, match=r"1 of 10 texts as other ids \(such as 'The quick brown fox"):
        load_pair(folders[0], tiny_folder(tmp_path, "llama", tokenizer=own, vocab_size=320)).check()


def test_objects() -> None:
    base, tuned = tiny_hf_model("llama"), tiny_hf_model("llama", seed=1, vocab=310)
    with pytest.raises(PairError, match="vocabulary size 300 and 310"):  # nothing explains it without a tokenizer
        load_pair(base, tuned).check()
    both = load_pair(base, tuned, tokenizer=tiny_tokenizer(), keep_both=True)
    assert both.check().notices == ("vocabulary size 300 and 310",)
    assert load_pair(both.base, both.tuned).check().notices == ("vocabulary size 300 and 310",)


def test_a_loaded_model_has_the_revision_of_its_files(folders: tuple[Path, Path]) -> None:
    model = load_model(folders[0])
    assert Side.of("base", model).revision == source_of(model).revision
    assert Side.of("base", model, adapter="x").revision == f"{source_of(model).revision}+x"
