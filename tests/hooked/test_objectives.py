"""Objectives in float32 keep their gradients where a model is sure of its token."""

from __future__ import annotations

import pytest
import torch

from itlens.hooked.objectives import objective_function


def gradient(name: str, dtype: torch.dtype, margin: float) -> torch.Tensor:
    """The gradient on ten logits of a target that is `margin` above the others."""
    logits = torch.linspace(-1, 0, 10, dtype=torch.float64)
    logits[3] = margin
    row = logits.to(dtype)[None].requires_grad_(True)
    target = torch.tensor([3])
    objective_function(name)(row, target, target).sum().backward()
    return row.grad[0].double()


@pytest.mark.parametrize("name", ["prob", "logprob"])
@pytest.mark.parametrize("margin", [-30.0, 0.0, 9.0, 15.0, 25.0])
def test_a_probability_near_one_keeps_its_gradient_in_float32(name: str, margin: float) -> None:
    """At 1 - p = 1e-11 the usual p (1 - p) of float32 is 0 for the target and right for the others: all noise."""
    exact = gradient(name, torch.float64, margin)
    found = gradient(name, torch.float32, margin)
    assert float((found - exact).abs().max()) < 1e-5 * float(exact.abs().max())
    assert abs(float(exact.sum())) < 1e-5 * float(exact.abs().max())  # adding one number to all logits changes nothing


@pytest.mark.parametrize(("name", "plain"), [("prob", torch.softmax), ("logprob", torch.log_softmax)])
def test_values_are_those_of_softmax(name: str, plain: object) -> None:
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)) * 8
    targets = torch.arange(6)
    found = objective_function(name)(logits, targets, targets)
    torch.testing.assert_close(found, plain(logits, dim=-1)[targets, targets], rtol=1e-5, atol=1e-30)
