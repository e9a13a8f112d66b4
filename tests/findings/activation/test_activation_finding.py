"""The finding "activation" as one object: what it runs, compares, says and shows, on a tiny pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import xarray as xr

import itlens
from itlens.errors import PromptError
from itlens.findings.activation.columns import activation_settings, statistic_rows
from itlens.findings.activation.finding import FINDING, ActivationResults
from itlens.findings.activation.view_patterns import AttentionView
from itlens.findings.base import Plan
from itlens.hooked.tokens import ForcedPrompts, forced
from itlens.models import ModelPair
from itlens.prompts.formats import EMPTY_FORM
from itlens.report.blocks import Card, Figure, Table, Text
from tests.tiny import tiny_hf_model, tiny_tokenizer

WORDS = ("cat", "dog", "horse", "mouse", "apple", "pear")
UNITS = ("tuned", "base", "shift", "patterns")


def six_prompts(response: str | None = None) -> list[itlens.Prompt]:
    return [
        itlens.Prompt(
            f"Translate the word: {word}.",
            instruction="Translate the word",
            id=f"p{number}",
            group="even" if number % 2 else "odd",
            response=response,
        )
        for number, word in enumerate(WORDS)
    ]


class Reading:
    """What a study hands to a finding: the prompts on the same tokens, made once by the model that is asked first."""

    format, max_new_tokens, prepend_bos = "raw", 4, None

    def __init__(self, prompts: Sequence[itlens.Prompt], responses: Any = "own") -> None:
        self.responses, self._prompts, self.asked = responses, prompts, 0
        self._read: ForcedPrompts | None = None

    def response(self, model: Any, side: str, number: int) -> Any:
        raise AssertionError("this finding reads the prompts of `forced` only")

    def forced(self, pair: Any, numbers: Sequence[int] | None = None) -> ForcedPrompts:
        assert numbers is None, "all prompts"
        self.asked += 1
        if self._read is None:
            self._read = forced(pair.tuned, self._prompts, max_new_tokens=self.max_new_tokens)
        return self._read


def plan_of(prompts: Sequence[itlens.Prompt], **more: Any) -> Plan:
    more = {"reading": Reading(prompts)} | more
    return Plan(options=FINDING.Options(), models={}, prompts=prompts, layers=(0, 1), heads=4, seed=3, **more)


@pytest.fixture(scope="module")
def pair() -> ModelPair:
    models = (
        itlens.load_model(tiny_hf_model("llama", seed=seed), tokenizer=tiny_tokenizer(), check=False) for seed in (0, 1)
    )
    return itlens.load_pair(*models, keep_both=True)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(six_prompts())


@pytest.fixture(scope="module")
def saved(pair: ModelPair, plan: Plan) -> dict[str, xr.Dataset]:
    source = FINDING.open(pair, plan)
    return {unit: FINDING.run(source, unit, plan) for unit in FINDING.units(plan)}


@pytest.fixture(scope="module")
def tables(saved: dict[str, xr.Dataset], plan: Plan) -> Mapping[str, Any]:
    return FINDING.compare({"pair": saved}, plan)


def test_units_are_the_results_of_today(plan: Plan, saved: dict[str, xr.Dataset]) -> None:
    assert tuple(FINDING.units(plan)) == UNITS == tuple(saved), "the tuned model first: it writes the responses"
    assert FINDING.describe(plan) == {
        "activation_summaries": "attention, mlp, norms, lens, shift of resid, shift of head, shift of mlp, "
        "shift of pattern, shift of lens"
    }


def test_results_are_those_of_the_probes(pair: ModelPair, plan: Plan, saved: dict[str, xr.Dataset]) -> None:
    assert isinstance(plan.reading, Reading)
    assert plan.reading.asked == 1, "read once for all units"
    texts = forced(pair.tuned, six_prompts(), max_new_tokens=4)
    for side in ("base", "tuned"):
        xr.testing.assert_equal(saved[side], itlens.activations(getattr(pair, side), texts, progress=False))
    expected = itlens.activation_shift(pair, texts, responses="base", seed=3, progress=False)
    xr.testing.assert_equal(saved["shift"], expected)
    assert saved["shift"].attrs["responses"] == "forced"


def test_a_unit_alone_takes_the_pair_itself(pair: ModelPair, saved: dict[str, xr.Dataset]) -> None:
    alone = FINDING.run(pair, "base", plan_of(six_prompts()))
    xr.testing.assert_equal(alone, saved["base"])


def test_progress_goes_to_the_plan(pair: ModelPair) -> None:
    done: list[tuple[int, int]] = []
    FINDING.run(pair, "tuned", plan_of(six_prompts(), tell=lambda one, every: done.append((one, every))))
    assert done == [(number, 6) for number in range(1, 7)]


def test_tables_are_those_of_the_diffs(tables: Mapping[str, Any], saved: dict[str, xr.Dataset]) -> None:
    assert [name for name in tables if not name.startswith("_")] == [
        "activations",
        "shift",
        "shift_tests",
        "shifted_heads",
    ]
    xr.testing.assert_identical(
        tables["activations"].drop_attrs(), itlens.diff.activations(saved["base"], saved["tuned"], seed=3).drop_attrs()
    )
    xr.testing.assert_equal(tables["shift"], itlens.diff.shift_summary(saved["shift"], seed=3))
    xr.testing.assert_equal(tables["shift_tests"], itlens.diff.shift_tests(saved["shift"], seed=3))
    assert tables["shifted_heads"].equals(itlens.diff.shifted_heads(saved["shift"], seed=3))
    for name in ("base", "tuned", "shift"):
        assert tables[f"_{name}"] is saved[name]


def test_nothing_is_said_before_all_units_are_there(saved: dict[str, xr.Dataset], plan: Plan) -> None:
    partial = FINDING.compare({"pair": {name: saved[name] for name in ("tuned", "base")}}, plan)
    assert partial == {}
    verdict = FINDING.verdict(partial)
    assert not verdict.tested
    assert verdict.answer == "not tested"
    assert list(FINDING.show(partial)) == []
    assert list(FINDING.notes(partial, plan)) == []
    assert FINDING.per_prompt(partial, plan) is None
    assert FINDING.distances(partial) == {}
    assert FINDING.shortcuts(partial) == {"activation": None}


def test_the_verdict_holds_the_figures_it_names(tables: Mapping[str, Any]) -> None:
    verdict = FINDING.verdict(tables)
    assert verdict.sentence == itlens.diff.activations_verdict(tables["activations"])
    assert verdict.direction == "changed"
    strongest, share = verdict.numbers
    assert f"difference {strongest.value:+.3g}, 95 % interval {strongest.low:.3g} to {strongest.high:.3g}" in (
        verdict.sentence
    )
    assert strongest.n == 6
    assert strongest.p is not None
    assert 0 < strongest.p < 0.05
    assert share.value is not None
    assert share.n is not None
    assert f"{round(share.value * share.n):,} of {share.n:,} activation statistics" in verdict.sentence
    assert verdict.short in verdict.sentence.replace("differ significantly (n = 6 prompts)", "differ")


def test_blocks_are_in_the_order_of_the_page(tables: Mapping[str, Any]) -> None:
    blocks = list(FINDING.show(tables))
    kinds = [type(block) for block in blocks]
    attention = [Text, AttentionView, Table]
    assert kinds == [Card, Card, Card, Text, Figure, Figure, Figure, Figure, Table, Table, *attention, Table]
    titles = [block.figure.layout.title.text for block in blocks if isinstance(block, Figure)]
    assert "How far" in titles[0]
    assert [
        next(word for word in ("attention mass", "residual stream", "log-probability") if word in title)
        for title in titles[1:]
    ] == ["attention mass", "residual stream", "log-probability"]
    for block in blocks:
        if isinstance(block, Table):
            assert not block.terminal, "the terminal prints no table of this finding"
            assert block.columns
    heads = blocks[-5]
    assert isinstance(heads, Table)
    assert heads.title == "The heads that changed most: 8 of 8"
    assert heads.data.equals(tables["shifted_heads"].head(15))


def test_cards_are_the_figures_of_the_tables(tables: Mapping[str, Any]) -> None:
    attention, head, outputs = (block for block in FINDING.show(tables) if isinstance(block, Card))
    mass = tables["activations"].attention_mass.sel(group="all", token_class="instruction")
    assert attention.value == f"{int((mass.sel(measure='p_bh') < 0.05).sum())} of 8"
    first = tables["shifted_heads"].iloc[0]
    assert head.value == f"L{first['layer']:.0f}H{first['head']:.0f}"
    assert f"{first['mean']:.3f} [{first['ci_low']:.3f}, {first['ci_high']:.3f}]" in head.detail
    kl = tables["shift"].lens_kl_base_tuned.sel(group="all", reading="own", summary="mean")[-1].item()
    assert outputs.value == f"{kl:.2f} nats"


def test_rows_name_the_place_where_a_statistic_differs_most(tables: Mapping[str, Any]) -> None:
    diff = tables["activations"]
    rows = statistic_rows(diff).set_index("statistic")
    mass = diff.attention_mass.sel(group="all")
    there = mass.where(np.isfinite(mass.sel(measure="p_bh"))).sel(measure="effect_size")
    layer, head, token_class = np.unravel_index(int(np.nanargmax(np.abs(there.values))), there.shape)
    row = rows.loc["attention mass"]
    assert row["where"] == f"L{layer}H{head}, {diff.token_class.values[token_class]} tokens"
    assert row["effect_size"] == there.values[layer, head, token_class]
    assert row["significant"] == int((mass.sel(measure="p_bh") < 0.05).sum())
    assert rows.loc[diff.lens_commitment.attrs["long_name"], "where"] == "the whole model"


def test_settings_are_those_of_the_comparison(tables: Mapping[str, Any]) -> None:
    rows = activation_settings(tables["activations"]).set_index("setting")["value"]
    assert rows["summaries"] == "attention, mlp, norms, lens"
    assert rows["prompts"] == "6"
    assert rows["seed"] == "3"


def test_caveats(tables: Mapping[str, Any], plan: Plan) -> None:
    (favoured,) = FINDING.notes(tables, plan)
    assert "the tuned model's own responses" in favoured
    (other,) = FINDING.notes(tables, plan_of(six_prompts(), reading=Reading(six_prompts(), "base")))
    assert "favour the base model" in other
    assert list(FINDING.notes(tables, plan_of(six_prompts(" yes")))) == [], "given responses favour nobody"
    more = [*six_prompts(" yes"), itlens.Prompt("Go.", instruction="Go", id="p9", response=" yes")]
    assert list(FINDING.notes(tables, plan_of(more))) == [
        f"Activations cover 6 of 7 prompts: the response to the others is empty ({EMPTY_FORM})."
    ]
    cut = tables["_shift"].assign_attrs(positions_kept=10, positions_all=60)
    assert "a random sample of 10 of 60 positions" in FINDING.notes({**tables, "_shift": cut}, plan)[0]


def test_numbers_by_prompt_say_what_was_read(tables: Mapping[str, Any], plan: Plan) -> None:
    numbers = FINDING.per_prompt(tables, plan)
    assert numbers is not None
    assert list(numbers.columns[:3]) == ["model", "id", "group"]
    assert numbers["model"].tolist() == ["base"] * 6 + ["tuned"] * 6
    for side in ("base", "tuned"):
        rows = numbers[numbers["model"] == side].reset_index(drop=True)
        expected = itlens.diff.activation_scores(tables[f"_{side}"])
        assert rows[list(expected.columns)].equals(expected)
        assert rows["tokens"].tolist() == tables["_tuned"]["tokens_digest"].values.tolist()


def test_distances_leave_first_tokens_out(tables: Mapping[str, Any]) -> None:
    change = tables["_shift"]["resid_relative_change"].sel(token_class="rest")
    assert FINDING.distances(tables) == {"residual_change": float(change.mean())}


def test_a_comparison_offers_its_results(tables: Mapping[str, Any]) -> None:
    results = FINDING.shortcuts(tables)["activation"]
    assert isinstance(results, ActivationResults)
    names = {"diff": "activations", "summary": "shift", "tests": "shift_tests", "heads": "shifted_heads"}
    names |= {side: f"_{side}" for side in ("base", "tuned", "shift")}
    for field, name in names.items():
        assert getattr(results, field) is tables[name]
    assert results.verdict == FINDING.verdict(tables).sentence


def test_terms_are_those_of_the_section(tables: Mapping[str, Any]) -> None:
    assert set(FINDING.terms(tables)) == {"Attention mass", "Relative change", "Logit lens", "p BH"}


def test_prompts_that_no_model_answers(pair: ModelPair) -> None:
    class Empty(Reading):
        def forced(self, pair: Any, numbers: Sequence[int] | None = None) -> ForcedPrompts:
            raise PromptError("The tuned model's response is empty on all of 6 prompts.")

    with pytest.raises(PromptError, match="empty on all"):
        FINDING.open(pair, plan_of(six_prompts(), reading=Empty(six_prompts())))
