"""Precision on devices and processors that lack one.

FLOAT64 is not there on Apple's GPUs, and the conversion itself is an error, also within one call that moves and
converts: values move to the CPU first.

MATRIX PRODUCTS OF HALF PRECISION: on processors without instructions for them (x86 before AVX-512) torch multiplies
number by number, fifty times as slowly as in float32. There they are computed in float32 and rounded once, which gives
the numbers that the instructions give, since these add up in float32 too. All else stays in half precision.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

_WITH_FLOAT64 = ("cpu", "cuda")
HALF = (torch.bfloat16, torch.float16)
_SLOW = [{(dtype, "cpu")} for dtype in HALF]
_ATEN = torch.ops.aten
_PRODUCTS = {
    *(_ATEN.mm.default, _ATEN.bmm.default, _ATEN.addmm.default, _ATEN.baddbmm.default),
    *(_ATEN.mv.default, _ATEN.addmv.default, _ATEN.dot.default),
    *(_ATEN.linear.default, _ATEN.matmul.default, _ATEN.einsum.default),  # whole in inference mode
}


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


def half_products(parameters: Iterable[torch.Tensor]) -> AbstractContextManager[object]:
    """Return a context in which a model with these parameters multiplies fast; nothing changes where it does anyway."""
    slow = not has_half_products() and any(each.dtype in HALF and each.device.type == "cpu" for each in parameters)
    return _InFloat32() if slow else nullcontext()  # type: ignore[no-untyped-call]  # torch's mode has no annotations


def has_half_products() -> bool:
    """Whether this processor multiplies half precision itself; only of x86 is it known that some do not."""
    on_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return not on_x86 or torch.backends.cpu.get_cpu_capability().startswith("AVX512")


class _InFloat32(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        factors = [each for each in tree_leaves(args) if isinstance(each, torch.Tensor)] if func in _PRODUCTS else []
        kinds = {(factor.dtype, factor.device.type) for factor in factors}
        if kinds not in _SLOW:  # what torch refuses, such as two precisions, is refused here as well
            return func(*args, **given)
        return func(*tree_map_only(torch.Tensor, torch.Tensor.float, args), **given).to(factors[0].dtype)
