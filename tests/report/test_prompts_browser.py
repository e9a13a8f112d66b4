"""The chapter of prompts in a browser: found, filtered, sorted, read; figures and tables that lead to it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import plotly.graph_objects as go
import pytest

from itlens.report.blocks import Column, Figure, Table
from itlens.report.prompts import PromptAnswer, PromptEntry, PromptNumber, PromptsChapter
from itlens.report.render import render_page
from tests.browser import Page
from tests.report.pages import page as page_data
from tests.report.pages import section
from tests.views.factory import attribution, prompts, token_panel

COUNT = 130
READY = "document.querySelector('.itlens-prompts[data-ready]')"
ROWS = "[...document.querySelectorAll('.list tbody tr')]"
TITLE = "document.querySelector('.chosen h3.part bdi')?.textContent"


def entry(n: int) -> PromptEntry:
    text = [("Here: ", []), (f"word{n}", ["context"]), ("\nSay it.", ["instruction"])]
    answers = {
        "base": PromptAnswer(f" the word is {n}", "cut at the length limit"),
        "tuned": PromptAnswer(f" the answer is {n}", "ended by itself"),
    }
    return PromptEntry(f"p{n}", "even" if n % 2 == 0 else "odd", text, answers)


def panels(id: str) -> list[object]:
    scores = attribution(["Say", f" {id}"], ["yes", "."], model="toy")
    return [token_panel(scores)] if int(id[1:]) < 3 else []


def chapter() -> PromptsChapter:
    values = {f"p{n}": (float(n), 0.5 * n) for n in range(COUNT)}
    score = PromptNumber("score", "the instruction score", values)
    length = PromptNumber("length", "answers", {f"p{n}": (float(-n), float(n)) for n in range(COUNT - 1)})
    return PromptsChapter([entry(n) for n in range(COUNT)], [score, length], "a", "b", "A note.", panels)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = prompts(4, ["g"]).assign(id=[f"p{n}" for n in range(4)])
    points = go.Figure(go.Scatter(x=[0, 1], y=[0, 1], ids=["p1", "p7"], meta={"link": "prompt"}, mode="markers"))
    rows = Table(table, [Column("id", "prompt", link="prompt"), Column("base", "base", "number")], sortable=True)
    content = page_data(section("score", Figure(points), rows), prompts=chapter(), prompts_table=None)
    path = tmp_path_factory.mktemp("prompts") / "page.html"
    path.write_text(render_page(content), encoding="utf-8")
    return path


def open_at(browser: Page, path: Path, fragment: str, *, width: int = 1280, dark: bool = False) -> None:
    browser.open(path, width=width, dark=dark)
    browser.driver.get("about:blank")
    browser.driver.get(path.resolve().as_uri() + fragment)
    browser.wait(READY)


def ids(browser: Page) -> list[str]:
    return list(browser.run(f"{ROWS}.map(r => r.dataset.id)"))


def put(browser: Page, name: str, value: str) -> None:
    script = f"const f = document.querySelector('.picker').elements['{name}']; f.value = {value!r};"
    browser.driver.execute_script(script + "f.dispatchEvent(new Event('input', { bubbles: true }));")


def test_the_list_is_sorted_by_change_and_grows(browser: Page, written: Path) -> None:
    open_at(browser, written, "#prompts")
    assert ids(browser) == [f"p{n}" for n in range(129, 29, -1)]
    browser.run("document.querySelector('.more').click()")
    assert len(ids(browser)) == COUNT
    assert browser.run("document.querySelector('.more').hidden")
    first = browser.run(f"[...{ROWS}[0].cells].map(c => c.textContent)")
    assert first == ["p129", "odd", "129.000", "64.500", "−64.500", "Here: word129 Say it."]
    assert browser.run("document.querySelector('.found').textContent").startswith("130 of 130 prompts · score")
    assert browser.complaints() == []


def test_search_group_number_and_order_are_in_the_address(browser: Page, written: Path) -> None:
    open_at(browser, written, "#prompts")
    put(browser, "q", "WORD12")
    put(browser, "group", "=odd")
    put(browser, "number", "1")
    put(browser, "order", "base")
    shown = ["p121", "p123", "p125", "p127", "p129"]
    assert ids(browser) == shown, "the highest of the base first, what has no number last"
    address = browser.run("location.hash")
    assert address == "#/prompts/WORD12/odd/1/base"
    open_at(browser, written, address)
    browser.wait(f"{ROWS}.length === 5")
    assert ids(browser) == shown
    assert browser.run("document.querySelector('.picker').elements.group.value") == "=odd"
    put(browser, "q", "the answer is 129")
    assert ids(browser) == ["p129"], "answers are searched as well"


def test_an_address_opens_a_prompt_with_everything(browser: Page, written: Path) -> None:
    open_at(browser, written, "#/prompt/p2")
    browser.wait(f"{TITLE} === 'p2'")
    browser.wait("document.querySelector('.views .itlens-tokens[data-ready]')")
    assert browser.run("document.querySelector('.chosen .instruction:not(.legend *)').textContent") == "\nSay it."
    texts = "[...document.querySelectorAll('.answer-text p.text')].map(p => p.textContent)"
    assert browser.run(texts) == ["the word is 2", "the answer is 2"]
    marks = "[...document.querySelectorAll('.answer-text mark')].map(m => m.textContent)"
    assert browser.run(marks) == ["word", "answer"]
    assert browser.run("document.querySelector('.answer-text.base > p.sub').textContent") == (
        "cut at the length limit · 1 of 4 words only here"
    )
    lines = "[...document.querySelectorAll('table.numbers tbody tr:not(.about)')]"
    rows = f"{lines}.map(r => [...r.cells].map(c => c.textContent))"
    assert browser.run(rows) == [["score", "2.000", "1.000", "−1.000"], ["length", "−2", "2", "+4"]]
    assert browser.run("document.querySelector('.views .prompt').textContent.includes('p2')")
    assert browser.run(f"{ROWS}.filter(r => r.classList.contains('here')).length") == 0, "beyond the first hundred"
    assert set(browser.requests()) == {written.resolve().as_uri()}
    assert browser.complaints() == []


def test_previous_and_next_follow_the_list(browser: Page, written: Path) -> None:
    open_at(browser, written, "#/prompt/p128")
    browser.wait(f"{TITLE} === 'p128'")
    for step, found in (("next", "p127"), ("previous", "p128"), ("previous", "p129")):
        browser.run(f"document.querySelector('.steps .{step}').click()")
        browser.wait(f"{TITLE} === '{found}'")
        assert browser.run("location.hash") == f"#/prompt/{found}"
    assert browser.run("document.querySelector('.steps .previous').tagName") == "SPAN", "there is none before the first"
    assert browser.run(f"{ROWS}.filter(r => r.classList.contains('here')).map(r => r.dataset.id)") == ["p129"]
    browser.driver.back()
    browser.wait(f"{TITLE} === 'p128'")


def test_an_unknown_prompt_is_named(browser: Page, written: Path) -> None:
    open_at(browser, written, "#/prompt/" + quote("<b>none</b>", safe=""))
    browser.wait("document.querySelector('.chosen .caveat')")
    said = browser.run("document.querySelector('.chosen').textContent")
    assert said == "This study has no prompt “<b>none</b>”; its ids are in the list."


def test_a_point_and_a_row_lead_to_their_prompt(browser: Page, written: Path) -> None:
    browser.open(written)
    browser.driver.get(written.resolve().as_uri() + "#score")
    browser.wait("document.querySelector('.itlens-figure .main-svg')")
    browser.driver.execute_script(
        "const f = document.querySelector('.itlens-figure');"
        "f.emit('plotly_click', { points: [{ data: f.data[0], pointNumber: 1 }] });"
    )
    browser.wait(f"{TITLE} === 'p7'")
    link = browser.run("document.querySelector('table.sortable tbody a').getAttribute('href')")
    assert link == "#/prompt/p0"
    browser.run("document.querySelector('table.sortable tbody a').click()")
    browser.wait(f"{TITLE} === 'p0'")


@pytest.mark.parametrize("width", [420, 1400])
def test_it_fits_every_screen(browser: Page, written: Path, width: int) -> None:
    open_at(browser, written, "#/prompt/p1", width=width, dark=width == 420)
    browser.wait(f"{TITLE} === 'p1'")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.complaints() == []
