"""What findings know of heads and layers: the numbers are those of their tables, and all of them are in the page."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from itlens.errors import ItlensError
from itlens.findings import findings
from itlens.report.explorer_places import Place, PlaceWords, checked_places
from itlens.study import Comparison
from itlens.study.outcome import page_of
from tests.report.explorer_block import block_of, places_in
from tests.study.conftest import NAMES
from tests.study.toy import Louder


def places_of(run: Comparison, name: str) -> list[Place]:
    return checked_places(findings()[name].places(run.tables[name]))


def line(place: Place, start: str) -> Any:
    (found,) = [each for each in place.numbers if each.name.startswith(start)]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_places_are_of_the_models_and_all_of_them_are_in_the_page(name: str, runs: dict[str, Comparison]) -> None:
    run = runs[name]
    places = places_of(run, name)
    layers, heads = (int(run.study["models"]["base"][axis]) for axis in ("layers", "heads"))
    assert {place.layer for place in places} <= set(range(layers))
    assert {place.head for place in places if place.head is not None} <= set(range(heads))
    html = run.report_path.read_text(encoding="utf-8")
    if not places:
        assert "itlens-places" not in html
        return
    found = places_in(block_of(html))
    assert {each["chapter"] for each in found} == {name}
    assert [(each["layer"], each["head"], each["what"]) for each in found] == [
        (p.layer, p.head, p.what) for p in places
    ]
    shown = [each[side]["words"] for each in found for side in ("base", "tuned") if each[side]]
    assert shown == [list(words.words) for p in places for words in (p.base, p.tuned) if words is not None]


def test_a_finding_from_outside_is_in_the_panels_by_its_tables(runs: dict[str, Comparison]) -> None:
    table = runs["louder"].results["louder"]["gains"]
    found = places_in(block_of(runs["louder"].report_path.read_text(encoding="utf-8")))
    assert [(each["layer"], each["head"], each["what"]) for each in found] == [
        (n, None, "gains") for n in table["layer"]
    ]
    for side in ("base", "tuned"):
        assert [each["numbers"][0][side] for each in found] == pytest.approx(table[side].tolist(), rel=1e-4)


def test_a_finding_whose_places_are_no_places_costs_the_page_nothing_else(
    runs: dict[str, Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Louder, "places", lambda self, tables: [{"layer": 0}])
    page = page_of(runs["louder"])
    assert page.tools == []
    assert page.sections[0].blocks
    assert page.notes[-1] == (
        "The finding 'louder' could not be shown head by head: places returned a dict in its list; expected an "
        "itlens.Place."
    )


def test_word_pairs_of_a_head_are_those_of_the_table(runs: dict[str, Comparison]) -> None:
    ds, changes = (runs["attention"].results["attention"][name] for name in ("word_pairs", "pair_changes"))
    places = [place for place in places_of(runs["attention"], "attention") if place.what.startswith("Word pairs")]
    assert len(places) == ds.sizes["layer"] * ds.sizes["head"]
    for place in places:
        cell = ds.sel(layer=place.layer, head=place.head)
        rows = changes[(changes["layer"] == place.layer) & (changes["head"] == place.head)]
        for side, alone in (("base", "lost"), ("tuned", "gained")):
            words: PlaceWords = getattr(place, side)
            own = rows[rows[f"{side}_dims"] > 0]
            weight = own["relatedness"] * own[f"{side}_energy"].abs()
            assert words.total == int(cell[f"{side}_pairs"])
            assert Counter(words.words) == Counter(zip(own["query"], own["key"], strict=True))
            listed = dict(zip(zip(own["query"], own["key"], strict=True), weight, strict=True))
            order = [listed[pair] for pair in words.words]
            assert order == sorted(order, reverse=True)
            lone = set(zip(*(own.loc[own["change"] == alone, role] for role in ("query", "key")), strict=True))
            assert {pair for pair, mark in zip(words.words, words.alone, strict=True) if mark} == lone
        assert line(place, "overlap").value == pytest.approx(float(cell["overlap"]), nan_ok=True)
        assert line(place, "pairs only in tuned").value == float(cell["gained"])


def test_what_a_head_writes_is_that_of_the_table(runs: dict[str, Comparison]) -> None:
    changes, by_head = (runs["attention"].results["attention"][f"written_{name}"] for name in ("changes", "heads"))
    places = [place for place in places_of(runs["attention"], "attention") if place.what.startswith("What it writes")]
    assert [(place.layer, place.head) for place in places] == list(zip(by_head["layer"], by_head["head"], strict=True))
    for place, counts in zip(places, by_head.to_dict("records"), strict=True):
        rows = changes[(changes["layer"] == place.layer) & (changes["head"] == place.head)]
        for side, alone in (("base", "lost"), ("tuned", "gained")):
            words: PlaceWords = getattr(place, side)
            own = rows[rows[f"{side}_rank"] > 0].sort_values(f"{side}_score", ascending=False, kind="stable")
            listed = list(zip(own["input"], own["output"], strict=True))
            most = len(words.words)
            assert words.total == len(listed) == counts[f"{side}_pairs"]
            assert most == min(200, len(listed))
            assert list(words.words) == listed[:most]
            assert list(words.columns["score"]) == own[f"{side}_score"].tolist()[:most]
            assert list(words.alone) == (own["change"] == alone).tolist()[:most]
        assert line(place, "overlap").value == pytest.approx(counts["overlap"], nan_ok=True)
        assert line(place, "pairs only in tuned").value == counts["gained"]


def test_fewer_pairs_are_the_first_of_all(runs: dict[str, Comparison]) -> None:
    from itlens.findings.attention.view_places import head_places

    tables = runs["attention"].tables["attention"]
    named = ("word_pairs", "pair_changes", "written_changes", "written_heads")
    every, few = (
        [place.tuned for place in head_places(*(tables[name] for name in named), most=most) if place.tuned]
        for most in (10_000, 3)
    )
    assert max(len(words.words) for words in few) == 3
    for all_words, words in zip(every, few, strict=True):
        assert list(words.words) == list(all_words.words)[:3]
        assert words.total == all_words.total


def test_verbs_of_a_head_are_those_of_the_table(runs: dict[str, Comparison]) -> None:
    ds = runs["attention"].results["attention"]["word_pairs"]
    for place in [p for p in places_of(runs["attention"], "attention") if p.what.startswith("Instruction verbs")]:
        cell = ds.sel(layer=place.layer, head=place.head)
        assert line(place, "change of their count").value == float(cell["instruction_change"])
        assert line(place, "change of their count").p == pytest.approx(float(cell["instruction_p_bh"]), nan_ok=True)


@pytest.mark.parametrize("vectors", ["value", "key"])
def test_concepts_of_a_layer_stand_next_to_their_match(vectors: str, runs: dict[str, Comparison]) -> None:
    tables = runs["mlp"].tables["mlp"]
    turned = tables[f"turned_{vectors}"]
    base, tuned = (tables[f"_concepts_{vectors}_{side}"] for side in ("base", "tuned"))
    places = [p for p in places_of(runs["mlp"], "mlp") if p.part and p.what.startswith(vectors.capitalize())]
    assert len(places) == tuned.sizes["layer"] * tuned.sizes["component"]
    for place in places:
        component = int(place.part.split()[1])
        other = int(turned["match"].sel(layer=place.layer, component=component))
        own, matched = (
            ds["word"].sel(layer=place.layer, component=each).values.tolist()
            for ds, each in ((tuned, component), (base, other))
        )
        assert place.tuned is not None
        assert place.base is not None
        assert (list(place.tuned.words), list(place.base.words)) == (own, matched)
        assert list(place.tuned.alone) == [word not in matched for word in own]
        assert line(place, "|cosine|").value == pytest.approx(
            float(turned["match_cosine"].sel(layer=place.layer, component=component))
        )
        share = 100 * float(tuned["explained"].sel(layer=place.layer, component=component))
        assert line(place, "share of the variance").tuned == pytest.approx(share)
    assert {(p.layer, tuple(p.base.words)) for p in places if p.base} == {
        (layer, tuple(base["word"].sel(layer=layer, component=component).values.tolist()))
        for layer in base["layer"].values.tolist()
        for component in base["component"].values.tolist()
    }, "every component of the base is next to one of the tuned model"


def test_labels_stand_with_the_concepts(runs: dict[str, Comparison]) -> None:
    labels = runs["mlp"].tables["mlp"]["_labels_value_tuned"]
    places = {
        (p.layer, p.part.split()[1]): p for p in places_of(runs["mlp"], "mlp") if p.part and p.what[:5] == "Value"
    }
    for row in labels.to_dict("records"):
        words = places[int(row["layer"]), str(row["component"])].tuned
        assert words is not None
        assert words.label.split(" · ")[0] == (row["description"] if row["known"] else "cannot tell")


def test_rotation_of_a_layer_is_that_of_the_table(runs: dict[str, Comparison]) -> None:
    turned = runs["mlp"].results["mlp"]["turned_value"]
    for place in [p for p in places_of(runs["mlp"], "mlp") if p.what == "Rotation of the value concepts"]:
        for k in turned["k"].values.tolist():
            at = turned.sel(layer=place.layer, k=k)
            assert line(place, f"overlap of the first {k} ").value == pytest.approx(float(at["overlap"]))
            assert line(place, f"mean principal angle, k = {k}").value == pytest.approx(
                np.degrees(float(at["mean_angle"]))
            )


def test_activations_of_a_head_are_those_of_the_tables(runs: dict[str, Comparison]) -> None:
    results = runs["activation"].results["activation"]
    diff, shift = results["activations"].sel(group="all"), results["shift"].sel(group="all")
    places = places_of(runs["activation"], "activation")
    assert {place.kind for place in places} == {"head", "layer"}
    for place in [place for place in places if place.what.startswith("Activations") and place.head is not None]:
        cell = diff["attention_mass"].sel(layer=place.layer, head=place.head, token_class="instruction")
        words = str(diff["attention_mass"].attrs.get("long_name", "attention_mass"))
        number = line(place, f"{words}, instruction tokens")
        for name, measure in (("base", "base_mean"), ("tuned", "tuned_mean"), ("value", "difference"), ("p", "p_bh")):
            assert getattr(number, name) == pytest.approx(float(cell.sel(measure=measure)), nan_ok=True), name
    for place in [place for place in places if place.what.startswith("How far") and place.head is None]:
        cell = shift["resid_relative_change"].sel(layer=place.layer, token_class="rest")
        number = line(place, "relative change of the residual stream")
        assert number.value == pytest.approx(float(cell.sel(summary="mean")), nan_ok=True)
        assert number.low == pytest.approx(float(cell.sel(summary="ci_low")), nan_ok=True)


def test_patching_of_a_head_is_that_of_the_table(runs: dict[str, Comparison]) -> None:
    patched = runs["patching"].results["patching"]["patching"]
    places = places_of(runs["patching"], "patching")
    assert len(places) == patched.sizes["layer"] * patched.sizes["head"]
    for place in places:
        cell = patched.sel(layer=place.layer, head=place.head)
        assert line(place, "effect").value == pytest.approx(float(cell["effect"].mean()), nan_ok=True)
        share = line(place, "share of the gap (p")
        assert share.value == pytest.approx(100 * float(cell["recovered"]), nan_ok=True)
        assert share.p == pytest.approx(float(cell["p_bh"]), nan_ok=True)
    ranks = [line(place, "rank by share").value for place in places]
    order = np.argsort([line(place, "share of the gap (p").value for place in places])[::-1]
    assert [ranks[place] for place in order] == sorted(ranks)


def test_weights_of_heads_and_layers_are_those_of_the_table(runs: dict[str, Comparison]) -> None:
    tables = runs["weight_delta"].results["weight_delta"]
    delta = tables["weight_delta"]
    places = places_of(runs["weight_delta"], "weight_delta")
    heads = [place for place in places if place.head is not None]
    assert len(heads) == delta.sizes["layer"] * delta.sizes["head"]
    for place in heads:
        cell = delta.sel(layer=place.layer, head=place.head, product="QK")
        assert line(place, "relative change of W_QK").value == pytest.approx(100 * float(cell["head_relative"]))
    for place in [place for place in places if place.what == "Change of the weights"]:
        rank = float(delta["effective_rank"].sel(layer=place.layer, matrix="W_out"))
        assert line(place, "effective rank of the change of W_out").value == pytest.approx(rank)
    written = [(place.layer, place.text) for place in places if place.part]
    words = tables["weight_words"]
    assert written == list(zip(words["layer"], words["words"], strict=True))


def test_steps_of_blocks_are_those_of_the_table(runs: dict[str, Comparison]) -> None:
    table = runs["divergence"].results["divergence"]["divergence_blocks"]
    places = places_of(runs["divergence"], "divergence")
    assert [place.layer for place in places] == table["block"].tolist()
    steps = [line(place, "step").value for place in places]
    assert steps == pytest.approx(table["step"].tolist(), nan_ok=True)


def test_places_that_are_wrong_are_an_error_of_the_finding() -> None:
    with pytest.raises(ItlensError, match="places returned a Place with layer=None; expected a whole number from 0"):
        checked_places([Place(None)])  # type: ignore[arg-type]
