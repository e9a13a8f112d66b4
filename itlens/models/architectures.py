"""Read a Hugging Face config: the facts of a model, and the fields of a HookedTransformerConfig.

Everything is decided by the config and never by a name. TransformerLens' own conversion chooses by the name or path of
a model ("llama", "gemma-3" in a folder's name changes what it builds) and knows only the shapes of released
checkpoints. Here each architecture is one function from the config's values to the fields of `HookedTransformerConfig`;
what HookedTransformer cannot express is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from itlens.errors import ModelError

Fields = dict[str, Any]


def cannot_express(what: str) -> ModelError:
    """Return the error for a model that is known, but more than HookedTransformer can do."""
    return ModelError(f'HookedTransformer cannot express {what}; load this model with backend="bridge".')


def rotary_fields(parameters: dict[str, Any], context: int) -> Fields:
    """Return the rotary fields of one set of `rope_parameters` (transformers 5 keeps all of them in that dict)."""
    kind = parameters.get("rope_type", "default")
    fields: Fields = {"rotary_base": parameters["rope_theta"]}
    if kind == "linear":
        fields["rotary_scaling_factor"] = float(parameters["factor"])
    elif kind == "llama3":
        fields |= {
            "use_NTK_by_parts_rope": True,
            "NTK_by_parts_factor": parameters["factor"],
            "NTK_by_parts_low_freq_factor": parameters["low_freq_factor"],
            "NTK_by_parts_high_freq_factor": parameters["high_freq_factor"],
            "NTK_original_ctx_len": parameters["original_max_position_embeddings"],
        }
    elif kind == "yarn":
        fields |= _yarn(parameters, context)
    elif kind != "default":
        raise cannot_express(f"rotary positions of type {kind!r}")
    return fields


def _yarn(parameters: dict[str, Any], context: int) -> Fields:
    if parameters.get("mscale") or parameters.get("mscale_all_dim"):
        raise cannot_express("YaRN rotary positions with mscale")
    factor = float(parameters["factor"])
    scale = parameters.get("attention_factor")
    return {
        "use_yarn_rope": True,
        "yarn_factor": factor,
        # the default of Hugging Face (and of the YaRN paper) where the config does not say
        "yarn_attention_factor": float(scale) if scale is not None else 0.1 * math.log(factor) + 1.0,
        "yarn_beta_fast": float(parameters.get("beta_fast") or 32.0),
        "yarn_beta_slow": float(parameters.get("beta_slow") or 1.0),
        "yarn_original_max_position_embeddings": parameters.get("original_max_position_embeddings") or context,
        "yarn_truncate": parameters.get("truncate", True),
    }


_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_fast": "gelu_fast",
    "gelu_pytorch_tanh": "gelu_pytorch_tanh",
}


def _activation(name: str) -> str:
    if name not in _ACTIVATIONS:
        raise cannot_express(f"the activation function {name!r} (it knows {', '.join(sorted(_ACTIVATIONS))})")
    return _ACTIVATIONS[name]


def _grouped(config: Any) -> int | None:
    """Return the key-value heads where they are fewer than the heads; TransformerLens wants None for plain
    attention."""
    return config.num_key_value_heads if config.num_key_value_heads != config.num_attention_heads else None


def _windows(config: Any, layer_types: list[str] | None) -> Fields:
    """Return the sliding windows per layer, from the config's `layer_types`."""
    if not layer_types or "sliding_attention" not in layer_types or not config.sliding_window:
        return {}
    kinds = ["local" if kind == "sliding_attention" else "global" for kind in layer_types]
    return {"use_local_attn": True, "window_size": config.sliding_window, "attn_types": kinds}


def _gated(config: Any) -> Fields:
    """Return what Llama and its descendants share: RMS norms, rotary positions, gated feed-forward, grouped queries."""
    if getattr(config, "mlp_bias", False):
        raise cannot_express("biases in a gated feed-forward layer (mlp_bias)")
    if getattr(config, "use_bidirectional_attention", None):
        raise cannot_express("bidirectional attention")
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {
        "d_model": config.hidden_size,
        "d_head": head,
        "n_heads": config.num_attention_heads,
        "n_key_value_heads": _grouped(config),
        "d_mlp": config.intermediate_size,
        "n_layers": config.num_hidden_layers,
        "n_ctx": config.max_position_embeddings,
        "eps": config.rms_norm_eps,
        "act_fn": _activation(getattr(config, "hidden_activation", None) or config.hidden_act),
        "normalization_type": "RMS",
        "positional_embedding_type": "rotary",
        "rotary_adjacent_pairs": False,
        "rotary_dim": head,
        "final_rms": True,
        "gated_mlp": True,
    }


