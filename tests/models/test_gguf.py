"""What a .gguf file says is what is computed: rotary positions, stop tokens, shapes; what cannot be read is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from itlens.errors import ModelError
from itlens.models import load_model, source_of
from itlens.models.gguf_header import read_header
from itlens.models.locate import locate
from tests.tiny import tiny_hf_model, tiny_tokenizer

gguf = pytest.importorskip("gguf", reason="the gguf extra is not installed")
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 64}
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}


def write(path: Path, model: Any, more: Callable[[Any], None] | None = None, **tensors: np.ndarray) -> Path:
    """A Llama as a .gguf file. more: writes further metadata; tensors: further tensors, "__" for "."."""
    config, content = model.config, json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = sorted(content["model"]["vocab"], key=content["model"]["vocab"].__getitem__)
    words = vocabulary + [f"<unused{n}>" for n in range(config.vocab_size - len(vocabulary))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([3 if number < 3 else 1 for number in range(len(words))])
    writer.add_token_merges([" ".join(pair) for pair in content["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    if more is not None:
        more(writer)
    for name, tensor in {
        **_tensors(model),
        **{key.replace("__", "."): value for key, value in tensors.items()},
    }.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(model: Any) -> dict[str, np.ndarray]:
    state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    tensors = {
        "token_embd.weight": state["model.embed_tokens.weight"],
        "output_norm.weight": state["model.norm.weight"],
        "output.weight": state["lm_head.weight"],
    }
    for layer in range(model.config.num_hidden_layers):
        for ours, theirs in names.items():
            weight = state[f"model.layers.{layer}.{ours}.weight"]
            if theirs in heads:  # llama.cpp turns adjacent pairs
                rows, columns = weight.shape
                weight = weight.reshape(heads[theirs], 2, -1, columns).swapaxes(1, 2).reshape(rows, columns)
            tensors[f"blk.{layer}.{theirs}.weight"] = weight
    return tensors


def scaled(kind: str, **values: float) -> Callable[[Any], None]:
    def more(writer: Any) -> None:
        writer.add_string("llama.rope.scaling.type", kind)
        for name, value in values.items():
            add = writer.add_uint32 if isinstance(value, int) else writer.add_float32
            add(f"llama.rope.scaling.{name}", value)

    return more


def rotary_factors(parameters: dict[str, Any]) -> np.ndarray:
    """By how much the frequencies of a head of 12 dimensions are divided."""
    made = tiny_hf_model("llama", rope_parameters=parameters)
    plain = 500.0 ** -(np.arange(6) / 6)
    return (plain / made.model.rotary_emb.inv_freq.numpy()).astype(np.float32)


@torch.no_grad()
def difference(model: Any, other: Any) -> float:
    ids = torch.tensor([[1] + [(7 * number + 3) % 290 + 5 for number in range(120)]])
    expected, got = model(ids).logits, other(ids)
    return float((expected - got).abs().max() / expected.abs().max())


CASES: dict[str, tuple[dict[str, Any] | None, Any, dict[str, np.ndarray]]] = {
    "plain": (None, None, {}),
    "none": (None, scaled("none"), {}),
    "linear": (LINEAR, scaled("linear", factor=4.0), {}),
    "linear without its name": (LINEAR, lambda writer: writer.add_float32("llama.rope.scaling.factor", 4.0), {}),
    "linear by the old key": (LINEAR, lambda writer: writer.add_float32("llama.rope.scale_linear", 4.0), {}),
    "yarn": (YARN, scaled("yarn", factor=4.0, original_context_length=64), {}),
    "yarn with a factor on attention": (
        YARN | {"attention_factor": 1.5 * (0.1 * np.log(4.0) + 1.0)},
        scaled("yarn", factor=4.0, original_context_length=64, attn_factor=1.5),
        {},
    ),
    "llama 3": (LLAMA3, None, {"rope_freqs__weight": LLAMA3}),  # type: ignore[dict-item]
    "llama 3 on another line": (
        LLAMA3 | {"low_freq_factor": 2.0, "high_freq_factor": 9.0},
        None,
        {"rope_freqs__weight": LLAMA3 | {"low_freq_factor": 2.0, "high_freq_factor": 9.0}},  # type: ignore[dict-item]
    ),
}


@pytest.mark.parametrize(("rotary", "more", "tensors"), CASES.values(), ids=CASES)
def test_rotary_positions_are_those_of_the_file(rotary: Any, more: Any, tensors: Any, tmp_path: Path) -> None:
    made = tiny_hf_model("llama", **({"rope_parameters": rotary} if rotary else {}))
    factors = {name: rotary_factors(parameters) for name, parameters in tensors.items()}
    model = load_model(write(tmp_path / "model.gguf", made, more, **factors))
    assert difference(made, model) < 1e-4


def both(writer: Any) -> None:
    scaled("linear", factor=2.0)(writer)


REFUSED: dict[str, tuple[Any, dict[str, np.ndarray], str]] = {
    "an unknown type": (scaled("longrope", factor=4.0), {}, "rope.scaling.type 'longrope'"),
    "an unknown setting": (scaled("yarn", factor=4.0, alpha=2.0), {}, "llama.rope.scaling.alpha"),
    "long factors": (None, {"rope_factors_long__weight": np.ones(6, np.float32)}, "rope_factors_long.weight"),
    "factors of no known form": (None, {"rope_freqs__weight": np.array([1, 9, 1, 5, 2, 8], np.float32)}, "own factor"),
    "scaled twice": (both, {"rope_freqs__weight": np.full(6, 2, np.float32)}, "twice"),
    "factors for other heads": (None, {"rope_freqs__weight": np.full(4, 2, np.float32)}, "rotary|own factor"),
}


@pytest.mark.parametrize(("more", "tensors", "told"), REFUSED.values(), ids=REFUSED)
def test_rotary_positions_that_cannot_be_read_are_refused(more: Any, tensors: Any, told: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", tiny_hf_model("llama"), more, **tensors)
    with pytest.raises(ModelError, match=told) as error:
        load_model(path)
    assert "\n" not in str(error.value)


def test_the_end_of_a_turn_ends_a_response(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", tiny_hf_model("llama"), lambda writer: writer.add_eot_token_id(7))
    assert source_of(load_model(path)).stop == (2, 7)


def test_a_tensor_without_a_place_is_refused(tmp_path: Path) -> None:
    bias = {"blk__0__attn_q__bias": np.ones(48, np.float32), "blk__7__attn_q__weight": np.ones((48, 32), np.float32)}
    path = write(tmp_path / "model.gguf", tiny_hf_model("llama"), **bias)
    with pytest.raises(ModelError, match=r"2 tensors of .* \(blk\.0\.attn_q\.bias, blk\.7\.attn_q\.weight\)"):
        load_model(path)


def test_what_transformers_reads_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "model.gguf", tiny_hf_model("llama"))
    header = read_header(locate(path))
    assert (header.setting("block_count"), header.setting("rope.freq_base")) == (2, 500.0)
    assert header.tensors["blk.1.attn_norm.weight"][0] == 32
    kept = header.floats("blk.1.attn_norm.weight")
    np.testing.assert_array_equal(kept, _tensors(tiny_hf_model("llama"))["blk.1.attn_norm.weight"])
    header.values["llama.attention.layer_norm_rms_epsilon"] = 1e-3
    monkeypatch.setattr("itlens.models.gguf_header.read_header", lambda place: header)
    with pytest.raises(ModelError, match=r"layer_norm_rms_epsilon = 0\.001, but transformers reads 1e-05|9\.99"):
        load_model(path)


def test_names_of_files(tmp_path: Path) -> None:
    path = write(tmp_path / "MODEL.GGUF", tiny_hf_model("llama"))
    assert load_model(path).cfg.n_layers == load_model(tmp_path).cfg.n_layers == 2
    for number in (1, 2):
        (tmp_path / f"model-0000{number}-of-00002.gguf").write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match=r"one part of a split .gguf file.*join"):
        load_model(tmp_path / "model-00001-of-00002.gguf")
    path.unlink()
    with pytest.raises(ModelError, match=r"one part of a split .gguf file"):
        load_model(tmp_path)


@pytest.mark.parametrize("size", [3, 20, 400, 3000])
def test_a_file_that_ends_early(size: int, tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", tiny_hf_model("llama"))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match="cannot be") as error:
        load_model(path)
    assert "\n" not in str(error.value)
