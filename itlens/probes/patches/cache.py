"""Arrays of one model on disk while the other model is in memory: a temporary folder, one file an array.

Files are read through a memory map, so that only what is used of them comes into memory. The folder is removed in the
end, also after an error and after Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from itlens.errors import ProbeError

_SPARE = 1 << 28  # bytes that stay free on the disk


class DiskArrays:
    """Tensors by name, in a folder. bfloat16, which numpy does not have, is kept as its bits."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, tuple[Path, torch.dtype]] = {}

    def put(self, name: str, value: torch.Tensor) -> None:
        """Keep a tensor. Raises ProbeError where the disk has no room for it."""
        plain = value.detach().cpu().contiguous()
        size, free = plain.numel() * plain.element_size(), disk_usage(self._folder).free
        if size + _SPARE > free:
            raise ProbeError(
                f"{self._folder} has {free / 1e9:.1f} GB left, too little for the activations of the donor model "
                f"({size / 1e9:.1f} GB more now); give cache= a folder with room, or fewer prompts."
            )
        path = self._folder / f"{len(self._kept):06d}.npy"
        bits = plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain
        np.save(path, bits.numpy(), allow_pickle=False)
        self._kept[name] = (path, plain.dtype)

    def has(self, name: str) -> bool:
        """Whether a tensor of this name was put."""
        return name in self._kept

    def get(self, name: str) -> torch.Tensor:
        """A tensor that was put, mapped from its file; writing into it does not reach the file."""
        path, dtype = self._kept[name]
        value = torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
        return value.view(dtype) if dtype == torch.bfloat16 else value


@contextmanager
def disk_arrays(folder: Any) -> Iterator[DiskArrays]:
    """`DiskArrays` in a new folder within `folder` (None: where the system keeps temporary files), removed in the end.

    Raises ProbeError where `folder` is no folder.
    """
    if folder is not None and not Path(folder).is_dir():
        raise ProbeError(f"cache={str(folder)!r} is no folder; give one with room for activations, or None.")
    with TemporaryDirectory(prefix="itlens-patch-", dir=folder, ignore_cleanup_errors=True) as path:
        yield DiskArrays(Path(path))
