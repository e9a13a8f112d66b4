"""Pages of dummy sections as a reader's browser sees them; skipped where no browser can be driven."""

from __future__ import annotations

from pathlib import Path

import pytest

from itlens.report.render import render_page
from tests.browser import Page
from tests.report.pages import figure, groups, page, section
from tests.report.test_render import hostile_page
from tests.views.factory import HOSTILE

DRAWN = "document.querySelectorAll('.itlens-figure .main-svg').length >= 1"
OVERFLOW = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [420, 1400])
def test_a_page_is_drawn_offline_and_fits_the_screen(browser: Page, tmp_path: Path, width: int, dark: bool) -> None:
    path = tmp_path / "page.html"
    wide = section("wide", figure(wide=True), groups(folded=True))
    path.write_text(render_page(page(*page().sections, wide)), encoding="utf-8")
    browser.open(path, width=width, dark=dark)
    browser.wait(DRAWN)
    assert browser.requests() == [path.resolve().as_uri()]
    assert browser.complaints() == []
    assert browser.run(OVERFLOW) is False
    assert browser.run("document.querySelector('button.theme').textContent") == ("Light" if dark else "Dark")


def test_hostile_text_does_not_run(browser: Page, tmp_path: Path) -> None:
    for number, evil in enumerate(HOSTILE[:3]):
        path = tmp_path / f"{number}.html"
        path.write_text(render_page(hostile_page(evil)), encoding="utf-8")
        browser.open(path)
        browser.wait(DRAWN)
        assert browser.run("document.title") != "pwned"
        assert browser.run("document.querySelectorAll('img, script[src], [onerror]').length") == 0
        assert browser.complaints() == []
