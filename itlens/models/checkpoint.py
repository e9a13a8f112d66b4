"""A checkpoint as a Hugging Face model and its tokenizer: complete, finite, in the requested dtype, adapter merged.

Every way in which files can be wrong ends in a ModelError of one sentence: truncated or unreadable weights, weights of
other shapes than the config says, weights that are missing (transformers would fill them with random numbers), weights
that are NaN or infinite, an adapter for another model, a tokenizer that is not there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from itlens.errors import ModelError
from itlens.foreign import foreign
from itlens.models.architectures import BUILDERS, architecture_of
from itlens.models.configuration import repaired_config
from itlens.models.gguf_header import read_header
from itlens.models.gguf_settings import refuse_other_angles, refuse_unread_tensors, stop_tokens
from itlens.models.given import refuse_unreadable
from itlens.models.locate import Place, locate_adapter, locate_tokenizer
from itlens.models.quiet import quiet
from itlens.models.tokenizer_file import as_its_file_says


def load_checkpoint(place: Place, config: Any, dtype: torch.dtype, *, trust_remote_code: bool = False) -> Any:
    """Return the Hugging Face model of a checkpoint, complete, in `dtype`, on the CPU, with eager attention."""
    from transformers import AutoModelForCausalLM

    with foreign(ModelError, f"The weights of {place.name} cannot be loaded"), quiet():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            place.folder,
            config=config,
            gguf_file=place.gguf,
            dtype=dtype,
            attn_implementation="eager",
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
        )
    model, info = loaded
    _refuse_missing(place, info)
    refuse_unreadable(model, place.name)
    if place.gguf is not None:
        header = read_header(place)
        if architecture_of(config) in BUILDERS:  # of others transformers joins and splits tensors
            refuse_unread_tensors(model, header, place.name)
        refuse_other_angles(model, header, place.name)
        model.generation_config.eos_token_id = stop_tokens(header) or model.generation_config.eos_token_id
    return model


def ready(model: Any, device: str, name: str) -> Any:
    """Return the same model on `device`, in evaluation mode, its weights finite (else ModelError)."""
    refuse_not_finite(model, name)
    return model.to(device).eval()


def _refuse_missing(place: Place, info: Any) -> None:
    missing = sorted(info["missing_keys"])
    if missing:
        names = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise ModelError(
            f"{len(missing)} weights of {place.name} are missing and would be random ({names}); "
            "the files are incomplete or belong to another architecture than config.json says."
        )


def refuse_not_finite(model: Any, name: str) -> None:
    """Raise ModelError naming the first parameter that holds NaN or infinity."""
    for key, parameter in model.named_parameters():
        if parameter.numel() and parameter.is_floating_point():
            low, high = torch.aminmax(parameter.detach())  # both become NaN when any value is; no copy of the weights
            if not (torch.isfinite(low) and torch.isfinite(high)):
                kind = str(parameter.dtype).removeprefix("torch.")
                raise ModelError(
                    f"The weight {key} of {name} holds NaN or infinity in {kind}; the checkpoint is broken, or its "
                    "numbers do not fit this dtype."
                )


def merged(model: Any, adapter: str, name: str) -> Any:
    """Return the model with a PEFT adapter's weights added into its own. Raises ModelError when it does not fit."""
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ModelError(
            f'Loading the adapter {adapter} needs the peft package: pip install "itlens[peft]".'
        ) from error
    found = locate_adapter(adapter)
    with foreign(ModelError, f"The adapter {adapter} does not fit {name}"), quiet():
        return PeftModel.from_pretrained(model, str(found.folder)).merge_and_unload()


def load_tokenizer(place: Place, *, trust_remote_code: bool = False) -> Any:
    """Return the tokenizer that lies next to a checkpoint's weights. Raises ModelError when there is none."""
    from transformers import AutoTokenizer

    remedy = "To load the model with another one, pass tokenizer= (a tokenizer, or a folder or hub id that has one)."
    with foreign(ModelError, f"No tokenizer can be loaded from {place.name}", remedy), quiet():
        tokenizer = AutoTokenizer.from_pretrained(
            place.folder,
            config=repaired_config(place),
            gguf_file=place.gguf,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
        )
    return as_its_file_says(tokenizer, place)


def resolve_tokenizer(tokenizer: Any, place: Place | None, *, trust_remote_code: bool = False) -> Any:
    """Return the tokenizer to use: the given object, the one at the given name, or the one next to the weights.

    `tokenizer=False` asks for none (a model that is only fed token ids).
    """
    if tokenizer is False:
        return None
    if isinstance(tokenizer, (str, Path)):
        return load_tokenizer(locate_tokenizer(tokenizer), trust_remote_code=trust_remote_code)
    if tokenizer is None:
        return load_tokenizer(place, trust_remote_code=trust_remote_code) if place is not None else None
    return tokenizer
