"""Rotary positions: from a Hugging Face config's `rope_parameters` to the fields of `HookedTransformerConfig`."""

from __future__ import annotations

import math
from typing import Any

from itlens.errors import ModelError

Fields = dict[str, Any]


def cannot_express(what: str) -> ModelError:
    """The error for a model that is known, but more than HookedTransformer can do."""
    return ModelError(f'HookedTransformer cannot express {what}; load this model with backend="bridge".')


def rotary_fields(parameters: dict[str, Any], context: int) -> Fields:
    """Rotary fields of one set of `rope_parameters` (transformers 5 keeps all of them in that dict)."""
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
