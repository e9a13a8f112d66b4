"""A PEFT adapter: everything that its folder says, checked before a base model is loaded, and merged in float32.

1. Read (`read_adapter`): what adapter_config.json names, and weights that are whole and finite; kinds that have nothing
   to merge (prompt tuning, prefix tuning) are refused.
2. Fit (`fit`): PEFT itself puts the adapter on a model of the base's config that has shapes and no memory. Every module
   that the adapter's config selects must have its weights in the file, and every weight of the file a place in the
   model: an adapter that fits in part would be merged in part. Resized embeddings in the file resize the model.
3. Merge (`merged`): module by module in float32, rounded once to the model's precision: added in half precision,
   updates below half a step of a weight would vanish, and more of them than rounding the sum loses.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from itlens.errors import ModelError
from itlens.files import read_bytes
from itlens.foreign import foreign, read_settings
from itlens.models.check import BOUNDS, figures, reference_logits
from itlens.models.locate import Located, locate_adapter
from itlens.models.precision import HALF
from itlens.models.quiet import building, quiet

PREFIX = "base_model.model."  # PEFT puts it before every name of the base model
ADAPTER_NAME = "default"  # under which PEFT keeps a single adapter
_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json")
_TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True)
class Adapter:
    """A whole, finite adapter that can be merged. kind: PEFT's word for it; base: the model it names as its own."""

    name: str
    folder: Path
    kind: str
    base: str
    config: Any
    weights: dict[str, Tensor]

    def has_tokenizer(self) -> bool:
        """Whether a tokenizer lies beside the weights."""
        return any((self.folder / file).is_file() for file in _TOKENIZERS)

    def template(self) -> str | None:
        """Return the chat template beside the weights, or None."""
        path = self.folder / _TEMPLATE
        return read_bytes(path).decode("utf-8", "replace") if path.is_file() else None

    def generation_settings(self) -> Any:
        """Return the generation settings beside the weights (where responses end), or None."""
        return generation_settings(Located(self.name, self.folder))


@dataclass(frozen=True)
class Fit:
    """How an adapter fits a model. modules: those it changes; idle: those of them whose update is zero.

    vocabulary: embeddings of the merged model; parameters: their number in the merged model, tied ones once.
    """

    modules: tuple[str, ...]
    idle: tuple[str, ...]
    vocabulary: int
    parameters: int

    def coverage(self) -> str:
        """Say how many modules the adapter changes."""
        idle = f", {len(self.idle)} of them by zero" if self.idle else ""
        return f"all {len(self.modules)} modules that it selects have weights{idle}"


def refuse_adapter_folder(place: Located) -> None:
    """Raise ModelError where an adapter was given as a model (transformers would load another model in its place)."""
    path = place.folder / "adapter_config.json"
    if place.gguf is not None or not path.is_file():
        return
    held = read_settings(path, ModelError, f"The adapter_config.json of {place.name}")
    named = held.get("base_model_name_or_path")
    of = f" of {named}" if named else ""
    if (place.folder / "config.json").is_file() and any(place.folder.glob("model*.safetensors")):
        raise ModelError(
            f"The folder {place.name} holds a model and a PEFT adapter{of}; remove adapter_config.json where the "
            "adapter is merged already, or give the adapter in a folder of its own with --adapter (adapter=)."
        )
    raise ModelError(
        f"{place.name} is a PEFT adapter{of}, not a model; give its base model"
        f"{f' ({named})' if named else ''} as the model and this folder with --adapter (adapter=)."
    )


