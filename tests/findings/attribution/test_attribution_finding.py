"""The finding "attribution" from its units to its blocks, on tiny models and through a plan made by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens import ProbeError, Prompt
from itlens.diff import attributions, prompt_scores
from itlens.findings.attribution.finding import FINDING, AttributionOptions
from itlens.findings.base import SIDES, Plan
from itlens.findings.options import options_of
from itlens.prompts import frame_prompts
from itlens.prompts.formats import EMPTY_FORM
from itlens.report.blocks import Card, Figure, Table, Text
from tests.chat_templates import TEMPLATES
from tests.tiny import tiny_hf_model, tiny_tokenizer

WORDS = ("cat", "dog", "river", "house", "man", "book")
PROMPTS = [
    Prompt(f"Translate the {word} now. A river.", instruction=f"Translate the {word} now.", id=word, group="ab"[n % 2])
    for n, word in enumerate(WORDS)
]


class Reading:
    """How a study reads its prompts: each model's own responses, or those of one model as ids."""

    format, max_new_tokens, prepend_bos = "raw", 4, None

    def __init__(self, responses: Any = "own", ids: Any = None) -> None:
        self.responses, self._ids = responses, ids

    def response(self, model: Any, side: str, number: int) -> Any:
        return None if self._ids is None else self._ids[number]

    def forced(self, pair: Any, numbers: Any = None) -> Any:
        raise AssertionError("attribution reads one model")


def plan(reading: Any = None, **fields: Any) -> Plan:
    models: Any = {side: SimpleNamespace(name=f"path/{side}", label=f"my {side}") for side in SIDES}
    given = {"options": AttributionOptions(), "models": models, "prompts": PROMPTS, "settings": {"max_new_tokens": 4}}
    return Plan(**(given | {"reading": reading or Reading()} | fields))


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    tokenizer = tiny_tokenizer(chat_template=TEMPLATES["chatml"])
    return {
        side: itlens.load_model(tiny_hf_model("llama", seed), tokenizer=tokenizer, check=False)
        for seed, side in enumerate(SIDES)
    }


def run(models: dict[str, Any], asked: Plan) -> dict[str, dict[str, Any]]:
    return {
        side: {unit: FINDING.run(models[side], unit, replace(asked, side=side)) for unit in FINDING.units(asked)}
        for side in SIDES
    }


