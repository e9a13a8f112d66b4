"""Log-probability of a response with some prompt tokens replaced by a baseline vector at `hook_embed`, in batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from itlens.errors import ProbeError
from itlens.probes.deletion.reading import Reading
from itlens.probes.memory import free_bytes, rows_at_a_time
from itlens.probes.running.hooking import run_hooked, token_logprobs
from itlens.weights import weights_of

BASELINES = ("mean", "zero")
_BLOCK = 1 << 14  # rows of the embedding at a time


def baseline_vector(model: Any, kind: Any) -> Float[torch.Tensor, " d_model"]:
    """What stands in place of a removed token: the mean of the vocabulary's embeddings, or zero.

    Of the ids that the tokenizer has: what else a padded embedding holds was never trained.
    """
    if kind not in BASELINES:
        raise ProbeError(f"baseline={kind!r} is unknown; expected one of {', '.join(map(repr, BASELINES))}.")
    weights = weights_of(model)
    first = weights.embed(torch.zeros(1, dtype=torch.long))[0]
    if kind == "zero":
        return torch.zeros_like(first)
    count = min(len(weights.tokenizer), int(model.cfg.d_vocab))
    total = torch.zeros_like(first, dtype=torch.float64 if first.device.type != "mps" else torch.float32)
    for start in range(0, count, _BLOCK):
        rows = weights.embed(torch.arange(start, min(start + _BLOCK, count)))
        total += rows.to(total.dtype).sum(dim=0)
    return (total / count).to(first.dtype)


def masked_logprobs(
    model: Any,
    reading: Reading,
    removed: Bool[np.ndarray, "mask source"],
    baseline: Float[torch.Tensor, " d_model"],
    rows: int | None,
    tell: Callable[[int, int], None],
) -> Float[np.ndarray, " mask"]:
    """Mean log-probability (nats) of the response's tokens under each mask; tokens in front of the prompt stay."""
    device = next(model.parameters()).device
    tokens = torch.tensor([reading.read], device=device)
    targets = torch.tensor(reading.response_ids, dtype=torch.long, device=device)
    gone = torch.zeros(len(removed), tokens.shape[1], dtype=torch.bool, device=device)
    gone[:, reading.sources] = torch.from_numpy(removed).to(device)
    size = _rows(model, reading) if rows is None else rows
    out = np.empty(len(removed))
    with torch.no_grad():
        for start in range(0, len(removed), size):
            part = gone[start : start + size]
            hooks = [("hook_embed", _replacing(part, baseline))]
            logits = run_hooked(model, tokens.expand(len(part), -1), hooks, positions=reading.positions)
            values = token_logprobs(logits, targets).mean(dim=-1)
            if not bool(torch.isfinite(values).all()):
                raise ProbeError(
                    f"The log-probability of the response of {reading.name} is not finite; load the model with "
                    'dtype="float32" or check its weights.'
                )
            out[start : start + size] = values.double().cpu().numpy()
            tell(min(start + size, len(removed)), len(removed))
    return out


def _replacing(gone: torch.Tensor, baseline: torch.Tensor) -> Callable[[torch.Tensor, Any], torch.Tensor]:
    def replace(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return torch.where(gone[..., None], baseline.to(value.dtype), value)

    return replace


def _rows(model: Any, reading: Reading) -> int:
    """Texts at a time: the logits of large vocabularies take more memory than the layers."""
    logits = 4 * len(reading.response_ids) * int(model.cfg.d_vocab) * 4  # in float32, with what a softmax takes
    fitting = free_bytes(next(model.parameters()).device) // 4 // logits
    return max(1, min(rows_at_a_time(model, len(reading.read)), int(fitting)))
