from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from itlens import views
from itlens.errors import ResultError
from tests.views import factory, word_factory
from tests.views.test_report import body, content

WORDS = word_factory.word_content()
ATTENTION = ["verbs", "heads", "moved"]
ATTRIBUTION = ["prompts", "response", "robustness", "examples"]


def only_words(words: views.WordContent | None = WORDS, **changes: Any) -> views.ReportContent:
    verdict = words.verdict if words is not None else ""
    fields = {"title": "Heads", "base": "toy/base", "tuned": "toy/tuned", "verdict": verdict, "words": words}
    return views.ReportContent(**(fields | changes))


def anchors(page: str) -> tuple[list[str], list[str]]:
    return re.findall(r'<a href="#(\w+)"', page), re.findall(r'<h2 id="(\w+)"', page)


def test_sections_and_links_are_those_of_what_was_measured() -> None:
    always = ["methods", "run"]
    for shown, expected in (
        (only_words(), [*ATTENTION, *always]),
        (content(), [*ATTRIBUTION, *always]),
        (content(words=WORDS), [*ATTRIBUTION, *ATTENTION, *always]),
    ):
        links, headings = anchors(body(views.report(shown)))
        assert links == headings == expected


def test_figures_tables_and_bundles_are_those_of_what_was_measured() -> None:
    alone, both = views.report(only_words()), views.report(content(words=WORDS))
    assert body(alone).count('<div class="itlens-figure') == 2 and body(both).count('<div class="itlens-figure') == 6
    assert "CircuitsVis=" not in alone.html and both.html.count("var CircuitsVis=") == 1
    assert len(alone.html) < 5_200_000 and "Attribution" not in body(alone)
    assert "Overlap, gained, lost" in body(both) and "Importance density" in body(both)
    assert "Overlap, gained, lost" not in body(views.report(content()))


def test_the_answer_stands_at_the_top_with_its_numbers() -> None:
    row = WORDS.diff.isel(group=0)
    page = body(views.report(only_words()))
    hero = page[page.index('class="figures"') : page.index("<nav")]
    for part in (
        f"{100 * row.instruction_share.item():.1f} %", f"{100 * row.general_share.item():.1f} %",
        f"{100 * row.difference.item():+.1f} points", "7 of 12 heads changed",
    ):  # fmt: skip
        assert part in hero
    assert page.count(WORDS.verdict) == 1, "a verdict that is the page's own is not said twice"
    assert body(views.report(content(words=WORDS))).count(WORDS.verdict) == 1


def test_the_table_of_groups_has_a_row_per_group_of_layers() -> None:
    page = body(views.report(only_words()))
    table = page[page.index("per group of layers") :].split("</table>")[0]
    cells = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in table.split("<tr")[2:]]
    assert [row[0] for row in cells] == ["all", "0-0", "1-1", "2-2", "3-3"]
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", table)
    for row, one in zip(cells, WORDS.diff.group.values, strict=True):
        chosen, shown = WORDS.diff.sel(group=one), dict(zip(heads, row, strict=True))
        assert shown["verbs"] == f"{chosen.instruction_verbs.item()} + {chosen.general_verbs.item()}"
        assert shown["heads changed"] == "7 of 12"
        assert shown["difference (points)"] == f"{100 * chosen.difference.item():+.1f}".replace("-", "−")
        assert float(shown["p Welch"].replace("&lt; ", "")) == pytest.approx(chosen.p_welch.item(), abs=0.006)
        assert float(shown["p perm."]) == pytest.approx(chosen.p_null.item(), abs=0.006)


def test_a_group_without_a_test_gets_its_sentence() -> None:
    ds = WORDS.diff.copy(deep=True)
    for name in ("effect_size", "t_welch", "p_welch", "null_low", "null_high", "p_null", "general_share", "difference"):
        ds[name][0] = np.nan
    ds["note"] = ("group", ["no general verb changed in any head", *[""] * 4])
    report = views.report(only_words(word_factory.word_content(diff=ds)))
    page = body(report)
    hero = page[page.index('class="figures"') : page.index("<nav")]
    assert "no general verb changed in any head" in hero and "points" not in hero and "p =" not in hero
    for out in (page[page.index("per group of layers") :], report._repr_html_()):
        assert "no general verb changed in any head" in out.split("</table>")[0]
    assert ">nan" not in page.lower()


