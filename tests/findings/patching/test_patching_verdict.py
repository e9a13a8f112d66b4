"""Sentences made of a result of patching: they say what the numbers say."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import itlens
from itlens.findings.patching.diff import judge_heads
from itlens.findings.patching.finding import _cards

SINGLE = [0.6, 0.1, -0.4, 0.02]


def patched(recovered: list[float], p_bh: list[float], **attrs: object) -> xr.Dataset:
    """A result of patching four heads: two layers of two, with its curve."""
    heads = (("layer", "head"), np.reshape(recovered, (2, 2)))
    return xr.Dataset(
        {
            "recovered": heads,
            "p_bh": (("layer", "head"), np.reshape(p_bh, (2, 2))),
            "joint": ("count", [0.5, 0.75, 0.9]),
            "joint_low": ("count", [0.4, 0.6, 0.8]),
            "joint_high": ("count", [0.6, 0.9, 1.0]),
            "joint_random": ("count", [0.1, 0.2, 0.9]),
            "joint_random_low": ("count", [0.0, 0.05, 0.9]),
            "joint_random_high": ("count", [0.3, 0.4, 0.9]),
            "needed_80_of_all": 2.0,
            "judged": ("prompt", [True, False] * 3),
        },
        coords={"layer": [0, 1], "head": [0, 1], "count": [1, 2, 4], "prompt": list("abcdef")},
        attrs={
            "probe": "patch",
            "direction": "tuned->base",
            "metric": "logprob",
            "gap": 1.5,
            "gap_low": 1.2,
            "gap_high": 1.8,
            "unit_of_effect": "nats",
            "note": "",
            **attrs,
        },
    )


def test_everything_is_said() -> None:
    verdict = judge_heads(patched(SINGLE, [0.001, 0.01, 0.02, 0.5]))
    assert verdict.sentence == (
        "The tuned model gives these responses 1.50 nats more per token than the base model does: put into the base "
        "model together, the 4 heads of the tuned model recover 90 % of that (3 prompts; 95 % interval 80 % to 100 %), "
        "and the best 2 alone, chosen on the other 3, 75 % (as many random heads: 20 %, 95 % of the draws 5 % to 40 "
        "%). "
        "Of the heads with a significant effect by themselves, 2 narrow the gap (most: L0H0 60 %, L0H1 10 %) and 1 "
        "widens the gap (most: L1H0 −40 %)."
    )
    assert verdict.caveat == ""
    assert verdict.direction == "changed"
    assert verdict.short == "the 4 attention heads carry 90 % of the tuned behaviour, 2 of them four fifths of that"


def test_a_number_between_the_tried_ones_may_be_enough() -> None:
    ds = patched(SINGLE, [0.3] * 4).assign(needed_80_of_all=4.0)
    verdict = judge_heads(ds)
    assert verdict.short.endswith("90 % of the tuned behaviour, at most 4 of them four fifths of that")
    assert verdict.numbers[1].name == "heads, at most, that carry four fifths of what all heads carry"
    [card] = [card for card in _cards(ds) if "four fifths" in card.label]
    assert card.value == "at most 4 of 4"
    assert "the best 2 recover 75 %, no number between was tried" in card.detail


def test_headlines_hold_the_numbers() -> None:
    numbers = judge_heads(patched(SINGLE, [0.001, 0.01, 0.02, 0.5])).numbers
    together, fewest, single, gap = numbers
    assert (together.value, together.low, together.high, together.n) == pytest.approx((90, 80, 100, 3))
    assert fewest.value == 2
    assert (gap.value, gap.low, gap.high, gap.n, gap.unit) == (1.5, 1.2, 1.8, 6, "nats")
    assert (single.value, single.p, single.n) == (3, 0.001, 6)


def test_random_heads_that_do_as_well_are_the_caveat() -> None:
    ds = patched(SINGLE, [0.3] * 4).assign(joint_random_high=("count", [0.3, 0.8, 0.9]))
    verdict = judge_heads(ds)
    assert "95 % of the draws 5 % to 80 %)" in verdict.sentence
    assert verdict.caveat == "The choice of the best heads is no better than chance: random heads do as well."
    assert itlens.diff.patching_verdict(ds).endswith(verdict.caveat)


def test_a_curve_that_cannot_be_had() -> None:
    ds = patched(SINGLE, [0.3] * 4).assign(joint=("count", [np.nan] * 3))
    verdict = judge_heads(ds)
    assert verdict.sentence.startswith(
        "The tuned model gives these responses 1.50 nats more per token than the base model does (6 prompts). "
    )
    assert verdict.caveat.startswith("What heads carry together is not known: ")
    assert "nan" not in itlens.diff.patching_verdict(ds)


def test_a_curve_judged_on_the_prompts_it_was_chosen_on() -> None:
    same = patched(SINGLE, [0.3] * 4).assign(judged=("prompt", [True] * 6))
    assert judge_heads(same).caveat == "The best heads are judged on the prompts that they were chosen on."


def test_no_single_head_is_significant() -> None:
    said = judge_heads(patched(SINGLE, [0.3, 0.4, 0.5, 0.6])).sentence
    assert said.endswith("No single head has a significant effect (smallest corrected p = 0.30).")
    untested = judge_heads(patched(SINGLE, [np.nan] * 4)).sentence
    assert untested.endswith("Single heads were not tested: there are too few prompts.")


def test_nothing_is_significant_is_no_change() -> None:
    ds = patched(SINGLE, [0.3] * 4).assign(joint_low=("count", [-0.4, -0.2, -0.1]))
    assert judge_heads(ds).direction == "none"


def test_the_other_way_and_another_metric() -> None:
    back = patched([0.6] * 4, [0.3] * 4, direction="base->tuned", gap=-1.5)
    assert "The tuned model gives these responses 1.50 nats more" in itlens.diff.patching_verdict(back)
    own = patched([0.6] * 4, [0.3] * 4, metric="given", unit_of_effect="points")
    assert "The tuned model's metric is +1.5 points from the base" in itlens.diff.patching_verdict(own)


def test_no_gap() -> None:
    verdict = judge_heads(patched([np.nan] * 4, [0.5] * 4, note="the metric does not differ"))
    assert verdict.sentence == "Not tested on 6 prompts: the metric does not differ."
    assert verdict.answer == "not tested"


def test_another_result() -> None:
    with pytest.raises(itlens.ResultError, match="over heads"):
        itlens.diff.patching_verdict(xr.Dataset(attrs={"probe": "activations"}))
