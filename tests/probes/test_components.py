"""Principal components without an SVD: each way of the solver against a float64 SVD."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itlens.probes import components
from itlens.probes.components import CentredRows, principal_components


def spread(kind: str, rows: int = 900, width: int = 400) -> torch.Tensor:
    """Rows with the spectrum of independent noise, of trained weights, and with outliers that drown float32."""
    matrix = torch.randn(rows, width, generator=torch.Generator().manual_seed(2))
    if kind == "decaying":
        matrix *= torch.arange(1, width + 1) ** -0.3
    if kind == "outliers":
        matrix[:, :3] *= 3000
    return matrix + 0.5


def off(got: torch.Tensor, rows: torch.Tensor) -> float:
    """The largest angle to the components of a float64 SVD."""
    centred = rows.double() - rows.double().mean(0)
    expected = torch.linalg.svd(centred, full_matrices=False).Vh[: len(got)]
    sign = (got * expected).sum(1, keepdim=True).sign()
    return float(2 * torch.arcsin(torch.linalg.vector_norm(got - sign * expected, dim=1).clamp(max=2) / 2).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", ["noise", "decaying", "outliers"])
def test_the_direct_way(kind: str, dtype: torch.dtype) -> None:
    rows = spread(kind, 300, 60).to(dtype)
    found = principal_components(CentredRows(rows, torch.ones(60, dtype=dtype)), 60)
    assert off(found.directions[:50], rows) < 1e-5
    centred = rows.double() - rows.double().mean(0)
    torch.testing.assert_close(found.squares, torch.linalg.svdvals(centred).square(), rtol=1e-6, atol=1e-6)
    assert found.total == pytest.approx(float(centred.square().sum()))


@pytest.mark.parametrize(("kind", "dtypes"), [("noise", 1), ("decaying", 1), ("outliers", 2)])
def test_the_iterated_way_and_when_it_needs_float64(kind: str, dtypes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "NARROW", 100)
    monkeypatch.setattr(components, "_BLOCK", 16)
    tried: list[torch.dtype] = []
    gram = CentredRows.gram

    def noted(self: CentredRows, dtype: torch.dtype) -> torch.Tensor:
        tried.append(dtype)
        return gram(self, dtype)

    def never(*given: object) -> None:
        raise AssertionError("the direct way is not needed")

    monkeypatch.setattr(CentredRows, "gram", noted)
    monkeypatch.setattr(components, "_direct", never)
    rows = spread(kind)
    found = principal_components(CentredRows(rows, torch.ones(400)), 8)
    assert tried == [torch.float32, torch.float64][:dtypes]
    assert off(found.directions, rows) < 5e-5
    centred = rows.double() - rows.double().mean(0)
    torch.testing.assert_close(found.squares, torch.linalg.svdvals(centred)[:8].square(), rtol=1e-9, atol=0)


def test_equal_variances_fall_back_to_the_direct_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of equal variances no component is more than another: the space is never good enough, and says so."""
    monkeypatch.setattr(components, "NARROW", 100)
    rows = torch.cat([torch.eye(200), -torch.eye(200)])
    assert components._iterated(CentredRows(rows, torch.ones(200)), 2, torch.float32) is None
    found = principal_components(CentredRows(rows, torch.ones(200)), 2)
    torch.testing.assert_close(found.squares, torch.full((2,), 2.0, dtype=torch.float64))


def test_a_space_that_is_used_up_grows_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 30 and a space of more: blocks beyond the rank are new directions, not noise."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(600, 30, generator=generator) @ torch.randn(30, 400, generator=generator)
    monkeypatch.setattr(components, "NARROW", 100)
    monkeypatch.setattr(components, "_BLOCK", 16)
    found = principal_components(CentredRows(rows, torch.ones(400)), 8)
    assert off(found.directions, rows) < 1e-5


def test_rows_count_as_often_as_they_are_drawn() -> None:
    rows, gain = spread("noise", 50, 12), torch.rand(12)
    counts = torch.randint(0, 4, (50,), generator=torch.Generator().manual_seed(1))
    repeated = rows.repeat_interleave(counts, dim=0)
    got = principal_components(CentredRows(rows, gain, counts), 5)
    expected = principal_components(CentredRows(repeated, gain), 5)
    torch.testing.assert_close(got.squares, expected.squares)
    torch.testing.assert_close(got.directions, expected.directions)
    assert got.total == pytest.approx(expected.total)


def test_reading_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = spread("decaying", 101, 20)
    whole = CentredRows(rows, torch.ones(20))
    monkeypatch.setattr(components, "_ROWS", 7)
    parts = CentredRows(rows, torch.ones(20))
    torch.testing.assert_close(parts.gram(torch.float64), whole.gram(torch.float64))
    vectors = torch.rand(20, 3, dtype=torch.float64)
    torch.testing.assert_close(parts.applied(vectors), whole.gram(torch.float64) @ vectors)
    np.testing.assert_allclose(parts.gram(torch.float64), parts.gram(torch.float64).T)
