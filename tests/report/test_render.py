from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

from itlens.errors import ResultError
from itlens.report.blocks import Card, Column, Figure, Table, Text
from itlens.report.drawing import plain_lines
from itlens.report.page import asset, letters, plotly_bundle, plotly_whole
from itlens.report.page_data import Page, address
from itlens.report.render import (
    comparison_in_notebook,
    group_blocks,
    panel_in_notebook,
    panel_page,
    render_block,
    render_page,
)
from tests.report.pages import LETTERS, DummyPanel, figure, groups, page, row, section, unpacked_text
from tests.views.factory import HOSTILE

TAGS = {
    "html", "head", "meta", "link", "title", "style", "body", "div", "b", "button", "main", "section", "h1", "h2",
    "h3", "p", "span", "table", "thead", "tbody", "tr", "th", "td", "a", "nav", "ul", "li", "details", "summary",
    "script", "dl", "dt", "dd", "footer", "figure", "i", "code", "header", "label", "select", "option", "ol",
}  # fmt: skip


class Parsed(HTMLParser):
    """Tags, attributes and texts of a page, scripts and styles apart."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data
        elif self._open != "style":
            self.texts.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.texts).split())


def body(content: Page) -> str:
    """The page without its style sheets and bundles."""
    html = render_page(content)
    return html[html.index("<body>") : html.index("</footer>")]


def test_the_first_screen_is_the_heading_one_paragraph_and_the_table_with_links() -> None:
    html = body(page())
    hero = html[html.index('id="summary"') : html.index("</section>")]
    parsed = Parsed(hero)
    assert parsed.tags.count("h1") == 1
    assert hero.count('<p class="verdict">') == 1
    assert ("href", "#score") in parsed.attributes
    for words in ("a and b", "Tuning changed one thing.", "▲ higher", "= no significant change", "p = 0.002"):
        assert words in parsed.words
    order = [hero.index(mark) for mark in ("<h1>", 'class="verdict"', 'class="summary"', "Caveats of the whole study")]
    assert order == sorted(order)


def test_an_answer_of_several_lines_is_several_paragraphs() -> None:
    html = body(page(answer="One.\nTwo."))
    assert re.findall(r'<p class="verdict">([^<]*)</p>', html)[:2] == ["One.", "Two."]
    assert "<p>One.</p>" in comparison_in_notebook(page(answer="One.\nTwo."))


def test_each_section_is_a_chapter_with_a_line_in_the_menu() -> None:
    html = body(page())
    assert re.findall(r'<section class="chapter[^"]*" id="([^"]*)"', html) == [
        "summary",
        "score",
        "heads",
        "reports",
        "run",
    ]
    menu = html[html.index("<nav") : html.index("</nav>")]
    assert re.findall(r'<a href="#([^"]*)"', menu) == ["summary", "score", "heads", "reports", "run"]
    assert Parsed(menu).words == "Summary ▲ Score = Heads The reports What was run"
    assert re.findall(r'<option value="([^"]*)"', html) == ["summary", "score", "heads", "reports", "run"]


def test_a_section_named_like_a_chapter_of_the_page_has_an_anchor_of_its_own() -> None:
    html = body(page(section("run"), section("summary"), rows=[row("run", "higher")]))
    anchors = re.findall(r'<section class="chapter[^"]*" id="([^"]*)"', html)
    assert anchors == ["summary", "run-finding", "summary-finding", "reports", "run"]
    assert '<a href="#run-finding">Does tuning change run?</a>' in html


def test_a_finding_without_a_section_is_in_the_table_without_a_link() -> None:
    html = body(page(section("score"), rows=[row("score"), row("lost", tested=False)]))
    table = html[html.index('class="summary"') : html.index("</table>")]
    assert re.findall(r'href="#([^"]*)"', table) == ["score"]
    assert "Does tuning change lost?" in table


def test_a_section_has_its_parts_in_order() -> None:
    html = body(page(section("score", Card("label", "1"), Text("Some words."), groups())))
    html = html[html.index('id="score"') :]
    marks = ["<h2>", "The score rose by 0.07.", "Only 24 prompts.", 'class="figures"', "Some words."]
    marks += ["Scores per group", "One response was empty.", "Definitions", "Settings", 'id="run"']
    order = [html.index(mark) for mark in marks]
    assert order == sorted(order)


def test_what_was_run_and_the_links_are_at_the_end() -> None:
    words = Parsed(body(page())).words
    for shown in ("precision float32", "seed 0", "itlens 0.2", "All 3 prompts", "After Wu et al.", "2026-01-31"):
        assert shown in words
    assert 'href="one%20two/report.html"' in body(page())


def test_nothing_is_shown_of_what_is_not_there() -> None:
    html = body(Page("Alone", sections=[section("x", verdict_sentence="", caveat="", notes=(), terms={}, facts={})]))
    for mark in ("<table", "Caveats", "Definitions", "Settings", "Parameters", "The reports", 'class="verdict"'):
        assert mark not in html


def test_cards_that_follow_one_another_make_a_row_and_two_narrow_figures_a_pair() -> None:
    one, two, wide = figure("one"), figure("two"), figure("wide", wide=True)
    card, words = Card("a", "1"), Text("b")
    blocks = [card, card, words, one, two, one, wide, wide, card]
    assert [len(group) for group in group_blocks(blocks)] == [2, 1, 2, 1, 1, 1, 1]
    html = body(page(section("x", *blocks)))
    assert html.count('<div class="figures">') == 2
    assert html.count('<div class="two">') == 1


def test_figures_of_a_pair_are_equally_high_and_titles_are_headings_of_the_page() -> None:
    low, high = figure("<b>A &lt;low&gt;</b> one", height=200), figure("high", height=500)
    html = body(page(section("x", low, high)))
    assert re.findall(r"height:(\d+)px", html) == ["500", "500"]
    assert "<h3>A &lt;low&gt; one</h3>" in html
    drawing = json.loads(Parsed(html).scripts[0])
    assert drawing["layout"]["title"]["text"] == ""
    assert drawing["layout"]["height"] == 500


def test_a_figure_does_not_repeat_the_heading_above_it() -> None:
    html = body(page(section("x", figure("Does tuning change x?", wide=True))))
    assert html.count("Does tuning change x?</h") == 1


def test_lines_of_plotly_text() -> None:
    assert plain_lines("a &lt;b&gt;<br><span style='x'>c</span><br>") == ("a <b>", "c")
    assert plain_lines(None) == ()


def test_letters_are_bytes_of_any_length_and_mean_nothing_in_html() -> None:
    every = bytes(range(256)) * 3
    for length in range(len(every)):
        text = letters(every[:length])
        assert base64.b85decode(text.encode().translate(LETTERS)) == every[:length]
        assert not set(text) & set("<>&\"'")


def test_tables_mark_totals_reasons_and_numbers() -> None:
    html = render_block(groups(sortable=True))
    assert '<tr class="all">' in html
    assert '<td class="note" colspan="2">too few prompts (n = 4)</td>' in html
    assert '<td class="n" data-v="0.0701">+0.070</td>' in html
    assert 'title="tuned − base"' in html
    assert 'class="sortable"' in html
    assert "<details" not in html
    assert "<details" in render_block(groups(folded=True))
    assert "the table has no rows" in render_block(groups(data=groups().data.iloc[:0]))


def test_a_block_of_an_unknown_type_is_named() -> None:
    with pytest.raises(ResultError, match=r"block of type dict; expected one of Card, Text, Figure, Table, Panel"):
        render_page(page(section("x", {"a": 1})))


def test_links_that_lead_away_are_refused() -> None:
    for path in ("/etc/passwd", "https://example.org", ""):
        with pytest.raises(ResultError, match="give a path relative to the page's folder"):
            address("x", path)
    with pytest.raises(ResultError, match="relative"):
        render_page(page(links=[("x", "javascript:alert(1)")]))


def test_bundles_are_there_where_they_are_needed() -> None:
    plain = render_page(page(section("x", groups())))
    assert bundles_of(plain) == {}
    assert len(plain) < 60_000
    drawn = bundles_of(render_page(page(section("x", figure(), figure()))))
    assert list(drawn) == ["plotly"]
    assert "plotly.js (cartesian - minified) v" in drawn["plotly"]
    with_tokens = replace(DummyPanel("t"))
    object.__setattr__(with_tokens, "scripts", ("circuitsvis", "tokens.js"))
    of_tokens = bundles_of(render_page(page(section("x", with_tokens, with_tokens))))
    assert list(of_tokens) == ["circuitsvis"]
    assert "var CircuitsVis=" in of_tokens["circuitsvis"][:40]


def bundles_of(html: str) -> dict[str, str]:
    """The bundles of a page, by name, unpacked."""
    blocks = re.findall(r'<script type="application/gzip;base85" data-bundle="([^"]*)">([^<]*)</script>', html)
    return {name: unpacked_text(packed) for name, packed in blocks}


def test_a_figure_that_the_cartesian_bundle_does_not_draw_takes_the_whole_one() -> None:
    surface = Figure(go.Figure(go.Surface(z=[[1, 2], [3, 4]])))
    bundles = bundles_of(render_page(page(section("x", figure(), surface))))
    assert list(bundles) == ["plotly-whole"]
    assert "* plotly.js v" in bundles["plotly-whole"]


def test_the_vendored_bundle_is_of_the_plotly_that_is_installed_and_has_its_licence() -> None:
    versions = [re.search(r"v(\d+\.\d+\.\d+)", source[:200]) for source in (plotly_bundle(), plotly_whole())]
    vendored, installed = (found.group(1) for found in versions if found)
    assert vendored.split(".")[0] == installed.split(".")[0]
    assert "MIT License" in asset("plotly-cartesian.LICENSE.txt")


def test_the_policy_names_the_digest_of_each_script_and_nothing_else_may_run() -> None:
    html = render_page(page())
    parsed = Parsed(html)
    policy = dict(re.findall(r'http-equiv="(Content-Security-Policy)" content="([^"]*)"', html))[
        "Content-Security-Policy"
    ]
    scripts = [*re.findall(r"<script>(.*?)</script>", html, re.DOTALL), *bundles_of(html).values()]
    assert len(scripts) == 5
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert re.findall(r"script-src ([^;]*);", policy) == [" ".join(f"'sha256-{digest}'" for digest in digests)]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy.split("style-src")[0]
    assert not [value for name, value in parsed.attributes if name in ("src", "onclick", "onerror")]


def hostile_page(evil: str) -> Page:
    data = pd.DataFrame({evil: [evil], "x": [1.0], "note": [evil]})
    columns = [Column(evil, evil, help=evil), Column("x", evil, "number"), Column("y", evil, lambda row: evil)]
    table = Table(data, columns, evil, evil, sortable=True)
    fig = figure("safe", text=evil)
    fig.figure.add_scatter(x=[evil], y=[1], name=evil)
    blocks: Sequence[Any] = (
        Card(evil, evil, evil, "base"), Text(evil, evil), fig, table, replace(table, folded=True), DummyPanel(evil),
    )  # fmt: skip
    terms: dict[str, str] = {evil: evil}
    return Page(
        evil, answer=evil, rows=[row(evil, "higher", question=evil, answer=evil, number=evil)],
        sections=[section(evil, *blocks, question=evil, verdict_sentence=evil, caveat=evil, notes=[evil], terms=terms,
                          facts=terms)],
        notes=[evil], facts=terms, parameters={evil: [evil]}, versions=terms, created=evil, base=evil, tuned=evil,
        prompts_table=table, source=evil, links=[(evil, "x/<img onerror=1>.html")],
    )  # fmt: skip


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_text_is_text_everywhere(evil: str) -> None:
    html = render_page(hostile_page(evil))
    parsed = Parsed(html)
    assert set(parsed.tags) <= TAGS
    assert not {name for name, _ in parsed.attributes if name.startswith("on")}
    assert parsed.tags.count("script") == 6  # plotly's bundle, the page's own four, and the data of the figure
    assert parsed.tags.count("title") == 1
    for signs in "\x00\u202e\u2028":
        assert signs not in html[html.index("<body>") : html.index("</footer>")]


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_text_is_text_in_a_notebook_too(evil: str) -> None:
    shown = Parsed(comparison_in_notebook(hostile_page(evil)))
    assert set(shown.tags) <= TAGS - {"script", "style"}
    assert set(Parsed(panel_in_notebook(DummyPanel(evil))).tags) <= TAGS


def test_a_notebook_gets_the_answer_and_the_table() -> None:
    shown = comparison_in_notebook(page())
    for words in ("Tuning changed one thing.", "Does tuning change score?", "higher", "p = 0.002"):
        assert words in shown
    for mark in ("<script", "<style", "href"):
        assert mark not in shown


def test_a_panel_is_a_page_and_a_notebook_output() -> None:
    panel = DummyPanel("Pairs of a head")
    assert repr(panel) == "DummyPanel('Pairs of a head')"
    assert str(panel) == panel.html == panel_page(panel)
    assert panel.html.startswith("<!doctype html>")
    assert "<h1>Pairs of a head</h1>" in panel.html
    assert panel._repr_html_().startswith("<style>.itlens-pairs")
    assert type(panel.html) is str


def test_settings_of_every_kind_are_readable() -> None:
    facts = {"resume": True, "alpha": 0.05, "probes": ["attribution", "mlp"], "adapter": None, "max_new_tokens": 200}
    html = body(page(section("x", facts=facts)))
    for words in (
        "<dd>yes</dd>",
        "<dd>0.05</dd>",
        "<dd>attribution, mlp</dd>",
        "<dd>–</dd>",
        "<dt>max new tokens</dt>",
    ):
        assert words in html
