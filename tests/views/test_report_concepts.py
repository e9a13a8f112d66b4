from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from itlens import views
from itlens.errors import ResultError
from tests.views import factory, word_factory
from tests.views.concept_factory import KS, LAYERS, TURNED, concept_content
from tests.views.test_report import body, content
from tests.views.test_report_words import ATTENTION, ATTRIBUTION, anchors

VALUE = concept_content()
KEY = replace(VALUE, side="key", turned=VALUE.turned.assign_attrs(side="key"), verdict="Keys stayed.")
CONCEPTS = ["turned", "topics", "changed", "cards"]


def only_concepts(*parts: views.ConceptContent, **changes: Any) -> views.ReportContent:
    parts = parts or (VALUE,)
    verdict = " ".join(part.verdict for part in parts)
    fields = {"title": "Concepts", "base": "toy/base", "tuned": "toy/tuned", "verdict": verdict, "concepts": parts}
    return views.ReportContent(**(fields | changes))


def page_of(*parts: views.ConceptContent, **changes: Any) -> str:
    return body(views.report(only_concepts(*parts, **changes)))


def hero(page: str) -> str:
    return page[page.index('class="figures"') : page.index("<nav")]


def rows_of(page: str, heading: str) -> list[dict[str, str]]:
    """The table below a heading, as its reader sees it."""
    listed = page[page.index(heading) :].split("</table>")[0]
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", listed)
    cells = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in listed.split("<tr")[2:]]
    return [dict(zip(heads, row, strict=True)) for row in cells]


@pytest.mark.parametrize("attribution", [False, True])
@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("feed_forward", [False, True])
def test_any_parts_make_a_report_with_their_sections_in_one_order(
    attribution: bool, attention: bool, feed_forward: bool
) -> None:
    if not (attribution or attention or feed_forward):
        return
    changes: dict[str, Any] = {} if attribution else {"diff": None, "examples": ()}
    changes |= {"words": word_factory.word_content()} if attention else {}
    changes |= {"concepts": [VALUE]} if feed_forward else {}
    links, headings = anchors(body(views.report(content(**changes))))
    expected = ATTRIBUTION * attribution + ATTENTION * attention + CONCEPTS * feed_forward
    assert links == headings == [*expected, "methods", "run"]


def test_figures_of_each_side_and_no_bundle_that_is_not_needed() -> None:
    page = page_of(VALUE, KEY)
    assert page.count('<div class="itlens-figure') == 6
    headings = re.findall(r'<h3 class="vectors">(.*?)</h3>', page)
    assert headings == ["Value vectors: what neurons write", "Key vectors: what neurons look for"] * 4
    whole = views.report(only_concepts()).html
    assert "CircuitsVis=" not in whole and len(whole) < 5_300_000 and "Attribution" not in page


def test_the_answer_stands_at_the_top_with_overlap_nulls_layers_and_tasks() -> None:
    page, one = page_of(), VALUE.turned.sel(k=10)
    assert page.count(VALUE.verdict) == 1, "and is not said twice"
    for part in (
        f"{float(one.overlap.mean()):.3f}", "random 0.250", "noise of neurons drawn anew 0.950", "1 of 4",
        f"least overlap in layer {TURNED} ({float(one.overlap.min()):.3f})", "+60.0 points", "0.0 % in base, 60.0 % in",
        "of 20 and 20 concepts",
    ):  # fmt: skip
        assert part in hero(page), part
    both = page_of(VALUE, KEY)
    assert both.count('<p class="verdict">') == 2 and "Feed-forward. Key vectors" in both


def test_an_answer_that_is_not_at_the_top_stands_in_its_section() -> None:
    page = body(views.report(content(concepts=[VALUE])))
    assert page.count(VALUE.verdict) == 1 and page.index(VALUE.verdict) > page.index('<h2 id="turned">')


