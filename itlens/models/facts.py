"""The shape of a model in the field's words, read from its config (no weights needed)."""

from __future__ import annotations

from typing import Any

from itlens.models.architectures import architecture_of


def _first(config: Any, *names: str) -> int | None:
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)


def config_facts(config: Any) -> dict[str, Any]:
    """architecture, layers, heads, key_value_heads, d_model, d_head, d_mlp, vocabulary, context of a HF config.

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
    """The same of a TransformerLens config (HookedTransformer or TransformerBridge)."""
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
