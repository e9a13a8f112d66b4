"""The panels of heads and layers, and the search, as a reader uses them; one page for all tests of this file.

Skipped where no browser can be driven.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import plotly.graph_objects as go
import pytest

from itlens.report import theme
from itlens.report.blocks import Figure, Text
from itlens.report.explorer import Chapter, Explorer
from itlens.report.explorer_places import Place, PlaceNumber, PlaceWords
from itlens.report.head_grid import cells_of, head_map
from itlens.report.render import render_page
from tests.browser import Page
from tests.report.pages import page, section
from tests.views.factory import HOSTILE

LAYERS, HEADS = (0, 2, 5), 4  # some layers are missing: a row of a map is no layer
EVIL, LONG = HOSTILE[1], "w" * 100_000
TITLE = "document.getElementById('explorer-title').textContent"
OPEN = "document.querySelector('dialog.explorer').open"
CONTENT = "document.querySelector('dialog.explorer .content').innerText"


def pairs(side: str, layer: int, head: int) -> PlaceWords:
    own = (f"{side}{layer}", "Story")
    words = [("write", "poem"), own, (f"rewrite{head}", "text")] if (layer, head) == (2, 1) else [("cat", "dog"), own]
    if (layer, head, side) == (5, 3, "tuned"):
        words = [("essay", "write"), own, (EVIL, LONG), (HOSTILE[0], HOSTILE[7])]
    numbers = {"related": np.linspace(0.987, 0.1234, len(words)).tolist(), "dims": [2.0] * len(words)}
    return PlaceWords(words, numbers, [word == own for word in words], 100)


def heads_known() -> list[Place]:
    numbers = [
        PlaceNumber("distinct pairs", 12.0, 100.0, 112.0),
        PlaceNumber("overlap", 0.12345, low=0.1, high=0.2, p=0.00012),
        PlaceNumber("never measured"),
    ]
    related = [
        Place(layer, head, "Word pairs", "", numbers, pairs("base", layer, head), pairs("tuned", layer, head))
        for layer in LAYERS
        for head in range(HEADS)
    ]  # fmt: skip
    writes = {
        "base": PlaceWords([("king", "queen"), ("king", "sceptre")], {"score": [2.5, 1.25]}, [False, True]),
        "tuned": PlaceWords([("king", "crown"), ("king", "queen")], {"score": [3.0, 2.0]}, [True, False]),
    }
    return [*related, Place(0, 1, "What it writes", base=writes["base"], tuned=writes["tuned"])]


def layers_known() -> list[Place]:
    def concept(layer: int, number: int) -> Place:
        words = PlaceWords(["writer", f"word{number}"], {"|cosine|": [0.5, 0.25]}, [False, True], label=f"about {EVIL}")
        numbers = [PlaceNumber("share", None, 1.0, 2.0, unit="%")]
        return Place(layer, what="Value concepts", part=f"concept {number}", numbers=numbers, base=words, tuned=words)

    effects = [Place(layer, what="Effect", numbers=[PlaceNumber("effect", layer / 7, unit="nats")]) for layer in LAYERS]
    return effects + [concept(layer, number) for layer in LAYERS for number in range(12)]


def maps() -> list[Figure]:
    mine = theme.figure("A map of heads", height=340)
    mine.update_xaxes(title={"text": "head"}).update_yaxes(title={"text": "layer"})
    mine.set_subplots(1, 1)
    z = np.arange(len(LAYERS) * HEADS, dtype=float).reshape(len(LAYERS), HEADS)
    hover = [[f"L{layer}H{head}" for head in range(HEADS)] for layer in LAYERS]
    mine.add_trace(head_map(mine, z, hover, "words", signed=False, meta=cells_of(LAYERS, range(HEADS))))
    other = theme.figure("Somebody else's map", height=340)
    other.add_trace(go.Heatmap(z=z, x=list(range(HEADS)), y=list(LAYERS)))
    other.update_xaxes(title={"text": "head"}).update_yaxes(title={"text": "layer"})
    return [Figure(mine, wide=True), Figure(other, wide=True)]


class Reader:
    """What a reader does with the page, and sees."""

    def __init__(self, browser: Page) -> None:
        self.browser = browser

    def see(self, expression: str) -> Any:
        return self.browser.run(expression)

    def go(self, fragment: str) -> None:
        """Follow an address within the page, and wait for its panel."""
        self.browser.driver.execute_script("document.querySelector('dialog.explorer .content').textContent = ''")
        self.browser.driver.execute_script(
            "history.replaceState(null, '', '#'); location.hash = arguments[0]", fragment
        )
        self.browser.wait(f"{OPEN} && {CONTENT} !== ''")

    def chapter(self) -> None:
        """Open the chapter with the maps, from another one: the router then moves the focus, in the same turn."""
        for name in ("summary", "score"):
            self.browser.driver.execute_script("location.hash = arguments[0]", name)
            self.browser.wait(f"document.querySelector('.chapter.open').id === '{name}'")

    def keys(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.browser.driver).send_keys(*keys).perform()

    def click(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            event = {
                "type": kind,
                "x": x,
                "y": y,
                "button": "none" if kind == "mouseMoved" else "left",
                "clickCount": 1,
            }
            self.browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
            time.sleep(0.05)  # plotly looks for the point under the pointer after a moment

    def rows(self, selector: str) -> list[list[str]]:
        """The cells' text of a table of the panel."""
        table = f"document.querySelector('dialog.explorer {selector}')"
        return self.see(f"[...{table}.rows].map((row) => [...row.cells].map((cell) => cell.innerText.trim()))")

    def close(self) -> None:
        if self.see(OPEN):
            self.see("document.querySelector('dialog.explorer button[name=close]').click()")


