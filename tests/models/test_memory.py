"""A pass that does not fit is refused before it starts; memory that ends during one is one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens.errors import ProbeError
from itlens.models import memory
from itlens.models.memory import is_out_of_memory, pass_bytes, room_for
from tests.tiny import tiny_hf_model, tiny_tokenizer

TEXT = itlens.Prompt("List three animals and three fruits.", id="a", response=" plum", instruction="List")


def tiny(backend: str = "hooked") -> Any:
    return itlens.load_model(tiny_hf_model("llama"), tokenizer=tiny_tokenizer(), backend=backend, check=False)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny()


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without memory, on which every pass is worth the question."""
    monkeypatch.setattr(memory, "_SHORT", 0)
    monkeypatch.setattr(memory, "_all_free", lambda device: 1000)


def test_a_pass_is_what_its_patterns_take(model: Any) -> None:
    """2 layers of 4 heads in float32: 400 million bytes for a pattern of 5,000 tokens, and logits of 300 ids."""
    pattern, logits = 4 * 5000 * 5000 * 4, 300 * 4
    assert pass_bytes(model, 5000) == 4 * pattern + logits
    assert pass_bytes(model, 5000, bridge=True, rows=3, targets=2) == 3 * (2 * pattern + 2 * logits)
    assert pass_bytes(model, 5000, recorded=True) == (2 * 2 + 2) * pattern + logits
    assert pass_bytes(model, 5000, recorded=True, rows=8, bridge=True) == (2 + 16) * pattern + logits


@pytest.mark.usefixtures("scarce")
def test_every_probe_refuses_what_cannot_fit(model: Any) -> None:
    said = r"'a' is \d+ tokens long with its response, and a pass of .* takes at least .* GB .*2 layers, 4 heads.* free"
    asks: list[Any] = [
        lambda: itlens.attribute(model, TEXT, progress=False),
        lambda: itlens.attribute(model, TEXT.replace(response=None), progress=False),
        lambda: itlens.activations(model, TEXT, progress=False),
        lambda: itlens.activation_shift((model, model), TEXT, responses="given", progress=False),
        lambda: itlens.patch((model, model), TEXT, responses="given", progress=False),
        lambda: itlens.faithfulness(model, TEXT, progress=False),
    ]
    for ask in asks:
        with pytest.raises(ProbeError, match=said) as refusal:
            ask()
        assert "shorten the prompt" in str(refusal.value) and "--backend bridge" in str(refusal.value)
    with pytest.raises(ProbeError, match=r"8 rows at a time.*--batch-size 1"), room_for(model, "it", 20, rows=8):
        pass


@pytest.mark.usefixtures("scarce")
def test_a_bridge_is_not_told_to_be_one() -> None:
    with pytest.raises(ProbeError, match="shorten the prompt") as refusal:
        itlens.attribute(tiny("bridge"), TEXT, progress=False)
    assert "--backend bridge" not in str(refusal.value)


def test_short_prompts_do_not_ask_for_the_free_memory(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(device: object) -> int:
        raise AssertionError("the system was asked")

    monkeypatch.setattr(memory, "_all_free", asked)
    with room_for(model, "it", 1000, rows=2):
        pass


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), True),
        (RuntimeError("std::bad_alloc"), True),
        (np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("f8")), True),  # type: ignore[attr-defined]
        (MemoryError(), True),
        (RuntimeError("shape '[2]' is invalid for input of size 3"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_an_allocation_that_failed_is_one_sentence(model: Any, error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory
    expected = ProbeError if is_memory else type(error)
    with pytest.raises(expected) as raised, room_for(model, "prompt 'a'", 20):
        raise error
    if is_memory:
        assert "The memory of cpu ended while" in str(raised.value) and "read prompt 'a' (20 tokens" in str(
            raised.value
        )
        assert raised.value.__cause__ is error


def test_an_allocation_of_torch_that_fails_is_recognised() -> None:
    with pytest.raises((RuntimeError, MemoryError)) as raised:
        torch.empty(1 << 58, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)
