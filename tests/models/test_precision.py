"""Numbers in float64 from devices that have none: values come to the CPU before they are converted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from itlens.models.check import figures
from itlens.models.precision import as_numbers, exact, exact_device


class OnApple:
    """A tensor as on an Apple GPU: float64 is an error there, also while it moves; `cpu` gives a real tensor."""

    def __init__(self, real: torch.Tensor) -> None:
        self.real, self.device = real, torch.device("mps")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def double(self) -> None:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")

    def to(self, *where: Any) -> Any:
        if torch.float64 in where:
            self.double()
        return self.real.to(*where)

    def detach(self) -> OnApple:
        return self

    def cpu(self) -> torch.Tensor:
        return self.real


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_the_same_numbers_come_from_a_device_without_float64(dtype: torch.dtype) -> None:
    real = torch.tensor([[0.1, -3.0, 1e-9], [7.5, 0.0, 2.0]]).to(dtype)
    expected = real.double()
    got: Any = exact(OnApple(real))  # type: ignore[arg-type]
    assert got.dtype == torch.float64 and torch.equal(got, expected)
    assert np.array_equal(as_numbers(OnApple(real)), expected.numpy())  # type: ignore[arg-type]


def test_values_stay_on_a_device_that_has_float64() -> None:
    assert [str(exact_device(torch.device(name))) for name in ("cpu", "cuda:1", "mps", "xpu")] == [
        "cpu", "cuda:1", "cpu", "cpu",
    ]  # fmt: skip


def test_the_load_check_reads_logits_of_such_a_device() -> None:
    logits = torch.randn(5, 7)
    got = figures(OnApple(logits), OnApple(logits + 1.0))  # type: ignore[arg-type]
    assert got["max_difference"] == pytest.approx(1.0) and got["argmax_agreement"] == 1.0 and got["tokens"] == 5
