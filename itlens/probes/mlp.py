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
from itlens.probes.concepts.components import CentredRows, Components, principal_components
from itlens.probes.concepts.concept_words import POLES, UnitWords
from itlens.probes.concepts.mlp_rows import (
    NeuronRows,
    component_count,
    finite_rows,
    mlp_attrs,
    mlp_of,
    neuron_rows,
    refuse_side,
    word_side,
)
from itlens.probes.concepts.noise_floor import noise_floor, sizes
from itlens.probes.grid import Numbers, chosen, whole_number
from itlens.probes.layer_join import join_mlp_layers as join_mlp_layers
from itlens.progress import late_bar
from itlens.vocabulary import Vocabulary
from itlens.weights import weights_of


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
    largest entry positive; following (layer): the share that the next component would explain (0 behind the last);
    total_variance (layer): sum s^2; rows (layer): neurons. With resamples: floor and
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
    top_k, resamples = whole_number("top_k", top_k, 1), whole_number("resamples", resamples, 0)
    seed = whole_number("seed", seed, 0)
    weights = weights_of(model_or_weights)
    asked = chosen("layer", layers, weights.facts["layers"])
    read = {asked[0]: mlp_of(weights, asked[0])}
    count = component_count(components, *neuron_rows(read[asked[0]], side, asked[0]).matrix.shape)
    words = UnitWords(weights, vocab, word_side(side), directions=count)
    attrs = mlp_attrs(
        "mlp_concepts", weights, vocab, asked, unknown_to_tokenizer=words.unknown,
        without_direction=words.without_direction, side=side, components=count, top_k=top_k, signed=bool(signed),
        resamples=resamples, seed=seed,
    )  # fmt: skip

    def run() -> Iterator[xr.Dataset]:
        with late_bar("concepts", show=progress) as tell:
            for done, layer in enumerate(asked, start=1):
                mlp = read.pop(layer) if layer in read else mlp_of(weights, layer)
                rows = finite_rows(mlp, side, layer)
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
            "following": ("layer", np.array([found.following / found.total])),
            "total_variance": ("layer", np.array([found.total])),
        },
        coords={"layer": [layer], "component": np.arange(len(directions)), "rank": np.arange(named.words.shape[-1])},
    )
    return ds.assign_coords(pole=list(POLES)) if signed else ds
