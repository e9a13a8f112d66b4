"""What a .gguf file says and transformers leaves out: scaled rotary positions, stop tokens, settings of the shape.

transformers 5 reads `rope.freq_base` and nothing else of the rotary positions, so that a model with a long context
loads, passes every comparison with Hugging Face, and computes something else than llama.cpp. Here

1. the config gets the rotary scaling of the file's metadata, and Llama 3's factors from the tensor `rope_freqs`;
2. the config's shape is compared with the metadata;
3. a tensor that has no place in the model is refused;
4. the loaded model's angles are compared with those that llama.cpp computes from the metadata (ggml's `rope_yarn`).

What cannot be expressed is refused.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from itlens.errors import ModelError
from itlens.foreign import foreign
from itlens.models.gguf_bulk import read_in_bulk
from itlens.models.gguf_header import GgufHeader
from itlens.models.precision import as_numbers

_FACTORS = "rope_freqs.weight"
_LONG = ("rope_factors_long.weight", "rope_factors_short.weight")
_YARN = ("yarn_beta_fast", "yarn_beta_slow", "yarn_attn_factor", "yarn_ext_factor")
_KNOWN = ("type", "factor", "original_context_length", "finetuned", "attn_factor", *_YARN)
_CLOSE = 1e-4  # relative difference of angles
# metadata -> the names under which a config has it
_SHAPE = {
    "block_count": ("num_hidden_layers", "n_layer"),
    "embedding_length": ("hidden_size", "n_embd"),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": ("layer_norm_epsilon", "layer_norm_eps"),
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
}
_STOPS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")


def complete_config(config: Any, header: GgufHeader, name: str) -> Any:
    """Return the config with the file's rotary scaling. Raises ModelError where the two do not agree, or for a scaling
    that cannot be expressed."""
    for key, names in _SHAPE.items():
        said = header.setting(key)
        read = next((getattr(config, n) for n in names if getattr(config, n, None) is not None), None)
        if said is not None and read is not None and not isinstance(said, list) and not _same(said, read):
            raise ModelError(f"The .gguf file {name} says {key} = {said}, but transformers reads {read}.")
    scaling = _scaling(header, name)
    if scaling is None:
        return config
    rotary = getattr(config, "rope_parameters", None)
    if not isinstance(rotary, dict):
        raise ModelError(f"The .gguf file {name} scales rotary positions, but its architecture has none.")
    layers = rotary.get("full_attention")  # where sliding layers have rotary positions of their own, unscaled
    own = (layers if isinstance(layers, dict) else rotary) | scaling
    config.rope_parameters = rotary | {"full_attention": own} if isinstance(layers, dict) else own
    return config


def _same(said: Any, read: Any) -> bool:
    return isinstance(read, (int, float)) and math.isclose(said, read, rel_tol=1e-5)  # float32 in the file


def _scaling(header: GgufHeader, name: str) -> dict[str, Any] | None:
    """Return the `rope_parameters` that the metadata ask for on top of the base; None: no scaling."""
    prefix = f"{header.values.get('general.architecture')}.rope.scaling."
    strange = sorted(key for key in header.values if key.startswith(prefix) and key[len(prefix) :] not in _KNOWN)
    strange += [tensor for tensor in _LONG if tensor in header.tensors]
    kind, factor = _kind(header)
    if strange or kind not in ("none", "linear", "yarn"):
        what = strange[0] if strange else f"rope.scaling.type {kind!r}"
        raise ModelError(
            f"The .gguf file {name} scales rotary positions by {what}, which cannot be read from .gguf; load the "
            "safetensors folder of this model."
        )
    if _FACTORS in header.tensors:
        if factor != 1:
            raise ModelError(f"The .gguf file {name} scales rotary positions twice: by {_FACTORS} and by {kind!r}.")
        return _llama3(header, name)
    if kind == "none" or (kind == "linear" and factor == 1):
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if header.setting("rope.scaling.yarn_ext_factor", 1.0) != 1.0:
        raise ModelError(f"The .gguf file {name} has rope.scaling.yarn_ext_factor, which cannot be read from .gguf.")
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": _original_context(header),
        "attention_factor": _attention_factor(header),
        "beta_fast": header.setting("rope.scaling.yarn_beta_fast", 32.0),
        "beta_slow": header.setting("rope.scaling.yarn_beta_slow", 1.0),
    }


def _kind(header: GgufHeader) -> tuple[str, float]:
    """Return the type of scaling and its factor; llama.cpp takes "linear" for a factor without a type."""
    factor = float(header.setting("rope.scaling.factor", header.setting("rope.scale_linear", 1.0)) or 1.0)
    return str(header.setting("rope.scaling.type", "linear")), factor


def _original_context(header: GgufHeader) -> int:
    return int(header.setting("rope.scaling.original_context_length", header.setting("context_length", 0)))


def _attention_factor(header: GgufHeader) -> float:
    """Return by how much YaRN scales queries and keys: 0.1 ln(factor) + 1, times the file's own factor."""
    own = header.setting("rope.scaling.attn_factor", header.setting("rope.scaling.yarn_attn_factor", 1.0))
    return float(own) * (0.1 * math.log(_kind(header)[1]) + 1.0)


def _base(header: GgufHeader, count: int) -> np.ndarray:
    """Return the unscaled inverse frequencies."""
    return float(header.setting("rope.freq_base", 10000.0)) ** -(np.arange(count) / count)


