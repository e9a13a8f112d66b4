"""The shapes in the annotations of the numeric modules are enforced while tests run (see conftest)."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jaxtyping import Float, TypeCheckError

from itlens.hooked.hooks import at_layers
from itlens.hooked.objectives import objective_function
from itlens.results.density import importance_density
from tests import shapes
from tests.conftest import ENFORCED


def test_a_wrong_shape_is_refused() -> None:
    prob = objective_function("prob")
    logits, targets = torch.zeros(3, 5), torch.tensor([0, 1, 2])
    assert prob(logits, targets, targets).tolist() == pytest.approx([0.2, 0.2, 0.2])
    with pytest.raises(TypeCheckError, match="targets"):
        prob(logits, torch.tensor([0, 1]), targets)
    with pytest.raises(TypeCheckError, match="logits"):
        prob(logits.long(), targets, targets)


def test_a_wrong_type_is_refused_and_a_whole_number_is_a_float() -> None:
    with pytest.raises(TypeCheckError):
        importance_density("scores")  # type: ignore[arg-type]
    assert "itlens.results.density" in ENFORCED and "itlens.prompts" not in ENFORCED


def test_what_is_returned_is_enforced_with_the_sizes_of_the_arguments() -> None:
    enforced = partial(shapes._at_the_first_call, typechecker=shapes.check)

    @enforced
    def first(values: Float[torch.Tensor, "n m"], count: int) -> Float[torch.Tensor, "n"]:
        return values[:count, 0]

    assert first(torch.zeros(3, 2), 3).shape == (3,)
    with pytest.raises(TypeCheckError, match="return"):
        first(torch.zeros(3, 2), 2)
    with pytest.raises(TypeCheckError, match="values"):
        first(values=torch.zeros(3), count=3)


def test_definitions_of_one_code_share_their_checks_and_not_their_values() -> None:
    """The same hook is defined again for every layer: each keeps its own layer, and each is enforced."""
    read: list[tuple[int, float]] = []
    model: Any = SimpleNamespace(cfg=SimpleNamespace(n_layers=2))
    hooks = at_layers(model, "hook_resid_post", lambda layer, value: read.append((layer, value.item())))
    for layer, (_, hook) in enumerate(hooks):
        hook(torch.tensor(10.0 + layer), None)
        with pytest.raises(TypeCheckError, match="value"):
            hook("no tensor", None)  # type: ignore[arg-type]
    assert read == [(0, 10.0), (1, 11.0)]
