"""A whole page inside a notebook's output, as a reader uses it: the document around it is that of VS Code's notebooks.

Skipped where no browser can be driven.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from itlens.errors import ResultError
from itlens.report.explorer import Chapter, Explorer
from itlens.report.explorer_places import Place, PlaceNumber, PlaceWords
from itlens.report.render import render_page
from itlens.study.shown import PageFrame
from tests.browser import Page
from tests.hostile import HOSTILE, RAN, SHORT
from tests.report.pages import figure, page, section

# of VS Code's notebook.experimental.enableCsp, the strictest that a notebook puts around its outputs
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src https: http: "
    "data:; font-src https:; connect-src https:; child-src https: data:"
)
TITLE = "document.getElementById('explorer-title').textContent"


def content() -> str:
    words = PlaceWords([("write", "poem"), (HOSTILE[0], HOSTILE[1])], {"related": [0.5, 0.25]})
    numbers = [PlaceNumber("overlap", 0.25)]
    places = [Place(layer, head, "Word pairs", "", numbers, words, words) for layer in (0, 1) for head in (0, 1)]
    sections = [section("score", figure()), section("heads", figure(SHORT[1], wide=True))]
    return render_page(
        page(*sections, title=HOSTILE[1], tools=[Explorer("Heads", [Chapter("heads", SHORT[2], places)], *SHORT[:2])])
    )


@pytest.fixture(scope="module")
def whole() -> str:
    return content()


@pytest.fixture(scope="module")
def inside(browser: Page, whole: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The browser within the frame of an output; two outputs of the same page, as a notebook may have."""
    shown = [PageFrame(HOSTILE[1], whole, 500, f"runs/{SHORT[3]}/report.html")._repr_html_() for _ in range(2)]
    file = tmp_path_factory.mktemp("notebook") / "notebook.html"
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    head = f'<meta charset="utf-8">{policy}<title>notebook</title>'
    file.write_text(f"<!doctype html><head>{head}</head><body><div>{'</div><div>'.join(shown)}</div></body>", "utf-8")
    browser.open(file)
    browser.driver.switch_to.frame(browser.driver.find_element("css selector", "iframe"))
    browser.wait("window.itlens && itlens.chapter() === 'summary'")
    yield browser
    browser.driver.switch_to.default_content()


def go(inside: Page, fragment: str) -> None:
    inside.run(f"void (location.hash = {fragment!r})")


def test_a_click_in_the_menu_opens_a_chapter_and_draws_it(inside: Page) -> None:
    inside.driver.find_element("css selector", "nav.menu a[href='#score']").click()
    inside.wait("itlens.chapter() === 'score'")
    inside.wait("document.querySelector('.chapter.open .js-plotly-plot svg')")


def test_a_head_has_its_panel_and_back_leads_out(inside: Page) -> None:
    go(inside, "#/head/1/0")
    inside.wait(f"{TITLE} === 'Layer 1, head 0'")
    assert "write → poem" in inside.run("document.querySelector('dialog .content').innerText")
    inside.driver.find_element("css selector", "dialog button[name=close]").click()
    inside.wait("!document.querySelector('dialog.explorer').open")


def test_the_search_box_finds_a_word(inside: Page) -> None:
    field = inside.driver.find_element("css selector", ".explorer-bar input[name=text]")
    field.send_keys("poem\n")
    inside.wait(f"{TITLE}.includes('poem')")
    inside.wait("document.querySelectorAll('dialog .results tbody tr').length === 4")
    inside.driver.find_element("css selector", "dialog button[name=close]").click()


def test_a_copied_link_is_of_the_file(inside: Page) -> None:
    go(inside, "#/head/0/1")
    inside.wait(f"{TITLE} === 'Layer 0, head 1'")
    assert inside.run("itlens.address()") == "report.html#/head/0/1"
    inside.driver.find_element("css selector", "dialog button[name=close]").click()


def test_the_page_cannot_reach_the_notebook(inside: Page) -> None:
    reached = "(() => { try { return parent.document.title; } catch (error) { return error.name; } })()"
    assert inside.run(reached) == "SecurityError"
    assert inside.run("origin") == "null"


def test_no_name_runs_and_nothing_is_asked_or_complained_of(inside: Page) -> None:
    go(inside, "#/head/0/0")
    inside.wait(f"{TITLE} === 'Layer 0, head 0'")
    assert HOSTILE[1] in inside.run("document.querySelector('dialog .content').innerText")
    assert not inside.run(RAN)
    inside.driver.switch_to.default_content()
    outside: dict[str, Any] = {
        "ran": inside.run(RAN),
        "title": inside.run("document.title"),
        "elements": inside.run("document.querySelectorAll('body *:not(div):not(iframe):not(p)').length"),
        "said": inside.run("document.querySelector('p').textContent"),
    }
    inside.driver.switch_to.frame(inside.driver.find_element("css selector", "iframe"))
    assert not outside["ran"]
    assert outside["title"] == "notebook"
    assert outside["elements"] == 0
    assert SHORT[3] in outside["said"]
    assert inside.complaints() == []
    assert [url for url in inside.requests() if not url.endswith("/notebook.html") and url != "about:srcdoc"] == []


def test_the_text_of_a_frame_is_the_page(whole: str) -> None:
    frame = PageFrame("a title", whole, path="runs/x/report.html")
    assert str(frame) == whole
    assert repr(frame).startswith("a title (")
    assert "runs/x/report.html" in repr(frame)
    assert len(frame._repr_html_()) < 1.1 * len(whole)


@pytest.mark.parametrize("height", [0, 199, 4001, 500.0, "500px", True, None])
def test_a_height_that_is_none_is_refused(height: Any) -> None:
    with pytest.raises(ResultError, match=r"explore got height=.*whole number of pixels from 200 to 4000"):
        PageFrame("t", "", height)