def test_each_layer_has_its_overlap_beside_random_and_noise() -> None:
    rows = rows_of(page_of(), "Layer by layer, k = 10")
    assert [row["layer"] for row in rows] == [str(layer) for layer in range(LAYERS)]
    for row, layer in zip(rows, range(LAYERS), strict=True):
        one = VALUE.turned.sel(layer=layer, k=10)
        assert row["overlap"] == f"{one.overlap.item():.3f}" and row["random"] == "0.250"
        assert row["noise floor, base"] == row["noise floor, tuned"] == "0.950"
        assert row["more than noise"] == ("yes" if layer == TURNED else "no")
        assert row["variance kept (%)"] == f"{100 * one.transfer_base.item():.1f}"
        assert row["mean angle (°)"] == f"{abs(np.degrees(one.mean_angle.item())):.1f}" and row["degenerate"] == "no"


def test_without_a_noise_floor_nothing_is_called_turned() -> None:
    names = [name for name in VALUE.turned.data_vars if str(name).startswith("floor")]
    turned = VALUE.turned.assign({name: VALUE.turned[name] * np.nan for name in names})
    page = page_of(
        replace(VALUE, turned=turned.assign(below_floor=turned["below_floor"] & False), verdict="Not known.")
    )
    assert {row["more than noise"] for row in rows_of(page, "Layer by layer")} == {"not measured"}
    assert "not known: the probe ran without resamples" in hero(page) and "noise not measured" in hero(page)
    assert "1 of 4" not in hero(page) and ">nan" not in page.lower()


def test_the_quoted_size_is_the_verdicts_or_the_largest_that_is_left() -> None:
    sizes = VALUE.turned.assign_coords(k=[100, 300]).assign_attrs(quoted_k=100)
    assert "Layer by layer, k = 100" in page_of(replace(VALUE, turned=sizes))
    assert "Layer by layer, k = 300" in page_of(replace(VALUE, turned=sizes.assign_attrs(quoted_k=50)))


def test_shares_are_figures_and_a_table_with_their_tests() -> None:
    page = page_of()
    rows = {(row["layers"], row["share of"]): row for row in rows_of(page, "All shares with their tests")}
    coding = rows["all", "coding"]
    assert (coding["base (%)"], coding["tuned (%)"], coding["difference (points)"]) == ("0.0", "40.0", "+40.0")
    assert float(coding["p Holm"]) < 0.05 and rows["all", "could be labelled"]["base (%)"] == "41.7"
    assert ("all", "mathematics") not in rows, "a task that never occurs has no row"
    assert "no seeds to test over" in page or "one label for each concept" in page


def test_concepts_without_labels_or_tasks_say_so() -> None:
    bare = VALUE.base_labels.iloc[:0]
    page = page_of(replace(VALUE, shares=None, base_labels=bare, tuned_labels=bare))
    assert "concepts of this side were not labelled" in page and "the concepts were not labelled" in hero(page)
    assert page.count('<div class="itlens-figure') == 1 and '<p class="label' not in page
    assert VALUE.shares is not None
    none = VALUE.shares.assign(**{name: VALUE.shares[name].where(VALUE.shares["kind"] != "task", 0.0) for name in
                                  ("base", "tuned", "difference")})  # fmt: skip
    page = page_of(replace(VALUE, shares=none))
    assert "No labelled concept of either model serves a user task" in page and page.count("itlens-figure") == 2


def test_concepts_gained_and_lost_with_words_labels_and_how_new_they_are() -> None:
    page = page_of()
    counts = rows_of(page, "Kept, gained and lost in each layer")
    assert [(row["kept"], row["gained"], row["lost"]) for row in counts] == [
        ("9", "3", "3") if layer == TURNED else ("12", "0", "0") for layer in range(LAYERS)
    ]
    gained = rows_of(page, "strongest concepts gained")
    found = VALUE.changes.query("status == 'gained'")
    assert [row["component"] for row in gained] == ["0", "1", "2"] and {row["layer"] for row in gained} == {"2"}
    assert [row["label"] for row in gained] == ["recipes", "loops", "cannot tell"]
    assert [row["|cosine|"] for row in gained] == [f"{value:.2f}" for value in found["match_cosine"]]
    assert gained[1]["words"] == found["words_tuned"].iloc[1].replace("<", "&lt;").replace(">", "&gt;")
    lost = rows_of(page, "strongest concepts lost")
    assert [row["label"] for row in lost] == ["fruit", "verbs in -ing", "rhymes"]
    assert lost[0]["words"] == VALUE.changes.query("status == 'lost'")["words_base"].iloc[0]


