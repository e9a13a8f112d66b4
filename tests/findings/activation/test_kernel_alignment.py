"""Unbiased linear CKA from running sums: against n x n matrices, permutations, null and invariances."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from itlens.findings.activation.probe_shift_alignment import KernelAlignment


def direct_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """HSIC_1 as its formula stands, with n x n matrices; of means taken off, which only spares it rounding."""
    n = len(x)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    k, ell = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(ell, 0)
    one = np.ones(n)
    terms = (
        np.trace(k @ ell),
        (one @ k @ one) * (one @ ell @ one) / ((n - 1) * (n - 2)),
        2 / (n - 2) * one @ k @ ell @ one,
    )
    return float((terms[0] + terms[1] - terms[2]) / (n * (n - 3)))


def direct_cka(x: np.ndarray, y: np.ndarray) -> float:
    return direct_hsic(x, y) / np.sqrt(direct_hsic(x, x) * direct_hsic(y, y))


def streamed(x: np.ndarray, y: np.ndarray, parts: int = 3, firsts: int = 0) -> dict[str, torch.Tensor]:
    found = KernelAlignment()
    a, b = torch.tensor(x)[None], torch.tensor(y)[None]
    found.add(a[:, firsts:][:, :1], b[:, firsts:][:, :1])
    for left, right in zip(a[:, firsts + 1 :].chunk(parts, 1), b[:, firsts + 1 :].chunk(parts, 1), strict=True):
        found.add(left, right)
    found.add(a[:, :firsts], b[:, :firsts], first=True)
    return found.alignments()


def samples(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 7)) + 30 * rng.standard_normal(7)  # far from the origin
    return x, x[:, :5] @ rng.standard_normal((5, 9)) + rng.standard_normal((n, 9)) - 100


@pytest.mark.parametrize("n", [4, 5, 60, 1500])
def test_sums_give_what_whole_matrices_give(n: int) -> None:
    x, y = samples(n)
    assert float(streamed(x, y)["all"][0]) == pytest.approx(direct_cka(x, y), abs=1e-8)


def test_without_first_tokens_and_with_them() -> None:
    x, y = samples()
    x[:6] *= 1000
    y[:6] *= 1000
    found = streamed(x, y, firsts=6)
    assert float(found["rest"][0]) == pytest.approx(direct_cka(x[6:], y[6:]), abs=1e-8)
    assert float(found["all"][0]) == pytest.approx(direct_cka(x, y), abs=1e-8)
    assert abs(float(found["all"][0]) - float(found["rest"][0])) > 0.05, "large first tokens decide it"


def test_the_estimator_is_unbiased() -> None:
    """Over all pairings of the rows HSIC averages to zero; the biased estimator's mean is far above."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((5, 4))
    own = [direct_hsic(x, x), direct_hsic(y, y)]
    values = [float(streamed(x, y[list(order)])["all"][0]) for order in permutations(range(5))]
    assert np.mean(values) * np.sqrt(own[0] * own[1]) == pytest.approx(0.0, abs=1e-10)
    assert np.std(values) > 0.1


def test_rotation_scale_and_shift_change_nothing() -> None:
    x, y = samples()
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((9, 9)))[0]
    expected = direct_cka(x, y)
    assert float(streamed(x, 3 * y @ rotation + 5)["all"][0]) == pytest.approx(expected, abs=1e-8)
    assert float(streamed(x, -2 * x + 1)["all"][0]) == pytest.approx(1.0, abs=1e-12)


def test_groups_are_apart() -> None:
    x, y = samples()
    found = KernelAlignment()
    found.add(torch.tensor(np.stack([x, 2 * x])), torch.tensor(np.stack([y, np.pad(x, ((0, 0), (0, 2)))])))
    got = found.alignments()["rest"]
    assert float(got[0]) == pytest.approx(direct_cka(x, y), abs=1e-8) and float(got[1]) == pytest.approx(1.0, abs=1e-10)


def test_too_few_tokens_and_no_spread_are_undecidable() -> None:
    x, y = samples(3)
    assert np.isnan(float(streamed(x, y, parts=1)["all"][0]))
    assert np.isnan(float(KernelAlignment().alignments()["all"][0]))
    flat = np.ones((6, 3))
    assert np.isnan(float(streamed(flat, samples(6)[1])["all"][0]))
