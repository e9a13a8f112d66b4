"""What the comparison of attributions claims: one inference for interval and p, whose responses, and doubts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from itlens.files import minus
from itlens.findings.attribution.diff_verdict import Conclusion, conclusion
from itlens.findings.attribution.finding import FINDING
from itlens.findings.base import Verdict
from itlens.stats.groups import paired


def tables(difference: Any, equal: Any = None, targets: tuple[int, int] = (20, 20), **more: Any) -> dict[str, Any]:
    """Tables of an AttributionDiff whose paired differences are these, over whole responses and at equal length."""
    d = np.asarray(difference, dtype=float)
    base = np.linspace(1.0, 2.0, d.size)
    prompts = pd.DataFrame({"id": [f"p{k}" for k in range(d.size)], "group": "", "base": base, "tuned": base + d})
    prompts = prompts.assign(base_targets=targets[0], tuned_targets=targets[1], base_finish="eos", tuned_finish="eos")
    same = prompts if equal is None else prompts.assign(tuned=base + np.asarray(equal, dtype=float))
    size = float(d.mean())
    grid = xr.Dataset({"p_paired": ("b", [0.01, 0.01, 0.5]), "difference": ("b", [size] * 3)})
    regression = pd.DataFrame({"term": ["intercept"], "coefficient": [size], "p": [0.01]})
    quick = {"resamples": 2000}
    found = {"groups": paired(prompts, **quick), "equal_length": paired(same, **quick), "sensitivity": grid}
    return found | {"prompts": prompts, "regression": regression} | more


def spread(n: int, mean: float, sd: float, seed: int = 0) -> np.ndarray:
    """n values with exactly this mean and standard deviation."""
    values = np.random.default_rng(seed).standard_normal(n)
    return mean + sd * (values - values.mean()) / values.std(ddof=1)


def test_with_few_prompts_the_interval_is_that_of_the_t_test() -> None:
    """Six prompts, p = 0.12: their bootstrap interval excludes zero, which contradicted the verdict."""
    differences = np.array([-0.9, -0.05, -0.1, -0.6, -0.02, 0.05])
    found = tables(differences)
    row = found["groups"].iloc[0]
    assert row["p_paired"] > 0.05
    assert row["ci_high"] < 0
    verdict = conclusion(found)
    low, high = stats.t.interval(0.95, 5, differences.mean(), stats.sem(differences))
    headline = verdict.numbers[0]
    assert headline.low == pytest.approx(low)
    assert headline.high == pytest.approx(high)
    assert headline.low < 0 < headline.high
    assert verdict.direction == "none"
    assert verdict.sentence.startswith("No significant change of the instruction score: ")
    assert minus(f"95 % interval {low:+.2f} to {high:+.2f}") in verdict.sentence


@pytest.mark.parametrize("n", [5, 8, 15, 29, 30, 60])
@pytest.mark.parametrize("size", [0.0, 0.2, 0.36, 0.4, 0.7, 1.0])
def test_interval_and_p_never_contradict_each_other(n: int, size: float) -> None:
    for seed in range(4):
        d = np.random.default_rng(seed).exponential(1.0, n) - 1 + size
        verdict = conclusion(tables(d, equal=d))
        headline = verdict.numbers[0]
        assert headline.low is not None and headline.high is not None and headline.p is not None
        assert (headline.low > 0 or headline.high < 0) == (headline.p < 0.05)
        assert (verdict.direction != "none") == (headline.p < 0.05)


def test_with_many_prompts_it_is_the_tables_bootstrap_interval() -> None:
    found = tables(spread(80, 0.07, 0.2))
    headline = conclusion(found).numbers[0]
    row = found["groups"].iloc[0]
    assert (headline.value, headline.low, headline.high) == (row["difference"], row["ci_low"], row["ci_high"])


def test_own_responses_differ_in_length_and_content() -> None:
    verdict = conclusion(tables(spread(40, 0.5, 0.2), targets=(20, 10)))
    assert verdict.direction == "higher"
    assert verdict.sentence.startswith(
        "The tuned model leans more on the instruction than the base: instruction score "
    )
    assert "It holds at equal response length and at 2 of 3 settings of cut-off and power" in verdict.sentence
    assert "own responses (base 20.0 tokens, tuned 10.0 on average), which differ in length and content." in (
        verdict.sentence
    )
    assert verdict.short.startswith("the tuned model leans more on the instruction (+0.50, p ")


@pytest.mark.parametrize("writer", ["tuned", "base"])
def test_on_one_models_responses_length_is_no_doubt(writer: str) -> None:
    found = tables(spread(40, 0.5, 0.2), equal=spread(40, -0.5, 0.2), _responses=writer)
    verdict = conclusion(found)
    assert verdict.direction == "higher"
    assert f"on the {writer} model's responses" in verdict.sentence
    assert (
        f"likely under the {writer} model by construction; that need not raise its instruction score"
        in verdict.sentence
    )
    assert "length" not in verdict.sentence
    assert len(verdict.numbers) == 3


def test_a_reversal_at_equal_length_is_a_change_without_a_direction() -> None:
    verdict = conclusion(tables(spread(40, -0.38, 0.2), equal=spread(40, 0.1, 0.2), targets=(16, 3)))
    assert verdict.direction == "changed"
    assert verdict.sentence.startswith("Whether the tuned model leans more on the instruction depends on how much")
    assert 'With responses="tuned" both models are read on the same responses' in verdict.sentence
    assert [round(number.value or 0, 2) for number in verdict.numbers[:2]] == [-0.38, 0.1]


@pytest.mark.parametrize(("size", "direction"), [(0.5, "higher"), (0.001, "none")])
def test_responses_that_were_all_cut_are_the_first_doubt(size: float, direction: str) -> None:
    found = tables(spread(40, size, 0.2))
    found["prompts"]["base_finish"] = "length"
    verdict = conclusion(found)
    assert verdict.direction == direction
    assert verdict.sentence.endswith(
        "All responses of the base model were cut at 20 tokens, and its score depends on this limit."
    )
    found["prompts"].loc[0, "base_finish"] = "eos"
    assert "cut at" not in conclusion(found).sentence


def test_only_at_equal_length() -> None:
    verdict = conclusion(tables(spread(40, 0.0, 0.2), equal=spread(40, 0.3, 0.2)))
    assert verdict.direction == "none"
    assert "Over the same number of tokens it is significantly higher in the tuned model" in verdict.sentence


def test_nothing_to_test_and_nothing_that_changed() -> None:
    few = conclusion(tables([0.1, 0.2]))
    assert not few.tested
    assert few.answer == "not tested"
    assert few.sentence == "Not tested: too few prompts for a test (n=2, at least 5 needed); mean difference +0.15."
    same = conclusion(tables(np.zeros(8)))
    assert same.tested
    assert same.answer == "no significant change"
    assert same.sentence == "No change: the instruction score is the same in every prompt (8 prompts)."


def test_the_same_difference_everywhere_is_decided_by_ranks() -> None:
    verdict = conclusion(tables(np.full(8, 0.25)))
    assert verdict.direction == "higher"
    assert verdict.numbers[0].p == pytest.approx(stats.wilcoxon(np.full(8, 0.25)).pvalue)
    assert (verdict.numbers[0].low, verdict.numbers[0].high) == pytest.approx((0.25, 0.25))


def test_attributions_that_deletion_does_not_support_are_doubted_where_they_claim() -> None:
    verdict = conclusion(tables(spread(40, 0.5, 0.2)))
    doubt = "Do not rely on attributions without another check: those of the base model are no better than random."
    doubted = FINDING.reconsider(verdict, {"faithfulness": Verdict("Not faithful.", caveat=doubt)})
    assert isinstance(doubted, Conclusion)
    assert doubted.sentence == f"{verdict.claim} {doubt}"
    assert doubted.caveat == " ".join(verdict.doubts)
    assert doubted.short == f"{verdict.short}, by attributions that did not pass every test of faithfulness"
    assert doubted.direction == "higher"
    for other in (
        {},
        {"faithfulness": Verdict("Faithful.")},
        {"faithfulness": Verdict("x", tested=False, caveat=doubt)},
    ):
        assert FINDING.reconsider(verdict, other) == verdict


def test_small_numbers_are_not_written_as_zero() -> None:
    found = tables(spread(40, 0.003, 0.002))
    assert "mean difference +0.003, 95 % interval +0.00" in conclusion(found).sentence