def test_moved_heads_are_listed_in_their_order_with_what_moved() -> None:
    page = body(views.report(only_words()))
    start = page.index("Moved heads</h3>")
    listed = re.findall(r">(L\d+H\d+)<", page[start : page.index("</table>", start)])
    assert listed == [f"L{row.layer}H{row.head}" for row in WORDS.moved.itertuples()]
    opened = re.findall(r"<details class=\"card\"( open)?><summary>(L\d+H\d+): what it relates", page)
    assert opened == [(" open" if i == 0 else "", name) for i, name in enumerate(listed[:5])]
    layer, head = map(int, re.findall(r"\d+", listed[0]))
    gained = WORDS.changes.query(f"layer == {layer} and head == {head} and change == 'gained'").nsmallest(3, "rank")
    assert ", ".join(f"{row.query} → {row.key}" for row in gained.itertuples()) in page
    assert 'class="new"' in page and 'class="gone"' in page


def test_copying_scores_stand_beside_the_heads_when_there_are_any() -> None:
    assert "copying" not in body(views.report(only_words()))
    scores = WORDS.moved[["layer", "head"]].assign(base_copying=0.25, tuned_copying=-0.75)
    page = body(views.report(only_words(word_factory.word_content(copying=scores))))
    assert "copying, base" in page and "+0.25" in page and "−0.75" in page


def test_identical_models_say_that_no_head_moved() -> None:
    base, _ = word_factory.pair_tables()
    ds = word_factory.word_diff(base, base)
    words = word_factory.word_content(
        diff=ds, tuned=base, changes=word_factory.change_table(base, base), moved=word_factory.moved_table(ds)
    )
    page = body(views.report(only_words(words)))
    assert "No head moved" in page and "what it relates" not in page


def test_big_tables_do_not_bloat_the_page() -> None:
    small, large = (views.report(only_words(word_factory.word_content(n, n))).html for n in (4, 16))
    assert len(large) - len(small) < 300_000
    assert max(len(re.findall('<td class="n">30</td>', page)) for page in (small, large)) <= 2 * 5


def test_everything_from_outside_is_escaped() -> None:
    words = (*factory.HOSTILE, *word_factory.WORDS)
    shown = word_factory.word_content(words=words, verdict=factory.HOSTILE[1])
    shown.diff.attrs["vocabulary_name"] = factory.HOSTILE[0]
    evil = factory.HOSTILE[1]
    report = views.report(only_words(shown, title=evil, base=evil, tuned=factory.HOSTILE[0], verdict=evil))
    page = body(report)
    assert "<img" not in page and "<script>document" not in page and "<!--" not in page
    assert "&lt;img src=x" in page and "<img" not in report._repr_html_()


def test_the_run_names_vocabulary_vectors_and_settings() -> None:
    page = body(views.report(only_words()))
    for part in (
        "<dt>vocabulary name</dt><dd>builtin</dd>",
        "<dt>top k</dt><dd>100</dd>",
        "<dt>min dims</dt><dd>2</dd>",
    ):
        assert part in page


def test_a_notebook_gets_both_tables() -> None:
    out = views.report(content(words=WORDS))._repr_html_()
    assert out.count("<table") == 2 and "random sets" in out and "<script" not in out
    assert views.report(only_words())._repr_html_().count("<table") == 1


def test_a_report_of_nothing_or_of_something_else_is_refused() -> None:
    with pytest.raises(ResultError, match="none of diff, words, concepts"):
        views.report(only_words(words=None, verdict="v"))
    with pytest.raises(ResultError, match="none of diff, words, concepts"):
        views.report({"title": "t", "base": "b", "tuned": "t", "verdict": "v"})
    with pytest.raises(ResultError, match=r"got a DataFrame as words: pass a views\.WordContent"):
        views.report({"title": "t", "base": "b", "tuned": "t", "verdict": "v", "words": pd.DataFrame()})


def test_each_answer_is_a_paragraph_of_its_own() -> None:
    page = body(views.report(content(words=WORDS, verdict=f"The first answer. {WORDS.verdict}")))
    said = re.findall(r'<p class="verdict">(.*?)</p>', page)
    assert len(said) == 2 and said[0] == "The first answer."
