"""A PEFT adapter merged into one tensor at a time, where the base is read from files and never loaded.

PEFT itself puts the adapter on a model of the base's config whose tensors take no memory (every entry of a tensor is
one and the same number), checks that it fits, and later adds the update to the one tensor that is lent to it. What is
merged is what `itlens.models.adapter.merged` gives for a loaded model, whatever the kind of adapter.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from itlens.errors import ModelError
from itlens.foreign import foreign
from itlens.models.adapter import (
    ADAPTER_NAME,
    PREFIX,
    Adapter,
    adapted_layers,
    embedding_rows,
    merge_layer,
    replaced_modules,
    untie,
    with_adapter,
)
from itlens.models.precision import HALF
from itlens.models.quiet import building


class AdapterLayers:
    """The modules that an adapter changes. dtype: the precision in which a model would be loaded to merge it.

    Raises ModelError where the adapter does not fit a model of this config, or fits in part.
    """

    def __init__(
        self, adapter: Adapter, config: Any, name: str, dtype: torch.dtype, *, trust_remote_code: bool = False
    ) -> None:
        from transformers import AutoModelForCausalLM

        with foreign(ModelError, f"The adapter {adapter.name} does not fit {name}"), building():
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(copy.deepcopy(config), trust_remote_code=trust_remote_code)
            rows = embedding_rows(model, adapter, name)
            if rows is not None:
                model.resize_token_embeddings(rows, mean_resizing=False)
            self.vocabulary = int(model.get_input_embeddings().weight.shape[0])
            ends = {"embed": model.get_input_embeddings(), "head": model.get_output_embeddings()}
            names = {id(module): key for key, module in model.named_modules()}
            self._ends = {end: f"{names[id(module)]}.weight" for end, module in ends.items()}
            # embeddings in the adapter's own file are read from it, and need a place
            saved = {end for end in self._ends.values() if _holds(adapter, end)}
            _without_memory(model, dtype, saved)
            wrapped = with_adapter(model, adapter, name)
            untie(wrapped)
        self._layers, self._replaced = adapted_layers(wrapped), replaced_modules(wrapped)
        plain = wrapped.get_base_model()
        self._saved = {key: _weight_of(plain.get_submodule(key.rpartition(".")[0])) for key in saved}

    def changes(self, key: str) -> bool:
        """Whether the adapter changes this weight, by its name in the base model."""
        module, _, leaf = key.rpartition(".")
        return key in self._saved or module in self._replaced or (module in self._layers and leaf == "weight")

    def end(self, which: str) -> str:
        """Return the name of the weight of the input ("embed") or output ("head") embedding in the base model."""
        return self._ends[which]

    @torch.no_grad()
    def merged(self, key: str, weight: Tensor) -> Tensor:
        """Return a weight with the adapter's update added, in float32 (or better); the given tensor is not written."""
        module, _, leaf = key.rpartition(".")
        if module in self._replaced:
            held: Tensor = getattr(self._replaced[module].modules_to_save[ADAPTER_NAME], leaf)
            return held.detach()
        weight = self._saved.get(key, weight)
        if module not in self._layers:
            return weight
        layer = self._layers[module]
        base = layer.get_base_layer()
        lent = base.weight
        # PEFT adds in place, and a mapped file is not to be written
        base.weight = nn.Parameter(weight.float() if weight.dtype in HALF else weight.clone(), requires_grad=False)
        try:
            merge_layer(layer)
            found: Tensor = base.weight.detach()
        finally:
            base.weight = lent
            layer.merged_adapters.clear()
        return found


def _holds(adapter: Adapter, key: str) -> bool:
    """Whether the adapter's file holds this weight of the base model whole."""
    module = key.removesuffix(".weight")
    return any(f"{PREFIX}{module}{mark}.weight" in adapter.weights for mark in ("", ".base_layer"))


def _weight_of(module: Any) -> Tensor:
    weight: Tensor = getattr(module, "base_layer", module).weight
    return weight.detach()


def _without_memory(model: Any, dtype: torch.dtype, but: set[str]) -> None:
    """Give every parameter of a model on the meta device a value that takes no memory: one zero, seen everywhere. but:
    those that get a value of their own."""
    shared: dict[int, nn.Parameter] = {}  # tied parameters stay tied
    for front, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in shared:
                zeros = torch.zeros((), dtype=dtype).expand(parameter.shape)
                own = zeros.clone(memory_format=torch.contiguous_format) if f"{front}.{name}" in but else zeros
                shared[id(parameter)] = nn.Parameter(own, requires_grad=False)
            setattr(module, name, shared[id(parameter)])
