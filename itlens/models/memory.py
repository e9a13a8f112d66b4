"""Memory that is no longer needed, given back to the system."""

from __future__ import annotations

import ctypes
import gc
from time import monotonic


def give_back() -> None:
    """Collect what was dropped, and hand freed memory back (glibc keeps it otherwise)."""
    import torch

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
        """Trim, if it is time."""
        if monotonic() - self._last > self._seconds:
            trim()
            self._last = monotonic()
