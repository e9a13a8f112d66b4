"""Two by two: hand-computed contrasts, effects that were put in, and 5 % where there are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from itlens import ResultError
from itlens.diff import template_verdict, two_by_two
from itlens.stats.two_by_two import CELLS, EFFECTS, contrasts

QUICK: dict[str, Any] = {"resamples": 200}


def cells(b0: Any, b1: Any, t0: Any, t1: Any) -> dict[tuple[str, str], pd.Series]:
    columns = [np.asarray(column, dtype=float) for column in (b0, b1, t0, t1)]
    ids = [f"p{number}" for number in range(len(columns[0]))]
    return {cell: pd.Series(column, ids) for cell, column in zip(CELLS, columns, strict=True)}


def planted(
    prompts: int = 40, *, weights: float = 0.0, template: float = 0.0, interaction: float = 0.0, seed: int = 0
) -> dict[tuple[str, str], pd.Series]:
    rng = np.random.default_rng(seed)
    own = rng.standard_normal(prompts) * 5  # prompts differ much more than effects do: only pairing sees through it
    noise = rng.standard_normal((4, prompts)) * 0.2
    return cells(
        own + noise[0], own + template + noise[1], own + weights + noise[2],
        own + weights + template + interaction + noise[3],
    )  # fmt: skip


def effect(table: pd.DataFrame, name: str, group: str = "all") -> pd.Series:
    return table[(table["effect"] == name) & (table["group"] == group)].iloc[0]


def test_contrasts_by_hand() -> None:
    table = pd.DataFrame(
        {"base_off": [1.0, 0.0], "base_on": [2.0, 4.0], "tuned_off": [4.0, 1.0], "tuned_on": [9.0, 3.0]}
    )
    found = contrasts(table)
    assert found["weights"].tolist() == [((4 - 1) + (9 - 2)) / 2, ((1 - 0) + (3 - 4)) / 2] == [5.0, 0.0]
    assert found["template"].tolist() == [((2 - 1) + (9 - 4)) / 2, ((4 - 0) + (3 - 1)) / 2] == [3.0, 3.0]
    assert found["interaction"].tolist() == [(9 - 4) - (2 - 1), (3 - 1) - (4 - 0)] == [4.0, -2.0]
    assert found["total"].tolist() == [8.0, 3.0], "tuned with its template less base without"
    assert (found["weights"] + found["template"] == found["total"]).all()
    assert found["balance"].tolist() == [2.0, -3.0]


def test_balance_compares_sizes_whatever_the_signs() -> None:
    found = contrasts(pd.DataFrame({"base_off": [0.0], "base_on": [-3.0], "tuned_off": [2.0], "tuned_on": [-1.0]}))
    assert (found["weights"][0], found["template"][0], found["balance"][0]) == (2.0, -3.0, -1.0)


def test_a_row_is_the_mean_and_the_paired_test_of_a_contrast() -> None:
    values = planted(weights=0.5, template=-0.2, interaction=0.3)
    table = two_by_two(values, **QUICK)
    assert table["effect"].tolist() == [*EFFECTS, "total", "balance"]
    assert (table["n"] == 40).all()
    b0, b1, t0, t1 = (values[cell].to_numpy() for cell in CELLS)
    row = effect(table, "interaction")
    test = stats.ttest_rel(t1 - t0, b1 - b0)
    assert (row["t"], row["p"]) == pytest.approx((test.statistic, test.pvalue))
    assert row["mean"] == pytest.approx((t1 - t0 - b1 + b0).mean())
    assert row["ci_low"] < row["mean"] < row["ci_high"]
    assert row["base_on"] == pytest.approx(b1.mean())
    assert row["tuned_off"] == pytest.approx(t0.mean())
    p = [effect(table, name)["p"] for name in EFFECTS]
    assert max(p) == effect(table, EFFECTS[int(np.argmax(p))])["p_holm"], "Holm leaves the largest of three as it is"
    assert effect(table, EFFECTS[int(np.argmin(p))])["p_holm"] == pytest.approx(3 * min(p))
    assert np.isnan(effect(table, "total")["p_holm"])


def test_effects_that_were_put_in_come_out_and_are_named() -> None:
    for options, source in (
        ({"weights": 1.0, "template": 0.1}, "comes from the weights ("),
        ({"weights": -0.1, "template": 1.0}, "comes from the template ("),
        ({"weights": 1.0, "template": -1.0}, "which of them does more is not significant"),
        ({}, "No significant effect of weights or template on the score ("),
    ):
        table = two_by_two(planted(seed=3, **options), **QUICK)
        for name in ("weights", "template"):
            assert effect(table, name)["mean"] == pytest.approx(options.get(name, 0.0), abs=0.1)
        assert source in template_verdict(table, statistic="score")
    table = two_by_two(planted(weights=1.0, interaction=0.6), **QUICK)
    assert "raises it more in the tuned model than in the base" in template_verdict(table, statistic="score")


def test_under_the_null_each_effect_is_found_in_5_per_cent() -> None:
    drawn = [planted(12, seed=seed) for seed in range(400)]
    columns = {f"{model}_{state}": pd.concat([one[model, state] for one in drawn]) for model, state in CELLS}
    found = contrasts(pd.DataFrame({name: column.to_numpy() for name, column in columns.items()}))
    p = np.array([stats.ttest_1samp(found[name].reshape(400, 12), 0.0, axis=1).pvalue for name in EFFECTS])
    shares = (p < 0.05).mean(axis=1)
    assert (shares < 0.085).all()
    assert (shares > 0.02).all()
    assert (3 * p.min(axis=0) < 0.05).mean() < 0.08, "any of the three, by Holm"


def test_groups_and_prompts_without_a_number() -> None:
    values = planted(20, weights=1.0)
    values["tuned", "on"].iloc[0] = np.nan
    groups = {f"p{number}": "a" if number < 8 else "b" for number in range(20)}
    table = two_by_two(values, groups, minimum=10, **QUICK)
    assert table["group"].unique().tolist() == ["all", "a", "b"]
    assert [effect(table, "weights", group)["n"] for group in ("all", "a", "b")] == [19, 7, 12]
    few = effect(table, "weights", "a")
    assert np.isnan(few["p"])
    assert "too few prompts" in few["note"]
    assert np.isfinite(few["mean"])
    assert "The x was not tested: too few prompts" in template_verdict(table, statistic="x", group="a")


def test_what_does_not_fit_gets_one_sentence() -> None:
    values = planted(6)
    with pytest.raises(ResultError, match=r"A 2 x 2 needs the cells \('base', 'off'\).*got \[\"\('base', 'off'\)\"\]"):
        two_by_two({("base", "off"): values["base", "off"]})
    values["tuned", "off"] = values["tuned", "off"].drop("p3")
    with pytest.raises(ResultError, match="1 prompts are in tuned_off or in base_off only: p3"):
        two_by_two(values)
    with pytest.raises(ResultError, match="There are no effects on 'x' in the group 'g'"):
        template_verdict(two_by_two(planted(6), **QUICK), statistic="x", group="g")
