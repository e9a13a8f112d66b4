"""Activations of both models of a pair on disk, and which positions of the prompts fit there.

1. A position costs a fixed number of bytes, and one that predicts a response token also its row of every attention
   pattern. When all positions of all prompts fit into the bound, all are kept.
2. Otherwise the same number of positions of every prompt: those that predict the response come first, then the others,
   each in a seeded random order. It is the largest number that fits.
The folder is removed in the end, also after an error and after Ctrl-C. Arrays are read with plain reads, not through a
memory map: pages of a map would count as this process's memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from itlens.errors import ProbeError
from itlens.probes.running.forced import Forced

_SPARE = 1 << 28  # bytes that stay free on the disk
_ROWS = 1 << 14  # of a large matrix, written at a time


def kept_positions(
    prompts: Sequence[Forced], position_bytes: int, key_bytes: int, most: int, seed: int
) -> list[np.ndarray]:
    """The positions of each prompt that are kept, ascending; see the module.

    position_bytes: of one position; key_bytes: more for each key that a position which predicts can read; most: bytes
    in all. Raises ProbeError where not even one position of each prompt fits.
    """
    orders = [_order(one, seed, number) for number, one in enumerate(prompts)]
    sizes = [
        np.cumsum(position_bytes + key_bytes * len(one.read) * np.isin(order, one.positions))
        for one, order in zip(prompts, orders, strict=True)
    ]

    def needed(count: int) -> int:
        return sum(int(size[min(count, size.size) - 1]) for size in sizes)

    least = needed(1)
    if least > most:
        raise ProbeError(
            f"cache_bytes={most} holds less than one position of each of {len(prompts)} prompts; give at least {least} "
            f"({needed(max(map(len, orders)))} for all positions), or fewer prompts."
        )
    low, high = 1, max(map(len, orders))
    while low < high:  # the largest count that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needed(middle) <= most else (low, middle - 1)
    return [np.sort(order[:low]) for order in orders]


def _order(one: Forced, seed: int, number: int) -> np.ndarray:
    rng = np.random.default_rng([seed, number])
    targets = np.array(sorted(set(one.positions)), dtype=np.int64)
    others = np.setdiff1d(np.arange(len(one.read)), targets)
    return np.concatenate([rng.permutation(targets), rng.permutation(others)])


class ActivationCache:
    """Arrays by file and name: those of a file are written one after the other, in float32 or float64."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[tuple[str, str], tuple[int, tuple[int, ...], str]] = {}

    def reserve(self, size: int) -> None:
        """Raise ProbeError where the disk has no room for so many bytes."""
        free = disk_usage(self._folder).free
        if size + _SPARE > free:
            raise ProbeError(
                f"{self._folder} has {free / 1e9:.1f} GB left, too little for {size / 1e9:.1f} GB of activations; give "
                "cache= a folder with room, a smaller cache_bytes=, or fewer prompts."
            )

    def put(self, file: str, name: str, value: torch.Tensor) -> None:
        """Keep a tensor; half precision becomes float32."""
        with (self._folder / file).open("ab") as out:
            start, shape, kind = out.tell(), tuple(value.shape), "float32"
            for part in value.split(_ROWS) if value.dim() else (value,):
                plain = part.detach().to("cpu", torch.float64 if part.dtype == torch.float64 else torch.float32)
                kind = str(plain.dtype).removeprefix("torch.")
                plain.contiguous().numpy().tofile(out)
        self._kept[file, name] = (start, shape, kind)

    def get(self, file: str, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """A tensor that was put, or its rows from `start` to `stop`."""
        offset, shape, kind = self._kept[file, name]
        stop = shape[0] if stop is None else min(stop, shape[0])
        width = int(np.prod(shape[1:], dtype=np.int64))
        first = offset + start * width * np.dtype(kind).itemsize
        read = np.fromfile(self._folder / file, dtype=kind, count=(stop - start) * width, offset=first)
        return torch.from_numpy(read.reshape(stop - start, *shape[1:]))

    def rows(self, file: str, name: str, numbers: Sequence[int]) -> torch.Tensor:
        """Single rows of a tensor."""
        return torch.cat([self.get(file, name, number, number + 1) for number in numbers])


@contextmanager
def activation_cache(folder: Any) -> Iterator[ActivationCache]:
    """An `ActivationCache` in a new folder within `folder` (None: where the system keeps temporary files), removed in
    the end. Raises ProbeError where `folder` is no folder."""
    if folder is not None and not Path(folder).is_dir():
        raise ProbeError(f"cache={str(folder)!r} is no folder; give one with room for activations, or None.")
    with TemporaryDirectory(prefix="itlens-shift-", dir=folder, ignore_cleanup_errors=True) as path:
        yield ActivationCache(Path(path))