@pytest.fixture(scope="module")
def known() -> list[Place]:
    return [*heads_known(), *layers_known()]


@pytest.fixture(scope="module")
def opened(browser: Page, tmp_path_factory: pytest.TempPathFactory, known: list[Place]) -> Iterator[Reader]:
    chapters = [Chapter("score", "Pairs and concepts", known)]
    tool = Explorer("Heads and layers", chapters, "toy/base", EVIL)
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    path.write_text(render_page(page(section("score", Text("In words."), *maps()), tools=[tool])), encoding="utf-8")
    browser.open(path, width=1400)
    yield Reader(browser)
    assert browser.requests() == [path.resolve().as_uri()]
    assert browser.complaints() == []


@pytest.fixture
def reader(opened: Reader) -> Iterator[Reader]:
    yield opened
    opened.close()


def cell_at(reader: Reader, figure: int, row: float, column: float) -> list[float]:
    """Where a cell of a map is on the screen."""
    reader.chapter()
    reader.browser.wait("document.querySelectorAll('.itlens-figure .nsewdrag').length === 2")
    return reader.browser.driver.execute_script(
        """const figure = document.querySelectorAll('.itlens-figure')[arguments[0]];
           figure.scrollIntoView({block: 'center', behavior: 'instant'});
           const {xaxis, yaxis, _size} = figure._fullLayout, box = figure.getBoundingClientRect();
           return [box.left + _size.l + xaxis.d2p(arguments[2]), box.top + _size.t + yaxis.d2p(arguments[1])];""",
        figure, row, column,
    )  # fmt: skip


@pytest.mark.parametrize(("figure", "row"), [(0, 1), (1, 2)], ids=["by its meta", "by its axes"])
def test_a_click_on_a_cell_of_any_map_opens_the_head(reader: Reader, figure: int, row: int) -> None:
    """The second row of both maps is layer 2."""
    reader.click(*cell_at(reader, figure, row, 3))
    reader.browser.wait(f"{OPEN} && {TITLE} === 'Layer 2, head 3'")
    assert reader.see("location.hash") == "#/head/2/3"
    assert reader.see("document.activeElement.id") == "explorer-title"
    assert reader.see("document.querySelector('.chapter.open').id") == "score"


