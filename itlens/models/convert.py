"""The weights of a Hugging Face model under HookedTransformer's names, as views: nothing is copied.

Hugging Face stores a linear map as (out, in); HookedTransformer's parameters are (in, out), per head. Each entry here
is that parameter as a transposed or permuted VIEW of the original, which is also the layout that makes the
transpositions in HookedTransformer's forward pass free (see `layout`). Biases that a model does not have are zeros.
Only Gemma's norm gains (1 + w) and its scaled embedding (sqrt(d_model) W_E) are new tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

Named = Iterator[tuple[str, Tensor]]


def outputs_by_head(weight: Tensor, heads: int) -> Tensor:
    """Split the outputs of a map, as stored by Hugging Face, into heads."""
    return rearrange(weight, "(head d_head) d_model -> head d_model d_head", head=heads)


def inputs_by_head(weight: Tensor, heads: int) -> Tensor:
    """Split the inputs of a map, as stored by Hugging Face, into heads."""
    return rearrange(weight, "d_model (head d_head) -> head d_head d_model", head=heads)


def _attention(prefix: str, attention: Any, output: Any, cfg: Any) -> Named:
    """Yield separate query, key and value projections (Llama and its descendants, OPT)."""
    grouped = cfg.n_key_value_heads is not None
    shared = cfg.n_key_value_heads or cfg.n_heads
    for letter, mark, heads in (("Q", "", cfg.n_heads), ("K", "_" * grouped, shared), ("V", "_" * grouped, shared)):
        linear = getattr(attention, f"{letter.lower()}_proj")
        yield f"{prefix}.{mark}W_{letter}", outputs_by_head(linear.weight, heads)
        if linear.bias is not None:
            yield f"{prefix}.{mark}b_{letter}", rearrange(linear.bias, "(head d_head) -> head d_head", head=heads)
    yield f"{prefix}.W_O", inputs_by_head(output.weight, cfg.n_heads)
    if output.bias is not None:
        yield f"{prefix}.b_O", output.bias


def _norm(prefix: str, norm: Any) -> Named:
    yield f"{prefix}.w", norm.weight
    if norm.bias is not None:
        yield f"{prefix}.b", norm.bias


def _gain(prefix: str, norm: Any, offset: float) -> Named:
    """Yield an RMS norm's gain; Gemma stores it as its distance from one."""
    yield f"{prefix}.w", norm.weight + offset if offset else norm.weight


def _linear(prefix: str, name: str, linear: Any) -> Named:
    yield f"{prefix}.W_{name}", linear.weight.T
    if linear.bias is not None:
        yield f"{prefix}.b_{name}", linear.bias


def _gated(model: Any, cfg: Any) -> Named:
    """Yield the weights of Llama, Mistral, Qwen2, Qwen3 and Gemma: the same modules, different norms."""
    gemma = cfg.original_architecture.startswith("Gemma")
    offset = 1.0 if gemma else 0.0
    embedding = model.model.embed_tokens.weight
    scale = torch.tensor(cfg.d_model**0.5, dtype=embedding.dtype, device=embedding.device)
    yield "embed.W_E", embedding * scale if gemma else embedding
    for index, layer in enumerate(model.model.layers):
        block = f"blocks.{index}"
        yield from _attention(f"{block}.attn", layer.self_attn, layer.self_attn.o_proj, cfg)
        if cfg.use_qk_norm:
            yield from _gain(f"{block}.attn.q_norm", layer.self_attn.q_norm, offset)
            yield from _gain(f"{block}.attn.k_norm", layer.self_attn.k_norm, offset)
        yield from _gain(f"{block}.ln1", layer.input_layernorm, offset)
        if cfg.use_normalization_before_and_after:
            yield from _gain(f"{block}.ln1_post", layer.post_attention_layernorm, offset)
            yield from _gain(f"{block}.ln2", layer.pre_feedforward_layernorm, offset)
            yield from _gain(f"{block}.ln2_post", layer.post_feedforward_layernorm, offset)
        else:
            yield from _gain(f"{block}.ln2", layer.post_attention_layernorm, offset)
        yield f"{block}.mlp.W_in", layer.mlp.up_proj.weight.T
        yield f"{block}.mlp.W_gate", layer.mlp.gate_proj.weight.T
        yield f"{block}.mlp.W_out", layer.mlp.down_proj.weight.T
    yield from _gain("ln_final", model.model.norm, offset)


