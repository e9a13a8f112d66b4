"""The detector of patching in a selftest: what each head's own weights do, put into the unchanged model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from itlens.findings.detector import Detector, Setup, heads_of, on_all_layers
from itlens.findings.patching.probe import patch
from itlens.hooked.tokens import forced

_PROMPTS = 5  # of two, a head that matters to neither of them is found by nothing


class HeadPatching(Detector):
    """What a head's own weights change in the log-probability of the responses, put into the unchanged model."""

    name, kind, sees = "patching", "head", ("scaled_head", "rank_one_qk")
    slow = True
    about = "mean over prompts of |change in log-probability| by a head's weights (nats)"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.units = heads_of(setup.layers, int(setup.model.cfg.n_heads))
        self._prompts = forced(setup.model, setup.prompts[:_PROMPTS])

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`. The receiver is the unchanged model, so heads without the plant stay as they were."""
        patched_layers = self.setup.layers if layers is None else list(layers)
        with self.setup.altered.pair() as pair:
            patched = patch(
                pair, self._prompts, what="weights", layers=patched_layers, estimate=False, curve=False,
                seed=self.setup.seed, progress=False,
            )  # fmt: skip
        effect = np.abs(patched["effect"].values).mean(axis=0)
        return on_all_layers(effect, patched_layers, self.setup.layers)
