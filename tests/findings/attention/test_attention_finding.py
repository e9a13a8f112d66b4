"""The finding "attention" by its contract, on two tiny models."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens import Vocabulary, WordVectors
from itlens.errors import ProbeError
from itlens.findings.attention.finding import FINDING, AttentionOptions, PairsOnDisk
from itlens.findings.base import Plan, Verdict
from itlens.findings.options import options_of
from itlens.models.compatibility import Side
from itlens.report.blocks import Card, Column, Figure, Panel, Table, Text
from itlens.weights import weights_of
from tests.diff.word_tables import random_word_table
from tests.tiny import tiny_hf_model, tiny_tokenizer

_WORDS = (
    "write explain describe translate list answer give find make tell run eat walk sing cook play jump sleep read draw "
    "the and house river letter letters story poem word text line name cat dog horse mouse apple pear plum bread"
)
WORDS = _WORDS.split()
TOP_K = 30


def vectors() -> WordVectors:
    """Eight heaps of five words; the last word has no vector."""
    rng = np.random.default_rng(0)
    heaps, noise = rng.normal(size=(8, 16)), 0.1 * rng.normal(size=(len(WORDS), 16))
    return WordVectors(WORDS[:-1], (heaps[np.arange(len(WORDS)) % 8] + noise)[:-1], name="heaps")


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    tokenizer = tiny_tokenizer()
    return {
        side: itlens.load_model(tiny_hf_model("llama", seed=seed), tokenizer=tokenizer, check=False)
        for seed, side in enumerate(("base", "tuned"))
    }


@pytest.fixture(scope="module")
def plan(models: dict[str, Any]) -> Plan:
    options = AttentionOptions(Vocabulary(WORDS, name="forty"), vectors(), TOP_K, written_words=10)
    sides = {side: Side.of(side, model) for side, model in models.items()}
    return Plan(options, sides, layers=(0, 1), heads=4, seed=3)


@pytest.fixture(scope="module")
def saved(models: dict[str, Any], plan: Plan) -> dict[str, dict[str, Any]]:
    return {side: _run(model, dataclasses.replace(plan, side=side)) for side, model in models.items()}


@pytest.fixture(scope="module")
def tables(saved: dict[str, dict[str, Any]], plan: Plan) -> dict[str, Any]:
    return dict(FINDING.compare(saved, plan))


def _run(model: Any, plan: Plan) -> dict[str, Any]:
    source = FINDING.open(weights_of(model), plan)
    return {unit: FINDING.run(source, unit, plan) for unit in FINDING.units(plan)}


def test_units_are_layers_and_files_hold_what_the_probe_gives(
    saved: dict[str, dict[str, Any]], models: dict[str, Any], plan: Plan
) -> None:
    assert FINDING.units(plan) == ["layer-00", "layer-01"]
    alone = itlens.qk_word_pairs(models["tuned"], plan.options.vocabulary, vectors=plan.options.vectors, top_k=TOP_K)
    joined = PairsOnDisk(saved)["tuned"]
    assert len(alone) > 50
    assert joined.attrs == alone.attrs
    pd.testing.assert_frame_equal(joined, alone)
    energy = itlens.qk_energy(models["tuned"], plan.options.vocabulary, layers=1)
    pd.testing.assert_frame_equal(saved["tuned"]["layer-01"]["energy"], energy)
    assert saved["tuned"]["layer-01"]["pairs"].attrs["layers"] == [1]


def test_pairs_survive_files(saved: dict[str, dict[str, Any]], plan: Plan, tmp_path: Path) -> None:
    read: dict[str, dict[str, Any]] = {}
    for side, units in saved.items():
        paths = {unit: tmp_path / f"{side}-{unit}.parquet" for unit in units}
        read[side] = {
            unit: {"pairs": itlens.load(itlens.save(units[unit]["pairs"], path))} for unit, path in paths.items()
        }
    again, first = FINDING.compare(read, plan), FINDING.compare(saved, plan)
    assert again["word_pairs"].identical(first["word_pairs"])
    pd.testing.assert_frame_equal(again["moved_heads"], first["moved_heads"])
    pd.testing.assert_frame_equal(again["verbs"], first["verbs"])


def test_tables_are_those_of_the_diffs(
    tables: dict[str, Any], saved: dict[str, dict[str, Any]], models: dict[str, Any], plan: Plan
) -> None:
    assert [name for name in tables if not name.startswith("_")] == [
        "word_pairs", "pair_changes", "verbs", "moved_heads", "written_changes", "written_heads"
    ]  # fmt: skip
    pairs = [
        itlens.qk_word_pairs(model, plan.options.vocabulary, vectors=plan.options.vectors, top_k=TOP_K)
        for model in models.values()
    ]
    ds = itlens.diff.word_pairs(*pairs, seed=3)
    assert tables["word_pairs"].identical(ds)
    pd.testing.assert_frame_equal(tables["pair_changes"], itlens.diff.pair_changes(*pairs))
    pd.testing.assert_frame_equal(tables["verbs"], itlens.diff.verb_changes(ds))
    pd.testing.assert_frame_equal(tables["moved_heads"], itlens.diff.moved_heads(ds))
    assert FINDING.distances(tables) == {"word_pair_overlap": pytest.approx(float(ds["overlap"].mean()))}
    assert tables["written_changes"].attrs["inputs"] == 10
    written = [
        itlens.ov_word_pairs(model, plan.options.vocabulary, inputs=plan.options.vocabulary.words[:10], top_k=5)
        for model in models.values()
    ]
    pd.testing.assert_frame_equal(tables["written_changes"], itlens.diff.written_changes(*written))
    pd.testing.assert_frame_equal(tables["written_heads"], itlens.diff.written_heads(tables["written_changes"]))
    assert set(FINDING.large) == {"pair_changes", "written_changes"}


def test_results_without_what_heads_write_show_no_such_list(saved: dict[str, dict[str, Any]], plan: Plan) -> None:
    """Those of --written-words 0, and of a layer that was computed without."""
    some = {side: {unit: dict(tables) for unit, tables in units.items()} for side, units in saved.items()}
    del some["tuned"]["layer-01"]["written"]
    without, whole = FINDING.compare(some, plan), FINDING.compare(saved, plan)
    assert [name for name in whole if name not in without] == ["written_changes", "written_heads"]
    assert without["word_pairs"].identical(whole["word_pairs"])
    assert "What heads write" not in [block.heading for block in FINDING.show(without) if isinstance(block, Text)]
    assert not [place for place in FINDING.places(without) if place.what.startswith("What it writes")]
    assert "What a head writes" not in FINDING.terms(without)


def test_only_moved_heads_are_kept_for_the_panels(tables: dict[str, Any]) -> None:
    moved = set(zip(tables["moved_heads"]["layer"], tables["moved_heads"]["head"], strict=True))
    for side in ("base", "tuned"):
        kept, whole = tables[f"_{side}_pairs"], tables["_pairs"][side]
        held = whole[[place in moved for place in zip(whole["layer"], whole["head"], strict=True)]]
        pd.testing.assert_frame_equal(kept, held)
        assert kept.attrs == whole.attrs


def test_half_a_run_compares_the_finished_layers(saved: dict[str, dict[str, Any]], plan: Plan) -> None:
    half = {side: {"layer-01": units["layer-01"]} for side, units in saved.items()}
    assert FINDING.compare(half, plan)["word_pairs"]["layer"].values.tolist() == [1]


def test_shortcuts_are_the_old_attributes(tables: dict[str, Any]) -> None:
    shortcuts = FINDING.shortcuts(tables)
    assert list(shortcuts) == ["words", "pairs", "verb_shares", "changes", "moved"]
    assert shortcuts["verb_shares"]["group"].tolist()[0] == "all"
    assert {"p_null", "p_welch", "note"} <= set(shortcuts["verb_shares"])
    assert list(shortcuts["pairs"]) == ["base", "tuned"]


def test_what_is_shown_has_declared_columns_and_no_missing_block(tables: dict[str, Any]) -> None:
    blocks = FINDING.show(tables)
    kinds = [type(block) for block in blocks if not isinstance(block, Panel)]
    assert kinds[:3] == [Card] * 3
    headings = [block.heading for block in blocks if isinstance(block, Text)]
    assert headings == ["Instruction verbs", "Head by head", "The heads that changed most", "What heads write"]
    assert sum(isinstance(block, Figure) for block in blocks) == 2
    groups, moved, written, settings = (block for block in blocks if isinstance(block, Table))
    assert len(groups.data) == len(tables["word_pairs"]["group"])
    assert groups.terminal
    assert not moved.terminal
    assert len(written.data) == 8
    assert written.data["overlap"].is_monotonic_increasing
    for table in (groups, moved, written, settings):
        assert {column.name for column in table.columns} <= set(table.data.columns)
        for _, row in table.data.iterrows():
            assert all(_shown(column, row.to_dict()) for column in table.columns if callable(column.format))
    assert dict(settings.data.itertuples(index=False))["top k"] == str(TOP_K)
    panels = len(blocks) - 3 - 4 - 2 - 4
    assert panels == min(5, len(tables["moved_heads"]))


def _shown(column: Column, row: dict[str, Any]) -> str:
    assert callable(column.format)
    return column.format(row)


def test_moved_heads_name_their_first_pairs(tables: dict[str, Any]) -> None:
    listed = next(block for block in FINDING.show(tables) if isinstance(block, Table) and block.sortable).data
    first = listed.iloc[0]
    gained = tables["pair_changes"].query(
        f"layer == {first['layer']} and head == {first['head']} and change == 'gained' and rank <= 3"
    )
    assert first["first_gained"] == ", ".join(f"{row.query} → {row.key}" for row in gained.itertuples())


def test_notes_count_words_that_are_never_paired(tables: dict[str, Any], plan: Plan) -> None:
    notes = FINDING.notes(tables, plan)
    assert notes[0] == "1 of 40 words are unknown to the word vectors, and are never paired."
    assert len(notes) == 2
    assert "were not tested: too few changed." in notes[1]


def test_terms_name_the_settings(tables: dict[str, Any]) -> None:
    terms = FINDING.terms(tables)
    assert f"the {TOP_K} strongest words" in terms["Word pair"]
    assert "at least 2 dimensions" in terms["Repeated pair"]


def test_identical_models_change_nothing(saved: dict[str, dict[str, Any]], plan: Plan) -> None:
    tables = FINDING.compare({"base": saved["base"], "tuned": saved["base"]}, plan)
    verdict = FINDING.verdict(tables)
    assert (verdict.direction, verdict.tested) == ("none", True)
    assert "none of the 8 heads gained or lost a word pair" in verdict.sentence
    texts = [block.text for block in FINDING.show(tables) if isinstance(block, Text)]
    assert texts[-2:] == [
        "No head changed: all have the same word pairs in both models.",
        "No head changed: all write the same words in both models.",
    ]
    assert (tables["written_heads"]["overlap"] == 1).all()


def test_options_are_the_arguments_of_compare() -> None:
    options = {each.name: each for each in options_of(AttentionOptions)}
    assert {name: each.default for name, each in options.items()} == {
        "vocabulary": "builtin", "vectors": "builtin", "top_k": 100, "written_words": 150
    }  # fmt: skip
    with pytest.raises(ProbeError, match="top_k=0; expected a whole number of at least 1"):
        options["top_k"].checked(0, "attention")


def test_words_that_the_pair_does_not_know_are_refused(plan: Plan) -> None:
    FINDING.check(plan)
    other = dataclasses.replace(plan.options, vectors=WordVectors(["elsewhere"], [[1.0]]))
    with pytest.raises(ProbeError, match=r"None of the 40 words .* \(40 words\) and to the word vectors \(0 words\)"):
        FINDING.check(dataclasses.replace(plan, options=other))
    without = dataclasses.replace(plan.models["base"], tokenizer=None)
    with pytest.raises(ProbeError, match="has no tokenizer, and words need one"):
        FINDING.check(dataclasses.replace(plan, models={"base": without, "tuned": without}))


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    base, tuned = (random_word_table(seed, layers=range(4), heads=range(3)) for seed in (1, 2))
    ds = itlens.diff.word_pairs(base, tuned, draws=50)
    figures = {
        "p_null": 0.01, "p_welch": 0.002, "difference": 0.12, "ci_low": 0.04, "ci_high": 0.2, "null_mean": 0.0,
        "null_low": -0.06, "null_high": 0.07, "instruction_share": 0.62, "general_share": 0.5,
    }  # fmt: skip
    return _with(ds, **figures)


class TestVerdict:
    """The same figures with another p, interval or Welch test."""

    def test_a_significant_change_says_direction_size_and_interval(self, ds: xr.Dataset) -> None:
        verdict = _verdict(ds)
        assert (verdict.direction, verdict.tested, verdict.caveat) == ("higher", True, "")
        assert verdict.sentence.startswith(
            "Tuned heads relate more words to instruction verbs: the counts of instruction verbs rose in 62 %"
        )
        assert "difference +12.0 points, 95 % interval +4.0 to +20.0, permutation p = 0.01" in verdict.sentence
        first = verdict.numbers[0]
        assert (first.value, first.low, first.high) == pytest.approx((12.0, 4.0, 20.0))
        assert (first.p, first.unit) == (0.01, "points")
        assert verdict.short == "attention heads relate more words to instruction verbs (+12.0 points, p = 0.010)"
        fewer = _with(ds, difference=-0.12, ci_low=-0.2, ci_high=-0.04)
        assert _verdict(fewer).direction == "lower"
        assert "relate fewer words" in _verdict(fewer).sentence

    def test_an_interval_that_disagrees_is_not_given_as_its_interval(self, ds: xr.Dataset) -> None:
        verdict = _verdict(_with(ds, p_null=0.2))
        assert verdict.direction == "none"
        assert verdict.sentence.startswith("No significant change: the counts of instruction verbs rose in 62 %")
        assert "interval +4.0" not in verdict.sentence
        assert "random verb sets −6.0 to +7.0, permutation p = 0.2" in verdict.sentence
        assert verdict.sentence.endswith(
            "Welch's test over verbs (p = 0.002) and the bootstrap interval over verbs disagree, but take related "
            "verbs as independent."
        )
        assert (verdict.numbers[0].low, verdict.numbers[0].high) == (None, None)
        assert "significantly" in verdict.caveat

    def test_a_test_of_its_own_is_named_alone(self, ds: xr.Dataset) -> None:
        none = _with(ds, p_null=0.2, ci_low=-0.01)
        assert _verdict(none).sentence.endswith(
            "Welch's test over verbs (p = 0.002) disagrees, but takes related verbs as independent."
        )
        assert _verdict(_with(ds, p_null=0.2, p_welch=0.3)).sentence.endswith(
            "The bootstrap interval over verbs disagrees, but takes related verbs as independent."
        )

    def test_a_difference_that_random_sets_have_too_is_none(self, ds: xr.Dataset) -> None:
        assert _verdict(_with(ds, null_mean=0.3)).direction == "none"

    def test_too_few_verbs_are_not_tested(self, ds: xr.Dataset) -> None:
        few = _with(ds, p_null=np.nan).assign(note=ds["note"].where(ds["group"] != "all", "too few verbs for a test"))
        verdict = _verdict(few)
        assert (verdict.tested, verdict.answer) == (False, "not tested")
        assert verdict.sentence.startswith("Not tested: too few verbs for a test. Of the word pairs, ")

    @pytest.mark.parametrize("p", [0.01, 0.2, np.nan])
    def test_two_sentences_at_most(self, ds: xr.Dataset, p: float) -> None:
        assert _verdict(_with(ds, p_null=p)).sentence.count(". ") <= 1


def _with(ds: xr.Dataset, **figures: float) -> xr.Dataset:
    """Other figures for all layers."""
    return ds.assign({name: ds[name].where(ds["group"] != "all", value) for name, value in figures.items()})


def _verdict(ds: xr.Dataset) -> Verdict:
    return FINDING.verdict({"word_pairs": ds})