def read_adapter(adapter: str | Path) -> Adapter:
    """Return an adapter's config and weights. Raises ModelError for what is missing, broken or cannot be merged."""
    found = locate_adapter(adapter)
    held = read_settings(found.folder / "adapter_config.json", ModelError, f"The adapter_config.json of {adapter}")
    try:
        from peft import PeftConfig, PeftType
        from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
        from peft.tuners.tuners_utils import BaseTuner
        from peft.utils.save_and_load import load_peft_weights
    except ImportError as error:
        raise ModelError(
            f'Loading the adapter {adapter} needs the peft package: pip install "itlens[peft]".'
        ) from error
    kind = str(held.get("peft_type") or "").upper()
    if kind not in {known.value for known in PeftType}:
        raise ModelError(
            f"The adapter_config.json of {adapter} has the peft_type {held.get('peft_type')!r}, which the installed "
            "peft does not know; expected LORA or another kind of adapter that changes weights."
        )
    tuner = PEFT_TYPE_TO_TUNER_MAPPING.get(PeftType(kind))
    if tuner is None or not issubclass(tuner, BaseTuner):
        raise ModelError(
            f"The adapter {adapter} is of the type {kind}, which adds virtual tokens or states beside the text and has "
            "no weights to merge into a model; expected an adapter that changes weights, such as LoRA."
        )
    with foreign(ModelError, f"The adapter {adapter} cannot be read"), quiet():
        config = PeftConfig.from_pretrained(str(found.folder))
    for setting in ("layer_replication", "alora_invocation_tokens"):
        if getattr(config, setting, None):
            raise ModelError(
                f"The adapter {adapter} uses {setting}, which no merged model of the base's shape computes; expected "
                "an adapter that changes weights only."
            )
    if not any((found.folder / file).is_file() for file in _FILES):
        raise ModelError(f"The adapter {adapter} holds no weights; expected {_FILES[0]} beside adapter_config.json.")
    with foreign(ModelError, f"The weights of the adapter {adapter} cannot be read"), quiet():
        weights = load_peft_weights(str(found.folder), device="cpu")
    for key, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"The weight {key} of the adapter {adapter} holds NaN or infinity; the file is broken.")
    return Adapter(str(adapter), found.folder, kind, str(held.get("base_model_name_or_path") or ""), config, weights)


def fit(adapter: Adapter, config: Any, name: str, *, trust_remote_code: bool = False) -> Fit:
    """Return how an adapter fits a model of this config, without the model's weights. Raises ModelError where it fits
    in part or not at all."""
    from transformers import AutoModelForCausalLM

    with foreign(ModelError, f"The adapter {adapter.name} does not fit {name}"), building():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(copy.deepcopy(config), trust_remote_code=trust_remote_code)
        wrapped = with_adapter(model, adapter, name, without_memory=True)
        modules = tuple(sorted({**adapted_layers(wrapped), **replaced_modules(wrapped)}))
        untie(wrapped)
        plain = wrapped.unload()
    return Fit(
        modules, _idle(adapter, modules), int(plain.config.get_text_config().vocab_size), int(plain.num_parameters())
    )


@torch.no_grad()
def merged(model: Any, adapter: Adapter, name: str, dtype: torch.dtype, ids: list[int]) -> tuple[Any, tuple[str, ...]]:
    """Return the model with an adapter's weights added into its own, and what to know of it, a sentence each.

    dtype: the precision that the model will have. ids: a short text; the merged model must compute on it what PEFT
    computes without merging ([], or a model in half precision: not compared). Raises ModelError where the adapter does
    not fit.
    """
    with foreign(ModelError, f"The adapter {adapter.name} does not fit {name}"), building():
        wrapped = with_adapter(model, adapter, name)
        # in half precision the two round in other places, and differ by more than a wrong merge would
        expected = reference_logits(wrapped, ids) if ids and model.dtype not in HALF else None
        untie(wrapped)
        change = _merge(wrapped, dtype)
        whole = wrapped.merge_and_unload()
    if expected is not None:
        _refuse_other(expected, reference_logits(whole, ids), adapter.name, name)
    return whole, tuple(change.notices(adapter.name, dtype))


