"""The feed-forward part of a report in a browser, with words and labels that would like to be scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from itlens.findings.mlp.view_section import concept_blocks
from tests.browser import Page, fits
from tests.findings.mlp.concept_factory import concept_content
from tests.views import factory
from tests.views.test_browser import INTRUDERS, UNFOLD, write_page

pytestmark = pytest.mark.long

BARS = "[...document.querySelectorAll('.itlens-figure')].find(f => f.data && f.layout.barmode === 'stack')"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = (*factory.HOSTILE, *(f"word{i}" for i in range(190)))
    blocks = concept_blocks([concept_content(words=words, said=factory.HOSTILE[1])])
    return write_page(tmp_path_factory.mktemp("concepts") / "report.html", "Concepts", *blocks)


def test_figures_tables_and_cards_are_drawn(browser: Page, page: Path) -> None:
    browser.draw(page)
    drawn = "[...document.querySelectorAll('.itlens-figure')].filter(f => f.querySelector('.main-svg')).length"
    assert browser.run(drawn) == 3
    # layers, shares, counts, gained, lost, settings; two layers, five named of each
    assert browser.run("document.querySelectorAll('table').length") == 6
    assert browser.run("document.querySelectorAll('.itlens-concepts article').length") == 10
    assert browser.requests() == [page.resolve().as_uri()]
    assert browser.complaints() == []
    assert (browser.run("document.title"), browser.run(INTRUDERS)) == ("Concepts", 0)


def test_the_lines_below_the_bars_are_inside_the_figure(browser: Page, page: Path) -> None:
    browser.draw(page)
    outside = (
        f"(() => {{ const f = ({BARS}), b = f.getBoundingClientRect(); return [...f.querySelectorAll('.annotation')]"
        ".filter(a => { const r = a.getBoundingClientRect(); return r.right > b.right + 1 || r.left < b.left - 1; })"
        ".length; })()"
    )
    assert browser.run(outside) == 0
    assert browser.run(f"({BARS}).querySelectorAll('.annotation').length") >= 5


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_the_concept_report_fits_every_screen(browser: Page, page: Path, width: int, dark: bool) -> None:
    browser.draw(page, width=width, dark=dark)
    browser.run(UNFOLD)
    fits(browser, width, dark=dark)
    assert (browser.run("document.title"), browser.run(INTRUDERS)) == ("Concepts", 0)


def test_a_button_leaves_the_labelled_ones(browser: Page, page: Path) -> None:
    browser.open(page, "only")
    browser.wait(f"({BARS})?.querySelector('.main-svg') && document.querySelectorAll('.choices button').length === 2")
    # base, all layers: five of twelve concepts of each layer were labelled, two of them morphology
    morphology = f"({BARS})._fullData[1]"
    assert browser.run(f"{morphology}.name") == "morphology"
    assert browser.run(f"{morphology}.x[0]") == pytest.approx(100 * 2 / 12)
    browser.run("document.querySelectorAll('.choices button')[1].click()")
    browser.wait(f"Math.abs(({BARS})._fullData[1].x[0] - 40) < 1e-6")
    shown = f"[...({BARS}).querySelectorAll('.bartext')].map(t => t.textContent)"
    assert "60 ★" in browser.run(shown)
    pressed = browser.run("[...document.querySelectorAll('.choices [aria-pressed=true]')].map(b => b.textContent)")
    assert pressed == ["labelled ones only"]
    assert browser.complaints() == []
