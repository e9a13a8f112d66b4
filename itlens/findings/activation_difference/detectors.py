"""The detector of the activation difference in a selftest: what each block adds to the mean difference of streams.

The difference behind a block minus the difference before it, averaged over texts at their first positions. A block
whose weights are the same adds nothing where what it reads is the same: the layers before a plant are judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from itlens.findings.activation_difference.probe import streams_before
from itlens.findings.detector import Detector, Setup, Unit, UnitKind, on_all_layers
from itlens.hooked.corpus import corpus_of
from itlens.models import HookedModel
from itlens.progress import Counted
from itlens.prompts.texts import load_texts

_TEXTS, _POSITIONS = 8, 5


class LayerDifference(Detector):
    """How much each block adds to the mean activation difference on unrelated texts."""

    name = "activation difference"
    kind: ClassVar[UnitKind] = "layer"
    sees: ClassVar[tuple[str, ...]] = ("residual_direction",)
    about = "length of what a block adds to the mean difference of streams on unrelated texts"
    local, slow = False, True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.units = [Unit(layer, -1) for layer in setup.layers]
        with setup.altered.pair() as pair:
            report, texts = pair.check(), load_texts(limit=_TEXTS)
            self._corpus = corpus_of(pair, report, texts, least=_POSITIONS, most=_POSITIONS, exact=True)

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`."""
        with self.setup.altered.pair() as pair:
            base = self._means(pair.base)
            difference = self._means(pair.tuned) - base
        added = np.linalg.norm(np.diff(difference, axis=0), axis=-1).mean(axis=-1)
        return on_all_layers(added[self.setup.layers], self.setup.layers, self.setup.layers)

    def judged(self, planted: Unit) -> np.ndarray:
        """Return the layers before the planted one: they all read what the unchanged model writes."""
        return np.array([unit.layer < planted.layer for unit in self.units])

    def _means(self, model: HookedModel) -> np.ndarray:
        """Return the mean streams before each block and behind the last, (boundary, position, d_model)."""
        boundaries = range(int(model.cfg.n_layers) + 1)
        streams = streams_before(model, self._corpus, list(boundaries), Counted(lambda done, every: None, 1))
        return np.stack([streams[boundary].mean(axis=0) for boundary in boundaries])