def _gpt2(model: Any, cfg: Any) -> Named:
    yield "embed.W_E", model.transformer.wte.weight
    yield "pos_embed.W_pos", model.transformer.wpe.weight
    for index, layer in enumerate(model.transformer.h):
        block = f"blocks.{index}"
        yield from _norm(f"{block}.ln1", layer.ln_1)
        joint = layer.attn.c_attn  # Conv1D: weight is (in, out), the three maps side by side
        heads = {"qkv": 3, "head": cfg.n_heads}
        weight = rearrange(joint.weight, "d_model (qkv head d_head) -> qkv head d_model d_head", **heads)
        bias = rearrange(joint.bias, "(qkv head d_head) -> qkv head d_head", **heads)
        for number, letter in enumerate("QKV"):
            yield f"{block}.attn.W_{letter}", weight[number]
            yield f"{block}.attn.b_{letter}", bias[number]
        output = rearrange(layer.attn.c_proj.weight, "(head d_head) d_model -> head d_head d_model", head=cfg.n_heads)
        yield f"{block}.attn.W_O", output
        yield f"{block}.attn.b_O", layer.attn.c_proj.bias
        yield from _norm(f"{block}.ln2", layer.ln_2)
        yield f"{block}.mlp.W_in", layer.mlp.c_fc.weight
        yield f"{block}.mlp.b_in", layer.mlp.c_fc.bias
        yield f"{block}.mlp.W_out", layer.mlp.c_proj.weight
        yield f"{block}.mlp.b_out", layer.mlp.c_proj.bias
    yield from _norm("ln_final", model.transformer.ln_f)


def _gpt_neox(model: Any, cfg: Any) -> Named:
    yield "embed.W_E", model.gpt_neox.embed_in.weight
    for index, layer in enumerate(model.gpt_neox.layers):
        block = f"blocks.{index}"
        yield from _norm(f"{block}.ln1", layer.input_layernorm)
        joint = layer.attention.query_key_value  # rows in the order (head, query/key/value, d_head)
        heads = {"qkv": 3, "head": cfg.n_heads}
        weight = rearrange(joint.weight, "(head qkv d_head) d_model -> qkv head d_model d_head", **heads)
        for number, letter in enumerate("QKV"):
            yield f"{block}.attn.W_{letter}", weight[number]
            if joint.bias is not None:
                bias = rearrange(joint.bias, "(head qkv d_head) -> qkv head d_head", **heads)
                yield f"{block}.attn.b_{letter}", bias[number]
        yield f"{block}.attn.W_O", inputs_by_head(layer.attention.dense.weight, cfg.n_heads)
        if layer.attention.dense.bias is not None:
            yield f"{block}.attn.b_O", layer.attention.dense.bias
        yield from _norm(f"{block}.ln2", layer.post_attention_layernorm)
        yield from _linear(f"{block}.mlp", "in", layer.mlp.dense_h_to_4h)
        yield from _linear(f"{block}.mlp", "out", layer.mlp.dense_4h_to_h)
    yield from _norm("ln_final", model.gpt_neox.final_layer_norm)


def _opt(model: Any, cfg: Any) -> Named:
    decoder = model.model.decoder
    yield "embed.W_E", decoder.embed_tokens.weight
    yield "pos_embed.W_pos", decoder.embed_positions.weight[2:]  # two rows that OPT never reads for real positions
    for index, layer in enumerate(decoder.layers):
        block = f"blocks.{index}"
        yield from _norm(f"{block}.ln1", layer.self_attn_layer_norm)
        yield from _attention(f"{block}.attn", layer.self_attn, layer.self_attn.out_proj, cfg)
        yield from _norm(f"{block}.ln2", layer.final_layer_norm)
        yield from _linear(f"{block}.mlp", "in", layer.fc1)
        yield from _linear(f"{block}.mlp", "out", layer.fc2)
    yield from _norm("ln_final", decoder.final_layer_norm)


_CONVERTERS: dict[str, Callable[[Any, Any], Named]] = {
    "GPT2LMHeadModel": _gpt2,
    "GPTNeoXForCausalLM": _gpt_neox,
    "OPTForCausalLM": _opt,
}


def hooked_weights(model: Any, cfg: Any) -> Named:
    """Yield (name, tensor) of every HookedTransformer parameter that the Hugging Face model determines, as views of
    it."""
    yield from _CONVERTERS.get(cfg.original_architecture, _gated)(model, cfg)
    yield "unembed.W_U", model.lm_head.weight.T
    if model.lm_head.bias is not None:
        yield "unembed.b_U", model.lm_head.bias