def test_a_panel_shows_the_numbers_and_words_of_the_data(reader: Reader) -> None:
    reader.go("#/head/2/1")
    assert reader.rows(".numbers") == [["", "base", "tuned", "tuned − base"], ["distinct pairs", "100", "112", "+12"]]
    second = "document.querySelectorAll('dialog.explorer .numbers')[1].innerText"
    assert reader.see(second).split() == [
        "value",
        "95",
        "%",
        "interval",
        "p",
        "overlap",
        "0.123",
        "[0.100,",
        "0.200]",
        "<",
        "0.001",
    ]
    assert "never measured" not in reader.see(CONTENT)
    rows = reader.rows("figure + figure .pairs")
    assert rows[0] == ["#", "pair", "related", "dims"]
    assert rows[1:] == [
        ["1", "write → poem", "0.987", "2"],
        ["2", "tuned2 → Story new", "0.555", "2"],
        ["3", "rewrite1 → text", "0.123", "2"],
    ]
    assert reader.see("[...document.querySelectorAll('dialog.explorer .pairs s')].map((each) => each.innerText)") == [
        "base2 → Story"
    ]
    assert "the first 3 of 100" in reader.see("document.querySelector('dialog.explorer figcaption').innerText")


def test_a_head_shows_what_it_writes_below_what_it_relates(reader: Reader) -> None:
    reader.go("#/head/0/1")
    headings = "[...document.querySelectorAll('dialog.explorer h4')].map((each) => each.innerText)"
    assert reader.see(headings) == ["Word pairs", "What it writes"]
    writes = '[data-what="What it writes"]'
    assert reader.rows(f"{writes} figure .pairs")[1:] == [
        ["1", "king → queen", "2.500"],
        ["2", "king → sceptre gone", "1.250"],
    ]
    assert reader.rows(f"{writes} figure + figure .pairs") == [
        ["#", "pair", "score"],
        ["1", "king → crown new", "3"],
        ["2", "king → queen", "2"],
    ]
    gone = f"[...document.querySelectorAll('dialog.explorer {writes} s')].map((each) => each.innerText)"
    assert reader.see(gone) == ["king → sceptre"]


@pytest.mark.parametrize(
    ("word", "models", "entries"),
    [("crown", "only tuned", "king → crown new"), ("sceptre", "only base", "king → sceptre gone")],
)
def test_the_search_finds_a_head_by_what_it_writes(reader: Reader, word: str, models: str, entries: str) -> None:
    reader.go(f"#/word/{word}")
    _, row = reader.rows(".results")
    assert row[0].split("\n") == ["L0H1", "What it writes"]
    assert row[1] == models
    assert row[4] == entries


def test_a_layer_has_its_concepts_and_its_heads(reader: Reader) -> None:
    reader.go("#/layer/5")
    assert reader.see(TITLE) == "Layer 5"
    assert reader.rows(".numbers") == [["", "value"], ["effect nats", "0.714"]]
    assert reader.see("document.querySelectorAll('dialog.explorer .part').length") == 9
    reader.see("[...document.querySelectorAll('dialog.explorer .more')].at(-1).click()")
    assert reader.see("document.querySelectorAll('dialog.explorer .part').length") == 13
    assert "share 1.0 → 2.0 %" in reader.see(CONTENT)
    links = "[...document.querySelectorAll('dialog.explorer .around a')].map((each) => each.hash)"
    assert reader.see(links) == [f"#/head/5/{head}" for head in range(HEADS)]


def test_a_link_leads_to_a_concept_that_is_not_among_the_first(reader: Reader) -> None:
    reader.go("#/layer/0/Value%20concepts/concept%2010")
    assert reader.see("document.querySelector('dialog.explorer .aim h5').textContent") == "concept 10"


