"""The vectors of a feed-forward layer's neurons, checked, and what results say of them."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from jaxtyping import Float
from torch import Tensor

from itlens.errors import ModelError, ProbeError
from itlens.results.provenance import word_attrs
from itlens.vocabulary import Vocabulary
from itlens.weights import MlpWeights, Weights

_Vectors: TypeAlias = Literal["value", "key", "gate"]


class NeuronRows(NamedTuple):
    """A vector per neuron, and the gain per column that goes with them."""

    matrix: Float[Tensor, "d_mlp d_model"]
    gain: Float[Tensor, " d_model"]


def neuron_rows(mlp: MlpWeights, vectors: _Vectors, layer: int) -> NeuronRows:
    """Return the layer's values (rows of W_out) or its keys or gates (columns of W_in, W_gate).

    Raises ProbeError for a gate that is not there.
    """
    if vectors == "value":
        return NeuronRows(mlp.W_out, mlp.out_gain)
    if vectors == "key":
        return NeuronRows(mlp.W_in.T, mlp.gain)
    if mlp.W_gate is None:
        raise ProbeError(f'vectors="gate": the feed-forward layer {layer} has no W_gate; expected "value" or "key".')
    return NeuronRows(mlp.W_gate.T, mlp.gain)


def finite_rows(mlp: MlpWeights, vectors: _Vectors, layer: int) -> NeuronRows:
    """Return `neuron_rows`. Raises ProbeError where any of them is not finite."""
    rows = neuron_rows(mlp, vectors, layer)
    if not bool(rows.matrix.isfinite().all() and rows.gain.isfinite().all()):
        raise ProbeError(f"The {vectors} vectors of layer {layer} are not finite; check the model's weights.")
    return rows


def mlp_of(weights: Weights, layer: int) -> MlpWeights:
    """Return one layer's MLP. Raises ModelError where its shapes do not fit each other."""
    mlp, width = weights.mlp(layer), weights.facts["d_model"]
    if mlp.W_in.shape[0] != width or mlp.W_out.shape[1] != width or mlp.W_in.shape[1] != mlp.W_out.shape[0]:
        raise ModelError(
            f"The feed-forward layer {layer} has W_in {tuple(mlp.W_in.shape)} and W_out {tuple(mlp.W_out.shape)}; "
            f"expected (d_model, d_mlp) and (d_mlp, d_model) with d_model = {width}."
        )
    return mlp


def mlp_attrs(probe: str, weights: Weights, vocab: Vocabulary, layers: list[int], **settings: object) -> dict[Any, Any]:
    """Return provenance: the model, its shape, the layers, the words, the settings."""
    shape = {"n_layers": weights.facts["layers"], "d_model": weights.facts["d_model"]}
    return {**word_attrs(probe, weights, vocab, **shape, **settings), "layers": layers}
