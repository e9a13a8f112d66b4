"""Single neurons in words: what each one writes (its value vector) or looks for (its key or gate vector).

The score of a word is v . w, with the neuron's own vector v (not centred over neurons, gains folded as in
`probe`) and the word's vector w scaled to length 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from itlens.errors import ProbeError
from itlens.findings.mlp.vectors import Vectors, checked_vectors, word_side
from itlens.models.hooked_model import HookedModel
from itlens.models.precision import exact
from itlens.models.running import own_precision
from itlens.selection import Numbers, chosen, whole_number
from itlens.vocabulary import Vocabulary
from itlens.vocabulary.word_vectors import loaded_vocabulary
from itlens.weights import Weights, weights_of
from itlens.weights.neurons import finite_rows, mlp_attrs, mlp_of
from itlens.weights.unit_words import UnitWords


@own_precision()
def neuron_words(
    model_or_weights: HookedModel | Weights,
    vocab: str | Path | Vocabulary = "builtin",
    layer: int = 0,
    neurons: Numbers = None,
    *,
    vectors: Vectors = "value",
    top_k: int = 20,
    side: Vectors | None = None,
) -> pd.DataFrame:
    """Return the words nearest to single neurons of one layer; see the module.

    vocab: "builtin", a file, or a `Vocabulary`. neurons: their numbers; None for all. vectors: "value", "key" or
    "gate". top_k: words per neuron, by |score|; equal ones in the vocabulary's order.

    Returns a table: layer, neuron, rank (1 = largest |score|), word, score (with its sign: a value vector raises words
    of positive score where the neuron is active, and lowers the others). attrs: model and settings. Raises ProbeError,
    and ModelError for mixtures of experts.
    """
    kind = checked_vectors(vectors, side)
    top_k = whole_number("top_k", top_k, 1)
    weights, vocabulary = weights_of(model_or_weights), loaded_vocabulary(vocab)
    (number,) = chosen("layer", [layer], weights.facts["layers"])
    rows = finite_rows(mlp_of(weights, number), kind, number)
    listed = _listed(neurons, len(rows.matrix), number)
    words = UnitWords(weights, vocabulary, word_side(kind), directions=len(listed))
    nearest = words.signed((exact(rows.matrix[listed]) * exact(rows.gain)).to(words.rows.dtype), top_k)
    count, width = nearest.words.shape
    table = pd.DataFrame(
        {
            "layer": np.full(count * width, number, dtype=np.int16),
            "neuron": np.repeat(np.array(listed, dtype=np.int32), width),
            "rank": np.tile(np.arange(1, width + 1, dtype=np.int32), count),
            "word": pd.Series(nearest.words.ravel(), dtype=object),
            "score": nearest.scores.ravel(),
        }
    )
    settings = {"unknown_to_tokenizer": words.unknown, "without_direction": words.without_direction}
    table.attrs = mlp_attrs(
        "neuron_words", weights, vocabulary, [number], d_mlp=len(rows.matrix), vectors=kind, top_k=top_k, **settings
    )
    return table


def _listed(neurons: Numbers, count: int, layer: int) -> list[int]:
    try:
        return chosen("neuron", neurons, count)
    except ProbeError as error:
        raise ProbeError(f"Layer {layer}: {error}") from None
