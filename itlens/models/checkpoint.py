"""A checkpoint as a Hugging Face model and its tokenizer: complete, finite, in the requested dtype.

Every way in which files can be wrong ends in a ModelError of one sentence: truncated or unreadable weights, weights of
other shapes than the config says, weights that are missing (transformers would fill them with random numbers), weights
for which the config has no place (transformers would leave them out), weights that are NaN or infinite, a tokenizer
that is not there. Weights that no text model uses are named in a notice.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from itlens.errors import ModelError
from itlens.foreign import foreign
from itlens.models.adapter import Adapter, cast, generation_settings, refuse_adapter_folder
from itlens.models.architectures import BUILDERS, architecture_of, config_facts
from itlens.models.configuration import repaired_config
from itlens.models.gguf_bulk import read_in_bulk
from itlens.models.gguf_copy import copies_are_kept, copy_of, keep_copy
from itlens.models.gguf_header import read_header
from itlens.models.gguf_settings import refuse_other_angles, refuse_unread_tensors, stop_tokens
from itlens.models.given import refuse_unreadable
from itlens.models.locate import Located, locate_tokenizer, read_config, safetensors_of
from itlens.models.memory import give_back
from itlens.models.quiet import building, quiet
from itlens.models.tensor_files import TensorFiles
from itlens.models.tokenizer_file import as_its_file_says
from itlens.models.traits import stored_names
from itlens.tokenization import Tokenizer, TokenizerLike

# what checkpoints hold beside the weights of a text model, and why it may be left out
_UNUSED = {
    r"rotary_emb\.inv_freq$": "rotary tables, which the config determines",
    r"(attn|attention)\.(masked_)?bias$|(^|\.)position_ids$": "masks and positions, which every model has",
    r"(^|\.)v_head\.": "a value head, which only reinforcement learning uses",
    r"(^|\.)mtp\.": "heads that guess further tokens ahead",
    r"(^|\.)(vision_tower|vision_model|visual|multi_modal_projector|audio_tower)\.": "parts that read images or sound",
}
_PLAIN = ("float64", "float32", "float16", "bfloat16")  # precisions of weights that are read tensor by tensor
_ADAPTED = re.compile(r"\.base_layer\.|\.lora_|\.modules_to_save\.|\.original_module\.|^base_model\.model\.")


def read_model_config(place: Located, *, trust_remote_code: bool = False) -> Any:
    """Return the config of a checkpoint. Raises ModelError for a folder that holds an adapter, and as `read_config`."""
    refuse_adapter_folder(place)
    return read_config(place, trust_remote_code=trust_remote_code)


def load_checkpoint(place: Located, config: Any, dtype: torch.dtype, *, trust_remote_code: bool = False) -> Any:
    """Return the Hugging Face model of a checkpoint, complete, in `dtype`, on the CPU, with eager attention."""
    if place.gguf is not None:
        return _load_gguf(place, config, dtype, trust_remote_code=trust_remote_code)
    if _outgrows_files(place, config):
        check_places(place, config, trust_remote_code=trust_remote_code)
    model = _loaded(place, config, dtype=dtype, attn_implementation="eager", trust_remote_code=trust_remote_code)
    refuse_unreadable(model, place.name)
    return model


def _load_gguf(place: Located, config: Any, dtype: torch.dtype, *, trust_remote_code: bool) -> Any:
    """Return the model of a .gguf file, from its converted copy, which is made where there is none yet."""
    copied, model = _converted(place, config, dtype, trust_remote_code=trust_remote_code)
    if copied is None:
        cast(model, dtype)
        return model
    del model
    give_back()
    return load_checkpoint(copied, read_config(copied), dtype)


def converted_gguf(place: Located, config: Any) -> Located | None:
    """Return the converted copy of a .gguf file as a folder, made where there is none yet; None where none is kept."""
    if not copies_are_kept() or architecture_of(config) not in BUILDERS:
        return None
    copied = _converted(place, config, torch.float32)[0]
    give_back()
    return copied


def _converted(
    place: Located, config: Any, dtype: torch.dtype, *, trust_remote_code: bool = False
) -> tuple[Located | None, Any]:
    """Return the copy of a .gguf file (None where none is kept), and the model where it had to be read for it."""
    known = architecture_of(config) in BUILDERS  # of others transformers joins and splits tensors
    copied = copy_of(place, "model") if known else None
    if copied is not None:
        return copied, None
    options = {"attn_implementation": "eager", "trust_remote_code": trust_remote_code}
    with read_in_bulk():
        model = _loaded(place, config, dtype=torch.float32 if known else dtype, **options)
    refuse_unreadable(model, place.name)
    header = read_header(place)
    if known:
        refuse_unread_tensors(model, header, place.name)
    refuse_other_angles(model, header, place.name)
    model.generation_config.eos_token_id = stop_tokens(header) or model.generation_config.eos_token_id
    refuse_not_finite(model, place.name)
    size = sum(parameter.numel() for parameter in model.parameters()) * torch.float32.itemsize
    return (keep_copy(place, "model", partial(_write_model, model), size) if known else None), model


def _write_model(model: Any, folder: Path) -> None:
    """Write a model that was read from a .gguf file as a checkpoint of its own."""
    with quiet():
        plain = copy.deepcopy(model.config)
        plain.architectures, plain.dtype = [architecture_of(plain)], torch.float32
        for name in ("quantization_config", "_pre_quantization_dtype"):
            vars(plain).pop(name, None)
        plain.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)
        tensors = {id(tensor): (name, tensor) for name, tensor in reversed(list(model.named_parameters()))}
        named = {name: tensor.detach().contiguous() for name, tensor in tensors.values()}
        save_file(named, folder / "model.safetensors", metadata={"format": "pt"})


def check_places(place: Located, config: Any, *, trust_remote_code: bool = False) -> None:
    """Raise ModelError where weights are missing or have no place in the model of this config; nothing is kept in
    memory. The tensors of a .gguf file are left to the loading."""
    if place.gguf is None:
        _loaded(place, config, device_map="meta", trust_remote_code=trust_remote_code)


def _outgrows_files(place: Located, config: Any) -> bool:
    """Whether the config describes more weights than the files have bytes: transformers would first fill the memory
    with random ones, and then say which are missing."""
    facts = config_facts(config)
    layers, width, inner = (int(facts[name] or 0) for name in ("layers", "d_model", "d_mlp"))
    least = layers * width * (width + 2 * inner) + width * int(facts["vocabulary"])
    held = sum(path.stat().st_size for path in place.folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    return place.gguf is None and least > held


def _loaded(place: Located, config: Any, **options: Any) -> Any:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

    _refuse_integers(place, config)
    state = _state(place, config, options["dtype"]) if can_be_filled(place, config) and "dtype" in options else None
    files: dict[str, Any] = (
        {"gguf_file": place.gguf, "local_files_only": True} if state is None else {"state_dict": state}
    )
    kind: Any = AutoModelForCausalLM if state is None else MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    with foreign(ModelError, f"The weights of {place.name} cannot be loaded"), building():
        loaded: Any = kind.from_pretrained(
            place.folder if state is None else None,
            **files,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # its error names neither the weight nor the sizes; refused below
            **options,
        )
    model, info = loaded
    if state is not None:
        model.config.name_or_path = str(place.folder)
        model.generation_config = generation_settings(place) or model.generation_config
    _refuse_other_sizes(place, info)
    _refuse_missing(place, info)
    _refuse_unused(place, config, info["unexpected_keys"])
    return model


def can_be_filled(place: Located, config: Any) -> bool:
    """Whether an empty model is filled tensor by tensor from these files: plain numbers in safetensors, of an
    architecture whose tensors are stored as the model has them. Others are loaded by transformers alone."""
    if place.gguf is not None or getattr(config, "quantization_config", None) or "auto_map" in vars(config):
        return False
    if architecture_of(config) not in BUILDERS or not (paths := safetensors_of(place.folder)):
        return False
    kinds = stored_names(place)
    whole = all(path.is_file() for path in paths) and bool(kinds)
    return whole and all(kind in _PLAIN or _reason_unused(key) is not None for key, kind in kinds.items())


def _state(place: Located, config: Any, dtype: torch.dtype) -> dict[str, Tensor] | None:
    """Return the tensors of a checkpoint in `dtype`, one converted after another; None where its files are broken, as
    transformers then says."""
    try:
        files = TensorFiles(place)
        used = [key for key in files.tensors if files.tensors[key].plain and 0 not in files.tensors[key].shape]
        return {key: files.converted(key, dtype) for key in used}
    except ModelError:
        return None


def ready(model: Any, device: str, name: str) -> Any:
    """Return the same model on `device`, in evaluation mode, its weights finite (else ModelError)."""
    refuse_not_finite(model, name)
    return model.to(device).eval()


def _refuse_integers(place: Located, config: Any) -> None:
    """Raise ModelError for weights stored as integers where no quantization says what they mean: transformers would
    read them as if they were the weights."""
    if getattr(config, "quantization_config", None):
        return
    kinds = {key: kind for key, kind in stored_names(place).items() if key.endswith("weight") and kind[:1] in "IU"}
    for key, kind in kinds.items():
        raise ModelError(
            f"{len(kinds)} weights of {place.name} are stored as integers (such as {key}, {kind}), and config.json "
            "names no quantization that says what they mean; give the model in float32, bfloat16 or float16."
        )


def _refuse_other_sizes(place: Located, info: Any) -> None:
    others = sorted(info["mismatched_keys"], key=str)
    if others:
        name, held, expected = others[0]
        raise ModelError(
            f"{len(others)} weights of {place.name} have other sizes than its config.json leads to (such as {name}: "
            f"{tuple(held)} in its files, {tuple(expected)} by the config); correct config.json, or fetch both again."
        )


def _refuse_missing(place: Located, info: Any) -> None:
    missing = sorted(info["missing_keys"])
    if missing:
        names = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise ModelError(
            f"{len(missing)} weights of {place.name} are missing and would be random ({names}); "
            "the files are incomplete or belong to another architecture than config.json says."
        )


def _refuse_unused(place: Located, config: Any, unexpected: Iterable[str]) -> None:
    unused = sorted(key for key in unexpected if _reason_unused(key) is None)
    if not unused:
        return
    names = ", ".join(unused[:3]) + (" ..." if len(unused) > 3 else "")
    remedy = (
        "they are those of an adapter that was not merged: merge it (merge_and_unload) and save the model again, or "
        "give its folder with --adapter (adapter=)"
        if any(map(_ADAPTED.search, unused))
        else "the model would compute something else than the one that was saved: correct config.json (biases, the "
        f"number of layers, which is {config.get_text_config().num_hidden_layers}), or save the model again"
    )
    raise ModelError(
        f"{len(unused)} weights of {place.name} have no place in the model that its config.json describes ({names}); "
        f"{remedy}."
    )


def _reason_unused(key: str) -> str | None:
    return next((reason for pattern, reason in _UNUSED.items() if re.search(pattern, key)), None)


def unused_weights(keys: Iterable[str]) -> list[str]:
    """Return a sentence on each kind of weights, of those named, that are left out without harm."""
    counts: dict[str, int] = {}
    for key in keys:
        reason = _reason_unused(key)
        if reason is not None:
            counts[reason] = counts.get(reason, 0) + 1
    return [f"{count} weights are not used: {reason}" for reason, count in counts.items()]


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


def _write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    with quiet():
        tokenizer.save_pretrained(folder)


def load_tokenizer(place: Located, *, trust_remote_code: bool = False) -> Any:
    """Return the tokenizer that lies next to a checkpoint's weights. Raises ModelError when there is none."""
    from transformers import AutoTokenizer

    copied = copy_of(place, "tokenizer")
    if copied is not None:
        return load_tokenizer(copied)
    remedy = "To load the model with another one, pass tokenizer= (a tokenizer, or a folder or hub id that has one)."
    reading = quiet() if place.gguf is None else read_in_bulk()
    with foreign(ModelError, f"No tokenizer can be loaded from {place.name}", remedy), reading:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            place.folder,
            config=repaired_config(place),
            gguf_file=place.gguf,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
        )
    if place.gguf is not None:
        keep_copy(place, "tokenizer", lambda folder: _write_tokenizer(tokenizer, folder))
    return as_its_file_says(tokenizer, place)


def resolve_tokenizer(
    tokenizer: TokenizerLike,
    place: Located | None,
    *,
    adapter: Adapter | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """Return the tokenizer to use: the given object, the one at the given name, or the one next to the weights.

    An adapter's own tokenizer goes before that of its base, and so does a chat template that lies beside the adapter
    alone. `tokenizer=False` asks for none (a model that is only fed token ids).
    """
    if tokenizer is False:
        return None
    if isinstance(tokenizer, (str, Path)):
        return load_tokenizer(locate_tokenizer(tokenizer), trust_remote_code=trust_remote_code)
    if tokenizer is not None:
        return tokenizer
    if adapter is not None and adapter.has_tokenizer():
        return load_tokenizer(Located(adapter.name, adapter.folder), trust_remote_code=trust_remote_code)
    own = load_tokenizer(place, trust_remote_code=trust_remote_code) if place is not None else None
    template = adapter.template() if adapter is not None else None
    if own is not None and template is not None:
        own.chat_template = template
    return own
