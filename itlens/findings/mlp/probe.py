"""Concepts of feed-forward layers, in words (Wu et al. 2024, section 4; finding 3; "values" as in Geva et al. 2021).

1. VALUE vectors are the rows of W_out, what each neuron writes; KEY and GATE vectors the columns of W_in and W_gate,
what each neuron looks for, with the gain of the norm before the MLP folded in. (Values take the gain of the norm
after the MLP where there is one, Gemma 2 and 3: that is what reaches the residual stream.) 2. The vectors are centred
over neurons; a CONCEPT is one of their principal components, by decreasing variance, exact in float64
(`itlens.weights.components`). EXPLAINED is s_i^2 / sum s^2. 3. A word's vector is the mean, over the tokens of " " +
word, of W_U's columns (values) or W_E's rows (keys, gates), without the final norm's gain, scaled to length 1. 4. A
component's words are the `top_k` of the largest |v . w|; of equal ones, the more frequent. A component has no sign:
`signed=True` gives both ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from einops import rearrange

from itlens.errors import ProbeError
from itlens.findings.mlp.probe_floor import floor_sizes, noise_floor
from itlens.findings.mlp.vectors import Vectors, checked_vectors, component_count, join_mlp_layers, word_side
from itlens.models.hooked_model import HookedModel
from itlens.models.running import own_precision
from itlens.progress import late_bar
from itlens.selection import Numbers, chosen, whole_number
from itlens.vocabulary import Vocabulary
from itlens.vocabulary.word_vectors import loaded_vocabulary
from itlens.weights import Weights, weights_of
from itlens.weights.components import CentredRows, Components, principal_components
from itlens.weights.neurons import NeuronRows, finite_rows, mlp_attrs, mlp_of, neuron_rows
from itlens.weights.unit_words import POLES, UnitWords


@own_precision()
def mlp_concepts(
    model_or_weights: HookedModel | Weights,
    vocab: str | Path | Vocabulary = "builtin",
    *,
    vectors: Vectors = "value",
    layers: Numbers = None,
    components: int | None = None,
    top_k: int = 50,
    signed: bool = False,
    resamples: int = 0,
    seed: int = 0,
    progress: bool = True,
    side: Vectors | None = None,
) -> xr.Dataset:
    """Return the principal components of each layer's value (or key, or gate) vectors, and their words; see the module.

    model_or_weights: from `load_model`, or a `Weights`. vocab: words in order of frequency: "builtin", a file, or a
    `Vocabulary`. vectors: "value", "key" or "gate". layers: numbers; default all. components: default 300, or the rank
    min(neurons - 1, width) where that is less. top_k: words per component (and pole). signed: words of both poles.
    resamples: bootstrap draws of the neurons for a noise floor (each costs as much as the layer did), from `seed`.
    progress: a bar when it takes long.

    Returns a Dataset: word and score (layer, component[, pole], rank), score = |v . w| (along the pole when signed),
    descending, float32; explained (layer, component); direction (layer, component, d_model): unit vectors, the
    largest entry positive; following (layer): the share that the next component would explain (0 behind the last);
    total_variance (layer): sum s^2; rows (layer): neurons. With resamples: floor and
    floor_angle (layer, k, draw), the overlap and the mean angle (radians) of the first k components of a draw with
    those of all neurons. attrs: model, settings, how many words the tokenizer does not know. Raises ProbeError, and
    ModelError for mixtures of experts.
    """
    read = mlp_layers(
        model_or_weights, vocab, vectors=checked_vectors(vectors, side), layers=layers, components=components,
        top_k=top_k, signed=signed, resamples=resamples, seed=seed, progress=progress,
    )  # fmt: skip
    return join_mlp_layers(list(read))


def mlp_layers(
    model_or_weights: HookedModel | Weights,
    vocab: str | Path | Vocabulary = "builtin",
    *,
    vectors: Vectors = "value",
    layers: Numbers = None,
    components: int | None = None,
    top_k: int = 50,
    signed: bool = False,
    resamples: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> Iterator[xr.Dataset]:
    """Yield `mlp_concepts` a layer at a time.

    Arguments are checked, and words looked up, before the first layer is requested.
    """
    probe = LayerConcepts(
        model_or_weights, vocab, vectors=vectors, layers=layers, components=components, top_k=top_k, signed=signed,
        resamples=resamples, seed=seed,
    )  # fmt: skip

    def run() -> Iterator[xr.Dataset]:
        with late_bar("concepts", show=progress) as tell:
            for done, layer in enumerate(probe.layers, start=1):
                yield probe.read(layer)
                tell(done, len(probe.layers))

    return run()


class LayerConcepts:
    """One model's vectors of one kind, to be read a layer at a time: arguments checked, words looked up.

    Arguments are those of `mlp_concepts`; layers: those that `read` may be called with.
    """

    def __init__(
        self,
        model_or_weights: HookedModel | Weights,
        vocab: str | Path | Vocabulary,
        *,
        vectors: Vectors,
        layers: Numbers,
        components: int | None,
        top_k: int,
        signed: bool,
        resamples: int,
        seed: int,
    ) -> None:
        self._vectors = checked_vectors(vectors)
        self._top_k, self._signed = whole_number("top_k", top_k, 1), bool(signed)
        self._resamples = whole_number("resamples", resamples, 0)
        self._seed = whole_number("seed", seed, 0)
        self._weights, words = weights_of(model_or_weights), loaded_vocabulary(vocab)
        self.layers = chosen("layer", layers, self._weights.facts["layers"])
        first = self.layers[0]
        self._read = {first: mlp_of(self._weights, first)}  # files need not be read twice
        shape = neuron_rows(self._read[first], self._vectors, first).matrix.shape
        self._count = component_count(components, *shape)
        self._words = UnitWords(self._weights, words, word_side(self._vectors), directions=self._count)
        self._attrs = mlp_attrs(
            "mlp_concepts", self._weights, words, self.layers, unknown_to_tokenizer=self._words.unknown,
            without_direction=self._words.without_direction, vectors=self._vectors, components=self._count,
            top_k=self._top_k, signed=self._signed, resamples=self._resamples, seed=self._seed,
        )  # fmt: skip

    def read(self, layer: int) -> xr.Dataset:
        """Return the concepts of one layer, on an axis `layer` of length 1. Raises ProbeError."""
        mlp = self._read.pop(layer) if layer in self._read else mlp_of(self._weights, layer)
        rows = finite_rows(mlp, self._vectors, layer)
        components = _components(rows, self._count, layer, self._attrs["model"])
        ds = _dataset(components, self._words, layer, self._top_k, self._signed)
        if self._resamples:
            floor = noise_floor(*rows, components.directions, draws=self._resamples, seed=self._seed, layer=layer)
            values = {"floor": floor.overlap, "floor_angle": floor.angle}
            ds = ds.assign({name: (("layer", "k", "draw"), _of_layer(draws)) for name, draws in values.items()})
            ds = ds.assign_coords(k=floor_sizes(self._count), draw=np.arange(self._resamples))
        ds["rows"] = ("layer", np.array([len(rows.matrix)], dtype=np.int64))
        return ds.assign_attrs(self._attrs | {"layers": [layer], "d_mlp": len(rows.matrix)})


def _components(rows: NeuronRows, count: int, layer: int, model: str) -> Components:
    rank = min(len(rows.matrix) - 1, rows.matrix.shape[1])
    if count > rank:
        raise ProbeError(f"components={count}; the vectors of layer {layer} have a rank of at most {rank}.")
    components = principal_components(CentredRows(*rows), count)
    if not components.total > 0:
        raise ProbeError(
            f"All vectors of layer {layer} are the same; they have no components. This layer of {model} is dead: "
            "leave it out (layers=), or check how the model was tuned."
        )
    return components


def _dataset(components: Components, words: UnitWords, layer: int, top_k: int, signed: bool) -> xr.Dataset:
    directions = components.directions
    named = words.poles(directions, top_k) if signed else words.absolute(directions, top_k)
    dims = ("layer", "component", "pole", "rank") if signed else ("layer", "component", "rank")
    explained = (components.squares / components.total).cpu().numpy()
    ds = xr.Dataset(
        {
            "word": (dims, _of_layer(named.words)),
            "score": (dims, _of_layer(named.scores)),
            "explained": (("layer", "component"), _of_layer(explained)),
            "direction": (("layer", "component", "d_model"), _of_layer(directions.to(torch.float32).cpu().numpy())),
            "following": ("layer", np.array([components.following / components.total])),
            "total_variance": ("layer", np.array([components.total])),
        },
        coords={"layer": [layer], "component": np.arange(len(directions)), "rank": np.arange(named.words.shape[-1])},
    )
    return ds.assign_coords(pole=list(POLES)) if signed else ds


def _of_layer(values: np.ndarray) -> np.ndarray:
    """The values of one layer on an axis of layers."""
    return rearrange(values, "... -> 1 ...")