@pytest.fixture(scope="module")
def saved(models: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return run(models, plan())


@pytest.fixture(scope="module")
def tables(saved: Any) -> dict[str, Any]:
    return FINDING.compare(saved, plan())


def test_a_unit_is_a_prompt_and_its_result_that_of_attribute(models: Any, saved: Any) -> None:
    assert FINDING.units(plan())[:2] == ["0001-cat", "0002-dog"]
    result = saved["tuned"]["0003-river"]
    direct = itlens.attribute(models["tuned"], PROMPTS[2], max_new_tokens=4)
    assert result["score"].dtype == np.float32
    np.testing.assert_array_equal(result["score"], direct["score"].astype("float32"))
    assert result.attrs == direct.attrs | {"response_of": "tuned"}


def test_options_are_those_of_compare() -> None:
    defaults = {option.name: option.default for option in options_of(AttributionOptions)}
    assert defaults == {
        "method": "input_x_gradient", "objective": "prob", "batch_size": None, "levels": 10, "threshold": 7, "p": 4,
    }  # fmt: skip
    identity = {option.name: option.spec.identity for option in options_of(AttributionOptions)}
    assert [name for name, counts in identity.items() if counts] == ["method", "objective"]
    with pytest.raises(ProbeError, match=r"threshold=11 is higher than levels=10\."):
        FINDING.check(plan(options=AttributionOptions(threshold=11)))
    FINDING.check(plan())


def test_its_tables_are_those_of_the_diff(saved: Any, tables: Any) -> None:
    expected = attributions(
        {prompt.id: saved["base"][unit] for prompt, unit in zip(PROMPTS, saved["base"], strict=True)},
        list(saved["tuned"].values()),
        PROMPTS,
    )
    written = {name: table for name, table in tables.items() if not name.startswith("_")}
    assert list(written) == ["prompts", "groups", "equal_length", "regression", "sensitivity", "profile"]
    for name, table in written.items():
        assert table.equals(getattr(expected, name)), name
        assert table.attrs == getattr(expected, name).attrs, name
    assert tables["_names"] == ("my base", "my tuned")
    assert list(tables["_base"]) == list(WORDS)
    assert len(tables["_examples"]) == 4


def test_verdict_cards_and_tables_say_the_same(tables: Any) -> None:
    verdict = FINDING.verdict(tables)
    row = tables["groups"].iloc[0]
    assert verdict.tested
    assert verdict.numbers[0].value == row["difference"]
    assert verdict.numbers[0].p == row["p_paired"]
    blocks = FINDING.show(tables)
    cards = [block for block in blocks if isinstance(block, Card)]
    assert [card.label for card in cards] == ["base: my base", "tuned: my tuned", "paired difference, tuned − base"]
    assert [card.role for card in cards] == ["base", "tuned", ""]
    assert "n = 6 prompts" in cards[2].detail
    assert "at equal response length" in cards[2].detail


def test_the_sections_are_those_of_the_report_in_its_order(tables: Any) -> None:
    blocks = FINDING.show(tables)
    headings = [block.heading for block in blocks if isinstance(block, Text)]
    assert headings == ["Prompts and groups", "Along the response", "Does it hold?", "Examples"]
    assert sum(isinstance(block, Figure) for block in blocks) == 4
    shown = [block for block in blocks if isinstance(block, Table)]
    assert [table.title for table in shown] == [
        "Instruction score, per group", "At equal response length", "With length as a control",
        "The test of the original paper", "All 6 prompts (click a heading to sort)",
    ]  # fmt: skip
    for table in shown:
        for column in table.columns:
            names = {"mean": f"{column.name}_mean", "interval": "ci_low"}
            name = names.get(str(column.format), column.name)
            assert name in table.data or name == "rating", (table.title, column.name)
    terminal = [table for table in shown if table.terminal]
    assert len(terminal) == 1
    printed = [column.name for column in terminal[0].columns if column.terminal]
    assert printed == ["group", "n", "base", "tuned", "difference", "ci", "effect_size", "p_paired", "p_holm"]


def test_the_papers_one_sided_test_is_a_folded_detail(tables: Any) -> None:
    shown = [block for block in FINDING.show(tables) if isinstance(block, Table)]
    with_welch = [table for table in shown if any("welch" in column.name for column in table.columns)]
    assert [table.title for table in with_welch] == ["The test of the original paper"]
    assert with_welch[0].folded


def test_ratings_are_shown_where_prompts_have_them(models: Any) -> None:
    rated = [prompt.replace(rating=1 + number % 3) for number, prompt in enumerate(PROMPTS)]
    asked = plan(prompts=rated)
    tables = FINDING.compare(run(models, asked), asked)
    assert "ratings" in tables
    assert "Followed or not" in [block.title for block in FINDING.show(tables) if isinstance(block, Table)]


@pytest.mark.parametrize("writer", ["tuned", "base"])
def test_both_models_on_one_models_responses(models: Any, saved: Any, writer: str) -> None:
    ids = [[int(id) for id in result["target_id"].values] for result in saved[writer].values()]
    asked = plan(Reading(writer, ids))
    results = run(models, asked)
    for side in SIDES:
        for result, response in zip(results[side].values(), ids, strict=True):
            assert result["target_id"].values.tolist() == response
            assert result.attrs["response_of"] == writer
            assert result.attrs["response_source"] == "generated"
    own, other = results[writer]["0001-cat"], saved[writer]["0001-cat"]
    np.testing.assert_allclose(own["score"], other["score"], rtol=1e-5, atol=1e-9)
    tables = FINDING.compare(results, asked)
    assert tables["_responses"] == writer
    assert (tables["prompts"]["base_targets"] == tables["prompts"]["tuned_targets"]).all()
    verdict = FINDING.verdict(tables)
    assert f"likely under the {writer} model by construction" in f"{verdict.sentence} {verdict.caveat}"
    blocks = FINDING.show(tables)
    assert "at equal response length" not in blocks[2].detail  # type: ignore[union-attr]
    assert "At equal response length" not in [block.title for block in blocks if isinstance(block, Table)]
    [said] = [block.text for block in blocks if isinstance(block, Text) and block.heading == "Does it hold?"]
    assert "the comparison at equal response length is the one above" in said
    assert f"Both models were read on the {writer} model's responses" in FINDING.notes(tables, asked)[-1]


def test_responses_that_come_with_the_prompts(models: Any) -> None:
    asked = plan(prompts=[prompt.replace(response=" yes, the dog") for prompt in PROMPTS])
    tables = FINDING.compare(run(models, asked), asked)
    assert tables["_responses"] == "given"
    assert {result.attrs["response_of"] for result in tables["_base"].values()} == {"given"}
    assert FINDING.notes(tables, asked) == []


def test_notes_count_empty_and_cut_responses(saved: Any) -> None:
    cut = {unit: result.assign_attrs(finish="eos") for unit, result in saved["base"].items()}
    cut["0001-cat"] = saved["base"]["0001-cat"].isel(target=slice(0)).assign_attrs(finish="empty")
    cut["0002-dog"] = cut["0002-dog"].assign_attrs(finish="length")
    ended = {unit: result.assign_attrs(finish="eos") for unit, result in saved["tuned"].items()}
    tables = FINDING.compare({"base": cut, "tuned": ended}, plan())
    assert FINDING.notes(tables, plan()) == [
        f"The base model gave an empty response to 1 of 6 prompts (scored 0): cat. Advice: {EMPTY_FORM}.",
        "1 of 6 responses of the base model did not end by themselves and were cut at 4 tokens (or at the model's "
        "context).",
    ]
    assert tables["prompts"].loc[0, "base"] == 0
    assert [prompt.id for prompt, _, _ in tables["_examples"]] == ["dog", "river", "house", "man"]


def test_only_prompts_that_both_models_finished(saved: Any) -> None:
    some = {side: {unit: results[unit] for unit in list(results)[1:]} for side, results in saved.items()}
    tables = FINDING.compare(some, plan())
    assert tables["prompts"]["id"].tolist() == list(WORDS[1:])
    assert FINDING.per_prompt(tables, plan())["id"].unique().tolist() == list(WORDS[1:])


def test_numbers_per_prompt(tables: Any) -> None:
    numbers = FINDING.per_prompt(tables, plan())
    assert numbers.columns.tolist() == ["model", "id", "group", "instruction_score", "response_tokens"]
    base = numbers[numbers["model"] == "base"]
    expected = prompt_scores(tables["_base"], PROMPTS)
    np.testing.assert_array_equal(base["instruction_score"], expected["instruction_score"])
    np.testing.assert_allclose(base["instruction_score"], tables["prompts"]["base"], rtol=1e-5)


def test_numbers_per_prompt_in_a_template_are_of_the_prompts_own_text(models: Any) -> None:
    tokenizer = itlens.models.source_of(models["tuned"]).tokenizer
    given = [
        prompt.replace(text=f"  {prompt.text} \n", instruction=prompt.span_text("instruction")) for prompt in PROMPTS
    ]
    framed = frame_prompts(given, "chat", tokenizer)
    asked = plan(prompts=[frame.prompt for frame in framed], frames=framed)
    tables = FINDING.compare(run(models, asked), asked)
    numbers = FINDING.per_prompt(tables, asked).set_index("id")
    assert numbers.columns[-1] == "template_share"
    for side in SIDES:
        expected = prompt_scores(tables[f"_{side}"], given, framed).set_index("id")
        mine = numbers[numbers["model"] == side]
        pd.testing.assert_frame_equal(mine[expected.columns], expected)


def test_shortcuts_and_terms(tables: Any) -> None:
    shortcuts = FINDING.shortcuts(tables)
    assert list(shortcuts) == ["diff", "base", "tuned"]
    assert shortcuts["diff"].groups is tables["groups"]
    assert shortcuts["diff"].ratings is None
    assert shortcuts["base"] is tables["_base"]
    asked = plan(options=AttributionOptions(levels=8, threshold=5, p=2.0))
    saved = {side: {unit: tables[f"_{side}"][unit[5:]] for unit in FINDING.units(asked)} for side in SIDES}
    terms = FINDING.terms(FINDING.compare(saved, asked))
    assert "levels 0 to 8" in terms["Level"]
    assert "b = 5" in terms["Level"]
    assert "2-norm" in terms["Importance density"]


def test_a_result_is_labelled_data(saved: Any) -> None:
    assert all(isinstance(result, xr.Dataset) for result in saved["base"].values())
