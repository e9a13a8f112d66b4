"""Spectra: what is computed of a large matrix says the same as all of its singular vectors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from itlens.findings.weight_delta import probe_spectra as spectra
from itlens.findings.weight_delta.probe_spectra import LeftVectors, effective_rank, first_left, smaller_gram


@pytest.fixture
def wide_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat matrices of more than 32 as the large ones that they are not."""
    monkeypatch.setattr(spectra, "_NARROW", 32)


def matrix(rows: int, columns: int, slope: float, seed: int = 0) -> Tensor:
    """Random, with singular values that fall like rank ** -slope."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(n, min(rows, columns), generator=generator)).Q for n in (rows, columns))
    return left * torch.arange(1, min(rows, columns) + 1) ** -slope @ right.T


@pytest.mark.usefixtures("wide_ones")
@pytest.mark.parametrize("shape", [(128, 128), (128, 300), (300, 128)])
@pytest.mark.parametrize("mix", [0.0, 0.4, 0.9, 3.0])
def test_neighbours_are_those_among_all_vectors(shape: tuple[int, int], mix: float) -> None:
    """Directions inside the leading eighth, outside of it, and between: `mix` turns them away from the matrix' own."""
    values = matrix(*shape, 0.5)
    every = torch.linalg.svd(values, full_matrices=False).U
    generator = torch.Generator().manual_seed(1)
    turned = every[:, [0, 3, 9, 40, 90, 127]] + mix * torch.randn(shape[0], 6, generator=generator) / shape[0] ** 0.5
    turned = turned / torch.linalg.vector_norm(turned, dim=0)
    expected = int(((every.T @ turned).abs().amax(0) < spectra.NEAR).sum())
    assert LeftVectors(values).strangers(turned) == expected
    assert expected >= {0.0: 0, 0.4: 0, 0.9: 0, 3.0: 5}[mix]


@pytest.mark.usefixtures("wide_ones")
def test_the_leading_vectors_alone_can_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    values = matrix(128, 128, 1.0)
    known, first = LeftVectors(values), torch.linalg.svd(values).U[:, :5]
    monkeypatch.setattr(torch.linalg, "eigh", None)  # of all vectors
    assert known.strangers(first) == 0
    between = (first[:, :1] + first[:, 1:2] + first[:, 2:3] + first[:, 3:4] + first[:, 4:]) / 5**0.5
    assert known.strangers(between) == 1, "five leading vectors share it, and nothing of it is left for others"


@pytest.mark.usefixtures("wide_ones")
@pytest.mark.parametrize("shape", [(128, 300), (300, 128)])
def test_vectors_of_redrawn_columns(shape: tuple[int, int]) -> None:
    values = matrix(*shape, 1.0)
    columns = torch.randint(shape[1], (shape[1],), generator=torch.Generator().manual_seed(0))
    expected = torch.linalg.svd(values[:, columns], full_matrices=False).U[:, :2]
    cosines = (LeftVectors(values).redrawn(columns, 2) * expected).sum(0).abs()
    assert cosines.tolist() == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.usefixtures("wide_ones")
@pytest.mark.parametrize("shape", [(128, 300), (300, 128)])
def test_first_vectors(shape: tuple[int, int]) -> None:
    values = matrix(*shape, 1.0)
    expected = torch.linalg.svd(values, full_matrices=False).U[:, :2]
    ours = first_left(values, smaller_gram(values), 2)
    assert (ours * expected).sum(0).abs().tolist() == pytest.approx([1, 1], abs=1e-5)
    assert LeftVectors(values).first(2).shape == (shape[0], 2)


@pytest.mark.parametrize("shape", [(60, 60), (40, 200), (200, 40), (1, 5)])
def test_the_random_rank_is_that_of_normal_entries(shape: tuple[int, int]) -> None:
    """Means over 40 draws of either kind: the drawn bidiagonal matrix has the same singular values."""
    ranks = []
    for seed in range(40):
        entries = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        ranks.append((effective_rank(torch.linalg.svdvals(entries)), spectra.random_rank(shape, seed)))
    theirs, ours = torch.tensor(ranks).T
    assert float(ours.mean()) == pytest.approx(float(theirs.mean()), rel=2e-3)
    assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.5, abs=1e-9)
