"""Angles, their random null, explained variance and the matching: against other routes and hand-computed numbers."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.linalg import null_space, subspace_angles

from itlens.stats.subspaces import (
    match_components,
    orthonormal,
    principal_angles,
    projection_overlap,
    random_cosines,
    random_subspaces,
    spectrum_gap,
    variance_transfer,
)
from tests.findings.mlp.concept_tables import random_bases, turned


def span(seed: int, k: int = 4, width: int = 20) -> np.ndarray:
    return random_bases(seed, layers=1, width=width)[0, :k]


def test_angles_of_random_subspaces_agree_with_scipy() -> None:
    one, other = span(0), span(1)
    found = principal_angles(one, other)
    np.testing.assert_allclose(found, np.sort(subspace_angles(one.T, other.T)), atol=1e-12)
    assert projection_overlap(one @ other.T) == pytest.approx(np.mean(np.cos(found) ** 2))


@pytest.mark.parametrize("angle", [1e-12, 1e-9, 1e-7, 1e-6, 1e-5, 1e-3, 0.0099, 0.0101, 0.3, 1.5, np.pi / 2])
def test_a_single_angle_of_any_size(angle: float) -> None:
    bases = random_bases(2, layers=1, width=20)
    found = principal_angles(bases[0, :4], turned(bases, 0, 1, 9, angle)[0, :4])
    assert found[-1] == pytest.approx(angle, rel=1e-7, abs=1e-14)
    assert (found[:-1] < 1e-10).all()


def test_float32_directions_of_the_same_subspace_have_no_angle() -> None:
    bases = random_bases(3, layers=1, width=200)[0, :50]
    turn = random_bases(4, layers=1, width=50)[0]
    sides = [(part * sign).astype(np.float32).astype(float) for part, sign in ((bases, 1), (turn @ bases, -1))]
    made = [orthonormal(part, part @ part.T) for part in sides]
    for rows in made:
        np.testing.assert_allclose(rows @ rows.T, np.eye(50), atol=1e-14)
    assert principal_angles(*made).max() < 1e-6
    assert principal_angles(made[0], made[0]).max() < 1e-13


def test_orthonormal_keeps_the_spans_of_the_first_k() -> None:
    rows = span(5) + 1e-4 * np.random.default_rng(0).standard_normal((4, 20))
    made = orthonormal(rows, rows @ rows.T)
    for k in range(1, 5):
        assert subspace_angles(made[:k].T, rows[:k].T).max() < 1e-12


@pytest.mark.parametrize(("k", "width"), [(1, 7), (3, 12), (6, 12), (9, 12)])
def test_the_tridiagonal_draws_are_those_of_random_matrices(k: int, width: int) -> None:
    rng = np.random.default_rng(0)
    direct = []
    for _ in range(4000):
        one, other = (np.linalg.qr(rng.standard_normal((width, k)))[0] for _ in range(2))
        direct.append(np.linalg.svd(one.T @ other, compute_uv=False) ** 2)
    drawn = random_cosines(k, width, 4000, rng)
    assert drawn.shape == (4000, k) and (np.diff(drawn, axis=1) <= 1e-12).all()
    error = 5 * (np.std(direct, axis=0) + 1e-9) / np.sqrt(4000)
    assert (np.abs(drawn.mean(0) - np.mean(direct, 0)) < 1.5 * error).all()
    np.testing.assert_allclose(drawn.std(0), np.std(direct, axis=0), rtol=0.08, atol=1e-6)
    assert drawn.mean() == pytest.approx(k / width, abs=0.01)


def test_the_null_is_seeded_and_does_not_depend_on_the_other_sizes() -> None:
    one, two = random_subspaces([2, 5], 30, draws=50, seed=1), random_subspaces([5], 30, draws=50, seed=1)
    np.testing.assert_array_equal(one.angle[1], two.angle[0])
    np.testing.assert_allclose(one.overlap, [2 / 30, 5 / 30])
    assert np.isnan(one.angle[0, 2:]).all() and (one.overlap_low < one.overlap).all()
    assert (one.overlap < one.overlap_high).all() and (one.angle_low <= one.angle_high)[1].all()
    assert one.mean_angle[1] == pytest.approx(one.angle[1].mean())
    assert not np.allclose(one.angle[1], random_subspaces([5], 30, draws=50, seed=2).angle[0])


def test_transfer_bounds_the_variance_that_a_full_covariance_gives() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 12)) * np.linspace(3, 0.5, 12)
    rows -= rows.mean(0)
    _, sizes, directions = np.linalg.svd(rows, full_matrices=False)
    shares = sizes**2 / (sizes**2).sum()
    other = np.linalg.qr(directions.T + 0.3 * rng.standard_normal((12, 12)))[0].T
    for kept in (12, 6):
        found = variance_transfer((other[:kept] @ directions[:kept].T) ** 2, shares[:kept], [2, 4])
        for place, k in enumerate((2, 4)):
            explained = ((rows @ other[:k].T) ** 2).sum() / (rows**2).sum()
            exact = explained / shares[:k].sum()
            assert found.low[place] <= exact + 1e-12 and exact <= found.high[place] + 1e-12
            assert found.own[place] == pytest.approx(shares[:k].sum())
            if kept < 12:
                inside = (other[:kept] @ directions[:kept].T) ** 2
                tight = variance_transfer(inside, shares[:kept], [k], float(shares[kept])).high[0]
                assert exact - 1e-12 <= tight < found.high[place], "what follows the last component is less than it"
            if kept == 12:
                assert found.low[place] == pytest.approx(exact) == found.high[place]
            else:
                assert found.low[place] < exact < found.high[place]


def test_transfer_without_any_variance_is_not_a_number() -> None:
    found = variance_transfer(np.eye(3), np.zeros(3), [2])
    assert np.isnan(found.low).all() and np.isnan(found.high).all()


def test_gaps_by_hand() -> None:
    shares = np.array([0.4, 0.2, 0.2, 0.1])
    # behind the last: 0.1 of the variance on 2 more components, 0.05 each
    np.testing.assert_allclose(spectrum_gap(shares, [1, 2, 3, 4], 6), [0.5, 0, 0.5, 0.5])
    np.testing.assert_allclose(spectrum_gap(shares / 0.9, [4], 4), [1])  # nothing behind it
    np.testing.assert_allclose(spectrum_gap(np.array([1.0, 0.0, 0.0]), [1, 2, 3], 6), [1, 0, 0])
    np.testing.assert_allclose(spectrum_gap(np.full(4, 0.1), [4], 10), [0], atol=1e-12)  # all the same
    # what follows the last is known: 0.08, not the mean of the rest
    np.testing.assert_allclose(spectrum_gap(shares, [1, 2, 3, 4], 6, 0.08), [0.5, 0, 0.5, 0.2])
    np.testing.assert_allclose(spectrum_gap(shares, [4], 4, 0.0), [1])


def test_the_matching_is_the_best_of_all() -> None:
    inner = np.random.default_rng(0).uniform(-1, 1, (5, 5))
    place, cosine = match_components(inner)
    best = max(sum(abs(inner[order[j], j]) for j in range(5)) for order in permutations(range(5)))
    assert sorted(place) == list(range(5)) and cosine.sum() == pytest.approx(best)
    np.testing.assert_array_equal(cosine, [abs(inner[i, j]) for j, i in enumerate(place)])


def test_orthogonal_subspaces_stand_at_right_angles() -> None:
    one = span(6)
    other = null_space(one).T[:4]
    np.testing.assert_allclose(principal_angles(one, other), np.full(4, np.pi / 2))
    assert projection_overlap(one @ other.T) < 1e-28
