"""Effects, shares, half depth and tests of the four cells: by hand, and under nulls on stored numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from itlens import ResultError, diff, views
from itlens.errors import ProbeError
from itlens.findings.base import Plan
from itlens.findings.divergence.diff import half_depth
from itlens.findings.divergence.finding import FINDING, DivergenceOptions
from itlens.report.blocks import Card, Figure, Table, Text
from itlens.report.numbers import interval
from itlens.stats.p_values import p_under_exchange, share_interval
from itlens.stats.paired import paired_cells

BOUNDARIES = 5


def made(cells: np.ndarray, position: np.ndarray | None = None) -> xr.Dataset:
    """A result of `itlens.divergence` with these cells (prompt, boundary, upstream, late)."""
    prompts = len(cells)
    place = np.zeros(prompts) if position is None else position
    grid = ("prompt", "boundary", "upstream", "late")
    return xr.Dataset(
        {
            "position": ("prompt", place),
            "token_base": ("prompt", np.array(["a"] * prompts, dtype=object)),
            "token_tuned": ("prompt", np.array(["<b>"] * prompts, dtype=object)),
            "compared": ("prompt", np.full(prompts, 9)),
            "logit_gap": (grid, cells),
            "logit_gap_tuned": (grid, 2 * cells),
        },
        coords={
            "prompt": np.array([f"p{number}" for number in range(prompts)], dtype=object),
            "boundary": np.arange(cells.shape[1]),
            "upstream": ["base", "tuned"],
            "late": ["base", "tuned"],
            "group": ("prompt", np.array(["ab"[number % 2] for number in range(prompts)], dtype=object)),
        },
        attrs={"probe": "divergence"},
    )


def additive(shares: np.ndarray, noise: float = 0.0, prompts: int = 8) -> xr.Dataset:
    """Cells of models whose blocks add up: Y = 10 (share of the stream + share of the blocks) - 4, by prompt."""
    rng = np.random.default_rng(0)
    cells = np.empty((prompts, shares.size, 2, 2))
    for upstream in (0, 1):
        for late in (0, 1):
            cells[:, :, upstream, late] = 10 * (upstream * shares + late * (1 - shares)) - 4
    own = rng.normal(0, noise, (prompts, 1, 1, 1)) if noise else 0.0
    return made(cells * (1 + own))


EARLY = additive(np.array([0.0, 0.6, 0.8, 0.9, 1.0]), noise=0.1)


def test_effects_of_one_prompt_by_hand() -> None:
    cells = np.array([[[[-3.0, 4], [-1, 6]], [[-3, 1], [2, 6]], [[-3, -3], [6, 6]]]])  # (boundary, upstream, late)
    effects = diff.divergence_effects(made(cells)).isel(prompt=0)
    np.testing.assert_allclose(effects["upstream_effect"], [(2 + 2) / 2, (5 + 5) / 2, 9])
    np.testing.assert_allclose(effects["late_effect"], [(7 + 7) / 2, (4 + 4) / 2, 0])
    np.testing.assert_allclose(effects["interaction"], [(6 + 1) - (4 + 3), (6 - 2) - (1 + 3), 0])
    np.testing.assert_allclose(effects["step"], [3, 4])
    assert (effects["total"], effects["halves"]) == (9, 5 - 4)
    np.testing.assert_allclose(effects["upstream_effect"] + effects["late_effect"], 9)


def test_an_interaction_by_hand() -> None:
    cells = np.array([[[[0.0, 1], [2, 7]], [[0, 0], [7, 7]]]])
    effects = diff.divergence_effects(made(cells)).isel(prompt=0)
    np.testing.assert_allclose(effects["interaction"], [(7 - 2) - (1 - 0), 0])


def test_shares_and_half_depth() -> None:
    depth = diff.divergence_depth(EARLY)
    np.testing.assert_allclose(depth["share"], [0, 0.6, 0.8, 0.9, 1])
    assert depth["half_depth"].iloc[0] == pytest.approx(0.5 / 0.6)
    assert depth["depth"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    tuned = diff.divergence_depth(EARLY, readout="tuned")
    np.testing.assert_allclose(tuned["upstream"], 2 * depth["upstream"])
    np.testing.assert_allclose(diff.divergence_blocks(EARLY)["share_of_total"], [0.6, 0.2, 0.1, 0.1])


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        ([0, 0.5, 1], 1),
        ([0.6, 0.8, 1], 0),
        ([0, 0.25, 1], 1 + 1 / 3),
        ([0, 0.2, 0.4], np.nan),
        ([0, 0.7, 0.2, 1], 5 / 7),
    ],
)
def test_half_depth_by_hand(share: list[float], expected: float) -> None:
    np.testing.assert_allclose(half_depth(np.array(share, dtype=float)), expected)


def test_halves_of_an_odd_number_of_blocks_meet_between_two_boundaries() -> None:
    effects = diff.divergence_effects(additive(np.array([0, 0.2, 0.8, 1])))
    np.testing.assert_allclose(effects["halves"], 0, atol=1e-12)


@pytest.fixture(scope="module")
def nulls() -> xr.Dataset:
    """200 results of 12 prompts one after the other; cells are noise around a value of the prompt's own, which depends
    on neither the stream nor the blocks."""
    rng = np.random.default_rng(3)
    return diff.divergence_effects(made(rng.normal(size=(2400, BOUNDARIES, 2, 2)) + rng.normal(0, 3, (2400, 1, 1, 1))))


def by_draw(effects: xr.Dataset, name: str) -> np.ndarray:
    """An effect on (prompt of a draw, draw and boundary)."""
    return effects[name].values.reshape(200, 12, -1).swapaxes(0, 1).reshape(12, -1)


def p_values(base: np.ndarray, tuned: np.ndarray) -> np.ndarray:
    return paired_cells(base, tuned, resamples=2)["p_paired"]


def test_labels_exchanged_within_prompts_keep_five_percent(nulls: xr.Dataset) -> None:
    """Whose stream enters is exchanged, prompt by prompt, where it makes a difference of 1."""
    effect = by_draw(nulls, "upstream_effect") + 1
    p = p_under_exchange(np.zeros_like(effect), effect, p_values, exchanged=True)
    assert 0.035 < (p < 0.05).mean() < 0.065
    assert (p_values(np.zeros_like(effect), effect) < 0.05).mean() > 0.5, "not exchanged it is found"


@pytest.mark.parametrize("name", ["upstream_effect", "late_effect", "interaction", "step"])
def test_nulls_keep_five_percent(name: str, nulls: xr.Dataset) -> None:
    values = by_draw(nulls, name)
    p = p_values(np.zeros_like(values), values).reshape(200, -1)
    low, high = share_interval((p < 0.05).sum(axis=1), np.full(200, p.shape[1]))
    assert low < 0.05 < high, f"{(p < 0.05).mean():.3f} of the p-values are below 0.05, [{low:.3f}, {high:.3f}]"


def plan(**changes: Any) -> Plan:
    return Plan(DivergenceOptions(sample=8), {}, seed=3, side="pair", **changes)


def tables(cells: xr.Dataset) -> Any:
    return FINDING.compare({"pair": {"cells": cells}}, plan())


def test_the_verdict_names_the_half_that_decides() -> None:
    verdict = FINDING.verdict(tables(EARLY))
    assert verdict.direction == "changed"
    assert verdict.sentence.startswith(
        "The answers part on 8 of 8 prompts, at token 1 (median), and half of the decision between the two next tokens "
    )
    assert "is made in the first 0.8 of 4 blocks (95 % interval 0.8 to 0.8). The first half" in verdict.sentence
    late = FINDING.verdict(tables(additive(np.array([0.0, 0.1, 0.2, 0.4, 1.0]), noise=0.1)))
    assert ". The second half of the blocks decides more than the first: first +" in late.sentence
    assert late.numbers[0].value is not None and late.numbers[0].value < 0


def test_halves_alike_are_no_significant_change() -> None:
    rng = np.random.default_rng(1)
    even = additive(np.array([0.0, 0.25, 0.5, 0.75, 1.0]))
    noisy = even.assign(logit_gap=even["logit_gap"] + rng.normal(0, 0.5, even["logit_gap"].shape))
    verdict = FINDING.verdict(tables(noisy))
    assert verdict.direction == "none"
    assert "do not contribute significantly differently" in verdict.sentence


def test_few_prompts_are_not_tested() -> None:
    verdict = FINDING.verdict(tables(EARLY.isel(prompt=slice(0, 3))))
    assert not verdict.tested
    assert verdict.sentence == (
        "Not tested: too few prompts for a test (n=3, at least 5 needed); the answers part on 3 of 3 prompts, at token "
        "1 (median)."
    )


def test_prompts_that_do_not_part_count_nowhere_else() -> None:
    position = np.where(np.arange(8) < 2, np.nan, 3.0)
    cells = EARLY["logit_gap"].values.copy()
    cells[:2] = np.nan
    found = tables(made(cells, position))
    assert found["divergence_depth"]["n"].iloc[0] == 6
    assert "on 6 of 8 prompts, at token 4 (median)" in FINDING.verdict(found).sentence
    assert any(
        note.startswith("On 2 of 8 prompts the greedy answers are the same") for note in FINDING.notes(found, plan())
    )
    assert FINDING.distances(found)["parted"] == 0.75
    assert found["partings"]["share"].isna().sum() == 2


def test_a_star_is_beyond_the_interval_that_it_marks() -> None:
    """At its end it would hide the cap."""
    found = tables(EARLY)
    blocks = found["divergence_blocks"]
    fig = views.divergence(found["divergence_depth"], blocks)
    stars = next(trace for trace in fig.data if str(trace.name).startswith("p BH"))
    high = blocks["step_high"].to_numpy()[np.asarray(stars.y)]
    width = max(blocks["step_high"].max(), 0) - min(blocks["step_low"].min(), 0)
    assert np.all(np.asarray(stars.x) - np.maximum(high, 0) >= 0.05 * width)


def test_the_section_shows_cards_figure_and_tables() -> None:
    found = tables(EARLY)
    blocks = FINDING.show(found)
    assert [type(block) for block in blocks] == [*[Card] * 4, Text, Figure, Table, Table, Table]
    assert blocks[0].value == "8 of 8"
    assert blocks[2].value == "the first 0.8 of 4"
    last = blocks[-2].data.iloc[-1]  # behind all blocks the whole decision is upstream
    assert interval(last["upstream_low"], last["upstream_high"], 2) in blocks[1].detail, "one interval per estimate"
    nothing = tables(made(np.full((6, BOUNDARIES, 2, 2), np.nan), np.full(6, np.nan)))
    assert [type(block) for block in FINDING.show(nothing)] == [Card, Text, Table]
    assert FINDING.notes(nothing, plan()) == []


def test_the_figure_draws_effects_and_blocks() -> None:
    found = tables(EARLY)
    fig = views.divergence(found["divergence_depth"], found["divergence_blocks"])
    lines = {trace.name: trace for trace in fig.data if trace.type == "scatter" and trace.fill is None}
    np.testing.assert_allclose(lines["upstream: whose stream enters"].x, found["divergence_depth"]["upstream"])
    np.testing.assert_allclose(lines["share upstream"].x, [0, 60, 80, 90, 100])
    assert list(lines["p BH < 0.05"].y) == [0, 1, 2, 3]
    bars = next(trace for trace in fig.data if trace.type == "bar")
    np.testing.assert_allclose(bars.x, found["divergence_blocks"]["step"])
    with pytest.raises(ResultError, match=r"views\.divergence needs the columns"):
        views.divergence(found["partings"], found["divergence_blocks"])


def test_other_results_are_refused() -> None:
    for function in (diff.divergence_effects, diff.divergence_depth, diff.divergence_tests, diff.partings):
        with pytest.raises(ResultError, match=r"takes a Dataset of itlens\.divergence; got a str"):
            function("nothing")
    with pytest.raises(ResultError, match="readout='both' is unknown"):
        diff.divergence_effects(EARLY, readout="both")  # type: ignore[arg-type]
    with pytest.raises(ProbeError, match=r"plan\.reading is None"):
        FINDING.run(None, "cells", plan())  # type: ignore[arg-type]
