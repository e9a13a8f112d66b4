"""What a name leads to: the facts that `itlens inspect` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from itlens.errors import ModelError
from itlens.foreign import foreign
from itlens.models.adapter import Adapter, Fit, fit, generation_settings, read_adapter
from itlens.models.architectures import BUILDERS, architecture_of, config_facts
from itlens.models.build import official_name
from itlens.models.checkpoint import read_model_config, resolve_tokenizer, unused_weights
from itlens.models.compatibility import adapter_notices
from itlens.models.hooked_model import Backend, backend_in_use
from itlens.models.load import dtype_name, ends_of, load_model, resolve_device
from itlens.models.locate import Located, local_path, locate, split_revision
from itlens.models.quiet import building
from itlens.models.source import place_fingerprint, source_of
from itlens.models.traits import settings_of_config, shown, stored_names, stored_precision
from itlens.tokenization import Tokenizer, TokenizerLike, front_tokens


def describe_model(
    name_or_path: str | Path,
    *,
    adapter: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "float32",
    tokenizer: TokenizerLike = None,
    backend: Backend = "hooked",
    trust_remote_code: bool = False,
    check: bool = True,
    revision: str | None = None,
) -> dict[str, Any]:
    """Return a flat dict on a model: its shape, parameters, special tokens, and how it will be loaded.

    name, revision, architecture, layers, heads, key_value_heads, d_model, d_head, d_mlp, vocabulary, context,
    parameters (tied ones counted once), tokens (the tokenizer's), bos, eos, pad, front (the special tokens put in front
    of a text), chat_template (bool), tokenizer_source and template_source (where each was read), stop (the tokens that
    end a response), rotary (its settings), stored (precision of the files), unused_weights, backend, conversion, dtype,
    device, adapter; with one, adapter_type, adapter_base (the model it names), adapter_coverage and adapter_notes; with
    check=True the model is loaded, and the load check's figures follow as check_max_difference,
    check_relative_difference, check_argmax_agreement.

    Raises ModelError as `load_model` does.
    """
    backend = backend_in_use(backend)
    alias, own_revision = split_revision(str(name_or_path))
    official = None if local_path(str(name_or_path)).exists() else official_name(alias)
    place = locate(official or name_or_path, revision=(own_revision if official else None) or revision)
    config = read_model_config(place, trust_remote_code=trust_remote_code)
    read = read_adapter(adapter) if adapter is not None else None
    own = resolve_tokenizer(tokenizer, place, adapter=read, trust_remote_code=trust_remote_code)
    facts = config_facts(config)
    merged = None if read is None else fit(read, config, str(name_or_path), trust_remote_code=trust_remote_code)
    if merged is not None:
        facts["vocabulary"] = merged.vocabulary
    settings = (read and read.generation_settings()) or (None if place.gguf else generation_settings(place)) or config
    found = {
        "name": str(name_or_path),
        "revision": place_fingerprint(place, adapter),
        **facts,
        "parameters": _parameters(config, str(name_or_path), trust_remote_code)
        if merged is None
        else merged.parameters,
        **_tokens(own),
        **_sources(tokenizer, place, read, own),
        "stop": _stop_tokens(own, ends_of(settings)),
        "rotary": shown(settings_of_config(config)[0]),
        "stored": stored_precision(place),
        "unused_weights": "; ".join(unused_weights(stored_names(place))),
        "backend": backend,
        "conversion": conversion_of(config, backend),
        "dtype": dtype_name(dtype),
        "device": resolve_device(device),
        "adapter": str(adapter) if adapter is not None else "",
        **_adapter_facts(read, merged, [str(name_or_path), str(getattr(config, "_name_or_path", ""))], dtype),
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
    source = source_of(model)
    found["stop"] = _stop_tokens(own, source.stop)
    if source.notices:
        found["adapter_notes"] = "; ".join(dict.fromkeys([*filter(None, [found["adapter_notes"]]), *source.notices]))
    return found | {f"check_{name}": value for name, value in source.check.items()}


def conversion_of(config: Any, backend: str) -> str:
    """Return how a model of this config is converted: "bridge", "itlens" or "transformer_lens"."""
    if backend == "bridge":
        return "bridge"
    return "itlens" if architecture_of(config) in BUILDERS else "transformer_lens"


def _parameters(config: Any, name: str, trust_remote_code: bool) -> int:
    from transformers import AutoModelForCausalLM

    what = f"No model can be made from the config of {name}"
    with foreign(ModelError, what), building(), torch.device("meta"):  # shapes without memory
        return int(AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code).num_parameters())


def _tokens(tokenizer: Tokenizer | None) -> dict[str, Any]:
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


def _sources(given: Any, place: Located, adapter: Adapter | None, tokenizer: Tokenizer) -> dict[str, str]:
    """Return where tokenizer and chat template were read."""
    beside = place.name
    if given is not None:
        beside = "" if given is False else str(getattr(given, "name_or_path", "") or given)
    elif adapter is not None and adapter.has_tokenizer():
        beside = adapter.name
    template = beside if tokenizer is not None and tokenizer.chat_template else ""
    if given is None and adapter is not None and adapter.template() is not None:
        template = adapter.name
    return {"tokenizer_source": beside, "template_source": template}


def _stop_tokens(tokenizer: Tokenizer | None, ids: tuple[int, ...]) -> str:
    if tokenizer is None:
        return " ".join(map(str, ids))
    end = tokenizer.eos_token_id
    every = dict.fromkeys([*ids, *([] if end is None else [end])])
    return " ".join(str(token) for token in tokenizer.convert_ids_to_tokens(list(every)))


def _adapter_facts(adapter: Adapter | None, found: Fit | None, names: list[str], dtype: Any) -> dict[str, str]:
    if adapter is None or found is None:
        return {}
    return {
        "adapter_type": adapter.kind,
        "adapter_base": adapter.base,
        "adapter_coverage": found.coverage(),
        "adapter_notes": "; ".join(adapter_notices(adapter, found, names, dtype)),
    }
