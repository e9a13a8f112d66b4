"""What changes a model's numbers although its shape stays: rotary positions, other settings, processing, precision.

Two models of one shape can be compared, but not every difference between them is one of training. A setting that
differs changes what is computed with equal weights; weights that TransformerLens folded or centred are other numbers
for the same function; a file in half precision holds every weight rounded.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import torch

from itlens.errors import ModelError
from itlens.models.architectures import hooked_fields
from itlens.models.locate import Located, safetensors_of

_ROTARY = ("rotary_base", "rotary_dim", "rotary_scaling_factor", "rotary_base_local")
_NOT_SET = -1.0  # TransformerLens' word for it
_OFF = {
    "rotary_scaling_factor": 1.0,
    "use_attn_scale": True,
    "scale_attn_by_inverse_layer_idx": False,
    "parallel_attn_mlp": False,
}
_BY_PARTS = (
    *("NTK_by_parts_factor", "NTK_by_parts_low_freq_factor", "NTK_by_parts_high_freq_factor"),
    "NTK_original_ctx_len",
)
_YARN = tuple(
    f"yarn_{name}"
    for name in (
        *("factor", "attention_factor", "beta_fast", "beta_slow", "truncate"),
        "original_max_position_embeddings",
    )
)
_WINDOWS = ("window_size", "attn_types")
_OTHER = (
    *("eps", "act_fn", "attn_scores_soft_cap", "output_logits_soft_cap", "use_attn_scale", "attn_scale"),
    *("scale_attn_by_inverse_layer_idx", "parallel_attn_mlp"),
)
# of a config: what says how a model is trained, stored, named or called, or what the pair's shape and tokens say
_HARMLESS = re.compile(
    r"^_|_version$|architectures|model_type|dtype|^output_|return_dict|use_cache|initializer|init_std"
    r"|dropout|drop_rate|pdrop|_token_id|vocab_size|max_position|n_positions|n_ctx|tie_word|label|problem_type|pretraining_tp"
    r"|chunk_size|is_encoder|auto_map|rope_parameters|router_(aux|z)|task_specific|hidden_size$|num_hidden_layers"
    r"|num_attention_heads|num_key_value_heads|intermediate_size|head_dim$"
)
_KINDS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# bits of the significand: the largest relative error of rounding is 2 to minus this
_BITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
_FOLDED = ("LNPre", "RMSPre")

Settings = dict[str, Any]


def settings_of_config(config: Any) -> tuple[Settings, Settings]:
    """Return (rotary positions, other settings) of a Hugging Face config, under HookedTransformer's names where it can
    express them; under the config's own where it cannot."""
    try:
        return settings_of_fields(hooked_fields(config))
    except ModelError:
        return settings_as_written(config)


def settings_as_written(config: Any) -> tuple[Settings, Settings]:
    """Return the same under the config's own names: all but what is known to change no number."""
    text = config.get_text_config()
    rotary = getattr(text, "rope_parameters", None)
    other = {
        name: value
        for name, value in text.to_dict().items()
        if not (value is None or value is False or _HARMLESS.search(name))
    }
    return dict(rotary) if isinstance(rotary, dict) else {}, other


def settings_of_cfg(cfg: Any) -> tuple[Settings, Settings]:
    """Return the same of a HookedTransformer's config."""
    return settings_of_fields(vars(cfg))


def settings_of_fields(fields: dict[str, Any]) -> tuple[Settings, Settings]:
    """Return the same of the fields of a HookedTransformerConfig; what is switched off or as always is left out."""
    rotary: tuple[str, ...] = ()
    if fields.get("positional_embedding_type") == "rotary":
        rotary = _ROTARY + _BY_PARTS * bool(fields.get("use_NTK_by_parts_rope"))
        rotary += _YARN * bool(fields.get("use_yarn_rope"))
    usual = _OFF | {"attn_scale": math.sqrt(fields["d_head"])}
    other = _OTHER + _WINDOWS * bool(fields.get("use_local_attn"))
    return _switched_on(fields, rotary, usual), _switched_on(fields, other, usual)


def _switched_on(fields: dict[str, Any], names: tuple[str, ...], usual: Settings) -> Settings:
    found = {name: fields.get(name) for name in names}
    off = {name: (None, _NOT_SET, usual.get(name)) for name in names}
    return {name: value for name, value in found.items() if value not in off[name]}


def different(first: Settings, second: Settings) -> list[str]:
    """Return the settings that differ, with both values."""
    names = {**first, **second}
    return [
        f"{name} {first.get(name, 'none')} and {second.get(name, 'none')}"
        for name in names
        if first.get(name) != second.get(name)
    ]


def shown(settings: Settings) -> str:
    """Return settings as one line of text."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def stored_names(place: Located) -> dict[str, str]:
    """Return the precision of each weight in a checkpoint's safetensors files, from their headers; {} without any.

    Files that cannot be read are left to the checks that read them whole.
    """
    from safetensors import SafetensorError, safe_open

    found: dict[str, str] = {}
    for path in [] if place.gguf is not None else safetensors_of(place.folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (not a mapping)
                    kind = file.get_slice(name).get_dtype()
                    found[name] = _KINDS.get(kind, kind)
        except (OSError, SafetensorError):
            return {}
    return found


def stored_precision(place: Located) -> str:
    """Return the precision in which most weights of a checkpoint are stored ("" where its files do not say)."""
    if place.gguf is not None:
        return "gguf"
    counts = Counter(stored_names(place).values())
    return counts.most_common(1)[0][0] if counts else ""


def rounding(precisions: tuple[str, str]) -> str | None:
    """Return what it means that two models are stored in these precisions, or None where it means nothing."""
    if precisions[0] == precisions[1] or not all(precisions):
        return None
    coarser = min(precisions, key=lambda name: _BITS.get(name, 0))
    error = f"up to {100 * 2.0 ** -_BITS[coarser]:.2g} % of it" if coarser in _BITS else "more than in bfloat16"
    return (
        f"stored in {precisions[0]} (base) and {precisions[1]} (tuned): rounding alone changes every weight of the one "
        f"in {coarser} ({error}), so smaller differences of weights are not training"
    )


def processing_of(model: Any) -> str:
    """Return how TransformerLens processed a model's weights: "" for weights as the checkpoint holds them."""
    done = []
    if getattr(model.cfg, "normalization_type", None) in _FOLDED:
        done.append("norms folded into the weights")
    if _centred(model.W_E.detach()[:1000]):
        done.append("writing weights centred")
    if _centred(model.W_U.detach()[:32]):
        done.append("unembedding centred")
    return ", ".join(done)


def _centred(rows: torch.Tensor) -> bool:
    """Whether the means of rows are zero but for rounding; those of weights as trained are not."""
    matrix = rows.float()
    return bool(matrix.mean(1).abs().max() < 1e-5 * matrix.square().mean().sqrt())
