"""A model that itlens loads computes what Hugging Face computes, whatever the folder is called."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils import logging as hf_logging

from itlens.errors import ModelError
from itlens.models import ModelSource, load_model, source_of
from itlens.models.quiet import quiet
from tests.tiny import ARCHITECTURES, BACKENDS, hf_in_float64, tiny_folder, tiny_hf_model, tiny_tokenizer

# TransformerLens chooses what it builds by such words in a path
MISLEADING = {"llama": "gemma-2-2b-gpt2"}


def ids(vocab: int = 300, length: int = 40) -> torch.Tensor:
    return torch.randint(3, vocab, (1, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    out = model(tokens, use_cache=False) if hasattr(model, "generation_config") else model(tokens)
    return getattr(out, "logits", out)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    name = MISLEADING.get(request.param, "llama-gemma-3")
    return request.param, tiny_folder(tmp_path_factory.mktemp(request.param) / name, request.param)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_folder_under_a_misleading_name_computes_what_hugging_face_computes(
    checkpoint: tuple[str, Path], backend: Any
) -> None:
    architecture, folder = checkpoint
    model = load_model(folder, backend=backend)
    torch.testing.assert_close(logits(model, ids()), logits(tiny_hf_model(architecture), ids()), rtol=0, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    source = source_of(model)
    assert source.check["relative_difference"] < 1e-5
    assert source.check["argmax_agreement"] == 1.0
    assert (source.name, source.backend, source.front) == (str(folder), backend, (1,))


def test_float64_to_ten_digits(checkpoint: tuple[str, Path]) -> None:
    architecture, folder = checkpoint
    model = load_model(folder, dtype="float64")
    reference = tiny_hf_model(architecture).double()
    with hf_in_float64(reference):
        expected = logits(reference, ids())
    torch.testing.assert_close(logits(model, ids()), expected, rtol=0, atol=1e-10)
    assert model.cfg.dtype == torch.float64


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float16", torch.bfloat16, "torch.float64"])
def test_dtypes(tmp_path: Path, backend: Any, dtype: Any) -> None:
    model = load_model(tiny_folder(tmp_path, "llama"), dtype=dtype, backend=backend)
    expected = getattr(torch, str(dtype).removeprefix("torch."))
    assert model.cfg.dtype == expected
    assert logits(model, ids()).dtype == expected
    assert source_of(model).dtype == str(expected).removeprefix("torch.")


ODD_SHAPES = {
    "llama-attention-bias": ("llama", {"attention_bias": True}),
    "llama-plain-heads-tied": ("llama", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "llama-one-key-head": ("llama", {"num_key_value_heads": 1, "head_dim": 20}),
    "llama-linear-rope": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    "llama-3-rope": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
    ),
    "llama-yarn": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "mistral-no-window": ("mistral", {"sliding_window": None}),
    "qwen2-tied": ("qwen2", {"tie_word_embeddings": True, "use_sliding_window": False}),
    "gpt2-scaled-by-layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "n_inner": None}),
    "gpt2-unscaled": ("gpt2", {"scale_attn_weights": False, "activation_function": "relu"}),
    "neox-sequential": ("gpt_neox", {"use_parallel_residual": False, "attention_bias": False}),
    "opt-without-biases": ("opt", {"enable_bias": False}),
    "gemma2-no-caps": ("gemma2", {"final_logit_softcapping": None, "attn_logit_softcapping": None}),
    "gemma3-scaled": (
        "gemma3",
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            }
        },
    ),
}


@pytest.mark.parametrize(("architecture", "overrides"), ODD_SHAPES.values(), ids=ODD_SHAPES)
def test_odd_shapes_from_an_object(architecture: str, overrides: dict[str, Any]) -> None:
    hugging_face = tiny_hf_model(architecture, seed=3, **overrides)
    model = load_model(hugging_face, tokenizer=tiny_tokenizer())
    torch.testing.assert_close(logits(model, ids()), logits(hugging_face, ids()), rtol=0, atol=1e-4)


REFUSED = {
    "opt-350m": ("opt", {"word_embed_proj_dim": 16}, "projection of embeddings"),
    "opt-norm-after": ("opt", {"do_layer_norm_before": False}, "layer norms after"),
    "llama-mlp-bias": ("llama", {"mlp_bias": True}, "mlp_bias"),
    "llama-activation": ("llama", {"hidden_act": "mish"}, "activation function 'mish'"),
    "llama-dynamic-rope": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
        "type 'dynamic'",
    ),
}


@pytest.mark.parametrize(("architecture", "overrides", "words"), REFUSED.values(), ids=REFUSED)
def test_what_hooked_transformer_cannot_express_is_refused(
    architecture: str, overrides: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(tiny_hf_model(architecture, **overrides), tokenizer=False)


def test_gpt2_configs_without_n_ctx(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "gpt2")
    assert "n_ctx" not in (folder / "config.json").read_text()
    assert load_model(folder).cfg.n_ctx == 256


def test_an_object_is_copied_and_a_folder_needs_no_second_copy(tmp_path: Path) -> None:
    hugging_face = tiny_hf_model("llama")
    model = load_model(hugging_face, tokenizer=False)
    with torch.no_grad():
        hugging_face.model.embed_tokens.weight.zero_()
    assert model.W_E.abs().sum() > 0
    assert source_of(model).tokenizer is None


def test_tied_embeddings_share_memory(tmp_path: Path) -> None:
    model = load_model(tiny_folder(tmp_path, "qwen3"))
    assert model.W_E.data_ptr() == model.W_U.data_ptr()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loaded_model_is_returned_as_it_is(tmp_path: Path, backend: Any) -> None:
    model = load_model(tiny_folder(tmp_path, "llama"), backend=backend)
    source = source_of(model)
    assert load_model(model) is model
    assert source_of(model) == source


def test_the_source_of_a_model_of_the_callers_own() -> None:
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        cfg = HookedTransformerConfig(
            d_model=8, d_head=4, n_heads=2, n_layers=1, n_ctx=16, d_vocab=20, act_fn="relu", d_mlp=8, seed=0
        )
        model = HookedTransformer(cfg)
    source = source_of(model)
    assert isinstance(source, ModelSource)
    assert (source.name, source.backend, source.conversion, source.context) == ("custom", "hooked", "given", 16)
    assert source.revision.startswith("sha256:")
    assert source_of(model) is source
    assert load_model(model, tokenizer=tiny_tokenizer()) is model
    assert source_of(model).front == (1,)


def test_the_tokenizer_stays_untouched_and_the_model_follows_its_rule(tmp_path: Path) -> None:
    own = tiny_tokenizer(bos=False)
    own.pad_token = None
    model = load_model(tiny_folder(tmp_path, "llama", tokenizer=own))
    assert source_of(model).tokenizer.pad_token is None
    assert model.tokenizer.pad_token == "</s>"
    assert model.to_tokens("the dog").tolist() == [own("the dog")["input_ids"]]
    with_bos = load_model(tiny_folder(tmp_path / "bos", "llama"))
    assert with_bos.to_tokens("the dog").tolist() == [tiny_tokenizer()("the dog")["input_ids"]]


def test_a_tokenizer_from_another_folder(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model", "llama", vocab_size=700)
    other = tiny_folder(tmp_path / "other", "llama", tokenizer=tiny_tokenizer("metaspace"))
    assert len(source_of(load_model(folder, tokenizer=other)).tokenizer) == len(tiny_tokenizer("metaspace"))


def test_an_adapter_is_merged(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="the peft extra is not installed")
    folder = tiny_folder(tmp_path / "base", "llama")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    adapted = peft.get_peft_model(tiny_hf_model("llama"), config)
    adapted.save_pretrained(tmp_path / "adapter")
    expected = logits(adapted.merge_and_unload(), ids())
    for backend in BACKENDS:
        model = load_model(folder, adapter=tmp_path / "adapter", backend=backend)
        torch.testing.assert_close(logits(model, ids()), expected, rtol=0, atol=1e-4)
    plain = tiny_hf_model("llama")
    model = load_model(plain, adapter=tmp_path / "adapter", tokenizer=False)
    torch.testing.assert_close(logits(model, ids()), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(logits(plain, ids()), logits(tiny_hf_model("llama"), ids()))  # the object is not merged
    source = source_of(load_model(folder, adapter=tmp_path / "adapter"))
    assert source.adapter == str(tmp_path / "adapter")
    assert source.revision.count("sha256:") == 2


def settings() -> list[Any]:
    """The global settings that loading touches."""
    bars = hf_logging.is_progress_bar_enabled()
    handlers = list(logging.root.handlers)
    return [list(warnings.filters), logging.root.manager.disable, hf_logging.get_verbosity(), bars, handlers]


def test_loading_leaves_no_trace(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tiny_folder(tmp_path, "llama")
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = settings()
        load_model(folder)
        load_model(folder, backend="bridge")
        assert settings() == before
    assert not [warning for warning in caught if "deprecated" in str(warning.message)]
    assert capfd.readouterr() == ("", "")


def test_loading_in_threads_leaves_no_trace_and_hides_nobody_elses_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tiny_folder(tmp_path, "llama")
    load_model(folder)  # what is imported late sets filters of its own
    before = (*settings(), sys.stdout, sys.stderr)
    with quiet():  # as while another thread loads
        with ThreadPoolExecutor(3) as pool:
            loads = [pool.submit(load_model, folder) for _ in range(6)]
            other = pool.submit(logging.getLogger("transformers").warning, "of a thread that loads nothing")
        logging.getLogger("transformers").warning("chatter")
        logging.getLogger("of.the.program").warning("a warning")
        print("a line")
    assert all(load.result().cfg.n_layers == 2 for load in loads) and other.result() is None
    assert (*settings(), sys.stdout, sys.stderr) == before
    assert "a line" in capsys.readouterr().out
    assert "a warning" in caplog.text and "chatter" not in caplog.text


def test_loading_in_threads_leaves_the_classes_of_transformers_as_they_were(tmp_path: Path) -> None:
    """transformers replaces `tie_weights` while it builds a model: tied embeddings would be missing ever after."""
    from transformers import PreTrainedModel

    before, folder = PreTrainedModel.tie_weights, tiny_folder(tmp_path, "llama", tie_word_embeddings=True)
    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load_model, folder) for _ in range(12)]
    assert all(load.result().cfg.n_layers == 2 for load in loads)
    assert PreTrainedModel.tie_weights is before
    assert load_model(folder).cfg.n_layers == 2


def test_importing_is_light() -> None:
    code = "import sys, itlens.models; sys.exit(any(n in sys.modules for n in ('transformers', 'transformer_lens')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
