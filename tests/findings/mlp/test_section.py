"""The section of feed-forward concepts, on planted subspaces: figures at the top, tables, cards, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from itlens import views
from itlens.findings.mlp import view_section
from itlens.findings.mlp.vectors import ConceptResults, quoted_k
from itlens.report.blocks import Block, Card, Choice, Figure, Table, Text, leaves
from tests.findings.mlp.concept_factory import KS, LAYERS, TURNED, concept_content

VALUE = concept_content()
KEY = replace(VALUE, vectors="key", turned=VALUE.turned.assign_attrs(vectors="key"), verdict="Keys stayed.")


def cards(blocks: Sequence[Block]) -> dict[str, Card]:
    return {block.label: block for block in blocks if isinstance(block, Card)}


def table(blocks: Sequence[Block], title: str) -> Table:
    (found,) = (block for block in leaves(blocks) if isinstance(block, Table) and title in block.title)
    return found


def rows_of(blocks: Sequence[Block], title: str) -> list[dict[str, Any]]:
    """The rows of a table by heading: the text of columns that say how they are written, the value of the others."""
    found = table(blocks, title)
    return [
        {
            column.heading: column.format(row) if callable(column.format) else row.get(column.name)
            for column in found.columns
        }
        for row in found.data.to_dict("records")
    ]


def concept_blocks(kinds: Sequence[ConceptResults]) -> list[Block]:
    """All blocks, those behind the switch between kinds of vectors too."""
    return leaves(view_section.concept_blocks(kinds))


def words(blocks: Sequence[Block]) -> str:
    return " ".join(f"{block.heading} {block.text}" for block in leaves(blocks) if isinstance(block, Text))


def shown_cards(monkeypatch: pytest.MonkeyPatch, kind: ConceptResults) -> list[dict[str, Any]]:
    """What the cards of each layer are drawn from."""
    calls: list[dict[str, Any]] = []
    draw = view_section.concept_cards

    def drawn(tuned: Any, **options: Any) -> Any:
        calls.append(options)
        return draw(tuned, **options)

    monkeypatch.setattr(view_section, "concept_cards", drawn)
    concept_blocks([kind])
    return calls


def test_every_kind_of_vectors_has_its_place_in_every_part() -> None:
    blocks = concept_blocks([VALUE, KEY])
    assert sum(isinstance(block, Figure) for block in blocks) == 6
    (choice,) = view_section.concept_blocks([VALUE, KEY])
    assert isinstance(choice, Choice)
    assert list(choice.options) == ["Value vectors: what neurons write", "Key vectors: what neurons look for"]
    said = [block.text for block in blocks if isinstance(block, Text)]
    assert said.count(VALUE.verdict) == 1
    assert said.count("Keys stayed.") == 1


def test_overlap_nulls_layers_and_tasks_are_at_the_top() -> None:
    blocks, part = concept_blocks([VALUE]), VALUE.turned.sel(k=10)
    overlap, layers, tasks = blocks[:3]
    assert isinstance(overlap, Card)
    assert overlap.value == f"{float(part.overlap.mean()):.3f}"
    assert "random 0.250" in overlap.detail
    assert "noise of resampled neurons 0.950" in overlap.detail
    assert isinstance(layers, Card)
    assert layers.value == "1 of 4"
    assert f"least overlap in layer {TURNED} ({float(part.overlap.min()):.3f})" in layers.detail
    assert isinstance(tasks, Card)
    assert tasks.value == "+60.0 points"
    assert "0.0 % in base, 60.0 % in tuned" in tasks.detail
    assert "of 20 and 20 concepts" in tasks.detail


def test_each_layer_has_its_overlap_with_random_and_noise() -> None:
    rows = rows_of(concept_blocks([VALUE]), "layer by layer, k = 10")
    assert [row["layer"] for row in rows] == [str(layer) for layer in range(LAYERS)]
    for row, layer in zip(rows, range(LAYERS), strict=True):
        part = VALUE.turned.sel(layer=layer, k=10)
        assert row["overlap"] == part.overlap.item()
        assert row["random"] == 0.25
        assert row["noise floor, base"] == pytest.approx(0.95)
        assert row["noise floor, tuned"] == pytest.approx(0.95)
        assert row["more than noise"] == ("yes" if layer == TURNED else "no")
        assert row["variance kept (%)"] == f"{100 * part.transfer_base.item():.1f}"
        assert row["mean angle (°)"] == f"{abs(np.degrees(part.mean_angle.item())):.1f}"
        assert row["degenerate"] == "no"


def test_without_a_noise_floor_nothing_is_called_rotated() -> None:
    names = [name for name in VALUE.turned.data_vars if str(name).startswith("floor")]
    turned = VALUE.turned.assign({name: VALUE.turned[name] * np.nan for name in names})
    blocks = concept_blocks([replace(VALUE, turned=turned.assign(below_floor=turned["below_floor"] & False))])
    assert {row["more than noise"] for row in rows_of(blocks, "layer by layer")} == {"not measured"}
    overlap, layers = (block for block in blocks[:2] if isinstance(block, Card))
    assert "not known: the probe ran without resamples" in layers.detail
    assert layers.value == "–"
    assert "noise not measured" in overlap.detail
    assert "nan" not in overlap.detail
    assert "No noise floor" in table(blocks, "layer by layer").text


def test_the_quoted_size_is_the_diffs_or_the_largest_that_is_left() -> None:
    sizes = VALUE.turned.assign_coords(k=[100, 300]).assign_attrs(quoted_k=100)
    assert quoted_k(sizes) == 100
    assert quoted_k(sizes.assign_attrs(quoted_k=50)) == 300
    assert table(concept_blocks([replace(VALUE, turned=sizes)]), "layer by layer, k = 100")


def test_shares_are_figures_and_a_table_with_their_tests() -> None:
    blocks = concept_blocks([VALUE])
    found = table(blocks, "all shares with their tests")
    rows = {(row["layers"], row["share of"]): row for row in rows_of(blocks, found.title)}
    coding = rows["all", "coding"]
    assert (coding["base (%)"], coding["tuned (%)"]) == ("0.0", "40.0")
    assert coding["difference (points)"] == pytest.approx(0.4)
    assert coding["p Holm"] < 0.05
    assert rows["all", "could be labelled"]["base (%)"] == "41.7"
    assert ("all", "mathematics") not in rows, "a task that never occurs has no row"
    assert "no seeds to test over" in found.text
    assert found.terminal_rows == sum(layers == "all" for layers, _ in rows)
    assert list(found.data["group"][: found.terminal_rows]) == ["all"] * (found.terminal_rows or 0)


def test_concepts_without_labels_or_tasks_say_so() -> None:
    bare = VALUE.base_labels.iloc[:0]
    blocks = concept_blocks([replace(VALUE, shares=None, base_labels=bare, tuned_labels=bare)])
    assert "the value concepts were not labelled" in words(blocks)
    assert (
        cards(blocks)["value concepts that serve a user task, tuned − base"].detail == "the concepts were not labelled"
    )
    assert sum(isinstance(block, Figure) for block in blocks) == 1
    assert VALUE.shares is not None
    none = VALUE.shares.assign(
        **{
            name: VALUE.shares[name].where(VALUE.shares["kind"] != "task", 0.0)
            for name in ("base", "tuned", "difference")
        }
    )
    blocks = concept_blocks([replace(VALUE, shares=none)])
    assert "No labelled concept of either model serves a user task" in words(blocks)
    assert sum(isinstance(block, Figure) for block in blocks) == 2


def test_concepts_gained_and_lost_with_words_labels_and_how_new_they_are() -> None:
    blocks = concept_blocks([VALUE])
    counts = rows_of(blocks, "kept, gained and lost in each layer")
    assert [(row["kept"], row["gained"], row["lost"]) for row in counts] == [
        (9, 3, 3) if layer == TURNED else (12, 0, 0) for layer in range(LAYERS)
    ]
    gained = rows_of(blocks, "concepts gained by their words: 3 of 3")
    found = VALUE.changes.query("status == 'gained'")
    assert [row["component"] for row in gained] == [0, 1, 2]
    assert {row["layer"] for row in gained} == {"2"}
    assert [row["label"] for row in gained] == ["recipes", "loops", "cannot tell"]
    assert [row["|cosine|"] for row in gained] == found["match_cosine"].tolist()
    assert gained[1]["words"] == found["words_tuned"].iloc[1]
    assert gained[1]["matched component in the other model"] == found["words_base"].iloc[1]
    lost = rows_of(blocks, "concepts lost by their words")
    assert [row["label"] for row in lost] == ["fruit", "verbs in -ing", "rhymes"]
    assert lost[0]["words"] == VALUE.changes.query("status == 'lost'")["words_base"].iloc[0]
    assert not table(blocks, "concepts gained").folded
    assert table(blocks, "concepts lost").folded


def test_where_gained_and_lost_say_nothing_the_page_says_so() -> None:
    kept = VALUE.changes.assign(status="kept")
    assert "No concept was gained or lost" in words(concept_blocks([replace(VALUE, changes=kept)]))
    none = VALUE.changes[VALUE.changes["status"] != "kept"].assign(inside=1.0)
    flat = VALUE.turned.assign(degenerate=VALUE.turned["degenerate"] | True)
    blocks = concept_blocks([replace(VALUE, changes=none, turned=flat)])
    caveat = table(blocks, "kept, gained and lost").text
    assert "None is kept" in words(blocks) or "no concept was kept" in words(blocks).lower(), words(blocks)
    assert "span the whole space" in caveat
    assert "in 4 of 4 layers the spectrum has no gap" in caveat
    gained = table(blocks, "concepts gained")
    assert "inside" not in [column.name for column in gained.columns], "all is inside where everything is spanned"
    assert gained.folded, "closed: it says nothing by itself"
    empty = replace(VALUE, changes=VALUE.changes.iloc[:0])
    assert "no concept was compared" in words(concept_blocks([empty]))


def test_cards_are_of_the_layers_with_the_least_overlap_with_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [block for block in concept_blocks([VALUE]) if isinstance(block, views.ConceptCards)]
    overlap = f"{VALUE.turned.overlap.sel(layer=2, k=10).item():.3f}"
    assert layers[0].title == f"Layer 2 (overlap {overlap} at k = 10): value concepts in words"
    assert [panel.folded for panel in layers] == [False, True]
    first, _ = shown_cards(monkeypatch, VALUE)
    # the first that the labeller could name
    assert first["components"] == [0, 1, 4, 5, 6]
    assert first["layer"] == TURNED
    assert first["labels"] is VALUE.tuned_labels
    assert first["base_labels"] is VALUE.base_labels
    assert views.card_layers(VALUE.turned, 1) == [TURNED]
    assert len(views.card_layers(VALUE.turned)) == 2


def test_only_what_was_kept_for_reading_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    base, tuned = VALUE.cards["base"], VALUE.cards["tuned"]
    some = {"base": base.sel(layer=[3]), "tuned": tuned.sel(layer=[3], component=[0, 4])}
    (only,) = shown_cards(monkeypatch, replace(VALUE, cards=some))
    assert (only["layer"], only["components"]) == (3, [0, 4])
    none = {"base": base.isel(layer=[]), "tuned": tuned.isel(layer=[])}
    assert "no concept was kept for reading" in words(concept_blocks([replace(VALUE, cards=none)]))


def test_the_settings_say_what_was_done() -> None:
    settings = table(concept_blocks([VALUE]), "Settings: value vectors").data.set_index("setting")["value"]
    assert settings["vocabulary name"] == "words.txt"
    assert settings["labelled by"] == "toy"
    assert settings["resamples base"] == "3"
    assert settings["layers compared"] == str(LAYERS)


def test_the_factory_compares_the_sizes_it_names() -> None:
    assert tuple(VALUE.turned["k"].values) == KS
