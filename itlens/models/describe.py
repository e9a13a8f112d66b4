"""What a name leads to: the facts that `itlens inspect` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from itlens.errors import ModelError
from itlens.foreign import foreign
from itlens.models.architectures import BUILDERS, architecture_of, config_facts
from itlens.models.build import official_name
from itlens.models.checkpoint import resolve_tokenizer
from itlens.models.load import Backend, dtype_name, load_model, resolve_device
from itlens.models.locate import local_path, locate, read_config
from itlens.models.quiet import quiet
from itlens.models.source import place_fingerprint, source_of
from itlens.tokenization import front_tokens


def describe_model(
    name_or_path: str | Path,
    *,
    adapter: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "float32",
    tokenizer: Any = None,
    backend: Backend = "hooked",
    trust_remote_code: bool = False,
    check: bool = True,
    revision: str | None = None,
) -> dict[str, Any]:
    """Return a flat dict on a model: its shape, parameters, special tokens, and how it will be loaded.

    name, revision, architecture, layers, heads, key_value_heads, d_model, d_head, d_mlp, vocabulary, context,
    parameters (tied ones counted once), tokens (the tokenizer's), bos, eos, pad, front (the special tokens put in front
    of a text), chat_template (bool), backend, conversion, dtype, device, adapter; with check=True the model is loaded,
    and the load check's figures follow as check_max_difference, check_relative_difference, check_argmax_agreement.

    Raises ModelError as `load_model` does.
    """
    official = None if local_path(str(name_or_path)).exists() else official_name(str(name_or_path))
    place = locate(official or name_or_path, revision=revision)
    config = read_config(place, trust_remote_code=trust_remote_code)
    own = resolve_tokenizer(tokenizer, place, trust_remote_code=trust_remote_code)
    found = {
        "name": str(name_or_path),
        "revision": place_fingerprint(place, adapter),
        **config_facts(config),
        "parameters": _parameters(config, str(name_or_path), trust_remote_code),
        **_tokens(own),
        "backend": backend,
        "conversion": conversion_of(config, backend),
        "dtype": dtype_name(dtype),
        "device": resolve_device(device),
        "adapter": str(adapter) if adapter is not None else "",
    }
    if not check:
        return found
    model = load_model(
        name_or_path,
        adapter=adapter,
        device=device,
        dtype=dtype,
        tokenizer=tokenizer if tokenizer is not None else own,
        backend=backend,
        trust_remote_code=trust_remote_code,
        revision=revision,
    )
    return found | {f"check_{name}": value for name, value in source_of(model).check.items()}


def conversion_of(config: Any, backend: str) -> str:
    """Return how a model of this config is converted: "bridge", "itlens" or "transformer_lens"."""
    if backend == "bridge":
        return "bridge"
    return "itlens" if architecture_of(config) in BUILDERS else "transformer_lens"


def _parameters(config: Any, name: str, trust_remote_code: bool) -> int:
    from transformers import AutoModelForCausalLM

    what = f"No model can be made from the config of {name}"
    with foreign(ModelError, what), quiet(), torch.device("meta"):  # shapes without memory
        return int(AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code).num_parameters())


def _tokens(tokenizer: Any) -> dict[str, Any]:
    if tokenizer is None:
        return {"tokens": 0, "bos": "", "eos": "", "pad": "", "front": "", "chat_template": False}
    return {
        "tokens": len(tokenizer),
        "bos": tokenizer.bos_token or "",
        "eos": tokenizer.eos_token or "",
        "pad": tokenizer.pad_token or "",
        "front": " ".join(tokenizer.convert_ids_to_tokens(front_tokens(tokenizer))),
        "chat_template": bool(tokenizer.chat_template),
    }
