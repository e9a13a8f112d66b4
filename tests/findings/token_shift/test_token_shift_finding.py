"""The finding: verdicts of what was found, what is shown, and what a reader is warned of."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr

from itlens import ResultError, views
from itlens.errors import ProbeError
from itlens.findings.base import Plan
from itlens.findings.token_shift.finding import FINDING, TokenShiftOptions
from itlens.report.blocks import Card, Figure, Table, Text
from tests.findings.token_shift.chains import made_shift


def plan(**changes: Any) -> Plan:
    return Plan(TokenShiftOptions(), {}, seed=3, side="pair", **changes)


def tables(shift: xr.Dataset) -> Any:
    return FINDING.compare({"pair": {"shift": shift}}, plan())


def early(prompts: int = 8, length: int = 12, *, late: bool = False) -> xr.Dataset:
    """Every prompt is shifted at its first (or last) tokens, two or three of them."""
    ranks = np.ones((prompts, length))
    ranks[:, :2], ranks[::2, 2] = 9, 9
    return made_shift(ranks[:, ::-1].copy() if late else ranks)


@pytest.fixture(scope="module")
def found() -> Any:
    return tables(early())


def test_the_verdict_says_how_much_and_where(found: Any) -> None:
    verdict = FINDING.verdict(found)
    assert verdict.direction == "changed"
    assert verdict.sentence == (
        "79.2 % of the response's tokens are the base's first choice too and 20.8 % rank beyond its third (8 prompts; "
        "first choices +20.8 points in the tuned model, 95 % interval 17.1 to 24.6, p < 0.001). The first 5 tokens "
        "carry 100.0 % of the divergence, 58.3 points more than an even spread would give them (95 % interval 58.3 to "
        "58.3, p = 0.008, 8 prompts with longer responses)."
    )
    assert "by construction" in verdict.caveat
    assert [number.unit for number in verdict.numbers] == ["points", "%", "%", "points", "nats"]
    assert verdict.numbers[0].value == pytest.approx(100 * 2.5 / 12)


def test_late_shifts_are_less_than_an_even_spread() -> None:
    shift = early(late=True)
    kl = shift["kl"].values + np.linspace(0.01, 0.2, 8)[:, None]
    verdict = FINDING.verdict(tables(shift.assign(kl=(("prompt", "position"), kl))))
    assert "points less than an even spread would give them (95 % interval" in verdict.sentence


def test_a_base_that_shares_no_token_of_any_response_is_found() -> None:
    """All differences are 1, so that there is no t-test."""
    verdict = FINDING.verdict(tables(made_shift(np.full((6, 7), 9.0))))
    assert verdict.direction == "changed"
    assert "+100.0 points in the tuned model, 95 % interval 100.0 to 100.0, p = 0.031)" in verdict.sentence


def test_equal_models_have_not_changed() -> None:
    verdict = FINDING.verdict(tables(made_shift(np.ones((6, 7)), np.zeros((6, 7)))))
    assert (verdict.direction, verdict.tested) == ("none", True)
    assert verdict.sentence == (
        "No significant change: 100.0 % of the response's tokens are the base's first choice, and 100.0 % the tuned "
        "model's (they differ on no prompt, 6 prompts)."
    )


def test_few_prompts_are_not_tested() -> None:
    verdict = FINDING.verdict(tables(early(3)))
    assert not verdict.tested
    assert verdict.sentence.startswith("Not tested: too few prompts for a test (n=3, at least 5 needed); 77.8 % of")


def test_short_responses_leave_the_beginning_untested() -> None:
    verdict = FINDING.verdict(tables(early(8, 5)))
    assert verdict.sentence.endswith(
        "Whether the first 5 tokens diverge most was not tested (too few prompts for a test (n=0, at least 5 needed) "
        "that are longer)."
    )


def test_the_section_shows_cards_figure_tables_and_responses(found: Any) -> None:
    blocks = FINDING.show(found)
    kinds = [type(block) for block in blocks]
    assert kinds == [
        *[Card] * 4, Text, Figure, Table, Table, Table, *[views.ShiftedResponse] * 3
    ]  # fmt: skip
    assert [card.value for card in blocks[:2]] == ["79.2 %", "20.8 %"]
    assert [block.folded for block in blocks[-3:]] == [False, True, True]


def test_the_figure_draws_shares_and_divergence(found: Any) -> None:
    fig = views.token_shift(found["shift_places"])
    bars = [trace for trace in fig.data if trace.type == "bar" and trace.xaxis == "x"]
    heights = np.array([trace.y for trace in bars])
    np.testing.assert_allclose(heights.sum(axis=0), 100)
    np.testing.assert_allclose(heights[2], [100, 100, 50, *[0] * 9])
    line = next(trace for trace in fig.data if trace.name == "KL")
    np.testing.assert_allclose(line.y[:3], [np.log(9), np.log(9), np.log(9) / 2])


def test_tenths_are_of_long_responses_only(found: Any) -> None:
    """Of shorter ones a tenth is less than a token: then the figure shows how many prompts each token rests on."""
    places = found["shift_places"]
    long = views.token_shift(places)
    assert long.layout.xaxis3.title.text == "tenth of the response"
    fig = views.token_shift(places.assign_attrs(tokens=9 * places.attrs["prompts"]))
    assert fig.layout.xaxis3.title.text == "token of the response"
    (counts,) = (trace for trace in fig.data if trace.xaxis == "x3")
    np.testing.assert_array_equal(counts.y, places["kl"].sel(summary="n"))
    assert len([trace for trace in fig.data if trace.type == "bar" and trace.xaxis == "x"]) == 3


def test_a_range_of_prompts_is_not_written_as_an_interval(found: Any) -> None:
    detail = FINDING.show(found)[2].detail
    assert re.fullmatch(r"middle half of the prompts: \d+\.\d\d to \d+\.\d\d", detail), detail


def test_a_response_is_marked_by_rank_and_tells_what_the_base_would_write() -> None:
    ranks = np.array([[1.0, 2, 4, 1]])
    tokens = np.array([[" so", "<img>", "$x$", "</s>"]], dtype=object)
    shift = made_shift(ranks, kinds=np.array([["function word"] * 3 + ["end of text"]]), tokens=tokens)
    panel = views.shifted_response(shift.assign(response_text=("prompt", np.array([" so<img>$x$"], dtype=object))))
    assert [token.mark for token in panel.tokens] == ["none", "weak", "strong", "none"]
    assert "rank 4 under base" in panel.tokens[2].tip
    assert "base would write:  the 10.0 % ·  a 10.0 % · <b> 10.0 % · $x$ 10.0 % · ↵ 10.0 %" in panel.tokens[2].tip
    assert panel.summary == "2 of 4 tokens are base's first choice, 1 are shifted"
    assert "&lt;i&gt;it&lt;/i&gt;.↵<br>" in panel.html
    assert "<img>" not in panel.html


def test_a_model_and_itself_with_an_adapter_have_two_names() -> None:
    both = {"base_model": "hub/gemma", "tuned_model": "hub/gemma", "base_adapter": "", "tuned_adapter": "/runs/sft"}
    assert views.shifted_response(early().assign_attrs(both)).heading == "gemma + sft's response, read by gemma"


@pytest.mark.parametrize("prompt", ["other", 9, True])
def test_a_prompt_that_is_not_there_is_refused(prompt: Any) -> None:
    with pytest.raises(ResultError, match=r"expected an id .p0, p1, p2 "):
        views.shifted_response(early(), prompt)


def test_views_refuse_other_results() -> None:
    with pytest.raises(ResultError, match=r"views\.token_shift got a str"):
        views.token_shift("nothing")  # type: ignore[arg-type]
    with pytest.raises(ResultError, match=r"views\.shifted_response got"):
        views.shifted_response(xr.Dataset())


def test_notes_name_what_is_missing(found: Any) -> None:
    assert FINDING.notes(found, plan()) == []
    left = {**found, "token_shift": found["token_shift"].assign_attrs(note="the tuned model has 3 more")}
    notes = FINDING.notes(left, plan(prompts=tuple(range(9))))  # type: ignore[arg-type]
    assert notes[0].startswith("Token shift covers 8 of 9 prompts")
    assert notes[1] == "Token shift: the tuned model has 3 more."


def test_numbers_by_prompt_and_distances(found: Any) -> None:
    table = FINDING.per_prompt(found, plan())
    assert table is not None
    assert table.groupby("model")["first_choice"].mean().to_dict() == pytest.approx({"base": 9.5 / 12, "tuned": 1})
    assert FINDING.distances(found) == pytest.approx({"shifted": 2.5 / 12, "token_kl": 2.5 * np.log(9) / 12})


def test_it_needs_prompts_that_both_models_read() -> None:
    with pytest.raises(ProbeError, match=r"plan\.reading is None"):
        FINDING.run(None, "shift", plan())  # type: ignore[arg-type]