def test_next_previous_and_the_back_button(reader: Reader) -> None:
    reader.go("#/head/2/3")
    reader.see("document.querySelector('dialog.explorer button[name=next]').click()")
    reader.browser.wait(f"{TITLE} === 'Layer 5, head 0'")
    reader.browser.driver.back()
    reader.browser.wait(f"{TITLE} === 'Layer 2, head 3'")
    reader.see("document.querySelector('dialog.explorer button[name=previous]').click()")
    reader.browser.wait(f"{TITLE} === 'Layer 2, head 2'")
    reader.go("#/head/0/0")
    assert reader.see("document.querySelector('dialog.explorer button[name=previous]').hidden") is True


def test_the_search_finds_parts_of_words_in_either_model(reader: Reader) -> None:
    reader.go("#/word/WRITE")
    assert reader.see(TITLE) == "Heads and layers with “WRITE”"
    chips = reader.see("[...document.querySelectorAll('dialog.explorer .found li')].map((each) => each.innerText)")
    assert sorted(chips) == ["rewrite1 2", "write 3", "writer 72"]
    heads = reader.rows("section:nth-of-type(1) .results")
    assert [row[0].split()[0] for row in heads[1:]] == ["L2H1", "L5H3"]
    assert heads[1][1:4] == ["base and tuned", "2", "2"]
    assert heads[2][1:] == ["only tuned", "0", "1", "essay → write"]
    counts = reader.see(
        "[...document.querySelectorAll('dialog.explorer section .count')].map((each) => each.innerText)"
    )
    assert counts == ["2: 1 base and tuned, 1 only tuned", "36: 36 base and tuned"]


def test_a_result_is_a_link_and_back_is_the_search(reader: Reader) -> None:
    reader.go("#/word/essay")
    reader.see("document.querySelector('dialog.explorer .results a').click()")
    reader.browser.wait(f"{TITLE} === 'Layer 5, head 3'")
    reader.browser.driver.back()
    reader.browser.wait(f"{TITLE}.includes('essay')")


@pytest.mark.parametrize("text", ["nowhere", "%", "(", "\\", EVIL + "x"])
def test_nothing_found_says_so(reader: Reader, text: str) -> None:
    reader.go(f"#/word/{quote(text, safe='')}")
    assert reader.see(CONTENT).startswith(f"No head and no concept of this page holds “{text}”")


@pytest.mark.parametrize(
    "fragment", ["#/head/9/0", "#/head/2", "#/head/2/x", "#/layer/1", "#/layer/-1", f"#/head/{quote(EVIL, safe='')}/0"]
)
def test_a_place_that_is_not_there_is_told_with_what_there_is(reader: Reader, fragment: str) -> None:
    reader.go(fragment)
    assert reader.see(TITLE) == "Not on this page"
    assert "its layers are 0 to 5, their heads 0 to 3" in reader.see(CONTENT)


def test_everything_by_keyboard(reader: Reader) -> None:
    from selenium.webdriver.common.keys import Keys

    reader.chapter()
    reader.keys("/")
    assert reader.see("document.activeElement.closest('.explorer-bar') !== null") is True
    reader.keys("poem", Keys.ENTER)
    reader.browser.wait(f"{TITLE}.includes('poem')")
    reader.keys("/", "xyz")  # within the panel, results follow what is typed
    reader.browser.wait(f"{CONTENT}.startsWith('No head') && location.hash === '#/word/poemxyz'")
    reader.keys(Keys.ESCAPE)  # empties the field, as in every search field
    reader.keys(Keys.ESCAPE)
    reader.browser.wait(f"!{OPEN}")
    assert reader.see("location.hash") == "#score"
    assert reader.see("document.activeElement.closest('.explorer-bar') !== null") is True


