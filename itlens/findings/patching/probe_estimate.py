"""First-order estimates of patches, all parts from one pass forward and one backward (attribution patching).

effect of a part ~ sum over positions of < donor's activation - receiver's, d m / d activation of the receiver >
(Nanda 2023, "Attribution patching"). Exact where the metric is linear in the activation; attention that saturates and
norms that rescale make it wrong, most for large changes in early layers.
"""

from __future__ import annotations

import numpy as np
import torch

from itlens.errors import ProbeError
from itlens.findings.patching.probe_metrics import Metric
from itlens.findings.patching.probe_parts import Parts
from itlens.hooked.hooks import hook_points, run_hooked
from itlens.hooked.tokens import Forced
from itlens.models.hooked_model import HookedModel


def estimated_effects(
    model: HookedModel, prompt: Forced, metric: Metric, parts: Parts, places: np.ndarray, donor: torch.Tensor
) -> tuple[np.ndarray, float]:
    """Estimate the effects of all parts on one prompt, in the order of `parts.listed()`; and the receiver's own metric.

    donor: (layer, place, ...). The gradient is that of zeros which are added at each hook point, so that one pass
    serves all layers on both model classes. Raises ProbeError for a metric without a gradient.
    """
    device = next(model.parameters()).device
    tokens = torch.tensor([prompt.read], device=device)
    added: list[torch.Tensor] = []
    own: list[torch.Tensor] = []

    def add(value: torch.Tensor, hook: object) -> torch.Tensor:
        own.append(value.detach()[0])
        added.append(torch.zeros_like(value, requires_grad=True))
        return value + added[-1]

    names = hook_points(model, [parts.point(layer) for layer in parts.layers])
    with torch.enable_grad():
        logits = run_hooked(model, tokens, [(name, add) for name in names], positions=prompt.positions)
        assert metric.of_logits is not None  # importance has no estimate
        value = metric.of_logits(logits, prompt).sum()
        if not value.requires_grad:
            raise ProbeError(
                f"The metric {metric.name} has no gradient, so it cannot be estimated: use estimate=False."
            )
        gradients = torch.autograd.grad(value, added)
    by_layer = [
        _effects(donor[number].to(device), own[number][places], gradients[number][0, places], parts)
        for number in range(len(parts.layers))
    ]
    return np.concatenate(by_layer), float(value.detach())


def _effects(donor: torch.Tensor, own: torch.Tensor, gradient: torch.Tensor, parts: Parts) -> np.ndarray:
    """Return the estimates of one layer: by head, or one number."""
    wide = torch.promote_types(own.dtype, torch.float32)
    product = (donor.to(wide) - own.to(wide)) * gradient.to(wide)
    if parts.axis:
        return product.sum(dim=(0, 2))[parts.heads].cpu().numpy()
    return product.sum()[None].cpu().numpy()
