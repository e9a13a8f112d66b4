"""Which tensor of a checkpoint's files holds which parameter of a layer, by architecture, and how it is cut.

A `Piece` is one parameter: the name of the tensor that holds it (without ".weight"), the tensor's shape in the letters
below, and a view of it in the form of `itlens.weights`. Hugging Face stores a linear map as (out, in); GPT-2 stores
(in, out). Fused maps are one tensor with several pieces: query, key and value of GPT-2 (side by side), of GPT-NeoX
(head by head) and of Phi-3 (below one another), gate and input of Phi-3.

Letters: d d_model, q heads x d_head, k key-value heads x d_head, m d_mlp, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from einops import rearrange
from torch import Tensor

from itlens.models.convert import inputs_by_head, outputs_by_head

Facts: TypeAlias = Mapping[str, Any]
Cut: TypeAlias = Callable[[Tensor, Facts], Tensor]
Half: TypeAlias = Literal["attention", "mlp"]
HALVES: tuple[Half, Half] = ("attention", "mlp")


@dataclass(frozen=True)
class Piece:
    """One parameter: the tensor that holds it, that tensor's shape in letters ("q d"), and how it is cut from it."""

    tensor: str
    shape: str
    cut: Cut


@dataclass(frozen=True)
class NameMap:
    """Where an architecture keeps its weights. Names are without ".weight"; those of `layer` are within one layer.

    base: what stands before all names but the head's (left out in some files). attention, mlp: parameters and gains of
    a layer; a gain that is not named is one. head: names under which the unembedding may be stored. unread: further
    tensors that every such model has, and that no probe of weights reads. offset: what a norm's gain is stored less;
    scaled: whether the embedding is multiplied by sqrt(d_model).
    """

    base: str
    layer: str
    embed: str
    final: str
    attention: Mapping[str, Piece]
    mlp: Mapping[str, Piece]
    head: tuple[str, ...] = ("lm_head",)
    unread: tuple[str, ...] = ()
    offset: float = 0.0
    scaled: bool = False

    def pieces(self, half: Half, layer: int) -> dict[str, Piece]:
        """Return the parameters of one half of a layer, with the tensors' whole names."""
        held = self.attention if half == "attention" else self.mlp
        front = f"{self.base}.{self.layer}.{layer}."
        return {name: replace(piece, tensor=f"{front}{piece.tensor}.weight") for name, piece in held.items()}

    def ends(self) -> dict[str, str]:
        """Return the tensors of the embedding and of the final norm, and their shapes."""
        return {f"{self.base}.{self.embed}.weight": "v d", f"{self.base}.{self.final}.weight": "d"}

    def known(self, layers: int) -> Iterator[str]:
        """Yield the names of all tensors that such a model may have, biases included."""
        for name in (f"{self.base}.{self.embed}", f"{self.base}.{self.final}", *self.head):
            yield from (f"{name}.weight", f"{name}.bias")
        for name in self.unread:
            if "{}" not in name:
                yield f"{self.base}.{name}"
        for layer in range(layers):
            front = f"{self.base}.{self.layer}.{layer}."
            for piece in (*self.attention.values(), *self.mlp.values()):
                yield from (f"{front}{piece.tensor}.weight", f"{front}{piece.tensor}.bias")
            yield from (front + name.removeprefix("{}.") for name in self.unread if "{}" in name)


def sizes(shape: str, facts: Facts) -> tuple[int, ...]:
    """Return the shape that letters stand for in a model of these facts: "q d", "q+k+k d", "2m d"."""
    letters = {
        "d": facts["d_model"],
        "q": facts["heads"] * facts["d_head"],
        "k": facts["key_value_heads"] * facts["d_head"],
        "m": facts["d_mlp"],
        "v": facts["vocabulary"],
    }
    return tuple(sum(letters[letter] for letter in axis.split("+")) for axis in shape.split())


def _plain(tensor: Tensor, facts: Facts) -> Tensor:
    return tensor


def _transposed(tensor: Tensor, facts: Facts) -> Tensor:
    return tensor.T


def _queries(tensor: Tensor, facts: Facts) -> Tensor:
    return outputs_by_head(tensor, facts["heads"])


def _keys(tensor: Tensor, facts: Facts) -> Tensor:
    return outputs_by_head(tensor, facts["key_value_heads"])


def _outputs(tensor: Tensor, facts: Facts) -> Tensor:
    return inputs_by_head(tensor, facts["heads"])


def _below(place: int) -> Cut:
    """Cut queries (0), keys (1) or values (2) from a map that has them below one another."""

    def cut(tensor: Tensor, facts: Facts) -> Tensor:
        counts = [facts["heads"], facts["key_value_heads"], facts["key_value_heads"]]
        parts = tensor.split([count * facts["d_head"] for count in counts])
        return outputs_by_head(parts[place], counts[place])

    return cut


def _beside(place: int) -> Cut:
    """Cut queries (0), keys (1) or values (2) from a transposed map that has them side by side."""

    def cut(tensor: Tensor, facts: Facts) -> Tensor:
        parts = rearrange(tensor, "d_model (qkv head d_head) -> qkv head d_model d_head", qkv=3, head=facts["heads"])
        return parts[place]

    return cut


def _by_head(place: int) -> Cut:
    """Cut queries (0), keys (1) or values (2) from a map whose rows are (head, query / key / value, d_head)."""

    def cut(tensor: Tensor, facts: Facts) -> Tensor:
        parts = rearrange(tensor, "(head qkv d_head) d_model -> qkv head d_model d_head", qkv=3, head=facts["heads"])
        return parts[place]

    return cut


