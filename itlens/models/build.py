"""From a Hugging Face model to a HookedTransformer (unprocessed weights) or a TransformerBridge.

The HookedTransformer takes over the Hugging Face tensors as views, so that loading holds one set of weights, not
three. Input and output embeddings that are tied in the checkpoint share their memory here too: write to neither in
place, or copy them first.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from itlens.errors import ModelError
from itlens.foreign import foreign
from itlens.models.architectures import BUILDERS, SUPPORTED, architecture_of, hooked_fields
from itlens.models.convert import hooked_weights
from itlens.models.layout import free_layout
from itlens.models.locate import split_revision
from itlens.models.quiet import building
from itlens.results.provenance import hooked_exists
from itlens.tokenization import Tokenizer, front_tokens


def to_hooked(
    source: Any, *, dtype: torch.dtype, device: str, tokenizer: Tokenizer | None, name: str, share: bool
) -> Any:
    """Return a HookedTransformer from a Hugging Face model of a known architecture.

    share: take over the tensors (the Hugging Face model is about to be dropped) instead of copying them.
    """
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    fields = hooked_fields(source.config)
    with building():
        cfg = HookedTransformerConfig(**fields, dtype=dtype, device=device, model_name=name)
        # parameters are allocated and not touched (init_weights is false): they cost address space, not memory
        model = HookedTransformer(cfg, move_to_device=False)
    _fill(model, source, share)
    nn.Module.to(model, device)  # the buffers; HookedTransformer's own `to` prints
    free_layout(model)
    return _finished(model, tokenizer)


@torch.no_grad()
def _fill(model: Any, source: Any, share: bool) -> None:
    empty = {name for name, _ in model.named_parameters()}
    for name, tensor in hooked_weights(source, model.cfg):
        owner, _, leaf = name.rpartition(".")
        parameters = model.get_submodule(owner)._parameters
        if leaf not in parameters or parameters[leaf].shape != tensor.shape:
            raise ModelError(
                f"The weight {name} has shape {tuple(tensor.shape)}, which its config does not lead to; "
                'load this model with backend="bridge".'
            )
        parameters[leaf] = nn.Parameter(_own(tensor.detach(), model.cfg.dtype, share), requires_grad=False)
        empty.discard(name)
    # biases start as zeros; any other parameter that was not filled would be uninitialised memory
    left = sorted(name for name in empty if not name.rpartition(".")[2].lstrip("_").startswith("b"))
    if left:
        raise ModelError(f'The checkpoint has no values for {left[0]}; load this model with backend="bridge".')


def _own(tensor: Tensor, dtype: torch.dtype, share: bool) -> Tensor:
    return tensor.to(dtype) if share or tensor.dtype != dtype else tensor.clone()


def to_official(source: Any, official: str, *, dtype: torch.dtype, device: str, tokenizer: Tokenizer | None) -> Any:
    """Return a HookedTransformer through TransformerLens' own conversion, for the architectures it knows by official
    name."""
    from transformer_lens import HookedTransformer

    with foreign(ModelError, f"TransformerLens cannot load {official}"), building():
        model = HookedTransformer.from_pretrained_no_processing(
            official, hf_model=source, tokenizer=tokenizer, dtype=dtype, device=device
        )
    free_layout(model)
    return _finished(model, tokenizer)


def official_name(name: str) -> str | None:
    """Return the name under which TransformerLens knows a hub id or alias, or None."""
    if not hooked_exists():  # TransformerLens 4 keeps no table of names
        return None
    from transformer_lens.loading_from_pretrained import make_model_alias_map

    return make_model_alias_map().get(name.lower())


def to_bridge(source: Any, *, dtype: torch.dtype, device: str, tokenizer: Tokenizer | None, name: str) -> Any:
    """Return a TransformerBridge around the Hugging Face model itself (its modules are taken over, nothing is
    copied)."""
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    if source.config._attn_implementation != "eager":
        source.set_attn_implementation("eager")  # the fused kernels have no hooks and no forward-mode derivative
    what = f"TransformerBridge cannot wrap {name} ({architecture_of(source.config)})"
    with foreign(ModelError, what), building():
        bridge = build_bridge_from_module(
            source,
            architecture_of(source.config),
            hf_config=source.config,
            dtype=dtype,
            device=device,
            model_name=name,
        )
    return _finished(bridge, tokenizer)


def _finished(model: Any, tokenizer: Tokenizer | None) -> Any:
    """Set evaluation mode, no parameter gradients, and the tokenizer by its own rule for special tokens in front."""
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if tokenizer is None:
        return model
    # TransformerLens' set_tokenizer would load another tokenizer (add_bos_token=True) from the path or the hub
    own = _settings_apart(tokenizer)
    if own.pad_token is None:
        own.pad_token = own.eos_token
    own.padding_side = "right"  # padding on the left switches on an attention mask that drops real tokens
    front = front_tokens(tokenizer)
    model.tokenizer = own
    model.cfg.tokenizer_prepends_bos = bool(front) and front[0] == tokenizer.bos_token_id
    model.cfg.default_prepend_bos = model.cfg.tokenizer_prepends_bos
    return model


def _settings_apart(tokenizer: Tokenizer) -> Any:
    """Return a tokenizer with the same vocabulary (shared: Gemma's takes 300 MB) and settings of its own."""
    own = copy.copy(tokenizer)
    own.__dict__.update({name: dict(value) for name, value in vars(tokenizer).items() if isinstance(value, dict)})
    return own


def refuse_unsupported(config: Any, name: str) -> None:
    """Raise ModelError when neither this package nor TransformerLens (by official name) can convert the model."""
    if architecture_of(config) not in BUILDERS and official_name(split_revision(name)[0]) is None:
        raise ModelError(
            f'{name} has the architecture {architecture_of(config)}, which backend="hooked" cannot convert; supported: '
            f'{", ".join(SUPPORTED)}, and the official hub names of TransformerLens. Try backend="bridge".'
        )
