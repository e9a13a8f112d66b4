"""How many neurons of each feed-forward layer work on a token, and how much the layer adds.

For the n hidden activations a of a token (`mlp.hook_post`: after the nonlinearity and, in gated layers, the product
with the gate), means over the target positions:
1. participation = (sum |a|)^2 / (n sum a^2): 1 when all neurons are equally active, 1 / n when one is.
2. zero = the share of neurons at exactly 0; near_zero = the share below a tenth of the token's root mean square.
3. relative_norm = |m| / |r|, m what the layer writes (`hook_mlp_out`, after a norm behind the layer where there is one)
   and r the residual stream it is added to (`hook_resid_post` - m).
A token whose activations are all 0 has participation 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float

from itlens.probes.running.forced import Forced
from itlens.probes.running.hooking import Hook
from itlens.probes.summaries.summary import at_layers, stacked, target_positions, wide

NEAR_ZERO = 0.1  # of the root mean square: a tenth of the size adds a hundredth of the energy


def sparsity(post: Float[torch.Tensor, "target neuron"]) -> dict[str, torch.Tensor]:
    """participation, zero and near_zero of each token."""
    size = wide(post).abs()
    energy = size.square().sum(-1)
    n = size.shape[-1]
    participation = torch.where(energy > 0, size.sum(-1).square() / (n * energy), 0.0)
    small = size < NEAR_ZERO * (energy / n).sqrt()[:, None]
    return {
        "mlp_participation": participation.clamp(max=1.0),
        "mlp_zero": (size == 0).to(size.dtype).mean(-1),
        "mlp_near_zero": (small | (size == 0)).to(size.dtype).mean(-1),
    }


class MlpSparsity:
    """The summary "mlp"; see the module."""

    dims: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        ("mlp_participation", "mlp_zero", "mlp_near_zero", "mlp_relative_norm"), ("layer",)
    )
    names: ClassVar[Mapping[str, str]] = {
        "mlp_participation": "participation ratio of neurons",
        "mlp_zero": "share of neurons at zero",
        "mlp_near_zero": "share of neurons near zero",
        "mlp_relative_norm": "norm of the feed-forward output relative to the residual stream",
    }

    def __init__(self, model: Any) -> None:
        self._model = model
        self._kept: dict[str, dict[int, torch.Tensor]] = {}
        self._written: dict[int, torch.Tensor] = {}

    def hooks(self, one: Forced) -> list[Hook]:
        """Hidden activations, what is written, and the stream after it, of all layers."""
        self._kept = {name: {} for name in self.dims}
        self._written = {}
        where = target_positions(self._model, one)

        def neurons(layer: int, value: torch.Tensor) -> None:
            for name, tokens in sparsity(value[0, where]).items():
                self._kept[name][layer] = tokens.mean()

        def written(layer: int, value: torch.Tensor) -> None:
            self._written[layer] = wide(value[0, where])

        def after(layer: int, value: torch.Tensor) -> None:
            added = self._written.pop(layer)
            before = wide(value[0, where]) - added
            self._kept["mlp_relative_norm"][layer] = (added.norm(dim=-1) / before.norm(dim=-1)).mean()

        return [
            *at_layers(self._model, "mlp.hook_post", neurons),
            *at_layers(self._model, "hook_mlp_out", written),
            *at_layers(self._model, "hook_resid_post", after),
        ]

    def values(self, one: Forced, logits: torch.Tensor) -> dict[str, np.ndarray]:
        """The statistics on (layer)."""
        return {name: stacked(layers) for name, layers in self._kept.items()}
