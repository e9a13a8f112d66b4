"""Principal components without an SVD: each way of the solver against a float64 SVD."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itlens.weights import components
from itlens.weights.components import CentredRows, principal_components


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


@pytest.fixture()
def wide(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Small matrices are taken for wide ones; which ways were gone is noted."""
    monkeypatch.setattr(components, "NARROW", 100)
    gone: list[str] = []
    gram = CentredRows.gram

    def noted(self: CentredRows, dtype: torch.dtype) -> torch.Tensor:
        gone.append(str(dtype).removeprefix("torch."))
        return gram(self, dtype)

    monkeypatch.setattr(CentredRows, "gram", noted)
    return gone


@pytest.mark.parametrize(("kind", "ways"), [("noise", 1), ("decaying", 1), ("outliers", 2)])
@pytest.mark.parametrize("count", [1, 8, 100])
def test_the_refined_way_and_when_float32_is_not_enough(kind: str, ways: int, count: int, wide: list[str]) -> None:
    rows = spread(kind)
    ways = 1 if count == 1 else ways  # the first component is itself one of those that drown the rest
    found = principal_components(CentredRows(rows, torch.ones(400)), count)
    assert wide == ["float32", "float64"][:ways]
    assert off(found.directions, rows) < 5e-5
    centred = rows.double() - rows.double().mean(0)
    exact = torch.linalg.svdvals(centred).square()
    torch.testing.assert_close(found.squares, exact[:count], rtol=1e-9, atol=0)
    assert found.following == pytest.approx(float(exact[count]), rel=1e-6)


def test_many_components_take_the_direct_way(wide: list[str]) -> None:
    rows = spread("decaying")
    found = principal_components(CentredRows(rows, torch.ones(400)), 399)
    assert wide == ["float64"] and off(found.directions[:390], rows) < 1e-5
    centred = rows.double() - rows.double().mean(0)
    assert found.following == pytest.approx(float(torch.linalg.svdvals(centred)[399] ** 2))
    assert principal_components(CentredRows(rows, torch.ones(400)), 400).following == 0


def test_equal_variances_fall_back_to_the_direct_way(wide: list[str]) -> None:
    """Of equal variances no component is more than another: nothing is far from what was left out."""
    rows = torch.cat([torch.eye(200), -torch.eye(200)])
    found = principal_components(CentredRows(rows, torch.ones(200)), 2)
    assert wide == ["float32", "float64"]
    torch.testing.assert_close(found.squares, torch.full((2,), 2.0, dtype=torch.float64))


def test_a_space_of_more_than_the_rank(wide: list[str]) -> None:
    """Rank 30 and 41 vectors: those beyond the rank are any, and the components are still exact."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(600, 30, generator=generator) @ torch.randn(30, 400, generator=generator)
    found = principal_components(CentredRows(rows, torch.ones(400)), 8)
    assert off(found.directions, rows) < 1e-5


def test_what_lapack_gives_up_is_done_the_direct_way(wide: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*given: object, **options: object) -> None:
        raise components.LinAlgError("no convergence")

    monkeypatch.setattr(components, "eigh", never)
    rows = spread("noise")
    assert off(principal_components(CentredRows(rows, torch.ones(400)), 8).directions, rows) < 1e-5
    assert wide == ["float32", "float64"]


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
