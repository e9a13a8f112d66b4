"""The safetensors files of a checkpoint: which tensors they hold, read one at a time without the rest.

The header of a file gives the precision, shape and place of each tensor. A whole tensor is a view of the mapped file:
nothing is copied, and the system may drop its pages; the file is unmapped when the tensor is let go. Rows of a tensor
are read from their places alone, so that of an embedding no more is in memory than is asked for. A tensor in another
precision than the file's is converted a few megabytes at a time: the stored one is never whole in memory next to it.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from itlens.errors import ModelError, first_few
from itlens.foreign import foreign, read_settings
from itlens.models.locate import Located, safetensors_of
from itlens.models.source import refuse_not_finite_tensor

_KINDS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_INDEX = "model.safetensors.index.json"
_PIECE = 1 << 24  # bytes that are converted at a time


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies. kind: as the header writes its precision ("BF16"); start: its first byte in the file."""

    path: Path
    kind: str
    shape: tuple[int, ...]
    start: int

    @property
    def dtype(self) -> torch.dtype:
        """The precision in which it is stored."""
        return _KINDS[self.kind]

    @property
    def plain(self) -> bool:
        """Whether it holds plain floating-point numbers (quantised weights do not)."""
        return self.kind in _KINDS


class TensorFiles:
    """The tensors of a checkpoint by name. Raises ModelError for files that are missing, broken, or not as their index
    says."""

    def __init__(self, place: Located) -> None:
        self.name = place.name
        self.tensors: dict[str, StoredTensor] = {}
        paths = safetensors_of(place.folder)
        if not paths:
            raise ModelError(
                f"{place.name} holds no safetensors files, and only these can be read a layer at a time; save it again "
                "with save_pretrained, or load the whole model: itlens.load_model(...)."
            )
        for path in paths:
            if not path.is_file():
                raise ModelError(
                    f"The index of {place.name} names {path.name}, which is not in the folder; download the missing "
                    "file, or the whole checkpoint again."
                )
            self.tensors.update(_headers(path, place.name))
        _refuse_other_index(place, paths, self.tensors)

    def tensor(self, key: str) -> Tensor:
        """Return a whole tensor as a view of the mapped file. Raises ModelError where it holds NaN or infinity."""
        tensor = self._mapped(key)
        refuse_not_finite_tensor(tensor, key, self.name)
        return tensor

    def converted(self, key: str, dtype: torch.dtype) -> Tensor:
        """Return a whole tensor in `dtype`: a view of the mapped file where it is stored so, else a copy that is read
        piece by piece. Its values are not looked at."""
        stored = self.tensors[key]
        if stored.dtype == dtype:
            return self._mapped(key)
        count = prod(stored.shape)
        flat = torch.empty(count, dtype=dtype)
        step = _PIECE // stored.dtype.itemsize
        piece = torch.empty(min(step, count), dtype=stored.dtype)
        held: np.ndarray = piece.view(torch.uint8).numpy()
        what = f"The weights of {self.name} cannot be read"
        with foreign(ModelError, what), stored.path.open("rb", buffering=0) as file:
            file.seek(stored.start)
            for start in range(0, count, step):
                number = min(step, count - start)
                _fill(file, held[: number * stored.dtype.itemsize].data)
                flat[start : start + number] = piece[:number]
        return flat.reshape(stored.shape)

    def _mapped(self, key: str) -> Tensor:
        stored = self.tensors[key]
        size = prod(stored.shape) * stored.dtype.itemsize
        with foreign(ModelError, f"The weights of {self.name} cannot be read"), stored.path.open("rb") as file:
            page = stored.start - stored.start % mmap.ALLOCATIONGRANULARITY
            mapped = mmap.mmap(file.fileno(), stored.start - page + size, access=mmap.ACCESS_COPY, offset=page)
        if hasattr(mmap, "MADV_WILLNEED"):
            mapped.madvise(mmap.MADV_WILLNEED)
        flat = torch.frombuffer(mapped, dtype=torch.uint8, count=size, offset=stored.start - page)
        aligned = (stored.start - page) % stored.dtype.itemsize == 0
        return (flat if aligned else flat.clone()).view(stored.dtype).reshape(stored.shape)

    def rows(self, key: str, ids: Int[Tensor, " row"]) -> Float[Tensor, "row width"]:
        """Return some rows of a matrix, in the order of `ids`, from their places in the file alone."""
        stored = self.tensors[key]
        width = stored.shape[1] * stored.dtype.itemsize
        own, back = np.unique(ids.cpu().numpy(), return_inverse=True)
        if len(own) and not 0 <= own[0] <= own[-1] < stored.shape[0]:
            raise ModelError(f"{key} of {self.name} has {stored.shape[0]} rows; got {own[0]} to {own[-1]}.")
        rows = torch.empty(len(own), stored.shape[1], dtype=stored.dtype)
        places: np.ndarray = rows.view(torch.uint8).numpy()
        what = f"The weights of {self.name} cannot be read"
        with foreign(ModelError, what), stored.path.open("rb", buffering=0) as file:
            for place, row in enumerate(own.tolist()):
                file.seek(stored.start + row * width)
                _fill(file, places[place].data)
        refuse_not_finite_tensor(rows, key, self.name)
        return rows[torch.from_numpy(back.reshape(-1))]


def _fill(file: IO[bytes], room: memoryview) -> None:
    """Read exactly as many bytes as there is room for."""
    while len(room):
        read = file.readinto(room)  # type: ignore[attr-defined]
        if not read:
            raise ValueError("the file ends early")
        room = room[read:]


def _headers(path: Path, name: str) -> Iterator[tuple[str, StoredTensor]]:
    """Yield the tensors of one file. Raises ModelError unless its header describes the whole file."""
    from safetensors import safe_open

    with foreign(ModelError, f"The weights of {name} cannot be loaded"):
        with safe_open(path, "pt"):  # checks that every tensor lies within the file
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    for key, said in header.items():
        if key != "__metadata__":
            yield key, StoredTensor(path, said["dtype"], tuple(said["shape"]), 8 + length + said["data_offsets"][0])


def _refuse_other_index(place: Located, paths: list[Path], tensors: dict[str, StoredTensor]) -> None:
    """Raise ModelError where the index of several files names a file for a weight that is not in it."""
    index = place.folder / _INDEX
    if paths[0].name == "model.safetensors" or not index.is_file():
        return
    named = read_settings(index, ModelError, f"The index of weights {index}")["weight_map"]
    wrong = [key for key, file in named.items() if key not in tensors or tensors[key].path.name != file]
    if wrong:
        raise ModelError(
            f"The index of {place.name} says that {named[wrong[0]]} holds {first_few(wrong)}, and it does not; the "
            "index and the files are of different checkpoints: download both again."
        )
