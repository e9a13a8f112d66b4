"""Whether the weight files of a checkpoint are whole and finite, told without loading the model.

A study runs hours of prompts through one model before it loads the other, so both are looked through first: the header
of each safetensors file must describe all of it, and no number in it may be NaN or infinite. One tensor is read at a
time. Weights in other formats are left to the loader.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from itlens.errors import ModelError
from itlens.files import read_json
from itlens.models.locate import Place, first_line
from itlens.models.source import WEIGHTS

_CHECKED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def refuse_broken_files(place: Place) -> None:
    """Raise ModelError for a safetensors file that is truncated, missing, or holds NaN or infinity."""
    from safetensors import SafetensorError, safe_open

    for path in _weight_files(place):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (not a mapping)
                    _refuse_not_finite(file.get_tensor(name), name, place.name)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(f"The weights of {place.name} cannot be loaded: {first_line(error)}") from error


def _weight_files(place: Place) -> list[Path]:
    """The safetensors files that transformers would load from this folder."""
    if place.gguf:
        return []
    index = place.folder / "model.safetensors.index.json"
    if index.is_file():
        held = read_json(index)
        mapped = held.get("weight_map") if isinstance(held, dict) else None
        return [place.folder / str(name) for name in sorted(set(mapped.values()))] if isinstance(mapped, dict) else []
    single = place.folder / "model.safetensors"
    if single.is_file():
        return [single]
    if not any(path.suffix in WEIGHTS for path in place.folder.iterdir()):
        raise ModelError(f"The folder of {place.name} holds no weights; expected model.safetensors beside config.json.")
    return []


def _refuse_not_finite(tensor: Any, key: str, name: str) -> None:
    if tensor.dtype in _CHECKED and tensor.numel():
        low, high = torch.aminmax(tensor)  # both become NaN when any value is
        if not (torch.isfinite(low) and torch.isfinite(high)):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(f"The weight {key} of {name} holds NaN or infinity in {kind}; the checkpoint is broken.")
