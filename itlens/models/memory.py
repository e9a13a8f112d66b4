"""Memory: what is no longer needed given back to the system, and how many Jacobian rows or columns fit at a time."""

from __future__ import annotations

import ctypes
import gc
from time import monotonic

import psutil
import torch

from itlens.models.hooked_model import HookedModel

# Beyond this a larger batch is no faster: on a CPU its activations leave the cache, and in reverse mode the cut by
# causality gets coarser.
_ENOUGH = {"cpu": 16, "cuda": 128, "mps": 32}
_SHARE = 0.5  # of the free memory; the rest is for the recorded pass and for others


def give_back() -> None:
    """Collect what was dropped, and hand freed memory back (glibc keeps it otherwise)."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim()


def trim() -> None:
    """Hand freed memory back without collecting: a few milliseconds."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return  # another C library (macOS, Windows, musl) gives it back by itself


class Trims:
    """`trim`, for loops: at most once in `seconds`, so that loops of a few milliseconds are not slowed by it.

    Without it the heap grows from one piece of work to the next though all of it is free.
    """

    def __init__(self, seconds: float = 0.2) -> None:
        self._seconds, self._last = seconds, monotonic()

    def __call__(self) -> None:
        """Trim if it is time."""
        if monotonic() - self._last > self._seconds:
            trim()
            self._last = monotonic()


def free_bytes(device: torch.device) -> int:
    """Return the memory that can be had on the device now, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def row_bytes(model: HookedModel, length: int) -> int:
    """Return what one row of `length` positions takes at its widest: the gradients of one block, that is the MLP's
    three hidden activations, attention's inputs and outputs, and the patterns of all heads, and half as much again for
    the steps between them (measured: 7.3 MB a row on a 135M Llama at 95 positions)."""
    cfg = model.cfg
    width = 3 * (cfg.d_mlp or 4 * cfg.d_model) + 8 * cfg.d_model + 4 * cfg.n_heads * length
    return int(length * width * max(next(model.parameters()).element_size(), 4) * 3 // 2)


def rows_at_a_time(model: HookedModel, length: int) -> int:
    """Return the number of rows of `length` positions that are pulled back (or pushed forward) together."""
    device = next(model.parameters()).device
    fitting = int(free_bytes(device) * _SHARE // row_bytes(model, length))
    return max(1, min(fitting, _ENOUGH.get(device.type, 16)))