def test_where_gained_and_lost_say_nothing_the_page_says_so() -> None:
    kept = VALUE.changes.assign(status="kept")
    assert "No concept was gained or lost" in page_of(replace(VALUE, changes=kept))
    none = VALUE.changes[VALUE.changes["status"] != "kept"].assign(inside=1.0)
    flat = VALUE.turned.assign(degenerate=VALUE.turned["degenerate"] | True)
    page = page_of(replace(VALUE, changes=none, turned=flat))
    for part in (
        "no concept was kept by its words",
        "span the whole space",
        "in 4 of 4 layers the spectrum has no gap",
    ):
        assert part in page
    assert "inside (%)" not in page, "all lies inside where the components span everything"
    assert '<details class="card"><summary>The strongest concepts gained' in page, "closed: it tells nothing by itself"


def test_cards_are_of_the_layers_with_the_least_overlap_with_their_labels() -> None:
    page = page_of()
    shown = re.findall(r'<details class="card"( open)?><summary>Layer (\d+) \(overlap ([\d.]+) at k = 10\)', page)
    assert shown[0] == (" open", "2", f"{VALUE.turned.overlap.sel(layer=2, k=10).item():.3f}") and len(shown) == 2
    first = page[page.index("<summary>Layer 2 (") :].split("</details>")[0]
    # the first three, and the next three that the labeller could name
    assert re.findall(r"<h4>Component (\d+)</h4>", first) == ["0", "1", "2", "4", "5", "6"]
    assert "<q>loops</q>" in first and "<q>verbs in -ing</q>" in first and ">cannot tell<" in first
    assert views.card_layers(VALUE.turned, 1) == [TURNED] and len(views.card_layers(VALUE.turned)) == 2


def test_only_what_was_kept_for_reading_is_shown() -> None:
    one = replace(VALUE, base=VALUE.base.sel(layer=[3]), tuned=VALUE.tuned.sel(layer=[3], component=[0, 4]))
    page = page_of(one)
    assert re.findall(r"<summary>Layer (\d+) ", page) == ["3"]
    assert re.findall(r"<h4>Component (\d+)</h4>", page) == ["0", "4"]
    none = replace(VALUE, base=VALUE.base.isel(layer=[]), tuned=VALUE.tuned.isel(layer=[]))
    assert "no layer was kept for reading" in page_of(none)


def test_the_run_and_the_terms_say_what_was_done() -> None:
    page = page_of()
    for part in (
        "Concepts: value vectors", "<dt>vocabulary name</dt><dd>words.txt</dd>", "<dd>toy</dd>",
        "<dt>resamples base</dt><dd>3</dd>", "Overlap of spaces", "It is not a second training run",
    ):  # fmt: skip
        assert part in page, part
    assert "Overlap of spaces" not in body(views.report(content()))


def test_a_notebook_gets_the_layers() -> None:
    out = views.report(only_concepts())._repr_html_()
    assert out.count("<table") == 1 and "more than noise" in out and "<script" not in out


def test_everything_from_outside_is_escaped() -> None:
    evil = factory.HOSTILE[1]
    words = (*factory.HOSTILE, *(f"word{i}" for i in range(190)))
    part = concept_content(words=words, said=evil, verdict=evil)
    turned = part.turned.assign_attrs(vocabulary_name=factory.HOSTILE[0])
    labels = part.tuned_labels.assign(labeller=evil)
    labels.attrs = part.tuned_labels.attrs
    report = views.report(only_concepts(replace(part, turned=turned, tuned_labels=labels), title=evil))
    for page in (body(report), report._repr_html_()):
        assert "<img" not in page and "<script>document" not in page and "<!--" not in page
    assert body(report).count("&lt;img src=x") > 10


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"concepts": ()}, "none of diff, words, concepts"),
        ({"concepts": VALUE}, r"got a ConceptContent as concepts: pass a list of views\.ConceptContent"),
        ({"concepts": [pd.DataFrame()]}, r"got a DataFrame among concepts: pass a list"),
        ({"concepts": [VALUE, VALUE]}, "got value concepts twice"),
    ],
)
def test_wrong_concepts_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ResultError, match=words):
        views.report(only_concepts(**changes))


def test_the_factory_compares_the_sizes_it_names() -> None:
    assert tuple(VALUE.turned["k"].values) == KS
