"""Memory: what is no longer needed given back to the system, how many rows fit at a time, and whether a pass fits.

A pass whose attention patterns alone do not fit is refused before it starts (`room_for`): most systems promise more
memory than they have, and end the process without a word when it is used. Patterns grow with the square of the text,
and all else is small beside them where memory is short. With P the bytes of one layer's patterns (heads x T x T), a
pass of R rows takes at least (measured at 1,200 tokens, and then less, so that nothing that fits is refused):
   plain       4 P R on a HookedTransformer, 2 P R on a TransformerBridge (scores, mask, softmax of one layer)
   recorded    2 P (1 P) for each layer, kept for the way back, and 2 P R for the gradients of one layer
To this come the logits of the targets. What the estimate misses ends as one sentence as well.
"""

from __future__ import annotations

import ctypes
import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import psutil
import torch

from itlens.errors import ProbeError
from itlens.models.hooked_model import HookedModel
from itlens.models.source import source_of

# Beyond this a larger batch is no faster: on a CPU its activations leave the cache, and in reverse mode the cut by
# causality gets coarser.
_ENOUGH = {"cpu": 16, "cuda": 128, "mps": 32}
_SHARE = 0.5  # of the free memory; the rest is for the recorded pass and for others
_SHORT = 1 << 28  # bytes that are not worth asking the system for
# what allocators say; on CPUs and Apple's GPUs there is no class of its own for it
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "Invalid buffer size")


def give_back(*, collect: bool = True) -> None:
    """Hand freed memory back (glibc keeps it otherwise), after what was dropped is collected.

    collect: False where nothing that was dropped waits for the collector, which goes through every object of the
    process: half a second after torch and transformers are imported.
    """
    if collect:
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


def parameter_bytes(model: HookedModel) -> int:
    """Return what the parameters of a model take."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


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


def pass_bytes(
    model: HookedModel, length: int, *, rows: int = 1, recorded: bool = False, targets: int = 1, bridge: bool = False
) -> int:
    """Return what a pass over `length` tokens takes at least; see the module.

    rows: texts, or gradients pulled back together. recorded: for derivatives. targets: positions whose logits are
    computed. bridge: as a TransformerBridge would run it.
    """
    item = next(model.parameters()).element_size()
    layers = sum(getattr(block, "attn", None) is not None for block in model.blocks)  # some models mix other kinds
    patterns = int(model.cfg.n_heads) * length * length * item if layers else 0
    if recorded:
        kept = (1 if bridge else 2) * layers
        return patterns * (kept + 2 * rows) + item * targets * int(model.cfg.d_vocab)
    return rows * (patterns * (2 if bridge else 4) + item * targets * int(model.cfg.d_vocab))


@contextmanager
def room_for(
    model: HookedModel, name: str, length: int, *, rows: int = 1, recorded: bool = False, targets: int = 1
) -> Iterator[None]:
    """Refuse a pass that cannot fit before it starts, and say in one sentence where memory ends during it.

    name: of the prompt; the rest as in `pass_bytes`. Raises ProbeError.
    """
    on_hooked, on_bridge = (
        pass_bytes(model, length, rows=rows, recorded=recorded, targets=targets, bridge=bridge)
        for bridge in (False, True)
    )
    bridge = source_of(model).backend == "bridge"
    least, device = on_bridge if bridge else on_hooked, next(model.parameters()).device
    remedy = _way_out(rows, None if bridge else on_bridge)
    if least > _SHORT and least > (free := _all_free(device)):
        cfg = model.cfg
        raise ProbeError(
            f"{name} is {length:,} tokens long with its response, and a pass of {source_of(model).name} takes at least "
            f"{least / 1e9:.1f} GB (attention patterns of {cfg.n_layers} layers, {cfg.n_heads} heads, {length:,} x "
            f"{length:,}, {_counted_rows(rows)} at a time), but {free / 1e9:.1f} GB are free on {device}: "
            f"{remedy}."
        )
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ProbeError(
            f"The memory of {device} ended while {source_of(model).name} read {name} ({length:,} tokens with its "
            f"response): {remedy} ({reason.rstrip('.')})."
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that an allocation failed."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def _all_free(device: torch.device) -> int:
    """Return all memory that a pass could get: what this process holds without using it, and swap, included."""
    give_back()
    if device.type == "cuda":
        return free_bytes(device) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    with warnings.catch_warnings():  # a container may hide the counters of swap
        warnings.simplefilter("ignore", RuntimeWarning)
        return free_bytes(device) + int(psutil.swap_memory().free)


def _way_out(rows: int, on_bridge: int | None) -> str:
    ways = ["shorten the prompt"]
    if rows > 1:
        ways.append("compute fewer rows at a time (batch_size=1, --batch-size 1)")
    if on_bridge is not None:
        least = f"{on_bridge / 1e9:.1f} GB or more"
        ways.append(f'load the model with backend="bridge" (--backend bridge), which takes {least}')
    return ", or ".join(ways)


def _counted_rows(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows} rows"