def _llama(config: Any) -> Fields:
    return _gated(config) | rotary_fields(config.rope_parameters, config.max_position_embeddings)


def _mistral(config: Any) -> Fields:
    kinds = ["sliding_attention"] * config.num_hidden_layers if config.sliding_window else None
    return _llama(config) | _windows(config, kinds)


def _qwen2(config: Any) -> Fields:
    return _llama(config) | _windows(config, config.layer_types)


def _qwen3(config: Any) -> Fields:
    return _qwen2(config) | {"use_qk_norm": True}


def _gemma2(config: Any) -> Fields:
    fields = _gated(config) | _windows(config, config.layer_types)
    if config.rope_parameters.get("rope_theta") is not None:
        fields |= rotary_fields(config.rope_parameters, config.max_position_embeddings)
    if config.attn_logit_softcapping:
        fields["attn_scores_soft_cap"] = config.attn_logit_softcapping
    if config.final_logit_softcapping:
        fields["output_logits_soft_cap"] = config.final_logit_softcapping
    return fields | {
        "attn_scale": math.sqrt(config.query_pre_attn_scalar),
        "use_normalization_before_and_after": True,
    }


def _gemma3(config: Any) -> Fields:
    local = config.rope_parameters["sliding_attention"]
    if local.get("rope_type", "default") != "default":
        raise cannot_express("scaled rotary positions in sliding-window layers")
    far = rotary_fields(config.rope_parameters["full_attention"], config.max_position_embeddings)
    return _gemma2(config) | far | {"rotary_base_local": local["rope_theta"], "use_qk_norm": True}


def _gpt2(config: Any) -> Fields:
    if config.add_cross_attention:
        raise cannot_express("GPT-2 with cross attention")
    return {
        "d_model": config.n_embd,
        "d_head": config.n_embd // config.n_head,
        "n_heads": config.n_head,
        "d_mlp": config.n_inner or 4 * config.n_embd,
        "n_layers": config.n_layer,
        "n_ctx": config.n_positions,  # older configs say the same again in n_ctx, newer ones do not
        "eps": config.layer_norm_epsilon,
        "act_fn": _activation(config.activation_function),
        "use_attn_scale": config.scale_attn_weights,
        "scale_attn_by_inverse_layer_idx": config.scale_attn_by_inverse_layer_idx,
        "normalization_type": "LN",
    }


def _gpt_neox(config: Any) -> Fields:
    head = config.hidden_size // config.num_attention_heads
    share = config.rope_parameters.get("partial_rotary_factor", 1.0)
    return rotary_fields(config.rope_parameters, config.max_position_embeddings) | {
        "d_model": config.hidden_size,
        "d_head": head,
        "n_heads": config.num_attention_heads,
        "d_mlp": config.intermediate_size,
        "n_layers": config.num_hidden_layers,
        "n_ctx": config.max_position_embeddings,
        "eps": config.layer_norm_eps,
        "act_fn": _activation(config.hidden_act),
        "parallel_attn_mlp": config.use_parallel_residual,
        "positional_embedding_type": "rotary",
        "rotary_adjacent_pairs": False,
        "rotary_dim": int(head * share),
        "normalization_type": "LN",
    }


def _opt(config: Any) -> Fields:
    if not config.do_layer_norm_before or config._remove_final_layer_norm:
        raise cannot_express("OPT with layer norms after attention (do_layer_norm_before=false, as in opt-350m)")
    if config.word_embed_proj_dim != config.hidden_size:
        raise cannot_express(
            f"OPT's projection of embeddings from {config.word_embed_proj_dim} to {config.hidden_size} dimensions"
        )
    if not config.layer_norm_elementwise_affine:
        raise cannot_express("OPT with layer norms without parameters")
    return {
        "d_model": config.hidden_size,
        "d_head": config.hidden_size // config.num_attention_heads,
        "n_heads": config.num_attention_heads,
        "d_mlp": config.ffn_dim,
        "n_layers": config.num_hidden_layers,
        "n_ctx": config.max_position_embeddings,
        "eps": 1e-5,  # torch's default, which Hugging Face's OPT leaves in place
        "act_fn": _activation(config.activation_function),
        "normalization_type": "LN",
    }


