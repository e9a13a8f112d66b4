"""p-values of two exchangeable copies: the null is true, whatever copies differ in, and tests keep their level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from itlens.planted.pairs import Copies
from itlens.stats.p_values import exchanges, p_under_exchange
from itlens.stats.paired import paired_cells


def paired_t(base: np.ndarray, tuned: np.ndarray) -> np.ndarray:
    return paired_cells(base, tuned, resamples=1)["p_paired"]


def test_few_prompts_are_exchanged_in_every_way_once() -> None:
    found = exchanges(5)
    assert found.shape == (16, 5) and not found[:, -1].any()
    assert len({tuple(way) for way in found.tolist()}) == 16
    many = exchanges(20)
    assert many.shape == (32, 20) and 0.3 < many.mean() < 0.7
    assert (many == exchanges(20)).all()


def test_a_shift_of_all_prompts_is_found_as_it_is_and_not_when_exchanged() -> None:
    """Two copies that truly differ, by 3 standard deviations on every prompt: the exchange makes the null true."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(5, 4000))
    tuned = base + 3 + rng.normal(size=base.shape)
    as_they_are = p_under_exchange(base, tuned, paired_t, exchanged=False)
    assert as_they_are.shape == (4000,) and np.mean(as_they_are <= 0.05) > 0.9
    exchanged = p_under_exchange(base, tuned, paired_t, exchanged=True)
    assert exchanged.shape == (16 * 4000,) and np.mean(exchanged <= 0.05) < 0.07


def test_differences_without_any_shift_give_five_per_cent() -> None:
    base, tuned = np.random.default_rng(1).normal(size=(2, 6, 3000))
    assert np.mean(p_under_exchange(base, tuned, paired_t, exchanged=True) <= 0.05) == pytest.approx(0.05, abs=0.006)


def test_a_test_that_knows_which_side_is_which_is_seen() -> None:
    """One-sided tests of the wrong level, for example, must not pass."""

    def wrong(base: np.ndarray, tuned: np.ndarray) -> np.ndarray:
        return paired_t(base, tuned) / 2

    base, tuned = np.random.default_rng(2).normal(size=(2, 6, 3000))
    assert np.mean(p_under_exchange(base, tuned, wrong, exchanged=True) <= 0.05) > 0.08


class Compared:
    """A detector of which only copies and tests are asked: p is how far two copies are apart."""

    def __init__(self, own: Any, asked: list[Any]) -> None:
        self._own, self._asked = own, asked

    def copy(self) -> Any:
        return self._own

    def p_values(self, one: Any, other: Any, *, exchanged: bool) -> dict[str, np.ndarray]:
        self._asked.append((one, other, exchanged))
        return {"t": np.array([abs(one - other)])}


def test_copies_are_compared_two_by_two_and_none_twice() -> None:
    asked: list[Any] = []
    made: Callable[..., Any] = Copies
    copies = made({"a": Compared(10, asked), "b": Compared(None, asked)})
    for copy in (1, 2, 5, 8, 9):
        copies.add("a", copy)
        copies.add("b", None)
    assert asked == [(10, 10, False), (1, 2, True), (1, 2, False), (5, 8, True), (5, 8, False)]
    assert list(copies.tested) == ["a: t"]
    assert [float(p[0]) for p in copies.tested["a: t"].null] == [1, 3]
    assert [float(p[0]) for p in copies.tested["a: t"].same] == [0]
