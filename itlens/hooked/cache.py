"""Tensors of one model on disk while the other model is in memory, and which positions of the prompts fit there.

`ActivationCache` keeps activations that are read again and again by rows: tensors of one file one after the other, in
float32 or float64, read with plain reads (pages of a memory map would count as this process's memory). `DiskArrays`
keeps whole tensors in their own dtype, a file each, read through a memory map, so that only what is used of them comes
into memory. Both live in a temporary folder that is removed in the end, also after an error and after Ctrl-C.

`kept_positions`: a position costs a fixed number of bytes, and one that predicts a response token also its row of every
attention pattern. When all positions of all prompts fit into the bound, all are kept. Otherwise the same number of
positions of every prompt, the largest that fits: those that predict the response come first, then the others, each in a
seeded random order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryDirectory

import numpy as np
import torch

from itlens.errors import ProbeError
from itlens.hooked.tokens import Forced

_SPARE = 1 << 28  # bytes that stay free on the disk
_ROWS = 1 << 14  # of a large matrix, written at a time


def kept_positions(
    prompts: Sequence[Forced], position_bytes: int, key_bytes: int, most: int, seed: int
) -> list[np.ndarray]:
    """Return the positions of each prompt that are kept, ascending; see the module.

    position_bytes: of one position; key_bytes: more for each key that a position which predicts can read; most: bytes
    in all. Raises ProbeError where not even one position of each prompt fits.
    """
    orders = [_order(prompt, seed, number) for number, prompt in enumerate(prompts)]
    sizes = [
        np.cumsum(position_bytes + key_bytes * len(prompt.read) * np.isin(order, prompt.positions))
        for prompt, order in zip(prompts, orders, strict=True)
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


def _order(prompt: Forced, seed: int, number: int) -> np.ndarray:
    rng = np.random.default_rng([seed, number])
    targets = np.array(sorted(set(prompt.positions)), dtype=np.int64)
    others = np.setdiff1d(np.arange(len(prompt.read)), targets)
    return np.concatenate([rng.permutation(targets), rng.permutation(others)])


class ActivationCache:
    """Tensors by file and name in a folder; half precision becomes float32."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[tuple[str, str], tuple[int, tuple[int, ...], str]] = {}

    def reserve(self, size: int) -> None:
        """Raise ProbeError where the disk has no room for so many bytes."""
        _refuse_full(
            self._folder,
            size,
            f"{size / 1e9:.1f} GB of activations",
            "with room, a smaller cache_bytes=, or fewer prompts",
        )

    def put(self, file: str, name: str, value: torch.Tensor) -> None:
        """Keep a tensor."""
        with (self._folder / file).open("ab") as out:
            start, shape, kind = out.tell(), tuple(value.shape), "float32"
            for part in value.split(_ROWS) if value.dim() else (value,):
                plain = part.detach().to("cpu", torch.float64 if part.dtype == torch.float64 else torch.float32)
                kind = str(plain.dtype).removeprefix("torch.")
                plain.contiguous().numpy().tofile(out)
        self._kept[file, name] = (start, shape, kind)

    def get(self, file: str, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Read a tensor, or its rows from `start` to `stop`."""
        offset, shape, kind = self._kept[file, name]
        stop = shape[0] if stop is None else min(stop, shape[0])
        width = int(np.prod(shape[1:], dtype=np.int64))
        first = offset + start * width * np.dtype(kind).itemsize
        read = np.fromfile(self._folder / file, dtype=kind, count=(stop - start) * width, offset=first)
        return torch.from_numpy(read.reshape(stop - start, *shape[1:]))

    def rows(self, file: str, name: str, numbers: Sequence[int]) -> torch.Tensor:
        """Read single rows of a tensor."""
        return torch.cat([self.get(file, name, number, number + 1) for number in numbers])


class DiskArrays:
    """Tensors by name in a folder. bfloat16, which numpy does not have, is kept as its bits."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, tuple[Path, torch.dtype]] = {}

    def put(self, name: str, value: torch.Tensor) -> None:
        """Keep a tensor. Raises ProbeError where the disk has no room for it."""
        plain = value.detach().cpu().contiguous()
        size = plain.numel() * plain.element_size()
        content = f"the activations of the donor model ({size / 1e9:.1f} GB more now)"
        _refuse_full(self._folder, size, content, "with room, or fewer prompts")
        path = self._folder / f"{len(self._kept):06d}.npy"
        bits = plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain
        np.save(path, bits.numpy(), allow_pickle=False)
        self._kept[name] = (path, plain.dtype)

    def has(self, name: str) -> bool:
        """Return whether a tensor of this name was put."""
        return name in self._kept

    def get(self, name: str) -> torch.Tensor:
        """Map a tensor from its file; writing into it does not reach the file."""
        path, dtype = self._kept[name]
        value = torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
        return value.view(dtype) if dtype == torch.bfloat16 else value


@contextmanager
def activation_cache(folder: str | Path | None) -> Iterator[ActivationCache]:
    """Open an `ActivationCache` in a new folder within `folder` (None: where the system keeps temporary files), removed
    in the end. Raises ProbeError where `folder` is no folder."""
    with _new_folder(folder, "itlens-shift-") as path:
        yield ActivationCache(path)


@contextmanager
def disk_arrays(folder: str | Path | None) -> Iterator[DiskArrays]:
    """Open `DiskArrays` in a new folder, as `activation_cache` does."""
    with _new_folder(folder, "itlens-patch-") as path:
        yield DiskArrays(path)


@contextmanager
def _new_folder(within: str | Path | None, prefix: str) -> Iterator[Path]:
    if within is not None and not Path(within).is_dir():
        raise ProbeError(f"cache={str(within)!r} is no folder; give one with room for activations, or None.")
    with TemporaryDirectory(prefix=prefix, dir=within, ignore_cleanup_errors=True) as path:
        yield Path(path)


def _refuse_full(folder: Path, size: int, content: str, remedy: str) -> None:
    free = disk_usage(folder).free
    if size + _SPARE > free:
        raise ProbeError(
            f"{folder} has {free / 1e9:.1f} GB left, too little for {content}; give cache= a folder {remedy}."
        )
