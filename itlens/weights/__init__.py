"""Weights: the parameters of one layer at a time, in one form for every model class.

Probes of weights read a `Weights`, never a model's stacked `W_Q` (which copies every layer). What the two model classes
of TransformerLens spell differently is settled here: key and value heads that are shared by groups of query heads, RMS
norm gains that a checkpoint stores less one (Gemma), embeddings that are scaled before they are used (Gemma), and which
norm a feed-forward layer reads (parallel blocks may have one for both halves, OLMo 2 and 3 have none before it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from itlens.errors import ModelError
from itlens.models.architectures import cfg_facts
from itlens.models.hooked_model import HookedModel, refuse_no_model
from itlens.models.source import source_of

_NORM_AFTER = ("Olmo2ForCausalLM", "Olmo3ForCausalLM")  # their "ln2" normalises what the MLP writes, not what it reads


@dataclass(frozen=True)
class AttentionWeights:
    """One attention layer. Query head h reads key and value head h // (heads / key_value_heads).

    gain: of the norm before attention, as the model applies it; out_gain: of the one after it (Gemma 2 and 3). Ones
    where there is no such norm.
    """

    W_Q: Float[Tensor, "heads d_model d_head"]
    W_K: Float[Tensor, "key_value_heads d_model d_head"]
    W_V: Float[Tensor, "key_value_heads d_model d_head"]
    W_O: Float[Tensor, "heads d_head d_model"]
    gain: Float[Tensor, " d_model"]
    out_gain: Float[Tensor, " d_model"]


@dataclass(frozen=True)
class MlpWeights:
    """One feed-forward layer: columns of W_in (and W_gate) are keys, rows of W_out values. W_gate: None in a plain MLP.

    gain: of the norm that the MLP reads, as the model applies it; out_gain: of the one after it (Gemma 2 and 3). Ones
    where there is no such norm.
    """

    W_in: Float[Tensor, "d_model d_mlp"]
    W_gate: Float[Tensor, "d_model d_mlp"] | None
    W_out: Float[Tensor, "d_mlp d_model"]
    gain: Float[Tensor, " d_model"]
    out_gain: Float[Tensor, " d_model"]


@runtime_checkable
class Weights(Protocol):
    """What probes of weights read. Tensors come in the checkpoint's dtype and on its device.

    facts: "layers", "heads", "key_value_heads", "d_model", "d_head", "vocabulary" ... (`itlens.models.architectures`).
    attrs: what a result says of its model: model, revision, backend, dtype, architecture.
    """

    facts: dict[str, Any]
    attrs: dict[str, str]
    tokenizer: Any  # a `Tokenizer`, or None

    def attention(self, layer: int) -> AttentionWeights:
        """Return the attention of one layer, norm included."""

    def mlp(self, layer: int) -> MlpWeights:
        """Return the feed-forward half of one layer, norm included. Raises ModelError where there is not exactly
        one."""

    def embed(self, ids: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """Return the rows of W_E as they enter the residual stream."""

    def unembed(self, ids: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """Return the columns of W_U, as rows."""

    def final_gain(self) -> Float[Tensor, " d_model"]:
        """Return the gain of the norm before the unembedding; ones where there is none."""


class ModelWeights:
    """The `Weights` of a loaded HookedTransformer or TransformerBridge; nothing is copied but small gains."""

    def __init__(self, model: HookedModel) -> None:
        source = source_of(model)
        self._model = model
        self._offset = 1.0 if getattr(model.cfg, "rmsnorm_uses_offset", False) else 0.0  # bridges say so, of raw gains
        self.facts = cfg_facts(model.cfg)
        self.tokenizer = source.tokenizer
        self.attrs = {
            "model": source.name if source.adapter is None else f"{source.name} + {source.adapter}",
            "revision": source.revision,
            "backend": source.backend,
            "dtype": source.dtype,
            "architecture": source.architecture,
        }

    def attention(self, layer: int) -> AttentionWeights:
        """Return the attention of one layer, norm included."""
        block = self._model.blocks[layer]
        attn = block.attn
        return AttentionWeights(
            W_Q=attn.W_Q.detach(),
            W_K=self._shared(attn, "W_K"),
            W_V=self._shared(attn, "W_V"),
            W_O=attn.W_O.detach(),
            gain=self._gain(getattr(block, "ln1", None)),
            out_gain=self._gain(getattr(block, "ln1_post", None)),
        )

    def mlp(self, layer: int) -> MlpWeights:
        """Return the feed-forward half of one layer, norm included. Raises ModelError where there is not exactly
        one."""
        block = self._model.blocks[layer]
        mlp = getattr(block, "mlp", None)
        self._refuse_experts(mlp, layer)
        W_in, W_gate, W_out = (getattr(mlp, name, None) for name in ("W_in", "W_gate", "W_out"))
        if W_in is None or W_out is None:
            raise ModelError(f"Layer {layer} of {self.attrs['model']} has no feed-forward layer with W_in and W_out.")
        before, after = self._mlp_norms(block)
        return MlpWeights(
            W_in=W_in.detach(),
            W_gate=None if W_gate is None else W_gate.detach(),
            W_out=W_out.detach(),
            gain=self._gain(before),
            out_gain=self._gain(after),
        )

    def embed(self, ids: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """Return the rows of W_E as they enter the residual stream; the model's own embedding knows whether it scales
        them."""
        with torch.no_grad():
            rows: Tensor = self._model.embed(ids.to(self._model.W_E.device)[None])[0].detach()
        return rows

    def unembed(self, ids: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """Return the columns of W_U, as rows."""
        W_U: Tensor = self._model.W_U.detach()
        return W_U[:, ids.to(W_U.device)].T

    def final_gain(self) -> Float[Tensor, " d_model"]:
        """Return the gain of the norm before the unembedding; ones where there is none."""
        return self._gain(getattr(self._model, "ln_final", None))

    def _refuse_experts(self, mlp: object, layer: int) -> None:
        experts = getattr(mlp, "experts", None)
        if experts is None or getattr(mlp, "bound_dense", False):  # some mixtures have plain layers in between
            return
        cfg = self._model.cfg
        names = ("num_experts", "num_local_experts", "n_routed_experts")
        count = next((number for name in names if (number := getattr(cfg, name, None))), None)
        raise ModelError(
            f"Layer {layer} of {self.attrs['model']} is a mixture of {count or 'several'} experts; expected one "
            "feed-forward layer: keys and values of experts cannot be read yet."
        )

    def _mlp_norms(self, block: object) -> tuple[object, object]:
        """Return the norms before and after the MLP."""
        own, shared = getattr(block, "ln2", None), getattr(block, "ln1", None)
        if self.facts["architecture"] in _NORM_AFTER:
            return None, own
        parallel = getattr(self._model.cfg, "parallel_attn_mlp", False)
        return (shared if own is None and parallel else own), getattr(block, "ln2_post", None)

    def _gain(self, norm: object) -> Tensor:
        weight = getattr(norm, "w", None)  # a norm whose gain was folded into the weights has none
        like = self._model.W_E.detach()
        if weight is None:
            return torch.ones(like.shape[1], dtype=like.dtype, device=like.device)
        return weight.detach() + self._offset

    def _shared(self, attn: object, name: str) -> Tensor:
        """Return W_K or W_V per key-value head: HookedTransformer expands the plain name to all heads, and copies."""
        weight = getattr(attn, f"_{name}", None)
        weight = getattr(attn, name) if weight is None else weight
        if weight.shape[0] != self.facts["key_value_heads"]:
            raise ModelError(
                f"{name} of {self.attrs['model']} holds {weight.shape[0]} heads; expected its "
                f"{self.facts['key_value_heads']} key-value heads."
            )
        return weight.detach()


class WeightPair(NamedTuple):
    """The weights of a base and of a tuned model of one shape."""

    base: Weights
    tuned: Weights


def weights_of(model_or_weights: HookedModel | Weights, call: str = "weights_of") -> Weights:
    """Return the `Weights` of a model; a `Weights` is returned as it is.

    call: what the user called. Raises ModelError for anything else.
    """
    if isinstance(model_or_weights, Weights):
        return model_or_weights
    refuse_no_model(model_or_weights, call)
    return ModelWeights(model_or_weights)
