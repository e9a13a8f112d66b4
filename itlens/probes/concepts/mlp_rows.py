"""Which vectors of a feed-forward layer are read, and against which words."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from itlens.errors import ModelError, ProbeError
from itlens.probes.grid import whole_number
from itlens.probes.words.word_pair_table import word_attrs
from itlens.vocabulary import Vocabulary
from itlens.weights import MlpWeights, Weights

SIDES = ("value", "key", "gate")
USUAL = 300  # components that the paper keeps


class NeuronRows(NamedTuple):
    """A vector per neuron, and the gain per column that goes with them."""

    matrix: Float[Tensor, "d_mlp d_model"]
    gain: Float[Tensor, " d_model"]


def refuse_side(side: Any) -> None:
    """Raise ProbeError for a side that is none."""
    if side not in SIDES:
        raise ProbeError(f"side={side!r}; expected one of {', '.join(SIDES)}.")


def component_count(asked: Any, neurons: int | None, width: int | None) -> int:
    """How many components a layer of that shape is asked for; asked=None: 300, or all there are.

    neurons, width: None where they are not known, and nothing limits the number then. Raises ProbeError for anything
    but a whole number of at least 1, and for more components than there are.
    """
    found = None if asked is None else whole_number("components", asked, 1)
    if neurons is None or width is None:
        return USUAL if found is None else found
    rank = min(neurons - 1, width)  # one less than the vectors, since they are centred
    if found is not None and found > rank:
        raise ProbeError(
            f"components={found}; the {neurons} centred vectors of width {width} have a rank of at most {rank}: ask "
            "for no more."
        )
    return min(USUAL, rank) if found is None else found


def word_side(side: str) -> str:
    """Values are read on the words that the model writes, keys and gates on those that it reads."""
    return "output" if side == "value" else "input"


def neuron_rows(mlp: MlpWeights, side: str, layer: int) -> NeuronRows:
    """The layer's values (rows of W_out) or its keys or gates (columns of W_in, W_gate).

    Raises ProbeError for a gate that is not there.
    """
    if side == "value":
        return NeuronRows(mlp.W_out, mlp.out_gain)
    if side == "key":
        return NeuronRows(mlp.W_in.T, mlp.gain)
    if mlp.W_gate is None:
        raise ProbeError(f'side="gate": the feed-forward layer {layer} has no W_gate; expected "value" or "key".')
    return NeuronRows(mlp.W_gate.T, mlp.gain)


def finite_rows(mlp: MlpWeights, side: str, layer: int) -> NeuronRows:
    """`neuron_rows`, looked through. Raises ProbeError for numbers that are none."""
    rows = neuron_rows(mlp, side, layer)
    if not bool(rows.matrix.isfinite().all() and rows.gain.isfinite().all()):
        raise ProbeError(f"The {side} vectors of layer {layer} are not finite; check the model's weights.")
    return rows


def mlp_of(weights: Weights, layer: int) -> MlpWeights:
    """One layer's MLP, in shapes that fit each other. Raises ModelError."""
    mlp, width = weights.mlp(layer), weights.facts["d_model"]
    if mlp.W_in.shape[0] != width or mlp.W_out.shape[1] != width or mlp.W_in.shape[1] != mlp.W_out.shape[0]:
        raise ModelError(
            f"The feed-forward layer {layer} has W_in {tuple(mlp.W_in.shape)} and W_out {tuple(mlp.W_out.shape)}; "
            f"expected (d_model, d_mlp) and (d_mlp, d_model) with d_model = {width}."
        )
    return mlp


def mlp_attrs(probe: str, weights: Weights, vocab: Vocabulary, layers: list[int], **settings: Any) -> dict[str, Any]:
    """Provenance: the model, its shape, the layers, the words, the settings."""
    shape = {"n_layers": weights.facts["layers"], "d_model": weights.facts["d_model"]}
    return {**word_attrs(probe, weights, vocab, **shape, **settings), "layers": layers}
