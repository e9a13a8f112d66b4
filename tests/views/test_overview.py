"""The page of several comparisons: what it says, where it leads, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from itlens import ResultError, views
from tests.views import running_factory as factory
from tests.views.test_report_concepts import rows_of

EFFECTS, SERIES = factory.effect_table(), factory.model_series()
CONTENT = views.OverviewContent(
    title="Weights or <b>template</b>?",
    verdict=["Weights do.", "The template does not."],
    sections=[
        views.OverviewSection(
            "Weights or template?", "Both read <i>twice</i>.", figure=views.effects(EFFECTS), table=EFFECTS
        ),
        views.OverviewSection("Along the series", figure=views.series(SERIES)),
        views.OverviewSection("Differences", table=SERIES.differences),
    ],
    links=[("without & with", "off runs/report.html"), ("dpo", "../dpo/report.html")],
    facts={"prompts": 20},
    notes=["One <u>note</u>."],
    parameters={"seed": 0},
    versions={"itlens": "0.1.0"},
    created="2025-01-31",
)


def body(content: views.OverviewContent) -> str:
    page = views.overview(content).html
    return page[page.index("<body>") : page.index("</footer>")]


def test_title_answers_notes_facts_and_sections_in_order() -> None:
    page = body(CONTENT)
    assert re.findall(r'<p class="verdict">(.*?)</p>', page) == ["Weights do.", "The template does not."]
    links, headings = re.findall(r'<a href="#([\w-]+)"', page), re.findall(r'<h2 id="([\w-]+)"', page)
    assert links == headings == ["part-1", "part-2", "part-3", "reports", "run"]
    assert "Weights or &lt;b&gt;template" in page and "One &lt;u&gt;note" in page and "Both read &lt;i&gt;twice" in page
    assert "<b>template" not in page and "2025-01-31" in page and "<dt>prompts</dt><dd>20</dd>" in page
    assert page.count('<div class="itlens-figure') == 2


def test_a_heading_is_not_said_twice() -> None:
    page = body(CONTENT)
    assert page.count("Weights or template?</h") == 1 and page.count("From model to model</h3>") == 1


def test_links_lead_to_the_reports_beside_the_page() -> None:
    page = body(CONTENT)
    listed = re.findall(r'<li><a href="([^"]*)">([^<]*)</a></li>', page)
    assert listed == [("off%20runs/report.html", "without &amp; with"), ("../dpo/report.html", "dpo")]
    assert 'id="reports"' not in body(replace(CONTENT, links=()))


def test_tables_have_their_numbers_with_one_interval_and_the_reason_for_no_test() -> None:
    rows = rows_of(body(CONTENT), 'id="part-1"')
    first = EFFECTS.iloc[0]
    assert (rows[0]["statistic"], rows[0]["effect"]) == ("instruction score", first.effect)
    assert rows[0]["mean"] == f"{first['mean']:+.3f}".replace("-", "−")
    assert rows[0]["95 % interval"] == f"[{first.ci_low:+.3f}, {first.ci_high:+.3f}]".replace("-", "−")
    differences = rows_of(body(CONTENT), 'id="part-3"')
    assert differences[0]["models"] == "base → sft" and "reference" not in differences[0]
    nothing = dict.fromkeys(("effect_size", "t", "p", "p_holm"), float("nan"))
    few = EFFECTS.head(1).assign(**nothing, note="too few")
    page = body(replace(CONTENT, sections=[views.OverviewSection("Few", table=few)]))
    assert '<td class="note" colspan="4">too few</td>' in page and ">nan<" not in page
    apart = few[["effect", "effect_size", "n", "p_holm", "note"]]
    page = body(replace(CONTENT, sections=[views.OverviewSection("Apart", table=apart)]))
    (row,) = rows_of(page, 'id="part-1"')
    assert (row["d_z"], row["n"], row["p Holm"], row["note"]) == ("–", "20", "–", "too few")


def test_own_columns_and_empty_tables() -> None:
    from itlens.views.report_tables import Column

    columns = [Column("who", lambda row: str(row["effect"]).upper())]
    one = views.OverviewSection("Own", table=EFFECTS.head(2), columns=columns)
    assert [row["who"] for row in rows_of(body(replace(CONTENT, sections=[one])), 'id="part-1"')] == [
        name.upper() for name in EFFECTS.effect.head(2)
    ]
    empty = views.OverviewSection("Empty", table=EFFECTS.head(0))
    assert "the table has no rows" in body(replace(CONTENT, sections=[empty]))


def test_one_sentence_is_one_paragraph_and_the_notebook_gets_a_summary() -> None:
    assert body(replace(CONTENT, verdict="One. Two.")).count('<p class="verdict">') == 1
    shown = views.overview(CONTENT)
    assert "<table" in shown._repr_html_() and "<script" not in shown._repr_html_() and str(shown) == shown.html
    assert "default-src 'none'" in shown.html and "CircuitsVis=" not in shown.html


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"title": "x"}, r"got a dict: pass a views\.OverviewContent"),
        (replace(CONTENT, sections=["x"]), r"got a str among sections: pass a views\.OverviewSection"),
        (replace(CONTENT, sections=[views.OverviewSection("h", figure="x")]), "got a str as figure of 'h'"),  # type: ignore[arg-type]
        (replace(CONTENT, sections=[views.OverviewSection("h", table=[1])]), "got a list as table of 'h'"),  # type: ignore[arg-type]
        (replace(CONTENT, links=["x"]), r"got 'x' among links: pass \(label, path\)"),
        (replace(CONTENT, links=[("x", "/etc/passwd")]), "leads to '/etc/passwd': give a path relative"),
        (replace(CONTENT, links=[("x", "javascript:alert(1)")]), "give a path relative"),
        (replace(CONTENT, links=[("x", "https://example.org")]), "give a path relative"),
        (replace(CONTENT, links=[("x", "")]), "give a path relative"),
    ],
)
def test_anything_else_gets_one_sentence(content: Any, message: str) -> None:
    with pytest.raises(ResultError, match=message):
        views.overview(content)


def test_any_table_is_shown() -> None:
    odd = pd.DataFrame({"model": ["a", "b"], "p": [0.0001, float("nan")], "n_things": [1, 2], "x": [1.5, None]})
    rows = rows_of(body(replace(CONTENT, sections=[views.OverviewSection("Odd", table=odd)])), 'id="part-1"')
    assert rows[0] == {"models": "a", "p": "&lt; 0.001", "n things": "1", "x": "1.500"}
    assert rows[1]["p"] == rows[1]["x"] == "–"
