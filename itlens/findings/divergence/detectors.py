"""The detector of divergence in a selftest: what each block changes in the next-token logits.

The sweep over boundaries with every token in place of two: upstream logits at boundary l + 1 minus those at boundary l,
through the unchanged model's norm and unembedding. A block whose weights are the same adds nothing, wherever in the
model others changed, so that all other blocks are judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch

from itlens.findings.detector import Detector, Setup, Unit, UnitKind, on_all_layers
from itlens.findings.divergence.probe import late_runs
from itlens.hooked.lens import lens_logits
from itlens.hooked.tokens import forced
from itlens.models import HookedModel
from itlens.models.precision import as_numbers
from itlens.models.running import undisturbed

_PROMPTS = 2  # a mean over them; each takes a pass for every layer and four more


class BlockDecision(Detector):
    """How much of the change of the next-token logits each block makes."""

    name = "divergence"
    kind: ClassVar[UnitKind] = "layer"
    sees: ClassVar[tuple[str, ...]] = ("rotated_values", "rotated_keys", "residual_direction")
    about = "change of the next-token logits that a block makes (root mean square over tokens), mean over prompts"
    local, slow = False, True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.units = [Unit(layer, -1) for layer in setup.layers]
        read = forced(setup.model, setup.prompts[:_PROMPTS])
        self._prefixes = [one.read[: one.positions[0] + 1] for one in read]

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`."""
        values = np.mean([self._steps(prefix) for prefix in self._prefixes], axis=0)
        return on_all_layers(values[self.setup.layers], self.setup.layers, self.setup.layers)

    def _steps(self, tokens: Sequence[int]) -> np.ndarray:
        """Return what each block of the model adds on one prompt."""
        with self.setup.altered.pair() as pair:
            base_streams = _streams(pair.base, tokens)
            with undisturbed(pair.tuned):
                tuned_streams, of_tuned = late_runs(pair.tuned, tokens, base_streams)
            model = pair.base
            with undisturbed(model), torch.no_grad():
                _, of_base = late_runs(model, tokens, tuned_streams[:-1])
                tuned, base = (as_numbers(lens_logits(model, finals)) for finals in (of_tuned, of_base))
        # rows: the plain run, then boundary 0, 1, ...; behind the last block the upstream model is all there is
        late_tuned = np.vstack([tuned[0] - tuned[1:], (tuned[0] - base[0])[None]])
        late_base = np.vstack([base[1:] - base[0], (tuned[0] - base[0])[None]])
        upstream = (late_tuned + late_base) / 2
        step = np.diff(upstream - upstream.mean(axis=1, keepdims=True), axis=0)
        return np.asarray(np.sqrt((step**2).mean(axis=1)))


def _streams(model: HookedModel, tokens: Sequence[int]) -> torch.Tensor:
    """Return the model's own streams before each block, (n_layers, position, d_model)."""
    shape = (int(model.cfg.n_layers), len(tokens), int(model.cfg.d_model))
    with undisturbed(model):
        return late_runs(model, tokens, torch.zeros(shape), rows=1 + shape[0])[0][:-1]
