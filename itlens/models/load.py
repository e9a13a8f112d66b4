"""`load_model`: a checkpoint, however it is given, as a model that every probe can read.

1. Find the files (`locate`) and decide the architecture from the config. 2. Load the Hugging Face model in the
   requested dtype, refuse missing, unused and non-finite weights (`checkpoint`), merge an adapter (`adapter`). 3. Run
   it on a short text. 4. Convert it without any processing of the weights (`build`), and drop it. 5. Run the converted
   model on the same text and refuse a difference (`check`). 6. Note where it came from (`source`).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from itlens.errors import ModelError
from itlens.foreign import foreign
from itlens.models.adapter import Adapter, cast, merged, read_adapter
from itlens.models.architectures import BUILDERS, architecture_of, config_facts
from itlens.models.build import official_name, refuse_unsupported, to_bridge, to_hooked, to_official
from itlens.models.check import check_ids, own_logits, reference_logits, refuse_different
from itlens.models.checkpoint import load_checkpoint, read_model_config, ready, refuse_not_finite, resolve_tokenizer
from itlens.models.gguf_copy import copies
from itlens.models.given import ModelRecipe, evaluated, refuse_unreadable
from itlens.models.hooked_model import Backend, HookedModel, backend_in_use
from itlens.models.locate import Located, local_path, locate, split_revision
from itlens.models.memory import give_back, trim
from itlens.models.precision import HALF
from itlens.models.running import own_precision
from itlens.models.source import ModelSource, attach, object_fingerprint, place_fingerprint, source_of
from itlens.models.traits import stored_precision
from itlens.tokenization import Tokenizer, TokenizerLike

DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16")}


@own_precision()
@torch.inference_mode(False)  # weights that are made in it can take no part in derivatives
def load_model(
    name_or_path: Any,
    *,
    adapter: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    tokenizer: TokenizerLike = None,
    backend: Backend | None = None,
    trust_remote_code: bool | None = None,
    check: bool | None = None,
    revision: str | None = None,
    cache: bool | None = None,
) -> HookedModel:
    """Return a `HookedTransformer` (backend "hooked", unprocessed weights) or `TransformerBridge` (backend "bridge").

    TransformerLens 4 has no HookedTransformer: there "hooked" means "bridge", and the first load warns.

    name_or_path: a hub id, a local Hugging Face folder (whatever it is called), a .gguf file, or a loaded object: a
    Hugging Face model (copied for "hooked", taken over by "bridge"), or a HookedTransformer or TransformerBridge,
    which is returned as it is. adapter: a PEFT adapter (folder or hub id) merged before conversion. device: default
    CUDA where there is one, else CPU. dtype: float32 (the default), float64, float16 or bfloat16. tokenizer: an object,
    a folder or hub id; default the one next to the weights; False for none. backend: default "hooked".
    trust_remote_code: run a checkpoint's own code; default False. check: compare logits with Hugging Face; default
    True. revision: of a hub id, also as name@revision. cache: keep a converted copy of a .gguf file, and use it;
    default True. Of an interpolation, what is not given is as its pair is loaded. The model is in evaluation mode and
    no parameter asks for gradients. `source_of(model)` tells where it is from and the check's figures.

    Raises ModelError: not found, unreadable, incomplete or non-finite weights, an unknown architecture, no tokenizer,
    or logits that differ from Hugging Face's by more than rounding.
    """
    if isinstance(name_or_path, ModelRecipe):
        same = {
            **{"device": device, "dtype": dtype, "tokenizer": tokenizer, "backend": backend, "revision": revision},
            **{"trust_remote_code": trust_remote_code, "check": check, "cache": cache},
        }
        return _from_recipe(name_or_path, adapter, {name: each for name, each in same.items() if each is not None})
    backend = backend_in_use("hooked" if backend is None else backend)
    check = True if check is None else check
    source = ModelSource(
        name=str(name_or_path) if isinstance(name_or_path, (str, Path)) else type(name_or_path).__name__,
        revision="",
        backend=backend,
        dtype=dtype_name("float32" if dtype is None else dtype),
        device=resolve_device(device),
        adapter=str(adapter) if adapter is not None else None,
    )
    model: HookedModel
    if isinstance(name_or_path, (str, Path)):
        with copies(cache is not False):
            model = _from_files(source, tokenizer, bool(trust_remote_code), check, revision)
    elif hasattr(name_or_path, "hook_dict"):
        model = _as_given(name_or_path, source, tokenizer)
    else:
        model = _from_object(name_or_path, source, tokenizer, check)
    return model


def _from_recipe(recipe: ModelRecipe, adapter: Any, same: dict[str, Any]) -> HookedModel:
    if adapter is not None:
        raise ModelError("An adapter can only be merged into a Hugging Face model, not into an interpolation.")
    made: HookedModel = recipe.made(**same)
    return made


def dtype_name(dtype: str | torch.dtype) -> str:
    """Return the name of one of the four supported dtypes. Raises ModelError for any other."""
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ModelError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}.")
    return name


def resolve_device(device: str | torch.device | None) -> str:
    """Return the device to load on: CUDA where there is one, else CPU. Raises ModelError for one that is not there."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    with foreign(ModelError, f"The device {str(device)!r} is not available here", 'Try device="cpu".'):
        torch.empty(0, device=device)
    return str(device)


