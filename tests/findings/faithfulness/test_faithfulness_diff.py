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

QUICK: dict[str, Any] = {"resamples": 200}


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
    table = faithfulness(base, list(reversed(tuned)), **QUICK)  # by prompt, whatever the order
    assert table[["method", "direction"]].values.tolist() == [
        [method, direction] for method in ("saliency", "input_x_gradient") for direction in ("deletion", "insertion")
    ]
    for number, row in table.iterrows():
        part = slice(0, 16) if number < 2 else slice(16, 32)
        x, y = (np.array([float(ds.advantage[number % 2]) for ds in one[part]]) for one in (base, tuned))
        expected = paired_row(x, y, **QUICK)
        for name in ("n", "difference", "ci_low", "ci_high", "effect_size", "p_paired"):
            assert row[name] == pytest.approx(expected[name], rel=1e-12), name
        assert row["base_p"] == pytest.approx(stats.ttest_1samp(x, 0).pvalue)
        assert row["tuned_advantage"] == pytest.approx(y.mean())
        assert row["tuned_low"] < y.mean() < row["tuned_high"]
        assert row["base_better"] == (x > 0).mean()
    np.testing.assert_allclose(table["p_holm"], adjust(table["p_paired"]))
    np.testing.assert_allclose(table["base_p_holm"], adjust(table["base_p"]))
    nats = faithfulness(base, tuned, unit="nats", **QUICK)
    np.testing.assert_allclose(nats["difference"], 10 * table["difference"])
    assert table.attrs["unit"] == "share" and table.attrs["base_model"] == "toy"


def test_prompts_without_a_share_on_one_side_are_left_out_of_both() -> None:
    base, tuned = side(0.2, 0, ("saliency",)), side(0.2, 1, ("saliency",))
    tuned[3].advantage[0] = np.nan
    table = faithfulness(base, tuned, **QUICK)
    assert table["n"].tolist() == [15, 16] and table["left_out"].tolist() == [1, 0]


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
