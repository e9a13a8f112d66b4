"""Products of half precision through float32: the numbers of a product rounded once, and nothing else changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import itlens
from itlens.models import precision as module
from itlens.models.precision import half_products
from tests.tiny import tiny_folder


@pytest.fixture
def without_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that cannot multiply half precision."""
    monkeypatch.setattr(module, "has_half_products", lambda: False)


@pytest.mark.usefixtures("without_instructions")
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "product",
    [
        lambda a, b: a @ b.T,
        lambda a, b: torch.nn.functional.linear(a, b),
        lambda a, b: torch.nn.functional.linear(a, b, b[:, 0]),
        lambda a, b: torch.einsum("ik,jk->ij", a, b),
        lambda a, b: torch.baddbmm(a[:, :1].expand(3, 9, 9), a.expand(3, 9, 40), b.T.expand(3, 40, 9)),
        lambda a, b: b @ a[0],
    ],
)
def test_a_product_is_that_of_the_factors_in_float32_rounded_once(
    product: Any, dtype: torch.dtype, inference: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(9, 40, generator=generator).to(dtype) for _ in range(2))
    with torch.inference_mode(inference), half_products([a]):
        made = product(a, b)
    expected = product(a.float(), b.float())
    assert made.dtype == dtype
    assert torch.equal(made, expected.to(dtype))


@pytest.mark.usefixtures("without_instructions")
def test_a_probe_gives_the_derivatives_that_torchs_own_products_give(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_folder(tmp_path / "model", "llama", seed=0)
    model = itlens.load_model(folder, dtype="bfloat16", check=False)
    text = ("Translate the word: cat.", " is a word")
    through_float32 = itlens.attribute(model, *text, progress=False)
    monkeypatch.setattr(module, "has_half_products", lambda: True)
    native = itlens.attribute(model, *text, progress=False)
    largest = float(abs(native.score).max())
    assert float(abs(through_float32.score - native.score).max()) < 0.02 * largest


@pytest.mark.usefixtures("without_instructions")
def test_what_torch_refuses_is_refused() -> None:
    half, whole = torch.ones(2, 2, dtype=torch.bfloat16), torch.ones(2, 2)
    for factors in ((half, whole), (half, half.half())):
        with half_products([half]), pytest.raises(RuntimeError, match="dtype"):
            factors[0] @ factors[1]


@pytest.mark.usefixtures("without_instructions")
def test_a_probe_and_a_generation_run_in_it(tmp_path: Any) -> None:
    model = itlens.load_model(tiny_folder(tmp_path / "model", "llama", seed=0), dtype="bfloat16", check=False)
    seen: list[int] = []
    counting = model.blocks[0].register_forward_pre_hook(lambda *_: seen.append(torch._C._len_torch_dispatch_stack()))
    itlens.attribute(model, "Translate the word: cat.", max_new_tokens=2, progress=False)
    counting.remove()
    assert len(seen) > 2
    assert min(seen) >= 1


@pytest.mark.usefixtures("without_instructions")
def test_other_precisions_and_devices_run_as_they_are() -> None:
    for parameter in (torch.zeros(1), torch.zeros(1, dtype=torch.float64), torch.zeros(1, device="meta").half()):
        with half_products([parameter]):
            assert torch._C._len_torch_dispatch_stack() == 0, str(parameter.dtype)


def test_only_processors_that_are_known_to_lack_them_go_through_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {}
    for machine, capability in (("x86_64", "AVX2"), ("AMD64", "DEFAULT"), ("x86_64", "AVX512"), ("arm64", "DEFAULT")):
        monkeypatch.setattr(module.platform, "machine", lambda machine=machine: machine)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        answers[machine, capability] = module.has_half_products()
    assert [*answers.values()] == [False, False, True, True]
