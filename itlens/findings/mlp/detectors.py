"""Detectors of a selftest that read feed-forward concepts: leading dimensions that the other model lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import xarray as xr

from itlens.findings.detector import Detector, Setup, Unit, on_all_layers
from itlens.findings.mlp.diff import compare_concepts
from itlens.findings.mlp.probe import mlp_layers
from itlens.findings.mlp.vectors import Vectors, join_mlp_layers
from itlens.vocabulary import Vocabulary
from itlens.weights import weights_of

KS = (5, 10, 20)  # dimensions of the concept subspaces
_LABELS = 50  # words that components are described by, which the diff does not read
_ROUNDING = 1e-5  # of unit vectors in float32, in the dimensions of the same subspace


class Concepts(Detector):
    """Dimensions of a layer's leading concept subspaces that the other model's do not have.

    k (1 - overlap) counts them; the smallest over k = 5, 10, 20, so that one k whose next component explains nearly
    the same (and whose span is a matter of chance) cannot decide.
    """

    name, kind = "concepts", "layer"
    sees: ClassVar[tuple[str, ...]] = ("rotated_values", "residual_direction")
    about = f"k (1 - overlap) of a layer's value subspaces, the smallest of k = {', '.join(map(str, KS))}"
    vectors: ClassVar[Vectors] = "value"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.units = [Unit(layer, -1) for layer in setup.layers]
        facts = weights_of(setup.model).facts
        self._ks = tuple(k for k in KS if k <= facts["d_model"] // 2) or (1,)
        self._words = Vocabulary(setup.vocabulary.words[:_LABELS])
        self._base = self._layers(setup.layers)

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`."""
        chosen = self.setup.layers if layers is None else list(layers)
        altered = self._layers(chosen)
        base, tuned = (join_mlp_layers([read[layer] for layer in chosen]) for read in (self._base, altered))
        diff = compare_concepts(base, tuned, ks=self._ks, draws=1, seed=self.setup.seed)
        lost = (diff["k"] * (1 - diff["overlap"])).min("k").clip(min=0).values
        return on_all_layers(np.where(lost < _ROUNDING, 0.0, lost), chosen, self.setup.layers)

    def _layers(self, layers: Sequence[int]) -> dict[int, xr.Dataset]:
        read = mlp_layers(
            self.setup.model, self._words, vectors=self.vectors, layers=list(layers), components=max(self._ks), top_k=1
        )
        return {int(ds["layer"][0]): ds for ds in read}


class KeyConcepts(Concepts):
    """The same of the key vectors (columns of W_in)."""

    name, sees, vectors = "key concepts", ("rotated_keys",), "key"
    about = Concepts.about.replace("value", "key")
