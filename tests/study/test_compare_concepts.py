"""The feed-forward part of `compare`: what the folder holds, that it is what the probe finds, and planted truths."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens.store import load
from itlens.study import Comparison, open_comparison
from itlens.study.concept_notes import concept_notes
from tests.study.concept_runs import (
    COMPONENTS,
    DRAWS,
    KEPT,
    LABELLED,
    READ,
    SEED,
    Initials,
    asked,
    concept_files,
    same_concepts,
    turned_pair,
)
from tests.study.word_runs import ODD_WORDS, WORDS, vocabulary

Folders = tuple[Path, Path]
FILES = [
    f"{which}/{name}"
    for which in ("base", "tuned")
    for side in ("value", "key")
    for layer in (0, 1)
    for name in (f"{side}-0{layer}.nc", f"labels-{side}-0{layer}.parquet")
]


@pytest.fixture(scope="module")
def concepts(pair_folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """An uninterrupted run of the feed-forward part alone; tests read it and never write into its folder."""
    return itlens.compare(*pair_folders, out=tmp_path_factory.mktemp("concepts") / "run", **asked())


def test_the_folder_holds_concepts_and_no_prompts(concepts: Comparison) -> None:
    assert {path.name for path in concepts.out.iterdir()} == {"study.json", "concepts", "tables", "report.html"}
    assert concept_files(concepts.out) == sorted(FILES)
    tables = {
        f"{name}_{side}.{kind}"
        for side in ("value", "key")
        for name, kinds in {"turned": ("nc",), **dict.fromkeys(("concept_changes", "labels", "concept_shares"))}.items()
        for kind in kinds or ("parquet", "csv")
    }
    assert {path.name for path in (concepts.out / "tables").iterdir()} == tables
    study = json.loads((concepts.out / "study.json").read_text())
    expected = {"sides": "value, key", "components": COMPONENTS, "concept_words": KEPT, "resamples": DRAWS}
    expected |= {"labeller": "lexicon", "labelled": LABELLED}
    assert study["settings"].items() >= (expected | {"concept_vocabulary": "fifty, 50 words"}).items()
    assert study["identity"].items() >= expected.items() and study["identity"]["resample_seed"] == SEED
    assert study["identity"]["concept_vocabulary"] == vocabulary().fingerprint
    assert not {"vocabulary", "vectors", "format"} & {*study["identity"]} and study["prompts"] == 0
    assert concepts.diff is None and concepts.words is None and concepts.prompts == []


def test_concepts_and_labels_are_those_of_the_probe_alone(concepts: Comparison, pair_folders: Folders) -> None:
    """Labels read 15 words, also where fewer are kept."""
    assert concepts.concepts is not None
    for which, folder in zip(("base", "tuned"), pair_folders, strict=True):
        model = itlens.load_model(folder)
        for side, results in concepts.concepts.items():
            size: dict[str, Any] = {"components": COMPONENTS, "top_k": READ, "resamples": DRAWS, "seed": SEED}
            alone = itlens.mlp_concepts(model, vocabulary(), side=side, **size)
            labels = itlens.annotate_concepts(alone, components=LABELLED)
            pd.testing.assert_frame_equal(getattr(results, f"{which}_labels"), labels)
            assert getattr(results, f"{which}_labels").attrs | {"cost": ""} == labels.attrs  # costs are not added up
            alone = alone.isel(rank=slice(KEPT)).assign_attrs(top_k=KEPT)
            found = getattr(results, which)
            xr.testing.assert_identical(found, alone.drop_vars("direction").assign_attrs(found.attrs))
            cards = results.cards[which]
            assert cards["layer"].values.tolist() == [0, 1]
            np.testing.assert_array_equal(cards["direction"].values, alone["direction"].values)
            assert found.attrs == alone.attrs and set(ODD_WORDS) & set(found["word"].values.ravel()) <= set(WORDS)
            layer = load(concepts.out / "concepts" / which / f"{side}-01.nc")
            assert isinstance(layer, xr.Dataset)
            np.testing.assert_array_equal(layer["direction"].values[0], alone["direction"].values[1])


def test_figures_are_those_of_the_diffs_alone(concepts: Comparison) -> None:
    assert concepts.concepts is not None
    for side, results in concepts.concepts.items():
        both = []
        for which in ("base", "tuned"):
            layers = [load(concepts.out / "concepts" / which / f"{side}-0{layer}.nc") for layer in (0, 1)]
            both.append(
                xr.concat(layers, "layer", combine_attrs="override", data_vars="all").assign_attrs(layers=[0, 1])
            )
        xr.testing.assert_identical(results.turned, itlens.diff.concepts(*both, seed=SEED))
        pd.testing.assert_frame_equal(results.changes, itlens.diff.concept_changes(*both))
        shares = itlens.diff.concept_shares(results.base_labels, results.tuned_labels, seed=SEED)
        assert results.shares is not None
        pd.testing.assert_frame_equal(results.shares, shares)
        assert results.verdict == itlens.diff.concepts_verdict(results.turned, shares)
    values, keys = concepts.concepts.values()
    assert concepts.answers == [f"Values: {values.verdict}", f"Keys: {keys.verdict}"]


def test_a_row_per_layer_at_the_quoted_size(concepts: Comparison) -> None:
    assert concepts.concepts is not None
    results = concepts.concepts["key"]
    table, part = results.per_layer, results.turned.sel(k=COMPONENTS)
    assert results.k == COMPONENTS and table["layer"].tolist() == [0, 1]
    assert table["overlap"].tolist() == part["overlap"].values.tolist()
    assert table["random_overlap"].tolist() == pytest.approx([COMPONENTS / 32] * 2)
    floors = (part["floor_base"].values + part["floor_tuned"].values) / 2
    assert table["floor"].tolist() == pytest.approx(floors.tolist())
    assert table["mean_angle"].tolist() == pytest.approx([math.degrees(angle) for angle in part["mean_angle"].values])


def test_a_folder_opens_again_as_the_same_comparison(concepts: Comparison) -> None:
    before = {path: path.stat().st_mtime_ns for path in concepts.out.rglob("*")}
    opened = open_comparison(concepts.out)
    same_concepts(opened, concepts)
    assert repr(opened) == repr(concepts) and opened.notes == concepts.notes
    assert "mean_angle" in repr(concepts) and "mean_angle" in concepts._repr_html_()
    assert {path: path.stat().st_mtime_ns for path in concepts.out.rglob("*")} == before


def test_saved_tables_are_the_ones_in_memory(concepts: Comparison) -> None:
    tables = concepts.out / "tables"
    assert concepts.concepts is not None
    for side, results in concepts.concepts.items():
        xr.testing.assert_equal(load(tables / f"turned_{side}.nc"), results.turned)
        for name, table in (("concept_changes", results.changes), ("concept_shares", results.shares)):
            pd.testing.assert_frame_equal(load(tables / f"{name}_{side}.parquet"), table)
        labels = load(tables / f"labels_{side}.parquet")
        assert isinstance(labels, pd.DataFrame)
        for which in ("base", "tuned"):
            own = labels[labels["model"] == which].drop(columns="model").reset_index(drop=True)
            pd.testing.assert_frame_equal(own, getattr(results, f"{which}_labels"))
        assert len(load(tables / f"labels_{side}.csv")) == len(labels) == 2 * 2 * LABELLED


def test_the_report_answers_for_each_side(concepts: Comparison) -> None:
    page = concepts.report_path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "fifty, 50 words" in page
    assert "Does tuning turn what feed-forward layers know toward user tasks?" in page
    assert concepts.concepts is not None
    assert all(results.verdict.split(":")[0] in page for results in concepts.concepts.values())


def test_notes_say_what_was_cut_and_what_is_not_defined(
    concepts: Comparison, pair_folders: Folders, tmp_path: Path
) -> None:
    assert f"Of concepts, k = 10, 50, 100, 300 cut to {COMPONENTS}, the components that were kept." in concepts.notes
    assert not [note for note in concepts.notes if "no gap" in note or "noise floor" in note]
    found = itlens.compare(*pair_folders, out=tmp_path / "run", **asked(resamples=0, sides="value", dtype="bfloat16"))
    assert any("there is no noise floor" in note for note in found.notes)
    assert any("Computed in bfloat16" in note for note in found.notes)
    assert found.concepts is not None and list(found.concepts) == ["value"]


def test_notes_on_spectra_words_and_answers(concepts: Comparison) -> None:
    assert concepts.concepts is not None
    results = concepts.concepts["value"]
    turned = results.turned.copy(deep=True)
    turned["degenerate"].values[:] = [[True], [False]]
    turned.attrs["note"] = ""
    base = results.base.assign_attrs(unknown_to_tokenizer=7)
    labels = results.tuned_labels.copy()
    labels.attrs = results.tuned_labels.attrs | {"unparsed": 2}
    changed = replace(results, turned=turned, base=base, tuned_labels=labels)
    assert concept_notes(concepts.study, {"value": changed}) == [
        "7 of 50 words are unknown to the models' tokenizer, and in no concept.",
        "The spectrum of value vectors has no gap at k = 8 in layer 0: which components are the first k is a matter of "
        "chance there, and the largest angles are too.",
        '2 of 8 answers on the tuned model\'s value concepts could not be read, and count as "cannot tell".',
    ]


# Planted truths.


def test_identical_models_turn_nothing(pair_folders: Folders, tmp_path: Path) -> None:
    found = itlens.compare(pair_folders[0], pair_folders[0], out=tmp_path / "run", **asked())
    assert found.concepts is not None
    for results in found.concepts.values():
        assert np.allclose(results.turned["overlap"], 1, atol=1e-12) and float(results.turned["angle"].max()) < 1e-6
        assert not results.turned["below_floor"].any() and set(results.changes["status"]) == {"kept"}
        assert results.shares is not None and (results.shares["difference"].fillna(0) == 0).all()
        assert results.verdict.startswith("Nothing turned") and "toward user tasks is seen" not in results.verdict
    assert any("the same weights" in note for note in found.notes)


def test_a_planted_turn_is_found_in_its_layer_and_side_only(tmp_path: Path) -> None:
    angle, planes = 0.4, 3
    found = itlens.compare(*turned_pair(tmp_path, angle, planes), out=tmp_path / "run", **asked(resamples=10))
    assert found.concepts is not None
    values, keys = (found.concepts[side].turned.sel(k=COMPONENTS) for side in ("value", "key"))
    expected = [0.0] * (COMPONENTS - planes) + [angle] * planes
    np.testing.assert_allclose(values["angle"].sel(layer=1).values, expected, atol=1e-3)
    overlap = (COMPONENTS - planes + planes * math.cos(angle) ** 2) / COMPONENTS
    assert float(values["overlap"].sel(layer=1)) == pytest.approx(overlap, abs=1e-4)
    assert float(values["angle"].sel(layer=0).max()) < 1e-6 and float(keys["angle"].max()) < 1e-6
    assert values["below_floor"].values.tolist() == [False, True] and not keys["below_floor"].any()
    changed = {which: found.concepts[which].changes.query("status != 'kept'")["layer"] for which in ("value", "key")}
    assert not (changed["value"] == 0).any() and changed["key"].empty
    assert found.answers[0].startswith(
        "Values: 1 of 2 layers turned more than resampled rows of one model do (0.2 expected"
    )
    assert "least in layer 1" in found.answers[0] and found.answers[1].startswith("Keys: Nothing turned")


def test_a_labeller_of_ones_own_with_seeds(pair_folders: Folders, tmp_path: Path) -> None:
    own, announced = Initials(), []

    def announce(cost: str) -> None:
        announced.append((cost, len(own.asked)))

    found = itlens.compare(*pair_folders, out=tmp_path / "run", announce=announce, **asked(labeller=own, sides="value"))
    assert announced == [(f"{2 * 2 * LABELLED} lists of {READ} words", 0)], "both models, before anything is asked"
    assert found.concepts is not None
    results = found.concepts["value"]
    assert found.study["identity"]["labeller"] == "initials, seeds 4, 7"
    assert len(own.asked) == 2 * 2 * LABELLED * 2 and all(len(words) == READ for words, _ in own.asked)
    for which in ("base", "tuned"):
        labels = getattr(results, f"{which}_labels")
        assert labels[["layer", "component", "seed"]].values.tolist() == [
            [layer, component, seed] for layer in (0, 1) for component in range(LABELLED) for seed in (4, 7)
        ]
        first = getattr(results, which)["word"].isel(component=slice(LABELLED), rank=0).values.ravel()
        assert labels["description"].tolist() == [f"{str(word)!r} and others" for word in first for _ in (4, 7)]
        early = np.array([str(word)[:1].lower() < "m" for word in first for _ in (4, 7)])
        assert (labels["task_coding"].to_numpy() == early).all() and (labels["task_daily"].to_numpy() == ~early).all()
        share = results.shares[results.shares["group"] == "all"].set_index(["kind", "category"])  # type: ignore[index]
        assert share.loc[("task", "coding"), which] == pytest.approx(early.mean())
        assert share.loc[("level", "syntax"), which] == pytest.approx(early.mean() / 2)
        by_seed = np.std([early.mean(), 0], ddof=1)
        assert share.loc[("level", "syntax"), f"{which}_std"] == pytest.approx(by_seed) and by_seed > 0
        assert share.loc[("task", "coding"), f"{which}_std"] == 0  # no seed wavers there
    assert results.shares is not None and results.shares.attrs["seeds"] == 2
    other = open_comparison(found.out)
    assert other.concepts is not None
    pd.testing.assert_frame_equal(other.concepts["value"].base_labels, results.base_labels)


def test_gates_alone(pair_folders: Folders, tmp_path: Path) -> None:
    found = itlens.compare(*pair_folders, out=tmp_path / "run", **asked(sides=["gate"]))
    assert found.concepts is not None and list(found.concepts) == ["gate"]
    assert len(found.answers) == 1 and found.answers[0].startswith("Gates: ")
    alone = itlens.mlp_concepts(itlens.load_model(pair_folders[1]), vocabulary(), side="gate", components=COMPONENTS)
    assert found.concepts["gate"].tuned["word"].values.tolist() == alone["word"].values[..., :KEPT].tolist()
