"""A detector of a selftest: how far the words of a vocabulary move in or out of a layer's first value directions.

Energy of a word: |U_k^T o|^2 / |o|^2, with its unit output vector o (`itlens.findings.task_words.probe`). The value of
a layer is the root mean square, over words, of the energy's change: a rotation toward any topic, whichever it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch

from itlens.findings.detector import Detector, Setup, Unit, on_all_layers
from itlens.findings.task_words.probe import subspace_sizes
from itlens.vocabulary import Vocabulary
from itlens.weights import weights_of
from itlens.weights.components import CentredRows, principal_components
from itlens.weights.neurons import finite_rows, mlp_of
from itlens.weights.words import mean_vectors

_WORDS = 2000
_ROUNDING = 1e-5


class WordEnergy(Detector):
    """The change of words' energies in a layer's first value directions."""

    name, kind = "word energy", "layer"
    sees: ClassVar[tuple[str, ...]] = ("rotated_values",)
    about = "root mean square over words of the change of their energy in a layer's first value directions"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.units = [Unit(layer, -1) for layer in setup.layers]
        words = Vocabulary(setup.vocabulary.words[:_WORDS])
        raw = mean_vectors(setup.model, words, embedding="output").float()
        sizes = torch.linalg.vector_norm(raw, dim=1, keepdim=True)
        kept = (torch.isfinite(sizes) & (sizes > 0))[:, 0]
        self._vectors = raw[kept] / sizes[kept]
        self._base = {layer: self._energy(layer) for layer in setup.layers}

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`."""
        chosen = self.setup.layers if layers is None else list(layers)
        moved = [float((self._energy(layer) - self._base[layer]).square().mean().sqrt()) for layer in chosen]
        values = np.array([0.0 if value < _ROUNDING else value for value in moved])
        return on_all_layers(values, chosen, self.setup.layers)

    def _energy(self, layer: int) -> torch.Tensor:
        rows = finite_rows(mlp_of(weights_of(self.setup.model), layer), "value", layer)
        count = subspace_sizes(*rows.matrix.shape)[0]
        directions = principal_components(CentredRows(*rows), count).directions
        energy: torch.Tensor = (self._vectors @ directions.to(self._vectors).T).square().sum(1)
        return energy
