"""The finding on tiny models: the same numbers as the probe and the diff, and what is shown and said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens import Prompt
from itlens.findings.base import Plan
from itlens.findings.faithfulness.finding import FINDING, FaithfulnessOptions
from itlens.findings.options import options_of
from itlens.report.blocks import Card, Figure, Table, Text
from tests.tiny import tiny_hf_model, tiny_tokenizer

WORDS = ("cat", "dog", "horse", "mouse", "apple", "pear", "plum")
PROMPTS = [
    Prompt(f"Translate the word: {word}.", "Translate the word", response=" yes, plum", id=f"p{number}")
    for number, word in enumerate(WORDS, 1)
]


class Reading:
    """Every model answers by itself, or with its prompt's own response."""

    format, max_new_tokens, prepend_bos, responses = "raw", 4, None, "own"

    def response(self, model: Any, side: str, number: int) -> Any:
        return None

    def forced(self, pair: Any, numbers: Sequence[int] | None = None) -> Any:
        raise AssertionError("not needed")


def plan(side: str = "", prompts: Sequence[Prompt] = PROMPTS, **changes: Any) -> Plan:
    return Plan(FaithfulnessOptions(sample=6), {}, prompts, seed=3, side=side, reading=Reading(), **changes)


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {
        side: itlens.load_model(tiny_hf_model("llama", seed), tokenizer=tiny_tokenizer(), check=False)
        for seed, side in enumerate(("base", "tuned"))
    }


@pytest.fixture(scope="module")
def saved(models: dict[str, Any]) -> dict[str, dict[str, xr.Dataset]]:
    return {
        side: {unit: FINDING.run(model, unit, plan(side)) for unit in FINDING.units(plan(side))}
        for side, model in models.items()
    }


@pytest.fixture(scope="module")
def tables(saved: dict[str, dict[str, xr.Dataset]]) -> dict[str, Any]:
    return dict(FINDING.compare(saved, plan()))


def test_it_is_registered_and_draws_the_prompts_by_the_seed() -> None:
    drawn = sorted(np.random.default_rng(3).choice(7, size=6, replace=False))
    assert FINDING.units(plan()) == [f"{number + 1:04d}-p{number + 1}" for number in drawn]
    assert [option.name for option in options_of(FINDING.Options)] == ["sample", "method", "objective", "batch_size"]
    assert FINDING.describe(plan()) == {
        "deletion_scores": "input_x_gradient of prob",
        "deletion_prompts": 6,
        "deletion_steps": 5,
        "deletion_draws": 10,
        "deletion_seed": 3,
    }


def test_a_unit_is_the_probe_s_result(models: dict[str, Any], saved: dict[str, dict[str, xr.Dataset]]) -> None:
    unit = FINDING.units(plan())[0]
    prompt = PROMPTS[plan().number_of(unit)]
    scores = itlens.attribute(models["tuned"], prompt, max_new_tokens=4, progress=False)
    expected = itlens.faithfulness(models["tuned"], prompt, scores, steps=5, draws=10, seed=3, progress=False)
    xr.testing.assert_identical(saved["tuned"][unit], expected)