def cast(model: Any, dtype: torch.dtype) -> None:
    """Give a Hugging Face model's parameters another precision, in place; its rotary tables stay in float32."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype


def generation_settings(place: Located) -> Any:
    """Return the generation settings in a folder, or None where there are none."""
    from transformers import GenerationConfig

    if not (place.folder / "generation_config.json").is_file():
        return None
    with foreign(ModelError, f"The generation_config.json of {place.name} cannot be read"), quiet():
        return GenerationConfig.from_pretrained(place.folder, local_files_only=True)


def with_adapter(model: Any, adapter: Adapter, name: str, *, without_memory: bool = False) -> Any:
    """Return PEFT's model with the adapter on it, complete (else ModelError)."""
    from peft import PeftModel

    rows = embedding_rows(model, adapter, name)
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)
    wrapped = PeftModel(model, copy.deepcopy(adapter.config), ADAPTER_NAME, low_cpu_mem_usage=without_memory)
    _refuse_partial(wrapped, adapter, name)
    report = wrapped.load_adapter(
        str(adapter.folder), ADAPTER_NAME, torch_device="cpu", low_cpu_mem_usage=without_memory
    )
    _refuse_partial(wrapped, adapter, name, report.missing_keys, report.unexpected_keys)
    return wrapped


def embedding_rows(model: Any, adapter: Adapter, name: str) -> int | None:
    """Return the embeddings that the adapter brings where they are more or fewer than the model's, else None."""
    own = int(model.get_input_embeddings().weight.shape[0])
    parts = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
    names = {id(module): key for key, module in model.named_modules()}
    rows: dict[str, int] = {}
    for part, module in parts.items():
        for ending in ("", ".base_layer", ".modules_to_save"):
            saved = adapter.weights.get(f"{PREFIX}{names.get(id(module))}{ending}.weight")
            if saved is not None:
                rows[part] = int(saved.shape[0])
    if all(number == own for number in rows.values()):
        return None
    if len(rows) < len(parts) or len({*rows.values()}) > 1:
        held = " and ".join(f"{number} {part} embeddings" for part, number in rows.items())
        raise ModelError(
            f"The adapter {adapter.name} holds {held}, but {name} has {own} of each; for a resized vocabulary the "
            "adapter's file must hold both: save it again with save_embedding_layers=True."
        )
    return rows["input"]


