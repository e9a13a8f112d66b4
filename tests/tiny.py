"""Tiny random models and tokenizers for every test: 2 or 3 layers, 32 wide, deterministic, a few milliseconds each.

The sizes are odd on purpose (head size is not width / heads where a config allows it, fewer key-value heads than
heads, windows of a few tokens), and weights are large enough that logits and gradients are far from zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from itlens.results.provenance import hooked_exists

BACKENDS = ("hooked", "bridge") if hooked_exists() else ("bridge",)
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox", "opt", "gemma", "gemma2", "gemma3")


def on_backends(architectures: Sequence[str] = ARCHITECTURES) -> list[Any]:
    """Each architecture on each backend. Bridges of those that another one stands for are `long`."""
    stand_in = ("llama", "gemma3")
    return [
        pytest.param(
            (architecture, backend),
            id=f"{architecture}-{backend}",
            marks=[pytest.mark.long] if backend == "bridge" and architecture not in stand_in else [],
        )
        for architecture in architectures
        for backend in BACKENDS
    ]


_TEXT = """Translate the sentence into French. The quick brown fox jumps over the lazy dog, and the dog sleeps.
Summarize the text below in one line: there is a small house by the river, where an old man writes letters.
List three animals and three fruits. Cat, dog, horse; apple, pear, plum. What is the plural of mouse? Mice.
Answer with yes or no: is the number 17 a prime number? Yes. Rewrite it so that it's polite: give me the book!
Write the past tense of the verb: go, went; see, saw; write, wrote; think, thought. The opposite of hot is cold.
"""

_GATED = {
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}
_GEMMA = _GATED | {"head_dim": 12, "num_key_value_heads": 1}
_NEOX = {
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}
_SIZES: dict[str, dict[str, Any]] = {
    "llama": _GATED
    | {"head_dim": 12, "rms_norm_eps": 1e-5, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "mistral": _GATED | {"head_dim": 12, "sliding_window": 6},
    "qwen2": _GATED | {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    "qwen3": _GATED | {"head_dim": 12, "tie_word_embeddings": True},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 56, "n_positions": 256, "initializer_range": 0.3},
    "gpt_neox": _NEOX | {"rotary_pct": 0.5},
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "word_embed_proj_dim": 32,
        "init_std": 0.3,
    },
    "phi3": _GATED | {"eos_token_id": 2},
    "gemma": _GEMMA,
    "gemma2": _GEMMA | {"num_hidden_layers": 3, "sliding_window": 6, "query_pre_attn_scalar": 10},
    "gemma3": _GEMMA
    | {"num_hidden_layers": 3, "sliding_window": 6, "query_pre_attn_scalar": 10, "sliding_window_pattern": 2},
}
_CONFIGS = {
    "llama": "LlamaConfig",
    "mistral": "MistralConfig",
    "qwen2": "Qwen2Config",
    "qwen3": "Qwen3Config",
    "gpt2": "GPT2Config",
    "gpt_neox": "GPTNeoXConfig",
    "opt": "OPTConfig",
    "phi3": "Phi3Config",  # of which HookedTransformer knows nothing: not among ARCHITECTURES
    "gemma": "GemmaConfig",
    "gemma2": "Gemma2Config",
    "gemma3": "Gemma3TextConfig",
}


def tiny_hf_model(
    architecture: str,
    seed: int = 0,
    vocab: int = 300,
    dtype: torch.dtype = torch.float32,
    scale: float = 0.3,
    **overrides: Any,
) -> Any:
    """A random Hugging Face model of the architecture; `overrides` go into its config.

    scale: the standard deviation of the weights. Norm gains and biases are random too, so that nothing is invisible
    because it is one or zero.
    """
    import transformers

    config = getattr(transformers, _CONFIGS[architecture])(
        **(
            {"vocab_size": vocab, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
            | _SIZES[architecture]
            | overrides
        )
    )
    generator = torch.Generator().manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=dtype).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.dim() == 1 and name.endswith("weight") and not architecture.startswith("gemma"):
                noise = 1 + scale * noise
            else:
                noise = scale * noise
            parameter.copy_(noise.to(dtype))
    model.tie_weights()
    return model


def tiny_tokenizer(kind: str = "bytes", *, bos: bool = True, chat_template: str | None = None, vocab: int = 300) -> Any:
    """A fast tokenizer with <pad>, <s>, </s> as ids 0, 1, 2, trained on a few lines of English.

    kind: "bytes" (GPT-2 style byte-level BPE) or "metaspace" (Llama and Gemma style: "▁" and byte fallback).
    """
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>"]
    if kind == "bytes":
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    elif kind == "metaspace":
        tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(steps)
        special += ["<unk>"] + [f"<0x{number:02X}>" for number in range(256)]
        vocab += 260
        alphabet = []
    else:
        raise ValueError(f"kind is {kind!r}; expected 'bytes' or 'metaspace'")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=special, initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator([_TEXT], trainer)
    if kind == "metaspace":
        tokenizer = _plain_bytes(tokenizer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = chat_template
    return wrapped


def _plain_bytes(tokenizer: Any) -> Any:
    """The byte tokens as ordinary ones: as special tokens they would match the text "<0x41>"."""
    import json

    import tokenizers

    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["content"].startswith("<0x")]
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def tiny_folder(
    folder: Path | str,
    architecture: str,
    *,
    seed: int = 0,
    tokenizer: Any = None,
    dtype: torch.dtype = torch.float32,
    **overrides: Any,
) -> Path:
    """A checkpoint folder with a tiny model (see `tiny_hf_model`) and, beside it, a tokenizer (default "bytes")."""
    from itlens.models.quiet import quiet

    own = tokenizer if tokenizer is not None else tiny_tokenizer()
    with quiet():
        tiny_hf_model(architecture, seed, max(300, len(own)), dtype, **overrides).save_pretrained(folder)
        own.save_pretrained(folder)
    return Path(folder)


@contextmanager
def hf_in_float64(model: Any) -> Iterator[None]:
    """Let a Hugging Face model in float64 (or a bridge around one) compute everything in float64.

    transformers computes norms, softmax and rotary angles in float32 whatever the model's dtype; for a comparison at
    1e-10, and for finite differences on the bridge, "float32" means float64 while this is open. Only for tests.
    """
    kept = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name.endswith("inv_freq") or name == "embed_scale"
    ]
    names = {"float32": torch.float32, "float": torch.float}
    to_single = torch.Tensor.float
    try:
        for module, name, buffer in kept:
            exact = torch.tensor(module.scalar_embed_scale, dtype=torch.float64) if name == "embed_scale" else None
            setattr(module, name, exact if exact is not None else _angles(module, name, buffer))
        for name in names:
            setattr(torch, name, torch.float64)
        torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
        yield
    finally:
        for name, single in names.items():
            setattr(torch, name, single)
        torch.Tensor.float = to_single  # type: ignore[method-assign]
        for module, name, buffer in kept:
            setattr(module, name, buffer)


def _angles(module: Any, name: str, buffer: torch.Tensor) -> torch.Tensor:
    """A rotary module's inverse frequencies again, in float64 (plain rotary positions only)."""
    parameters = module.config.rope_parameters
    kind = next((kind for kind in ("sliding_attention", "full_attention") if name.startswith(kind)), None)
    base = (parameters[kind] if kind is not None else parameters)["rope_theta"]
    size = len(buffer)
    return base ** -(torch.arange(size, dtype=torch.float64) / size)
