"""How many Jacobian rows or columns fit at a time."""

from __future__ import annotations

from typing import Any

import psutil
import torch

# Beyond this a larger batch is no faster: on a CPU its activations leave the cache, and in reverse mode the cut by
# causality gets coarser.
_ENOUGH = {"cpu": 16, "cuda": 128, "mps": 32}
_SHARE = 0.5  # of the free memory; the rest is for the recorded pass and for others


def free_bytes(device: torch.device) -> int:
    """Memory that can be had on the device now, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def row_bytes(model: Any, length: int) -> int:
    """What one row of `length` positions takes at its widest: the gradients of one block, that is the MLP's three
    hidden activations, attention's inputs and outputs, and the patterns of all heads, and half as much again for the
    steps between them (measured: 7.3 MB a row on a 135M Llama at 95 positions)."""
    cfg = model.cfg
    width = 3 * (cfg.d_mlp or 4 * cfg.d_model) + 8 * cfg.d_model + 4 * cfg.n_heads * length
    return length * width * max(next(model.parameters()).element_size(), 4) * 3 // 2


def rows_at_a_time(model: Any, length: int) -> int:
    """The number of rows of `length` positions that are pulled back (or pushed forward) together."""
    device = next(model.parameters()).device
    fitting = int(free_bytes(device) * _SHARE // row_bytes(model, length))
    return max(1, min(fitting, _ENOUGH.get(device.type, 16)))