def _llama3(header: GgufHeader, name: str) -> dict[str, Any] | None:
    """Return the parameters of Llama 3's scaling from its factors (pair of dimensions,); None where all are 1.

    With x = 1 / wavelength, F the largest factor and s = (1 / f - 1 / F) / (1 - 1 / F), factors between 1 and F lie on
    the line s = (original * x - low) / (high - low). Released models have low = 1 and high = 4; any other line is
    read off two of its points.
    """
    factors = header.floats(_FACTORS).astype(np.float64)
    largest = float(factors.max(initial=1.0))
    if np.allclose(factors, 1.0):
        return None
    x = _base(header, len(factors)) / (2 * math.pi)
    s = (1 / factors - 1 / largest) / (1 - 1 / largest)
    inner = np.flatnonzero((s > 1e-4) & (s < 1 - 1e-4))
    # lines as (slope, offset): s = slope * x - offset, offset = low / (high - low)
    lines = [((s[i] + 1 / 3) / x[i], 1 / 3) for i in inner[:1]]
    if len(inner) > 1:
        i, j = inner[0], inner[-1]
        slope = (s[j] - s[i]) / (x[j] - x[i])
        lines.append((slope, slope * x[i] - s[i]))
    for slope, offset in lines:
        if offset > 0 and np.allclose(1 / factors, _llama3_ramp(slope * x - offset, largest), rtol=_CLOSE, atol=0):
            original = max(1, round(float(slope / offset)))  # with low = 1; the rest of the rounding goes into low
            low = float(original * offset / slope)
            low = 1.0 if math.isclose(low, 1.0, rel_tol=_CLOSE) else low
            return {
                "rope_type": "llama3",
                "factor": round(largest, 6),
                "low_freq_factor": low,
                "high_freq_factor": round(low + low / float(offset), 6),
                "original_max_position_embeddings": original,
            }
    raise ModelError(
        f"The .gguf file {name} scales each rotary frequency by its own factor ({_FACTORS}), and not as Llama 3 does; "
        "load the safetensors folder of this model."
    )


def _llama3_ramp(smooth: np.ndarray, factor: float) -> np.ndarray:
    part = np.clip(smooth, 0, 1)
    return part + (1 - part) / factor


def refuse_other_angles(model: Any, header: GgufHeader, name: str) -> None:
    """Raise ModelError unless the loaded model turns queries and keys as llama.cpp does with this file."""
    for key, buffer in model.named_buffers():
        module, _, leaf = key.rpartition(".")
        if not leaf.endswith("inv_freq") or leaf.startswith("sliding") or "original" in leaf:
            continue
        expected, scale = _angles(header, buffer.numel())
        got = as_numbers(buffer).ravel()
        prefix = leaf.removesuffix("inv_freq")
        own = float(getattr(model.get_submodule(module), f"{prefix}attention_scaling", 1.0))
        if not np.allclose(got, expected, rtol=_CLOSE, atol=0) or not math.isclose(own, scale, rel_tol=_CLOSE):
            raise ModelError(
                f"The rotary positions of {name} are not those of the .gguf file (its metadata rope.* and {_FACTORS}); "
                "load the safetensors folder of this model."
            )


def _angles(header: GgufHeader, count: int) -> tuple[np.ndarray, float]:
    """Return the inverse frequencies (pair of dimensions,) and the scale of queries and keys, as ggml computes them."""
    frequencies = _base(header, count)
    if _FACTORS in header.tensors:
        return frequencies / header.floats(_FACTORS)[:count], 1.0
    kind, factor = _kind(header)
    if kind != "yarn":
        return frequencies / (factor if kind == "linear" else 1.0), 1.0
    base, original = float(header.setting("rope.freq_base", 10000.0)), _original_context(header)
    low, high = (
        2 * count * math.log(original / (beta * 2 * math.pi)) / (2 * math.log(base))
        for beta in (
            header.setting("rope.scaling.yarn_beta_fast", 32.0),
            header.setting("rope.scaling.yarn_beta_slow", 1.0),
        )
    )
    low, high = max(0, math.floor(low)), min(2 * count - 1, math.ceil(high))
    ramp = 1 - np.clip((np.arange(count) - low) / max(0.001, high - low), 0, 1)
    return frequencies / factor * (1 - ramp) + frequencies * ramp, _attention_factor(header)


def refuse_unread_tensors(model: Any, header: GgufHeader, name: str) -> None:
    """Raise ModelError for tensors that have no place in the model: transformers leaves them out without a word."""
    from transformers import modeling_gguf_pytorch_utils as reader

    with foreign(ModelError, f"The tensors of {name} cannot be compared with the model"), read_in_bulk():
        processors: Any = reader.TENSOR_PROCESSORS
        processor = processors.get(header.values.get("general.architecture"), reader.TensorProcessor)
        read = set(reader.get_gguf_hf_weights_map(model, processor(config={})))
    unread = sorted(set(header.tensors) - read - {_FACTORS, "output.weight"})  # the last is the embedding where tied
    if unread:
        names = ", ".join(unread[:3]) + (" ..." if len(unread) > 3 else "")
        raise ModelError(
            f"{len(unread)} tensors of {name} have no place in the model that its metadata describe ({names}), and "
            "would be left out; load the safetensors folder of this model."
        )


def stop_tokens(header: GgufHeader) -> list[int]:
    """Return the ids at which a response ends: end of text, of turn and of message, as far as the file names them."""
    found = [header.values[key] for key in _STOPS if isinstance(header.values.get(key), int)]
    return list(dict.fromkeys(found))