def _output_rows(tensor: Tensor, facts: Facts) -> Tensor:
    return rearrange(tensor, "(head d_head) d_model -> head d_head d_model", head=facts["heads"])


def _half(place: int) -> Cut:
    """Cut the gate (0) or the input (1) from a map that has the one below the other."""
    return lambda tensor, facts: tensor.chunk(2)[place].T


def _gain(tensor: str) -> Piece:
    return Piece(tensor, "d", _plain)


def _separate(front: str, output: str) -> dict[str, Piece]:
    """Query, key, value and output maps as four tensors."""
    return {
        "W_Q": Piece(f"{front}.q_proj", "q d", _queries),
        "W_K": Piece(f"{front}.k_proj", "k d", _keys),
        "W_V": Piece(f"{front}.v_proj", "k d", _keys),
        "W_O": Piece(f"{front}.{output}", "d q", _outputs),
    }


_GATED_MLP = {
    "W_in": Piece("mlp.up_proj", "m d", _transposed),
    "W_gate": Piece("mlp.gate_proj", "m d", _transposed),
    "W_out": Piece("mlp.down_proj", "d m", _transposed),
}
_OWN_NORMS = ("{}.self_attn.q_norm.weight", "{}.self_attn.k_norm.weight")  # of queries and keys themselves
_LLAMA = NameMap(
    base="model",
    layer="layers",
    embed="embed_tokens",
    final="norm",
    attention=_separate("self_attn", "o_proj") | {"gain": _gain("input_layernorm")},
    mlp=_GATED_MLP | {"gain": _gain("post_attention_layernorm")},
)
_GEMMA = replace(_LLAMA, offset=1.0, scaled=True)
_GEMMA2 = replace(
    _GEMMA,
    attention=dict(_GEMMA.attention) | {"out_gain": _gain("post_attention_layernorm")},
    mlp=_GATED_MLP | {"gain": _gain("pre_feedforward_layernorm"), "out_gain": _gain("post_feedforward_layernorm")},
)
_PHI3 = replace(
    _LLAMA,
    attention={
        "W_Q": Piece("self_attn.qkv_proj", "q+k+k d", _below(0)),
        "W_K": Piece("self_attn.qkv_proj", "q+k+k d", _below(1)),
        "W_V": Piece("self_attn.qkv_proj", "q+k+k d", _below(2)),
        "W_O": Piece("self_attn.o_proj", "d q", _outputs),
        "gain": _gain("input_layernorm"),
    },
    mlp={
        "W_gate": Piece("mlp.gate_up_proj", "m+m d", _half(0)),
        "W_in": Piece("mlp.gate_up_proj", "m+m d", _half(1)),
        "W_out": Piece("mlp.down_proj", "d m", _transposed),
        "gain": _gain("post_attention_layernorm"),
    },
)
_GPT2 = NameMap(
    base="transformer",
    layer="h",
    embed="wte",
    final="ln_f",
    attention={
        "W_Q": Piece("attn.c_attn", "d q+q+q", _beside(0)),
        "W_K": Piece("attn.c_attn", "d q+q+q", _beside(1)),
        "W_V": Piece("attn.c_attn", "d q+q+q", _beside(2)),
        "W_O": Piece("attn.c_proj", "q d", _output_rows),
        "gain": _gain("ln_1"),
    },
    mlp={
        "W_in": Piece("mlp.c_fc", "d m", _plain),
        "W_out": Piece("mlp.c_proj", "m d", _plain),
        "gain": _gain("ln_2"),
    },
    unread=("wpe.weight",),
)
_NEOX = NameMap(
    base="gpt_neox",
    layer="layers",
    embed="embed_in",
    final="final_layer_norm",
    attention={
        "W_Q": Piece("attention.query_key_value", "q+q+q d", _by_head(0)),
        "W_K": Piece("attention.query_key_value", "q+q+q d", _by_head(1)),
        "W_V": Piece("attention.query_key_value", "q+q+q d", _by_head(2)),
        "W_O": Piece("attention.dense", "d q", _outputs),
        "gain": _gain("input_layernorm"),
    },
    mlp={
        "W_in": Piece("mlp.dense_h_to_4h", "m d", _transposed),
        "W_out": Piece("mlp.dense_4h_to_h", "d m", _transposed),
        "gain": _gain("post_attention_layernorm"),
    },
    head=("embed_out", "lm_head"),
)
_OPT = NameMap(
    base="model.decoder",
    layer="layers",
    embed="embed_tokens",
    final="final_layer_norm",
    attention=_separate("self_attn", "out_proj") | {"gain": _gain("self_attn_layer_norm")},
    mlp={
        "W_in": Piece("fc1", "m d", _transposed),
        "W_out": Piece("fc2", "d m", _transposed),
        "gain": _gain("final_layer_norm"),
    },
    unread=("embed_positions.weight",),
)

NAME_MAPS: dict[str, NameMap] = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "Qwen2ForCausalLM": _LLAMA,
    "Qwen3ForCausalLM": replace(_LLAMA, unread=_OWN_NORMS),
    "Phi3ForCausalLM": _PHI3,
    "GPT2LMHeadModel": _GPT2,
    "GPTNeoXForCausalLM": _NEOX,
    "OPTForCausalLM": _OPT,
    "GemmaForCausalLM": _GEMMA,
    "Gemma2ForCausalLM": _GEMMA2,
    "Gemma3ForCausalLM": replace(_GEMMA2, unread=_OWN_NORMS),
}
