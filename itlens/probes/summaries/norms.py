"""How large the residual stream is, and how much each head adds to it.

Means over the target positions of
1. resid_rms: the root mean square of the residual stream after a layer (`hook_resid_post`);
2. head_z_norm: |z_h|, z_h the mixed values of head h (`attn.hook_z`);
3. head_result_norm: |z_h W_O,h|, what the head writes, as sqrt(z_h^T G_h z_h) with G_h = W_O,h W_O,h^T: nothing of size
   heads x d_model is made per token. Where a norm follows attention (Gemma 2 and 3) the head writes
   z_h W_O,h diag(g) / rms(sum over heads), and that is what is measured;
4. head_relative_norm: the same, token by token, over |x|, x the residual stream that attention is added to
   (`hook_resid_pre`).
The bias of W_O belongs to no head and is left out.
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
from itlens.weights import Weights, weights_of


class HeadWriting:
    """The Gram matrices of one layer's heads, made once; they tell how long a vector each head writes."""

    def __init__(self, model: Any, all_weights: Weights, layer: int) -> None:
        block, weights = model.blocks[layer], all_weights.attention(layer)
        W_O = wide(weights.W_O)
        scaled = W_O * wide(weights.out_gain)
        self._gram = torch.einsum("hem,hfm->hef", scaled, scaled)
        self._after = getattr(block, "ln1_post", None) is not None
        self._weights, self._bias = weights, getattr(block.attn, "b_O", None)
        self._eps = float(model.cfg.eps)

    def norms(self, z: Float[torch.Tensor, "target head d_head"]) -> Float[torch.Tensor, "target head"]:
        """|what each head writes| at each position; see the module."""
        square = torch.einsum("the,hef,thf->th", z, self._gram.to(z.dtype), z).clamp(min=0.0)
        return square.sqrt() / self._divisor(z)[:, None]

    def _divisor(self, z: torch.Tensor) -> torch.Tensor:
        """The root mean square that a norm after attention divides by; 1 where there is none."""
        if not self._after:
            return z.new_ones(len(z))
        total = torch.einsum("the,hem->tm", z, self._weights.W_O.to(z.dtype))
        if self._bias is not None:
            total = total + self._bias.detach().to(z.dtype)
        return (total.square().mean(-1) + self._eps).sqrt()


class Norms:
    """The summary "norms"; see the module."""

    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "resid_rms": ("layer",),
        "head_z_norm": ("layer", "head"),
        "head_result_norm": ("layer", "head"),
        "head_relative_norm": ("layer", "head"),
    }
    names: ClassVar[Mapping[str, str]] = {
        "resid_rms": "root mean square of the residual stream",
        "head_z_norm": "norm of a head's mixed values",
        "head_result_norm": "norm of what a head writes",
        "head_relative_norm": "norm of what a head writes relative to the residual stream",
    }

    def __init__(self, model: Any) -> None:
        self._model = model
        weights = weights_of(model)
        self._heads = [HeadWriting(model, weights, layer) for layer in range(model.cfg.n_layers)]
        self._kept: dict[str, dict[int, torch.Tensor]] = {}
        self._stream: dict[int, torch.Tensor] = {}

    def hooks(self, one: Forced) -> list[Hook]:
        """The stream before and after each layer, and the heads' values."""
        self._kept = {name: {} for name in self.dims}
        self._stream = {}
        where = target_positions(self._model, one)

        def before(layer: int, value: torch.Tensor) -> None:
            self._stream[layer] = wide(value[0, where]).norm(dim=-1)

        def heads(layer: int, value: torch.Tensor) -> None:
            z = wide(value[0, where])
            written, stream = self._heads[layer].norms(z), self._stream.pop(layer)
            self._kept["head_z_norm"][layer] = z.norm(dim=-1).mean(0)
            self._kept["head_result_norm"][layer] = written.mean(0)
            self._kept["head_relative_norm"][layer] = (written / stream[:, None]).mean(0)

        def after(layer: int, value: torch.Tensor) -> None:
            stream = wide(value[0, where])
            self._kept["resid_rms"][layer] = stream.square().mean(-1).sqrt().mean()

        return [
            *at_layers(self._model, "hook_resid_pre", before),
            *at_layers(self._model, "attn.hook_z", heads),
            *at_layers(self._model, "hook_resid_post", after),
        ]

    def values(self, one: Forced, logits: torch.Tensor) -> dict[str, np.ndarray]:
        """The statistics on (layer[, head])."""
        return {name: stacked(layers) for name, layers in self._kept.items()}
