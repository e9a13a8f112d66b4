"""Shares, depth, kinds and tokens: by hand on a few ranks, and under nulls on stored numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr

import itlens
from itlens import ResultError, diff
from itlens.findings.token_shift.diff import shift_depth, shift_kinds, shift_shares, shifted_tokens, token_shift_tests
from itlens.stats.p_values import p_under_exchange, share_interval
from itlens.stats.paired import paired_cells
from tests.findings.token_shift.chains import made_shift

NAN = np.nan
RANKS = np.array([[1, 2, 3, 4, 1, 1, 9, 1], [5, 1, NAN, NAN, NAN, NAN, NAN, NAN]])
KL = np.array([[4, 1, 1, 1, 1, 0.5, 1, 0.5], [3, 0, NAN, NAN, NAN, NAN, NAN, NAN]])


def test_shares_of_a_prompt_by_hand() -> None:
    table = shift_shares(made_shift(RANKS, KL))
    assert table["length"].tolist() == [8, 2]
    np.testing.assert_allclose(table[["unshifted", "marginal", "shifted"]], [[4 / 8, 2 / 8, 2 / 8], [1 / 2, 0, 1 / 2]])
    np.testing.assert_allclose(table["unshifted_tuned"], [1, 1])
    np.testing.assert_allclose(table["kl"], [10 / 8, 3 / 2])
    np.testing.assert_allclose(table["kl_first"], [8 / 5, 3 / 2])
    np.testing.assert_allclose(table["kl_rest"], [2 / 3, NAN])
    np.testing.assert_allclose(table["first_share"], [8 / 10, NAN])
    np.testing.assert_allclose(table["first_even"], [5 / 8, NAN])
    logs = [math.log(2 * 3 * 4 * 5 * 2 * 2 * 10 * 2) / 8, math.log(6 * 2) / 2]
    np.testing.assert_allclose(table["logprob"], [-value for value in logs])


def test_other_beginnings() -> None:
    table = shift_shares(made_shift(RANKS, KL), first=1)
    np.testing.assert_allclose(table["first_share"], [4 / 10, 1])
    np.testing.assert_allclose(table["first_even"], [1 / 8, 1 / 2])


def test_first_choices_are_paired_over_prompts() -> None:
    shift = made_shift(np.tile(RANKS[:1], (6, 1)) + np.arange(6)[:, None] * (np.arange(8) == 4))
    table = token_shift_tests(shift)
    row = table[(table["statistic"] == "unshifted") & (table["group"] == "all")].iloc[0]
    assert (row["n"], row["base_mean"], row["tuned_mean"]) == (6, pytest.approx((4 + 5 * 3) / 48), 1)
    assert row["difference"] == pytest.approx(1 - 19 / 48)
    assert row["p_paired"] < 1e-4
    assert table["group"].tolist() == ["all", "a", "b"] * 3


def test_a_kind_is_compared_with_the_others_of_its_prompt() -> None:
    kinds = np.array([["format", "content word", "format", "content word"]] * 6, dtype=object)
    ranks = np.tile([[9.0, 1, 9, 1]], (6, 1))
    ranks[0, 2], ranks[1, 1] = 1, 9
    table = shift_kinds(made_shift(ranks, kinds=kinds)).set_index("kind")
    row = table.loc["format"]
    assert (row["count"], row["n"], row["share_of_tokens"]) == (12, 6, 0.5)
    assert (row["shifted"], row["observed"], row["expected"]) == (11 / 12, 11 / 12, pytest.approx(1 / 12))
    assert row["difference"] == pytest.approx(10 / 12)
    assert table.loc["content word", "difference"] == pytest.approx(-10 / 12)
    assert row["p_holm"] == pytest.approx(2 * row["p_paired"])


def test_tokens_that_are_always_shifted_among_others_that_never_are() -> None:
    tokens = np.array([["z", "w", "w"]] * 8, dtype=object)
    table = shifted_tokens(made_shift(np.tile([[9.0, 1, 1]], (8, 1)), tokens=tokens))
    assert table["token"].tolist() == ["z", "w"]
    assert table["instead"].tolist() == [" the", ""]
    assert table["p_paired"][0] == pytest.approx(2 / 2**8), "all signs alike, by Wilcoxon"


def test_rare_tokens_are_not_listed() -> None:
    tokens = np.array([["z" if number < 4 else "y", "w", "w"] for number in range(8)], dtype=object)
    table = shifted_tokens(made_shift(np.tile([[9.0, 1, 1]], (8, 1)), tokens=tokens))
    assert table["token"].tolist() == ["w"]


def test_places_and_tenths() -> None:
    ranks = np.ones((6, 20))
    ranks[:, :2], ranks[:3, 10:] = 7, NAN
    places = diff.shift_places(made_shift(ranks))
    assert places["place"].values.tolist() == list(range(1, 11)), "six prompts reach ten tokens, three reach twenty"
    np.testing.assert_allclose(places["shifted"].sel(summary="mean"), [1, 1, *[0] * 8])
    np.testing.assert_allclose(places["relative_shifted"].sel(summary="mean", tenth=[1, 2, 3]), [1, 0.5, 0])
    assert places["relative_shifted"].sel(summary="n", tenth=1) == 6


def random_shift(rng: np.random.Generator) -> xr.Dataset:
    """Twenty prompts, each with its own chance of a shift, whatever the place, kind or token."""
    shape = (20, 24)
    chance = rng.uniform(0.1, 0.9, (20, 1))
    ranks = np.where(rng.random(shape) < chance, 9.0, 1.0)
    ranks[np.arange(24) >= rng.integers(8, 25, (20, 1))] = NAN
    kl = np.where(np.isfinite(ranks), rng.exponential(1, shape), NAN)
    kinds = rng.choice(["content word", "function word", "punctuation"], shape, p=[0.5, 0.35, 0.15])
    return made_shift(ranks, kl, kinds=kinds, tokens=rng.choice(list("abcdefgh"), shape))


@pytest.fixture(scope="module")
def null_draws() -> list[xr.Dataset]:
    """200 draws in which places, kinds and tokens have nothing to do with shifts."""
    rng = np.random.default_rng(5)
    return [random_shift(rng) for _ in range(200)]


def p_of(name: str, draws: list[xr.Dataset]) -> np.ndarray:
    """p-values (draw, test)."""
    if name == "kinds":
        return np.stack([shift_kinds(shift, resamples=2)["p_paired"].to_numpy() for shift in draws])
    if name == "tokens":
        return np.stack([shifted_tokens(shift, resamples=2)["p_paired"].to_numpy() for shift in draws])
    shares = [shift_shares(shift) for shift in draws]
    even, share = (np.stack([table[column] for table in shares], axis=1) for column in ("first_even", "first_share"))
    return paired_cells(even, share, resamples=2)["p_paired"][:, None]


@pytest.mark.parametrize("name", ["depth", "kinds", "tokens"])
def test_nulls_keep_five_percent(name: str, null_draws: list[xr.Dataset]) -> None:
    values = p_of(name, null_draws)
    low, high = share_interval((values < 0.05).sum(axis=1), np.full(len(values), values.shape[1]))
    assert low < 0.06, f"{(values < 0.05).mean():.3f} of the p-values are below 0.05, [{low:.3f}, {high:.3f}]"
    assert high > 0.03, f"{(values < 0.05).mean():.3f} of the p-values are below 0.05, [{low:.3f}, {high:.3f}]"


def test_models_exchanged_within_prompts_keep_five_percent(null_draws: list[xr.Dataset]) -> None:
    shares = [shift_shares(shift) for shift in null_draws]
    base, tuned = (np.stack([table[name] for table in shares], axis=1) for name in ("logprob", "logprob_tuned"))

    def test(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return paired_cells(x, y, resamples=2)["p_paired"]

    assert 0.035 < (p_under_exchange(base, tuned, test, exchanged=True) < 0.05).mean() < 0.065
    assert (test(base, tuned) < 0.05).all(), "not exchanged they differ"


def test_other_results_are_refused() -> None:
    for function in (shift_shares, token_shift_tests, shift_depth, shift_kinds, shifted_tokens, diff.shift_places):
        with pytest.raises(ResultError, match=r"takes a Dataset of itlens\.token_shift; got a str"):
            function("nothing")
    with pytest.raises(ResultError, match="another kind of result"):
        itlens.diff.shift_shares(xr.Dataset())
