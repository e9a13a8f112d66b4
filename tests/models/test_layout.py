"""The memory layout changes strides only: values, shapes and gradients stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from itlens.models import free_layout, load_model
from tests.tiny import ARCHITECTURES, tiny_hf_model


def spread(model: Any) -> None:
    """The ordinary layout, as `from_pretrained` leaves it."""
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_values_stay_and_the_forward_pass_need_not_copy(architecture: str) -> None:
    model = load_model(tiny_hf_model(architecture), tokenizer=False, check=False)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    spread(model)
    tokens = torch.arange(3, 30)[None]
    expected = model(tokens)
    free_layout(model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert parameter.shape == before[name].shape
    torch.testing.assert_close(model(tokens), expected, rtol=0, atol=1e-5)
    attention, mlp = model.blocks[0].attn, model.blocks[0].mlp
    mark = "_" if model.cfg.n_key_value_heads else ""
    for name in ("W_Q", f"{mark}W_K", f"{mark}W_V"):
        assert getattr(attention, name).transpose(1, 2).is_contiguous()
    assert attention.W_O.permute(2, 0, 1).is_contiguous()
    assert model.W_U.T.is_contiguous()
    if model.cfg.gated_mlp:
        assert all(getattr(mlp, name).T.is_contiguous() for name in ("W_in", "W_gate", "W_out"))


def test_it_changes_nothing_that_is_already_so() -> None:
    model = load_model(tiny_hf_model("llama"), tokenizer=False, check=False)
    places = [parameter.data_ptr() for parameter in model.parameters()]
    free_layout(model)
    assert places == [parameter.data_ptr() for parameter in model.parameters()]
