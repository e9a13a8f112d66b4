"""What `itlens selftest` reads of weights: how far the products of each head's weights moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from itlens.findings.detector import Detector, Setup, heads_of, on_all_layers
from itlens.findings.weight_delta.probe import head_changes
from itlens.weights import AttentionWeights, weights_of


class HeadWeights(Detector):
    """The relative change of a head's W_QK and W_OV, as the root of the sum of their squares."""

    name, kind = "weight change", "head"
    sees = ("scaled_head", "rank_one_qk")
    about = "relative change of a head's W_QK and W_OV (root of the sum of squares)"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.units = heads_of(setup.layers, int(setup.model.cfg.n_heads))
        # the plants write into the model's own tensors
        self._base = {layer: _copied(weights_of(setup.model).attention(layer)) for layer in setup.layers}

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`."""
        chosen = self.setup.layers if layers is None else list(layers)
        weights = weights_of(self.setup.model)
        moved = [head_changes(self._base[layer], weights.attention(layer)).relative for layer in chosen]
        return on_all_layers(np.sqrt((np.stack(moved) ** 2).sum(-1)), chosen, self.setup.layers)


def _copied(attention: AttentionWeights) -> AttentionWeights:
    return replace(attention, **{each.name: getattr(attention, each.name).clone() for each in fields(attention)})
