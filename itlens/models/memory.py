"""Memory that is no longer needed, given back to the system."""

from __future__ import annotations

import ctypes
import gc


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
