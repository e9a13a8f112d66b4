"""Faithfulness over prompts: shares of means by hand, the tests of the shared statistics, results that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from itlens import ResultError
from itlens.diff import faithfulness
from itlens.findings.faithfulness.diff import shares_of_means
from itlens.stats.paired import adjust, paired_row


def result(
    prompt: int, nats: tuple[float, float], method: str = "saliency", *, whole: float = 10, **attrs: Any
) -> xr.Dataset:
    """A result whose attribution beats random orders by `nats`, of a prompt that does `whole` nats to its response."""
    return xr.Dataset(
        {"advantage_nats": ("direction", list(nats)), "intact": -1.0, "removed": -1.0 - whole},
        coords={"direction": ["deletion", "insertion"]},
        attrs={"probe": "faithfulness", "method": method, "by": "density", "prompt_id": f"p{prompt}", "steps": 10}
        | {"draws": 20, "baseline": "mean", "model": "toy"}
        | attrs,
    )


def side(mean: float, seed: int, methods: tuple[str, ...] = ("saliency", "input_x_gradient")) -> list[xr.Dataset]:
    rng = np.random.default_rng(seed)
    return [
        result(prompt, tuple(10 * (mean + 0.1 * rng.standard_normal(2))), method)
        for method in methods
        for prompt in range(16)
    ]


def test_each_row_is_the_paired_comparison_of_its_method_and_direction() -> None:
    base, tuned = side(0.2, 0), side(0.3, 1)
    table = faithfulness(base, list(reversed(tuned)))  # by prompt, whatever the order
    assert table[["method", "direction"]].values.tolist() == [
        [method, direction] for method in ("saliency", "input_x_gradient") for direction in ("deletion", "insertion")
    ]
    for number, row in table.iterrows():
        part = slice(0, 16) if number < 2 else slice(16, 32)
        x, y = (np.array([float(ds.advantage_nats[number % 2]) / 10 for ds in one[part]]) for one in (base, tuned))
        expected = paired_row(x, y, resamples=10)
        for name in ("n", "difference", "effect_size", "p_paired"):
            assert row[name] == pytest.approx(expected[name], rel=1e-9), name
        for name, values in (("base", x), ("tuned", y)):
            tested = stats.ttest_1samp(values, 0)
            assert row[f"{name}_p"] == pytest.approx(tested.pvalue)
            assert row[f"{name}_advantage"] == pytest.approx(values.mean())
            assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(tuple(tested.confidence_interval(0.95)))
        span = stats.ttest_rel(y, x).confidence_interval(0.95)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((span.low, span.high))
        assert row["base_better"] == (x > 0).mean()
    np.testing.assert_allclose(table["p_holm"], adjust(table["p_paired"]))
    np.testing.assert_allclose(table["base_p_holm"], adjust(table["base_p"]))
    nats = faithfulness(base, tuned, unit="nats")
    np.testing.assert_allclose(nats["difference"], 10 * table["difference"])
    assert table.attrs["unit"] == "share" and table.attrs["base_model"] == "toy"


WHOLE = [2.0, 1.0, 3.0, 0.01, 2.0, 1.5]  # the fourth prompt does next to nothing to its response
NATS = [1.0, 0.4, 1.8, 0.4, 0.9, 0.6]


def uneven(nats: list[float], whole: list[float] = WHOLE) -> list[xr.Dataset]:
    return [result(number, (a, a), whole=g) for number, (a, g) in enumerate(zip(nats, whole, strict=True))]


def test_a_prompt_that_does_next_to_nothing_does_not_decide_the_share() -> None:
    row = faithfulness(uneven(NATS), uneven(NATS)).iloc[0]
    assert np.mean(np.divide(NATS, WHOLE)) > 6  # the mean of shares: 700 points, for that prompt's 40 alone
    assert row["base_advantage"] == pytest.approx(5.1 / 9.51)
    assert row["n"] == 6
    residual = np.array(NATS) - 5.1 / 9.51 * np.array(WHOLE)  # the textbook's standard error of a ratio of means
    half = stats.t.ppf(0.975, 5) * np.sqrt((residual**2).sum() / 5 / 6) / (9.51 / 6)
    assert (row["base_low"], row["base_high"]) == pytest.approx((5.1 / 9.51 - half, 5.1 / 9.51 + half))
    assert row["base_prompt"] == pytest.approx(9.51 / 6)
    assert row["base_better"] == 1


def test_the_interval_covers_the_true_share_of_uneven_prompts() -> None:
    rng, covered = np.random.default_rng(5), 0
    for _ in range(400):
        whole = rng.gamma(2.0, 1.0, 30)
        values = shares_of_means(0.3 * whole + 0.3 * rng.standard_normal(30), whole)
        span = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        covered += span.low < 0.3 < span.high
    assert 364 <= covered <= 390  # of 400 intervals of 95 %


def test_a_model_whose_prompts_do_nothing_is_not_tested() -> None:
    idle = uneven(NATS, [0.5, -0.4, 0.3, -0.6, 0.1, 0.2])
    row = faithfulness(idle, uneven(NATS)).iloc[0]
    assert np.isnan([row["base_advantage"], row["base_p"], row["difference"], row["p_paired"], row["ci_low"]]).all()
    assert row["tuned_advantage"] == pytest.approx(5.1 / 9.51)
    assert row["note"] == (
        "the prompt does not raise the log-probability of the base model's responses (+0.02 nats, 95 % interval -0.43 "
        "to +0.46), so that shares of it are not defined"
    )
    nats = faithfulness(idle, uneven(NATS), unit="nats").iloc[0]
    assert nats["base_advantage"] == pytest.approx(np.mean(NATS))  # nats need no share
    assert nats["note"] == "no difference in any prompt"


def test_too_few_prompts_and_no_difference_have_no_interval_that_says_something() -> None:
    few, same = side(0.2, 0, ("saliency",))[:3], side(0.2, 0, ("saliency",))
    row = faithfulness(few, few).iloc[0]
    assert np.isnan([row["base_low"], row["ci_low"], row["p_paired"], row["effect_size"]]).all()
    assert row["note"].startswith("too few prompts")
    row = faithfulness(same, same).iloc[0]
    assert row[["ci_low", "ci_high", "p_paired", "effect_size"]].tolist() == [0, 0, 1, 0]
    assert row["note"] == "no difference in any prompt"


@pytest.mark.parametrize(
    ("base", "tuned", "message"),
    [
        (side(0, 0), side(0, 1, ("saliency",)), "different methods .base: input_x_gradient by density, saliency"),
        (side(0, 0), side(0, 1)[:-1], "1 prompts have results of input_x_gradient on one side only: p15"),
        ([result(0, (0, 0))] * 2, [result(0, (0, 0))], "holds the prompt 'p0' twice with the method 'saliency'"),
        ([result(0, (0, 0))], [result(0, (0, 0), steps=5)], "differ in steps .10, 5.; compare like with like"),
        ([], [], "The base side needs one or more Datasets"),
        (result(0, (0, 0)), [], "The base side needs one or more Datasets"),
        ([xr.Dataset()], [], "something else than results of itlens.faithfulness"),
        ([result(0, (0, 0), prompt_id="")], [], "has no prompt_id"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(base: Any, tuned: Any, message: str) -> None:
    with pytest.raises(ResultError, match=message):
        faithfulness(base, tuned)


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ResultError, match="unit='bits' is unknown; expected one of 'share', 'nats'"):
        faithfulness(side(0, 0), side(0, 1), unit="bits")