def _refuse_partial(
    wrapped: Any, adapter: Adapter, name: str, missing: Sequence[str] = (), unplaced: Sequence[str] = ()
) -> None:
    """Raise ModelError where modules have no weights in the file, or weights no place in the model. missing, unplaced:
    as PEFT reports them; modules_to_save, of which it reports nothing, are looked up."""
    modules = sorted({**adapted_layers(wrapped), **replaced_modules(wrapped)})
    saved = [key.removeprefix(PREFIX) for key in adapter.weights]
    bare = {module for module in replaced_modules(wrapped) if not any(key.startswith(f"{module}.") for key in saved)}
    lacking = [key.removeprefix(PREFIX) for key in missing]
    bare |= {module for module in modules if any(key.startswith(f"{module}.") for key in lacking)}
    if not bare and not unplaced:
        return
    count = len(modules) - len(bare)
    problems = [f"{count} of the {len(modules)} modules that it selects have their weights in its file"]
    if bare:
        problems[0] += f" (missing: {_some(sorted(bare))})"
    if unplaced:
        problems.append(f"{len(unplaced)} of its {len(saved)} weights have no place in the model ({_some(unplaced)})")
    raise ModelError(
        f"The adapter {adapter.name} fits {name} {'in part' if count else 'nowhere'}: {', and '.join(problems)}; "
        "merged like this it would change only a part of the model, or nothing. Give the base model that it was "
        "trained on, or save the adapter again from the unwrapped model."
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def adapted_layers(wrapped: Any) -> dict[str, Any]:
    """Return the modules to which the adapter adds something, by their name in the base model."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    named = wrapped.named_modules()
    return {name.removeprefix(PREFIX): module for name, module in named if isinstance(module, BaseTunerLayer)}


def replaced_modules(wrapped: Any) -> dict[str, Any]:
    """Return the modules that the adapter holds whole (modules_to_save), by their name in the base model."""
    from peft.utils.other import ModulesToSaveWrapper

    named = wrapped.named_modules()
    return {name.removeprefix(PREFIX): module for name, module in named if isinstance(module, ModulesToSaveWrapper)}


def _idle(adapter: Adapter, modules: tuple[str, ...]) -> tuple[str, ...]:
    """Return the modules whose update is zero as the file says: LoRA starts with B = 0."""
    if adapter.kind != "LORA" or getattr(adapter.config, "use_dora", False):
        return ()
    by_module: dict[str, list[Tensor]] = {}
    for key, tensor in adapter.weights.items():
        for mark in (".lora_B", ".lora_embedding_B"):
            module, found, _ = key.removeprefix(PREFIX).partition(mark)
            if found:
                by_module.setdefault(module, []).append(tensor)
    return tuple(module for module in modules if module in by_module and not any(map(torch.any, by_module[module])))


def untie(wrapped: Any) -> None:
    """Give every adapted module a weight of its own: added to a tied one, an update would reach the other end too."""
    owners: dict[int, int] = {}
    for module in wrapped.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    for layer in adapted_layers(wrapped).values():
        base = layer.get_base_layer()
        for key, parameter in list(base.named_parameters(recurse=False)):
            if owners[id(parameter)] > 1:
                setattr(base, key, nn.Parameter(parameter.detach().clone(), requires_grad=False))


@dataclass
class _Change:
    """What merging changed. moved: weights that another value was added to; lost: of these, those that rounding to the
    model's precision sets back."""

    modules: int = 0
    changed: int = 0
    moved: int = 0
    lost: int = 0

    def notices(self, name: str, dtype: torch.dtype) -> Iterator[str]:
        """Yield what a reader of results must know."""
        if not self.changed:
            yield never_trained(name)
        elif self.changed < self.modules:
            yield f"the adapter {name} changes {self.changed} of the {self.modules} modules that it selects"
        if self.lost:
            kind = str(dtype).removeprefix("torch.")
            yield (
                f"{self.lost / self.moved:.0%} of the weights that the adapter {name} changes did not move: their "
                f"update is lost in rounding to {kind}; load in float32 to keep it"
            )


def never_trained(name: str) -> str:
    """Return the notice on an adapter whose update is zero everywhere."""
    return (
        f"the adapter {name} was never trained and changes nothing (its update is zero): the tuned model is the "
        "base, and every difference is zero"
    )


def _merge(wrapped: Any, dtype: torch.dtype) -> _Change:
    """Merge every adapted module in float32 (or better), round it once, and count."""
    change = _Change()
    for layer in adapted_layers(wrapped).values():
        base = layer.get_base_layer()
        kept = {key: parameter.detach().clone() for key, parameter in base.named_parameters(recurse=False)}
        merge_layer(layer)
        moved = 0
        for key, before in kept.items():
            parameter = getattr(base, key)
            moves = parameter.data != before.to(parameter.dtype)
            moved += int(moves.sum())
            change.lost += int((moves & (parameter.data.to(dtype) == before.to(dtype))).sum())
            parameter.data = parameter.data.to(before.dtype)
        change.modules += 1
        change.changed += moved > 0
        change.moved += moved
    for module in replaced_modules(wrapped).values():
        pairs = zip(module.modules_to_save[ADAPTER_NAME].parameters(), module.original_module.parameters(), strict=True)
        change.modules += 1
        change.changed += any(not torch.equal(own, other) for own, other in pairs)
    return change


def merge_layer(layer: Any) -> None:
    """Add an adapter's update to the weights of one module, in float32 (or better)."""
    for parameter in layer.get_base_layer().parameters(recurse=False):
        if parameter.dtype in HALF:
            parameter.data = parameter.data.float()
    layer.merge()


def _refuse_other(expected: Tensor, own: Tensor, adapter: str, name: str) -> None:
    found, bound = figures(expected, own)["relative_difference"], BOUNDS[own.dtype]
    if not found <= bound:
        raise ModelError(
            f"The adapter {adapter} merged into {name} does not compute what PEFT computes without merging: logits "
            f"differ by {found:.1e} of the largest (allowed {bound:.0e}); this kind of adapter cannot be merged here, "
            "or the model has another precision than it was trained in. check=False loads it anyway."
        )
