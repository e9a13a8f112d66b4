"""Faithfulness over prompts: the tests of the shared statistics, row by row, and results that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from itlens import ResultError
from itlens.diff import faithfulness
from itlens.stats.paired import adjust, paired_row


def result(prompt: int, advantage: tuple[float, float], method: str = "saliency", **attrs: Any) -> xr.Dataset:
    on = ("direction", list(advantage))
    return xr.Dataset(
        {"advantage": on, "advantage_nats": ("direction", [10 * one for one in advantage])},
        coords={"direction": ["deletion", "insertion"]},
        attrs={"probe": "faithfulness", "method": method, "by": "density", "prompt_id": f"p{prompt}", "steps": 10}
        | {"draws": 20, "baseline": "mean", "model": "toy"}
        | attrs,
    )


def side(mean: float, seed: int, methods: tuple[str, ...] = ("saliency", "input_x_gradient")) -> list[xr.Dataset]:
    rng = np.random.default_rng(seed)
    return [
        result(prompt, tuple(mean + 0.1 * rng.standard_normal(2)), method) for method in methods for prompt in range(16)
    ]


def test_each_row_is_the_paired_comparison_of_its_method_and_direction() -> None:
    base, tuned = side(0.2, 0), side(0.3, 1)
    table = faithfulness(base, list(reversed(tuned)))  # by prompt, whatever the order
    assert table[["method", "direction"]].values.tolist() == [
        [method, direction] for method in ("saliency", "input_x_gradient") for direction in ("deletion", "insertion")
    ]
    for number, row in table.iterrows():
        part = slice(0, 16) if number < 2 else slice(16, 32)
        x, y = (np.array([float(ds.advantage[number % 2]) for ds in one[part]]) for one in (base, tuned))
        expected = paired_row(x, y, resamples=10)
        for name in ("n", "difference", "effect_size", "p_paired"):
            assert row[name] == pytest.approx(expected[name], rel=1e-12), name
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


def test_prompts_without_a_share_on_one_side_are_left_out_of_both() -> None:
    base, tuned = side(0.2, 0, ("saliency",)), side(0.2, 1, ("saliency",))
    tuned[3].advantage[0] = np.nan
    table = faithfulness(base, tuned)
    assert table["n"].tolist() == [15, 16] and table["left_out"].tolist() == [1, 0]


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
