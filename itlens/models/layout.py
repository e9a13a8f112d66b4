"""The same weights in the memory layout that HookedTransformer's forward pass reads without copying.

HookedTransformer transposes its weights on every forward pass (`W_in.T.contiguous()`, `rearrange(W_Q, ...)`) to match
Hugging Face's linear maps; on ordinary storage each of those is a copy of the whole matrix, 60 % of a forward pass of
a 135M model. A parameter stored as a transposed (or permuted) view of a contiguous matrix makes the transposition a
view. Shapes and values stay as they are; only strides change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

View = Callable[[Tensor], Tensor]


def _transposed(weight: Tensor) -> Tensor:
    return weight.T


def _heads_first(weight: Tensor) -> Tensor:
    return rearrange(weight, "head d_model d_head -> head d_head d_model")  # and back


def _model_first(weight: Tensor) -> Tensor:
    return rearrange(weight, "head d_head d_model -> d_model head d_head")


def _model_last(weight: Tensor) -> Tensor:
    return rearrange(weight, "d_model head d_head -> head d_head d_model")


# parameter name -> (the form that the forward pass wants contiguous, the way back)
_FORMS: dict[str, tuple[View, View]] = {
    "W_Q": (_heads_first, _heads_first),
    "W_K": (_heads_first, _heads_first),
    "W_V": (_heads_first, _heads_first),
    "_W_K": (_heads_first, _heads_first),
    "_W_V": (_heads_first, _heads_first),
    "W_O": (_model_first, _model_last),
}


def _relaid(module: nn.Module, name: str, there: View, back: View) -> None:
    parameter = module._parameters.get(name)
    if parameter is None or there(parameter).is_contiguous():
        return
    parameter.data = back(there(parameter.data).contiguous())


@torch.no_grad()
def free_layout(model: Any) -> None:
    """Give a HookedTransformer's weights the layout above, in place, one matrix at a time.

    Parameters that already have it are left alone. Plain (not gated) feed-forward layers multiply by W_in and W_out as
    they are and need nothing. A TransformerBridge runs Hugging Face's own modules and needs nothing either.
    """
    for block in model.blocks:
        for name, (there, back) in _FORMS.items():
            _relaid(block.attn, name, there, back)
        mlp = getattr(block, "mlp", None)
        if mlp is not None and "W_gate" in mlp._parameters:
            for name in ("W_in", "W_gate", "W_out"):
                _relaid(mlp, name, _transposed, _transposed)
    _relaid(model.unembed, "W_U", _transposed, _transposed)
