"""A Hugging Face model that the caller made: what can be read of it, and that it is given back as it was.

(`ModelRecipe` is a model that is given as a way to make it, and made when it is loaded.)

For the load check it is run in evaluation mode with eager attention (fused kernels leave out Gemma 2's caps on
attention scores). Both are the caller's settings, and so they are put back; its tensors are neither moved nor written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch

from itlens.errors import ModelError


class ModelRecipe(ABC):
    """A model that is made when it is loaded: `load_model` calls `made`, and a pair calls `side` before."""

    @abstractmethod
    def made(self, **options: Any) -> Any:
        """Return the loaded model. options: of `load_model`."""

    @abstractmethod
    def side(self, which: str, **options: Any) -> Any:
        """Return what is known of the model without its weights (`itlens.models.compatibility.Side`)."""


_READABLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def refuse_unreadable(model: Any, name: str) -> None:
    """Raise ModelError for weights that are not in memory (meta, offloaded), or are not plain numbers (quantised)."""
    for key, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_meta:
            raise ModelError(
                f"The weight {key} of {name} is on the meta device: its values are not in memory (offloaded by "
                'accelerate, or never loaded). Load the model without device_map="auto", or give its folder.'
            )
    kind = _quantised(model)
    if kind:
        raise ModelError(
            f"The weights of {name} are quantised ({kind}), and cannot be read as matrices; load the model without "
            "quantization, or call its dequantize() first."
        )


def _quantised(model: Any) -> str:
    """Return what the weights are quantised as; "" where they are plain numbers."""
    kinds = {parameter.dtype for parameter in model.parameters()} - set(_READABLE)
    if kinds:
        return ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
    if not getattr(model, "is_quantized", False):
        return ""
    method = getattr(model, "quantization_method", None)
    name = str(getattr(method, "value", method) or "by its configuration")
    return "" if name == "gguf" else name  # transformers says so of .gguf files that it has made plain numbers of


@contextmanager
def evaluated(model: Any) -> Iterator[None]:
    """Put a model into evaluation mode with eager attention; leave its settings as they were."""
    training = [(module, module.training) for module in model.modules()]
    attention = model.config._attn_implementation
    try:
        model.eval()
        if attention != "eager":
            model.set_attn_implementation("eager")
        yield
    finally:
        for module, mode in training:
            module.training = mode
        if attention != "eager":
            model.set_attn_implementation(attention)