def test_the_form_goes_to_a_head_and_escape_leads_back(reader: Reader) -> None:
    from selenium.webdriver.common.keys import Keys

    reader.chapter()
    reader.see("document.querySelector('.explorer-bar [name=layer]').focus()")
    reader.keys("5", Keys.TAB, "2", Keys.ENTER)
    reader.browser.wait(f"{OPEN} && {TITLE} === 'Layer 5, head 2'")
    reader.keys(Keys.ESCAPE)
    reader.browser.wait(f"!{OPEN}")
    assert reader.see("location.hash") == "#score"
    assert reader.see("document.activeElement.name") == "head"


def test_the_link_of_a_panel_is_copied(reader: Reader) -> None:
    reader.go("#/head/0/2")
    reader.browser.driver.execute_script(
        "navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }"
    )
    reader.see("document.querySelector('dialog.explorer button[name=link]').click()")
    reader.browser.wait("document.querySelector('dialog.explorer .said').textContent === 'The link is copied.'")
    assert reader.see("window.copied").endswith("page.html#/head/0/2")


def test_the_numbers_of_a_panel_are_a_json_file(reader: Reader, known: list[Place], tmp_path: Path) -> None:
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    reader.browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    reader.go("#/head/5/3")
    reader.see("document.querySelector('dialog.explorer button[name=numbers]').click()")
    file = tmp_path / "layer-5-head-3.json"
    until(lambda: file.exists() and file.stat().st_size > 0)
    content = json.loads(file.read_text(encoding="utf-8"))
    (expected,) = [place for place in known if (place.layer, place.head) == (5, 3)]
    (place,) = content["findings"]["score"]
    assert (content["layer"], content["head"], content["models"]) == (5, 3, {"base": "toy/base", "tuned": EVIL})
    assert place["numbers"][1] == {
        "name": "overlap",
        "unit": "",
        "value": 0.12345,
        "base": None,
        "tuned": None,
        "low": 0.1,
        "high": 0.2,
        "p": 0.00012,
    }
    assert expected.tuned is not None
    assert [tuple(entry["words"]) for entry in place["tuned"]["entries"]] == list(expected.tuned.words)
    assert [entry["only"] for entry in place["tuned"]["entries"]] == list(expected.tuned.alone)


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.mark.parametrize(
    "fragment",
    ["#/head/5/3", "#/layer/0", f"#/word/{quote(EVIL, safe='')}", "#/word/<img src=x onerror=alert(1)>", "#/word/www"],
)
def test_hostile_words_labels_and_addresses_show_as_text(reader: Reader, fragment: str) -> None:
    reader.go(fragment)
    assert reader.see("document.title") != "pwned"
    assert reader.see("document.querySelectorAll('dialog img, dialog script, dialog [onerror]').length") == 0
    assert reader.see("document.querySelectorAll('script[src]').length") == 0
    if fragment == "#/head/5/3":
        assert EVIL in reader.see(CONTENT)
        assert "⟨U+202E⟩evil" in reader.see(CONTENT)
        assert "w" * 200 not in reader.see(CONTENT)


def test_hostile_text_in_the_search_field_is_text(reader: Reader) -> None:
    reader.go("#/word/x")
    script = """const field = document.querySelector('dialog .explorer-search input');
                field.value = arguments[0]; field.dispatchEvent(new Event('input'))"""
    reader.browser.driver.execute_script(script, EVIL)
    reader.browser.wait(f"{TITLE}.includes('<img')")
    assert reader.see("document.querySelectorAll('dialog img').length") == 0
    assert "L5H3" in reader.see(CONTENT)


@pytest.mark.parametrize("fragment", ["#/head/2/1", "#/layer/2", "#/word/write"])
def test_a_panel_fits_a_telephone(reader: Reader, fragment: str) -> None:
    metrics = {"width": 420, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    reader.browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    reader.go(fragment)
    content = "document.querySelector('dialog.explorer .content')"
    assert reader.see(f"{content}.scrollWidth <= {content}.clientWidth") is True
    assert reader.see("document.querySelector('dialog.explorer').getBoundingClientRect().width <= 420") is True