def test_saved_attributions_are_not_computed_again(models: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    unit = FINDING.units(plan())[0]
    prompt = PROMPTS[plan().number_of(unit)]
    scores = itlens.attribute(models["base"], prompt, method="saliency", max_new_tokens=4, progress=False)
    monkeypatch.setattr("itlens.hooked.attribution.attribute", None)
    found = FINDING.run(
        models["base"], unit, plan("base", find_saved=lambda name, side, unit: {"attribution": scores}[name])
    )
    assert found.attrs["method"] == "saliency"


def test_an_empty_response_is_finished_and_not_compared(
    models: dict[str, Any], saved: dict[str, dict[str, xr.Dataset]]
) -> None:
    unit = FINDING.units(plan())[0]
    prompts = [prompt.replace(response="") for prompt in PROMPTS]
    empty = FINDING.run(models["base"], unit, plan("base", prompts))
    assert empty.attrs["empty"] == 1
    assert empty.attrs["prompt_id"] == PROMPTS[plan().number_of(unit)].id
    one_side = FINDING.compare({"base": {**saved["base"], unit: empty}, "tuned": saved["tuned"]}, plan())
    assert one_side["faithfulness"]["n"].tolist() == [5, 5]
    nothing = FINDING.compare({"base": {unit: empty}, "tuned": {unit: empty}}, plan())
    assert nothing == {}
    assert FINDING.verdict(nothing).answer == "not tested"
    assert FINDING.show(nothing) == []
    assert FINDING.shortcuts(nothing) == {"faithfulness": None}


def test_the_tables_are_those_of_the_diff(saved: dict[str, dict[str, xr.Dataset]], tables: dict[str, Any]) -> None:
    assert list(tables) == ["faithfulness", "faithfulness_curves", "_prompts"]
    sides = {side: list(results.values()) for side, results in saved.items()}
    pd.testing.assert_frame_equal(tables["faithfulness"], itlens.diff.faithfulness(**sides))
    xr.testing.assert_identical(tables["faithfulness_curves"], itlens.diff.faithfulness_curves(sides, seed=3))
    assert FINDING.shortcuts(tables)["faithfulness"].verdict.startswith(FINDING.verdict(tables).sentence)


def test_every_drawn_prompt_has_its_numbers(saved: dict[str, dict[str, xr.Dataset]], tables: dict[str, Any]) -> None:
    numbers = FINDING.prompt_numbers(tables, plan())
    assert numbers is not None
    for side, results in saved.items():
        own = numbers[numbers["model"] == side].set_index("id")
        for result in results.values():
            for way in ("deletion", "insertion"):
                found = own.loc[result.attrs["prompt_id"], f"advantage_over_random_orders,_{way},_nats"]
                assert found == pytest.approx(float(result["advantage_nats"].sel(direction=way)))
    assert FINDING.per_prompt(tables, plan()) is None  # a sample is no statistic of a series
    assert FINDING.prompt_numbers({}, plan()) is None


@pytest.fixture(scope="module")
def told(saved: dict[str, dict[str, xr.Dataset]]) -> dict[str, Any]:
    """The tables of prompts that all do a nat to their response; those of tiny random models do nothing."""
    whole = {
        side: {unit: result.assign(intact=result["removed"] + 1) for unit, result in results.items()}
        for side, results in saved.items()
    }
    return dict(FINDING.compare(whole, plan()))


def test_models_whose_prompts_do_nothing_have_no_cards(tables: dict[str, Any]) -> None:
    assert FINDING.verdict(tables).answer == "not tested"
    assert [type(block) for block in FINDING.show(tables)] == [Text, Figure, Figure, Table]


def test_the_section_shows_cards_figures_and_the_table(told: dict[str, Any]) -> None:
    tables = told
    blocks = FINDING.show(tables)
    assert [type(block) for block in blocks] == [Card, Card, Card, Text, Figure, Figure, Table]
    row = tables["faithfulness"].iloc[0]
    assert [block.role for block in blocks[:3]] == ["base", "tuned", ""]
    assert blocks[1].value.replace("−", "-") == f"{100 * row['tuned_advantage']:+.1f} points"
    assert blocks[2].detail.endswith(f"n = {row['n']} prompts")
    columns = blocks[-1].columns
    assert [column.heading for column in columns if column.terminal] == [
        *("direction", "n", "base", "tuned", "difference", "95 % interval", "Holm p"),
    ]
    missing = {column.name for column in columns} - {*tables["faithfulness"].columns}
    assert not missing


def test_prompts_that_do_not_count_are_noted(tables: dict[str, Any]) -> None:
    every = {**tables, "faithfulness": tables["faithfulness"].assign(n=[6, 6])}
    assert FINDING.notes(every, plan()) == []
    fewer = {**tables, "faithfulness": tables["faithfulness"].assign(n=[5, 6])}
    (note,) = FINDING.notes(fewer, plan())
    assert note.startswith("Faithfulness is measured on 5 of the 6 prompts drawn for it")
    assert note.endswith("in the others a response is empty or not finished.")
