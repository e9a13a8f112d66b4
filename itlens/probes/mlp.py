"""What each feed-forward layer knows, in words (Wu et al. 2024, section 4; finding 3; "values" as in Geva et al. 2021).

1. VALUE vectors are the rows of W_out, what each neuron writes; KEY and GATE vectors the columns of W_in and W_gate,
what each neuron looks for, with the gain of the norm before the MLP folded in. (Values take the gain of the norm after
the MLP where there is one, Gemma 2 and 3: that is what reaches the residual stream.) 2. The vectors are centred over
neurons; a CONCEPT is one of their principal components, from high to low variance, exact in float64 (`components`).
EXPLAINED is s_i^2 / sum s^2. 3. A word's vector is the mean, over the tokens of " " + word, of W_U's columns (values)
or W_E's rows (keys, gates), without the final norm's gain, scaled to length 1. 4. A component's words are the `top_k`
of the largest |v . w|; of equal ones, the more frequent. A component has no sign: `signed=True` gives both ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import xarray as xr

from itlens.errors import ProbeError
from itlens.probes.components import CentredRows, Components, principal_components
from itlens.probes.concept_words import POLES, UnitWords
from itlens.probes.grid import Numbers, chosen
from itlens.probes.mlp_rows import (
    NeuronRows,
    mlp_attrs,
    mlp_of,
    neuron_rows,
    refuse_number,
    refuse_side,
    word_side,
)
from itlens.probes.noise_floor import noise_floor, sizes
from itlens.progress import late_bar
from itlens.vocabulary import Vocabulary
from itlens.weights import Weights, weights_of

USUAL = 300  # components that the paper keeps


def mlp_concepts(
    model_or_weights: Any,
    vocab: Vocabulary,
    *,
    side: str = "value",
    layers: Numbers = None,
    components: int | None = None,
    top_k: int = 50,
    signed: bool = False,
    resamples: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """The principal components of each layer's value (or key, or gate) vectors, and their words; see the module.

    model_or_weights: from `load_model`, or a `Weights`. vocab: words in order of frequency. side: "value", "key" or
    "gate". layers: numbers; default all. components: default 300, or the rank min(neurons - 1, width) where that is
    less. top_k: words per component (and pole). signed: words of both poles. resamples: bootstrap draws of the neurons
    for a noise floor (each costs as much as the layer did), from `seed`. progress: a bar when it takes long.

    Returns a Dataset: word and score (layer, component[, pole], rank), score = |v . w| (along the pole when signed),
    descending, float32; explained (layer, component); direction (layer, component, d_model): unit vectors, the
    largest entry positive; total_variance (layer): sum s^2; rows (layer): neurons. With resamples: floor and
    floor_angle (layer, k, draw), the overlap and the mean angle (radians) of the first k components of a draw with
    those of all neurons. attrs: model, settings, how many words the tokenizer does not know. Raises ProbeError, and
    ModelError for mixtures of experts.
    """
    found = mlp_layers(
        model_or_weights, vocab, side=side, layers=layers, components=components, top_k=top_k, signed=signed,
        resamples=resamples, seed=seed, progress=progress,
    )  # fmt: skip
    return join_mlp_layers(list(found))


def mlp_layers(
    model_or_weights: Any,
    vocab: Vocabulary,
    *,
    side: str = "value",
    layers: Numbers = None,
    components: int | None = None,
    top_k: int = 50,
    signed: bool = False,
    resamples: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> Iterator[xr.Dataset]:
    """`mlp_concepts` a layer at a time, for those who write each layer when it is done.

    Arguments are checked, and words looked up, before the first layer is asked for.
    """
    refuse_side(side)
    for name, number, least in (("top_k", top_k, 1), ("resamples", resamples, 0), ("seed", seed, 0)):
        refuse_number(name, number, least)
    weights = weights_of(model_or_weights)
    asked = chosen("layer", layers, weights.facts["layers"])
    count = _count(weights, side, asked[0], components)
    words = UnitWords(weights, vocab, word_side(side), directions=count)
    attrs = mlp_attrs(
        "mlp_concepts", weights, vocab, asked, unknown_to_tokenizer=words.unknown,
        without_direction=words.without_direction, side=side, components=count, top_k=top_k, signed=bool(signed),
        resamples=resamples, seed=seed,
    )  # fmt: skip

    def run() -> Iterator[xr.Dataset]:
        with late_bar("concepts", show=progress) as tell:
            for done, layer in enumerate(asked, start=1):
                rows = neuron_rows(mlp_of(weights, layer), side, layer)
                found = _components(rows, count, layer)
                ds = _dataset(found, words, layer, top_k, signed)
                if resamples:
                    floor = noise_floor(*rows, found.directions, draws=resamples, seed=seed, layer=layer)
                    values = {"floor": floor.overlap, "floor_angle": floor.angle}
                    ds = ds.assign({name: (("layer", "k", "draw"), part[None]) for name, part in values.items()})
                    ds = ds.assign_coords(k=sizes(count), draw=np.arange(resamples))
                ds["rows"] = ("layer", np.array([len(rows.matrix)], dtype=np.int64))
                yield ds.assign_attrs(attrs | {"layers": [layer], "d_mlp": len(rows.matrix)})
                tell(done, len(asked))

    return run()


def join_mlp_layers(found: list[xr.Dataset]) -> xr.Dataset:
    """The Datasets of several layers as one, in the order of the layers. Raises ProbeError for none."""
    if not found:
        raise ProbeError("join_mlp_layers got no layers; expected what mlp_layers gives.")
    found = sorted(found, key=lambda part: int(part["layer"][0]))
    joined = xr.concat(found, dim="layer", data_vars="all", coords="minimal", join="exact", combine_attrs="override")
    layers = [int(layer) for part in found for layer in part["layer"].values]
    return joined.assign_attrs({**found[0].attrs, "layers": layers})


def _count(weights: Weights, side: str, layer: int, asked: int | None) -> int:
    """The number of components. Raises ProbeError for more than there are."""
    neurons, width = neuron_rows(mlp_of(weights, layer), side, layer).matrix.shape
    rank = min(neurons - 1, width)
    if asked is None:
        return min(USUAL, rank)
    refuse_number("components", asked, 1)
    if asked > rank:
        raise ProbeError(
            f"components={asked}; the {neurons} centred vectors of width {width} have a rank of at most {rank}: ask "
            "for no more."
        )
    return asked


def _components(rows: NeuronRows, count: int, layer: int) -> Components:
    rank = min(len(rows.matrix) - 1, rows.matrix.shape[1])
    if count > rank:
        raise ProbeError(f"components={count}; the vectors of layer {layer} have a rank of at most {rank}.")
    found = principal_components(CentredRows(*rows), count)
    if not found.total > 0:
        raise ProbeError(f"All vectors of layer {layer} are the same; they have no components.")
    return found


def _dataset(found: Components, words: UnitWords, layer: int, top_k: int, signed: bool) -> xr.Dataset:
    directions = found.directions
    named = words.poles(directions, top_k) if signed else words.absolute(directions, top_k)
    dims = ("layer", "component", "pole", "rank") if signed else ("layer", "component", "rank")
    ds = xr.Dataset(
        {
            "word": (dims, named.words[None]),
            "score": (dims, named.scores[None]),
            "explained": (("layer", "component"), (found.squares / found.total).cpu().numpy()[None]),
            "direction": (("layer", "component", "d_model"), directions.to(torch.float32).cpu().numpy()[None]),
            "total_variance": ("layer", np.array([found.total])),
        },
        coords={"layer": [layer], "component": np.arange(len(directions)), "rank": np.arange(named.words.shape[-1])},
    )
    return ds.assign_coords(pole=list(POLES)) if signed else ds
