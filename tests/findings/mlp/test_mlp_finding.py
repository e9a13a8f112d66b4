"""The finding on tiny models: the same numbers as probe, labels and diffs alone, planted truths, and what is said."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tokenizers
import xarray as xr
from transformers import PreTrainedTokenizerFast

import itlens
from itlens import Vocabulary
from itlens.annotate.concept_labels import labeller_of
from itlens.errors import AnnotateError, ItlensError, ProbeError
from itlens.findings.mlp.finding import FINDING, LABELLER, MlpOptions
from itlens.findings.mlp.vectors import ConceptResults
from itlens.findings.options import options_of
from itlens.models.compatibility import Side
from itlens.report.blocks import Card, Choice, Figure, Table, Text, leaves
from tests.findings.mlp.concept_studies import (
    COMPONENTS,
    DRAWS,
    KEPT,
    LABELLED,
    ODD_WORDS,
    READ,
    SEED,
    WORDS,
    Initials,
    plan,
    rotated_pair,
    saved_results,
    tables_of,
    vocabulary,
)
from tests.tiny import tiny_folder

Folders = tuple[Path, Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("pair")
    return tiny_folder(root / "base", "llama"), tiny_folder(root / "tuned", "llama", seed=1)


@pytest.fixture(scope="module")
def saved(folders: Folders) -> dict[str, Any]:
    return saved_results(folders)


@pytest.fixture(scope="module")
def tables(folders: Folders, saved: dict[str, Any]) -> dict[str, Any]:
    return dict(FINDING.compare(saved, plan(folders[0])))


@pytest.fixture(scope="module")
def results(tables: dict[str, Any]) -> dict[str, ConceptResults]:
    concepts: dict[str, ConceptResults] = FINDING.shortcuts(tables)["concepts"]
    return concepts


def test_units_are_kinds_of_vectors_then_layers(folders: Folders) -> None:
    assert FINDING.units(plan(folders[0])) == ["value-00", "value-01", "key-00", "key-01"]
    assert FINDING.units(plan(folders[0], concept_vectors=("gate",))) == ["gate-00", "gate-01"]


def test_options_are_those_of_compare_with_their_old_names() -> None:
    options = {option.name: option for option in options_of(FINDING.Options)}
    assert list(options) == [
        *("vocabulary", "concept_vectors", "components", "resamples", "concept_words", "labeller", "labelled"),
    ]
    assert options["concept_vectors"].spec.aliases == ("sides", "side")
    assert options["concept_vectors"].checked("gate", "compare") == ("gate",)
    assert options["concept_vectors"].checked(["key", "value"], "compare") == ("value", "key")
    with pytest.raises(ProbeError, match="concept_vectors holds 'left'; expected some of value, key, gate"):
        options["concept_vectors"].checked("left", "compare")
    assert not options["labeller"].spec.command_line
    assert options["labeller"].spec.identify(labeller_of("lexicon")) == "lexicon"
    assert options["labeller"].spec.identify(Initials()) == "initials, seeds 4, 7"
    assert options["components"].checked(None, "compare") is None


def test_what_results_depend_on_besides_the_options(folders: Folders) -> None:
    assert FINDING.describe(plan(folders[0])) == {"components_read": COMPONENTS, "resample_seed": SEED}
    assert FINDING.describe(plan(folders[0], components=None))["components_read"] == 32


def test_concepts_and_labels_are_those_of_the_probe_alone(
    folders: Folders, saved: dict[str, Any], results: dict[str, ConceptResults]
) -> None:
    """Labels read 15 words, also where fewer are kept."""
    for side, folder in zip(("base", "tuned"), folders, strict=True):
        model = itlens.load_model(folder)
        for vectors, kind in results.items():
            size: dict[str, Any] = {"components": COMPONENTS, "top_k": READ, "resamples": DRAWS, "seed": SEED}
            alone = itlens.mlp_concepts(model, vocabulary(), vectors=vectors, **size)  # type: ignore[arg-type]
            labels = itlens.annotate_concepts(alone, components=LABELLED)
            own = getattr(kind, f"{side}_labels")
            pd.testing.assert_frame_equal(own, labels)
            assert own.attrs | {"cost": ""} == labels.attrs  # costs are not added up
            alone = alone.isel(rank=slice(KEPT)).assign_attrs(top_k=KEPT)
            found = getattr(kind, side)
            xr.testing.assert_identical(found, alone.drop_vars("direction"))
            assert set(ODD_WORDS) & set(found["word"].values.ravel()) <= set(WORDS)
            assert kind.cards[side]["layer"].values.tolist() == [0, 1]
            np.testing.assert_array_equal(kind.cards[side]["direction"].values, alone["direction"].values)
            layer = saved[side][f"{vectors}-01"]["concepts"]
            np.testing.assert_array_equal(layer["direction"].values[0], alone["direction"].values[1])


def test_tables_are_those_of_the_diffs_alone(
    saved: dict[str, Any], tables: dict[str, Any], results: dict[str, ConceptResults]
) -> None:
    assert [name for name in tables if not name.startswith("_")] == [
        f"{name}_{vectors}"
        for vectors in ("value", "key")
        for name in ("turned", "concept_changes", "concept_shares", "labels")
    ]
    for vectors, kind in results.items():
        both = [
            xr.concat(
                [saved[side][f"{vectors}-0{layer}"]["concepts"] for layer in (0, 1)],
                "layer", combine_attrs="override", data_vars="all",
            ).assign_attrs(layers=[0, 1])
            for side in ("base", "tuned")
        ]  # fmt: skip
        xr.testing.assert_identical(kind.turned, itlens.diff.concepts(*both, seed=SEED))
        pd.testing.assert_frame_equal(kind.changes, itlens.diff.concept_changes(*both))
        shares = itlens.diff.concept_shares(kind.base_labels, kind.tuned_labels, seed=SEED)
        pd.testing.assert_frame_equal(tables[f"concept_shares_{vectors}"], shares)
        assert kind.verdict == itlens.diff.concepts_verdict(kind.turned, shares)
        labels = tables[f"labels_{vectors}"]
        for side in ("base", "tuned"):
            own = labels[labels["model"] == side].drop(columns="model").reset_index(drop=True)
            pd.testing.assert_frame_equal(own, getattr(kind, f"{side}_labels"))


def test_only_layers_that_both_models_have_are_compared(folders: Folders, saved: dict[str, Any]) -> None:
    some = {side: {unit: units[unit] for unit in ("value-01",)} for side, units in saved.items()}
    tables = FINDING.compare(some, plan(folders[0]))
    assert tables["turned_value"]["layer"].values.tolist() == [1]
    assert "turned_key" not in tables


def test_a_row_per_layer_at_the_quoted_size(results: dict[str, ConceptResults]) -> None:
    kind = results["key"]
    table, part = kind.per_layer, kind.turned.sel(k=COMPONENTS)
    assert kind.k == COMPONENTS
    assert table["layer"].tolist() == [0, 1]
    assert table["overlap"].tolist() == part["overlap"].values.tolist()
    assert table["random_overlap"].tolist() == pytest.approx([COMPONENTS / 32] * 2)
    floors = (part["floor_base"].values + part["floor_tuned"].values) / 2
    assert table["floor"].tolist() == pytest.approx(floors.tolist())
    assert table["mean_angle"].tolist() == pytest.approx([math.degrees(angle) for angle in part["mean_angle"].values])


def test_a_planted_rotation_is_found_in_its_layer_and_vectors_only(tmp_path: Path) -> None:
    angle, planes = 0.4, 3
    tables = tables_of(rotated_pair(tmp_path, angle, planes), resamples=50)
    values, keys = (tables[f"turned_{vectors}"].sel(k=COMPONENTS) for vectors in ("value", "key"))
    expected = [0.0] * (COMPONENTS - planes) + [angle] * planes
    np.testing.assert_allclose(values["angle"].sel(layer=1).values, expected, atol=1e-3)
    overlap = (COMPONENTS - planes + planes * math.cos(angle) ** 2) / COMPONENTS
    assert float(values["overlap"].sel(layer=1)) == pytest.approx(overlap, abs=1e-4)
    assert float(values["angle"].sel(layer=0).max()) < 1e-6
    assert float(keys["angle"].max()) < 1e-6
    assert values["below_floor"].values.tolist() == [False, True]
    assert not keys["below_floor"].any()
    changed = {name: tables[f"concept_changes_{name}"].query("status != 'kept'")["layer"] for name in ("value", "key")}
    assert not (changed["value"] == 0).any()
    assert changed["key"].empty

    results = FINDING.shortcuts(tables)["concepts"]
    assert results["value"].verdict.startswith("Significant rotation: 1 of 2 layers rotated more than resampled rows")
    assert "least in layer 1" in results["value"].verdict
    assert results["key"].verdict.startswith("No rotation: the key subspaces")

    verdict = FINDING.verdict(tables)
    assert (verdict.tested, verdict.direction, verdict.answer) == (True, "changed", "changed")
    p = 1 - (1 - 1 / 51) ** 2
    mean = (1 + overlap) / 2
    first = verdict.sentence.split(". ")[0]
    assert first.startswith(
        f"The value subspaces of feed-forward concepts rotated: values overlap by {mean:.3f} at k = {COMPONENTS}"
    )
    assert f"1 of 2 layers below it, 0.0 expected by chance, p = {p:.2g}); keys are the same" in first
    assert verdict.short == f"value subspaces rotated (overlap {mean:.2f})"
    numbers = {number.name.split(",")[0]: number for number in verdict.numbers}
    assert numbers["overlap of value subspaces"].value == pytest.approx(mean, abs=1e-4)
    assert numbers["overlap of value subspaces"].p == pytest.approx(p)
    assert numbers["overlap of key subspaces"].value == pytest.approx(1)
    assert numbers["mean angle of value subspaces"].value == pytest.approx(
        math.degrees(angle * planes / COMPONENTS / 2), abs=0.01
    )
    assert FINDING.distances(tables) == pytest.approx({"value_overlap": mean, "key_overlap": 1}, abs=1e-4)


def test_a_model_and_itself_have_not_changed(folders: Folders) -> None:
    verdict = FINDING.verdict(tables_of((folders[0], folders[0])))
    assert verdict.sentence.startswith("No change: the value and key subspaces of base and tuned model are the same.")
    assert (verdict.direction, verdict.tested, verdict.caveat) == ("none", True, "")


def test_without_a_noise_floor_rotation_is_not_tested(folders: Folders, tmp_path: Path) -> None:
    pair = rotated_pair(tmp_path, 0.4, 3)
    tables = tables_of(pair, resamples=0, concept_vectors=("value",))
    verdict = FINDING.verdict(tables)
    assert verdict.sentence.startswith("Not tested: without resampled neurons there is no noise floor; values overlap")
    assert (verdict.direction, verdict.answer) == ("none", "not tested")
    assert [number.p for number in verdict.numbers if "subspaces" in number.name] == [None, None]
    notes = FINDING.notes(tables, plan(pair[0], resamples=0))
    assert any("there is no noise floor" in note for note in notes)
    cards = [block for block in leaves(FINDING.show(tables)) if isinstance(block, Card)]
    assert cards[1].value == "–"
    assert "not known: the probe ran without resamples" in cards[1].detail


def test_gates_alone(folders: Folders) -> None:
    tables = tables_of(folders, concept_vectors=("gate",))
    kind = FINDING.shortcuts(tables)["concepts"]["gate"]
    model = itlens.load_model(folders[1])
    alone = itlens.mlp_concepts(model, vocabulary(), vectors="gate", components=COMPONENTS)
    assert kind.tuned["word"].values.tolist() == alone["word"].values[..., :KEPT].tolist()
    assert FINDING.verdict(tables).sentence.count("gate") >= 1


def test_a_labeller_of_ones_own_with_seeds(folders: Folders) -> None:
    own = Initials()
    asked = {"labeller": own, "concept_vectors": ("value",)}
    assert FINDING.cost(plan(folders[0], **asked)) == f"{2 * 2 * LABELLED} lists of {READ} words"
    assert own.asked == []
    assert FINDING.cost(plan(folders[0])) is None
    kind = FINDING.shortcuts(tables_of(folders, **asked))["concepts"]["value"]
    assert len(own.asked) == 2 * 2 * LABELLED * 2
    assert all(len(words) == READ for words, _ in own.asked)
    for side in ("base", "tuned"):
        labels = getattr(kind, f"{side}_labels")
        assert labels[["layer", "component", "seed"]].values.tolist() == [
            [layer, component, seed] for layer in (0, 1) for component in range(LABELLED) for seed in (4, 7)
        ]
        first = getattr(kind, side)["word"].isel(component=slice(LABELLED), rank=0).values.ravel()
        assert labels["description"].tolist() == [f"{str(word)!r} and others" for word in first for _ in (4, 7)]
        early = np.array([str(word)[:1].lower() < "m" for word in first for _ in (4, 7)])
        assert (labels["task_coding"].to_numpy() == early).all()
        assert (labels["task_daily"].to_numpy() == ~early).all()
        share = kind.shares[kind.shares["group"] == "all"].set_index(["kind", "category"])
        assert share.loc[("task", "coding"), side] == pytest.approx(early.mean())
        assert share.loc[("level", "syntax"), side] == pytest.approx(early.mean() / 2)
        by_seed = np.std([early.mean(), 0], ddof=1)
        assert share.loc[("level", "syntax"), f"{side}_std"] == pytest.approx(by_seed)
        assert by_seed > 0
        assert share.loc[("task", "coding"), f"{side}_std"] == 0  # no seed varies there
    assert kind.shares.attrs["seeds"] == 2


def test_no_more_concepts_are_labelled_than_there_are(folders: Folders, saved: dict[str, Any]) -> None:
    many = plan(folders[0], "base", labelled=50, concept_vectors=("value",))
    model = itlens.load_model(folders[0])
    labels = FINDING.run(FINDING.open(model, many), "value-00", many)["labels"]
    assert len(labels) == COMPONENTS


@pytest.mark.parametrize(
    ("architecture", "changes", "words"),
    [
        ("gpt2", {"concept_vectors": ("value", "gate")}, 'have no W_gate; expected "value" or "key"'),
        ("llama", {"components": 40}, "components=40; the 56 centred vectors of width 32 have a rank of at most 32"),
        ("llama", {"labeller": lambda words: None}, "The labeller is a lambda"),
    ],
)
def test_what_the_models_do_not_allow(tmp_path: Path, architecture: str, changes: dict[str, Any], words: str) -> None:
    folder = tiny_folder(tmp_path, architecture)
    with pytest.raises(ItlensError, match=words):
        FINDING.check(plan(folder, **changes))
    FINDING.check(plan(folder))


def test_experts_missing_tokenizers_and_unknown_words_are_refused(folders: Folders) -> None:
    asked = plan(folders[0])
    base = asked.models["base"]
    experts = replace(base, facts={**base.facts, "experts": 8})
    with pytest.raises(ProbeError, match="mixtures of 8 experts; expected one network in each layer"):
        FINDING.check(replace(asked, models={"base": experts}))
    bare: Side = replace(base, tokenizer=None)
    with pytest.raises(ProbeError, match="has no tokenizer, and words need one; give tokenizer="):
        FINDING.check(replace(asked, models={"base": bare}))
    words = tokenizers.models.WordLevel({"<unk>": 0, "cat": 1}, unk_token="<unk>")
    english = replace(
        base, tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(words), unk_token="<unk>")
    )
    options = replace(asked.options, vocabulary=Vocabulary(["\N{PARTY POPPER}"]))
    with pytest.raises(
        ProbeError, match="The tokenizer knows none of the 1 words of the vocabulary; give a vocabulary"
    ):
        FINDING.check(replace(asked, models={"base": english}, options=options))


def test_something_that_is_no_labeller_is_refused_when_options_load() -> None:
    load = next(option for option in options_of(MlpOptions) if option.name == "labeller").spec.load
    assert load is not None
    assert LABELLER.default == "lexicon"
    with pytest.raises(AnnotateError, match="labeller='best'; expected 'lexicon'"):
        load("best", {})


def test_notes_say_what_was_cut_and_what_is_not_defined(
    folders: Folders, tables: dict[str, Any], results: dict[str, ConceptResults]
) -> None:
    notes = FINDING.notes(tables, plan(folders[0]))
    assert f"Of concepts, k = 10, 50, 100, 300 cut to {COMPONENTS}, the components that were kept." in notes
    assert not [note for note in notes if "no gap" in note or "noise floor" in note]
    kind = results["value"]
    flat = kind.turned.assign(degenerate=kind.turned["degenerate"] | True)
    odd = kind.base.assign_attrs(unknown_to_tokenizer=7, without_direction=2)
    labels = kind.tuned_labels.copy()
    labels.attrs = {**kind.tuned_labels.attrs, "unparsed": 3}
    changed = tables | {"turned_value": flat, "_concepts_value_base": odd, "_labels_value_tuned": labels}
    said = " ".join(FINDING.notes(changed, plan(folders[0])))
    assert "7 of 50 words are unknown to the models' tokenizer" in said
    assert f"The spectrum of value vectors has no gap at k = {COMPONENTS} in layers 0, 1:" in said
    assert "2 words have no direction (a vector of zeros) to compare value vectors with" in said
    assert f"3 of {2 * LABELLED} answers on the tuned model's value concepts could not be read" in said
    assert FINDING.notes({}, plan(folders[0])) == ()


def test_what_is_shown_has_cards_first_and_every_table_its_columns(tables: dict[str, Any]) -> None:
    (choice,) = FINDING.show(tables)
    assert isinstance(choice, Choice)
    assert len(choice.options) == 2
    for inside in choice.options.values():
        assert [isinstance(block, Card) for block in inside] == [True] * 3 + [False] * (len(inside) - 3)
        assert [block.heading for block in inside if isinstance(block, Text) and block.text and block.heading] == [
            "How far concept spaces rotated",
            "What concepts are about",
            "Concepts gained and lost",
            "Concepts in words",
        ]  # fmt: skip
    blocks = leaves([choice])
    for table in (block for block in blocks if isinstance(block, Table)):
        missing = [
            column.name
            for column in table.columns
            if column.name not in table.data.columns and not callable(column.format)
        ]
        assert missing == [], table.title
    assert sum(isinstance(block, Figure) for block in blocks) >= 4
    terminal = [block.title for block in blocks if isinstance(block, Table) and block.terminal]
    assert len(terminal) == 4
    assert {"Concept", "Noise floor", "Overlap of spaces", "Label"} <= set(FINDING.terms(tables))


def test_detectors_read_values_and_keys() -> None:
    assert [(kind.name, kind.vectors) for kind in FINDING.detectors()] == [
        ("concepts", "value"),
        ("key concepts", "key"),
    ]
