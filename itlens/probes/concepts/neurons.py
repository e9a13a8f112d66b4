"""Single neurons in words: what each one writes (its value vector) or looks for (its key or gate vector).

The score of a word is v . w, with the neuron's own vector v (not centred over neurons, gains folded as in
`itlens.probes.mlp`) and the word's vector w scaled to length 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from itlens.errors import ProbeError
from itlens.probes.concepts.concept_words import UnitWords
from itlens.probes.concepts.mlp_rows import finite_rows, mlp_attrs, mlp_of, refuse_side, word_side
from itlens.probes.grid import Numbers, chosen, whole_number
from itlens.vocabulary import Vocabulary
from itlens.weights import weights_of


def neuron_words(
    model_or_weights: Any, vocab: Vocabulary, layer: int, neurons: Numbers, *, side: str = "value", top_k: int = 20
) -> pd.DataFrame:
    """The words nearest to single neurons of one layer; see the module.

    neurons: their numbers; None for all. side: "value", "key" or "gate". top_k: words per neuron, by |score|; equal
    ones in the vocabulary's order.

    Returns a table: layer, neuron, rank (1 = largest |score|), word, score (with its sign: a value vector raises words
    of positive score where the neuron is active, and lowers the others). attrs: model and settings. Raises ProbeError,
    and ModelError for mixtures of experts.
    """
    refuse_side(side)
    top_k = whole_number("top_k", top_k, 1)
    weights = weights_of(model_or_weights)
    asked = chosen("layer", [layer], weights.facts["layers"])
    rows = finite_rows(mlp_of(weights, asked[0]), side, asked[0])
    listed = _listed(neurons, len(rows.matrix), asked[0])
    words = UnitWords(weights, vocab, word_side(side), directions=len(listed))
    found = words.signed((rows.matrix[listed].double() * rows.gain.double()).to(words.rows.dtype), top_k)
    count, width = found.words.shape
    table = pd.DataFrame(
        {
            "layer": np.full(count * width, asked[0], dtype=np.int16),
            "neuron": np.repeat(np.array(listed, dtype=np.int32), width),
            "rank": np.tile(np.arange(1, width + 1, dtype=np.int32), count),
            "word": pd.Series(found.words.ravel(), dtype=object),
            "score": found.scores.ravel(),
        }
    )
    settings = {"unknown_to_tokenizer": words.unknown, "without_direction": words.without_direction}
    table.attrs = mlp_attrs(
        "neuron_words", weights, vocab, asked, d_mlp=len(rows.matrix), side=side, top_k=top_k, **settings
    )
    return table


def _listed(neurons: Numbers, count: int, layer: int) -> list[int]:
    try:
        return chosen("neuron", neurons, count)
    except ProbeError as error:
        raise ProbeError(f"Layer {layer}: {error}") from None
