"""Numbers in float64, whatever device they were computed on: Apple's GPUs have no float64.

There the conversion itself is an error, also within one call that moves and converts: values move to the CPU first.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_WITH_FLOAT64 = ("cpu", "cuda")


def exact_device(device: torch.device) -> torch.device:
    """Return the device itself where it knows float64, else the CPU."""
    return device if device.type in _WITH_FLOAT64 else torch.device("cpu")


def exact(value: Tensor) -> Tensor:
    """Return the same numbers in float64, on `exact_device`."""
    return value.to(exact_device(value.device)).double()


def as_numbers(value: Tensor) -> np.ndarray:
    """Return the same numbers as a float64 array."""
    array: np.ndarray = value.detach().cpu().double().numpy()
    return array