def _from_files(
    source: ModelSource, tokenizer: TokenizerLike, remote_code: bool, check: bool, revision: str | None
) -> Any:
    # an alias or official name of TransformerLens ("gpt2-small"), unless a folder of that name lies here
    official = None if local_path(source.name).exists() else official_name(split_revision(source.name)[0])
    own = split_revision(source.name)[1] if official is not None else None  # an alias may name a revision as well
    place = locate(official or source.name, revision=revision if own is None else own, weights=True, code=remote_code)
    config = read_model_config(place, trust_remote_code=remote_code)
    if source.backend == "hooked":
        refuse_unsupported(config, source.name)
    adapter = read_adapter(source.adapter) if source.adapter is not None else None
    own_tokenizer = resolve_tokenizer(tokenizer, place, adapter=adapter, trust_remote_code=remote_code)
    trim()  # what reading a large vocabulary took, before the weights come on top of it
    dtype = DTYPES[source.dtype]
    model = load_checkpoint(place, config, _wide(dtype, place, adapter), trust_remote_code=remote_code)
    if adapter is not None:
        model, source = _with_adapter(model, adapter, source, own_tokenizer, check)
        cast(model, dtype)
    model = ready(model, source.device, source.name)
    revision = place_fingerprint(place, source.adapter)
    return _converted(model, replace(source, revision=revision, tokenizer=own_tokenizer), check, official, share=True)


def _wide(dtype: torch.dtype, place: Located, adapter: Adapter | None) -> torch.dtype:
    """Return the precision to load in: the requested one, or a wider one in which an adapter is merged before
    rounding."""
    if adapter is None or dtype not in HALF or stored_precision(place) == dtype_name(dtype):
        return dtype
    return torch.float32


def _with_adapter(
    model: Any, adapter: Adapter, source: ModelSource, tokenizer: Tokenizer, check: bool
) -> tuple[Any, ModelSource]:
    """Return the model with the adapter merged, and the source with what merging found."""
    ids = _check_ids(model, tokenizer) if check else []
    model, notices = merged(model, adapter, source.name, DTYPES[source.dtype], ids)
    model.generation_config = adapter.generation_settings() or model.generation_config
    return model, replace(source, notices=notices)


def _check_ids(model: Any, tokenizer: Tokenizer) -> list[int]:
    facts = config_facts(model.config)
    return check_ids(tokenizer, facts["vocabulary"], min(64, facts["context"] or 64))


def _from_object(model: Any, source: ModelSource, tokenizer: TokenizerLike, check: bool) -> Any:
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise ModelError(
            f"load_model got a {type(model).__name__}; expected a name, a path, a Hugging Face model, a "
            "HookedTransformer or a TransformerBridge (merge a PEFT model first: merge_and_unload())."
        )
    source = replace(source, name=model.config._name_or_path or type(model).__name__)
    refuse_unreadable(model, source.name)
    if any(".base_layer." in key for key, _ in model.named_parameters()):
        raise ModelError(
            f"The {type(model).__name__} that load_model got has adapter layers that are not merged, which a converted "
            "model would leave out; merge them first: PeftModel.merge_and_unload()."
        )
    adapter = read_adapter(source.adapter) if source.adapter is not None else None
    own_tokenizer = resolve_tokenizer(tokenizer, None, adapter=adapter)
    if adapter is not None:
        model = copy.deepcopy(model)  # merging writes into the weights
        if model.dtype in HALF and model.dtype != DTYPES[source.dtype]:
            cast(model, torch.float32)
        model, source = _with_adapter(model, adapter, source, own_tokenizer, check)
    refuse_not_finite(model, source.name)
    source = replace(source, revision=object_fingerprint(model), tokenizer=own_tokenizer)
    if source.backend == "bridge":  # takes the model over
        return _converted(ready(model, source.device, source.name), source, check, None, share=False)
    return _converted(model, source, check, None, share=False)


def _converted(model: Any, source: ModelSource, check: bool, official: str | None, *, share: bool) -> Any:
    """Convert a Hugging Face model and compare; `share` says that its tensors may be taken over."""
    architecture, dtype = architecture_of(model.config), DTYPES[source.dtype]
    ids = _check_ids(model, source.tokenizer) if check else []
    with evaluated(model):
        reference = reference_logits(model, ids) if check else None
    source = replace(
        source,
        architecture=architecture,
        parameters=int(model.num_parameters()),
        stop=ends_of(getattr(model, "generation_config", None)),
    )
    how = {"dtype": dtype, "device": source.device, "tokenizer": source.tokenizer}
    if source.backend == "bridge":
        conversion, own = "bridge", to_bridge(model, name=source.name, **how)
    elif architecture in BUILDERS:
        conversion, own = "itlens", to_hooked(model, name=source.name, share=share, **how)
    else:
        conversion, own = "transformer_lens", to_official(model, official or source.name, **how)
    del model
    # a Hugging Face model waits for no collector; what merges adapters or converts in other ways may leave cycles
    give_back(collect=conversion == "transformer_lens" or source.adapter is not None)
    found = refuse_different(reference, own_logits(own, ids), source.name) if reference is not None else {}
    del reference
    trim()  # the comparison's logits; what a probe needs would come on top of them
    return attach(own, replace(source, conversion=conversion, check=found))


def ends_of(settings: Any) -> tuple[int, ...]:
    """Return the ids at which a checkpoint's generation settings stop (chat models often have several)."""
    named = getattr(settings, "eos_token_id", None)
    if named is None:
        return ()
    return (int(named),) if isinstance(named, int) else tuple(int(number) for number in named)


def _as_given(model: Any, source: ModelSource, tokenizer: TokenizerLike) -> Any:
    """Return a HookedTransformer or TransformerBridge that the caller made: noted, not changed."""
    if source.adapter is not None:
        raise ModelError("An adapter can only be merged into a Hugging Face model; load that with adapter=.")
    noted = source_of(model)
    own = resolve_tokenizer(tokenizer, None) if tokenizer is not None else noted.tokenizer
    return attach(model, replace(noted, tokenizer=own))
