"""Detectors that read weights: word pairs of attention heads, concepts of feed-forward layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from itlens.diff.concept_diff import concepts
from itlens.diff.word_pair_diff import word_pairs
from itlens.planted.detectors import Detector, Setup, heads_of, spread
from itlens.planted.plants import Place
from itlens.probes.attention import QKLayer, join_layers, qk_layers
from itlens.probes.mlp import join_mlp_layers, mlp_layers
from itlens.vocabulary import Vocabulary
from itlens.weights import weights_of

TOP_K = 30  # words per head dimension and side
DRAWS = 200  # of the nulls of instruction verbs
KS = (5, 10, 20)  # dimensions of the concept subspaces
_LABELS = 50  # words that components are described by, which the diff does not read


class WordPairs(Detector):
    """1 - overlap of a head's word pairs."""

    name, kind = "word pairs", "head"
    sees: tuple[str, ...] = ("rank_one_qk",)
    about = "1 - overlap (Jaccard) of a head's word pairs"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.units = heads_of(setup.layers, int(setup.model.cfg.n_heads))
        self._base = self._now = self._layers(setup.layers)

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`."""
        asked = self.setup.layers if layers is None else list(layers)
        now = self._layers(asked)
        if layers is None:
            self._now = now
        found = self._diff({layer: self._base[layer] for layer in asked}, now, draws=1)
        return spread(1 - found["overlap"].values, asked, self.setup.layers)

    def copy(self) -> dict[int, QKLayer]:
        """See `Detector.copy`."""
        return self._now

    def p_values(self, one: Any, other: Any, *, exchanged: bool) -> dict[str, np.ndarray]:
        """Of the instruction verbs in each head in which any verb's count changed: the others are not tested."""
        found = self._diff(one, other, draws=DRAWS)
        changed = (found["instruction_change"] != 0) | (found["instruction_expected"] != 0)
        return {"instruction verbs of a head": found["instruction_p"].values[changed.values]}

    def _diff(self, one: dict[int, QKLayer], other: dict[int, QKLayer], *, draws: int) -> xr.Dataset:
        tables = [join_layers(list(part.values()))[0] for part in (one, other)]
        return word_pairs(*tables, draws=draws, seed=self.setup.seed)

    def _layers(self, layers: Sequence[int]) -> dict[int, QKLayer]:
        setup = self.setup
        found = qk_layers(setup.model, setup.vocabulary, vectors=setup.vectors, layers=list(layers), top_k=TOP_K)
        return {part.layer: part for part in found}


class Concepts(Detector):
    """Dimensions of a layer's leading concept subspaces that the other model's do not have.

    k (1 - overlap) counts them; the smallest over k = 5, 10, 20, so that one k whose next component explains nearly
    the same (and whose span is a matter of chance) cannot decide.
    """

    name, kind = "concepts", "layer"
    sees: tuple[str, ...] = ("rotated_values", "residual_direction")
    about = f"k (1 - overlap) of a layer's value subspaces, the smallest of k = {', '.join(map(str, KS))}"
    side = "value"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.units = [Place(layer, -1) for layer in setup.layers]
        facts = weights_of(setup.model).facts
        self._ks = tuple(k for k in KS if k <= facts["d_model"] // 2) or (1,)
        self._words = Vocabulary(setup.vocabulary.words[:_LABELS])
        self._base = self._layers(setup.layers)

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`."""
        asked = self.setup.layers if layers is None else list(layers)
        now = self._layers(asked)
        base, tuned = (join_mlp_layers([part[layer] for layer in asked]) for part in (self._base, now))
        found = concepts(base, tuned, ks=self._ks, draws=1, seed=self.setup.seed)
        lost = (found["k"] * (1 - found["overlap"])).min("k").clip(min=0)
        return spread(_rounded(lost.values), asked, self.setup.layers)

    def _layers(self, layers: Sequence[int]) -> dict[int, xr.Dataset]:
        options = {"side": self.side, "layers": list(layers), "components": max(self._ks), "top_k": 1}
        return {int(part["layer"][0]): part for part in mlp_layers(self.setup.model, self._words, **options)}  # type: ignore[arg-type]


class KeyConcepts(Concepts):
    """The same of the key vectors (columns of W_in)."""

    name, sees, side = "key concepts", ("rotated_keys",), "key"
    about = Concepts.about.replace("value", "key")


def _rounded(lost: np.ndarray) -> np.ndarray:
    """Without what rounding of unit vectors in float32 makes of the same subspace."""
    return np.where(lost < 1e-5, 0.0, lost)