BUILDERS: dict[str, Callable[[Any], Fields]] = {
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _mistral,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3,
    "GPT2LMHeadModel": _gpt2,
    "GPTNeoXForCausalLM": _gpt_neox,
    "OPTForCausalLM": _opt,
    "GemmaForCausalLM": _llama,
    "Gemma2ForCausalLM": _gemma2,
    "Gemma3ForCausalLM": _gemma3,
}
# without W_gate; every other one above has it
PLAIN_MLP = ("GPT2LMHeadModel", "GPTNeoXForCausalLM", "OPTForCausalLM")
SUPPORTED = ("Llama", "Mistral", "Qwen2", "Qwen3", "GPT-2", "GPT-NeoX (Pythia)", "OPT", "Gemma 1, 2 and 3 (text)")

_BY_TYPE = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "gpt_neox": "GPTNeoXForCausalLM",
    "opt": "OPTForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
}


def architecture_of(config: Any) -> str:
    """Return the architecture's class name: by the config's model_type (GGUF files leave `architectures` empty or
    wrong)."""
    if config.model_type in _BY_TYPE:
        return _BY_TYPE[config.model_type]
    declared = getattr(config, "architectures", None) or []
    return str(declared[0] if declared else config.model_type)


def hooked_fields(config: Any) -> Fields:
    """Return the fields of `HookedTransformerConfig` that the Hugging Face config determines, without dtype and device.

    Raises ModelError for an architecture that is not in `BUILDERS` or that HookedTransformer cannot express.
    """
    architecture = architecture_of(config)
    if architecture not in BUILDERS:
        raise ModelError(
            f"The architecture {architecture} cannot be converted from its config; supported: {', '.join(SUPPORTED)}."
        )
    return BUILDERS[architecture](config) | {
        "d_vocab": config.vocab_size,
        "original_architecture": architecture,
        "init_weights": False,
    }


def _first(config: Any, *names: str) -> int | None:
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)


def config_facts(config: Any) -> dict[str, Any]:
    """Return the facts of a Hugging Face config in the field's words.

    architecture, layers, heads, key_value_heads, d_model, d_head, d_mlp, vocabulary, context.

    What a config does not say (a recurrent model has no heads) is None. experts: only of mixtures, how many.
    """
    text = config.get_text_config()
    heads = _first(text, "num_attention_heads", "num_heads")
    width = _first(text, "hidden_size", "d_model")
    inner = _first(text, "intermediate_size", "ffn_dim", "n_inner")
    return {
        "architecture": architecture_of(config),
        "layers": _first(text, "num_hidden_layers", "num_layers"),
        "heads": heads,
        "key_value_heads": _first(text, "num_key_value_heads") or heads,
        "d_model": width,
        "d_head": _first(text, "head_dim") or (width // heads if width and heads else None),
        "d_mlp": inner if inner or width is None else 4 * width,
        "vocabulary": text.vocab_size,
        "context": _first(text, "max_position_embeddings", "n_positions", "n_ctx"),
        **_experts(text),
    }


def cfg_facts(cfg: Any) -> dict[str, Any]:
    """Return the same facts of a TransformerLens config (HookedTransformer or TransformerBridge)."""
    return {
        "architecture": getattr(cfg, "original_architecture", None) or getattr(cfg, "architecture", None) or "",
        "layers": cfg.n_layers,
        "heads": cfg.n_heads,
        "key_value_heads": cfg.n_key_value_heads or cfg.n_heads,
        "d_model": cfg.d_model,
        "d_head": cfg.d_head,
        "d_mlp": cfg.d_mlp,
        "vocabulary": cfg.d_vocab,
        "context": cfg.n_ctx,
        **_experts(cfg),
    }


def _experts(config: Any) -> dict[str, int]:
    number = _first(config, "num_local_experts", "num_experts", "n_routed_experts")
    return {"experts": number} if number else {}
