"""Pages of dummy sections as a reader's browser sees them; skipped where no browser can be driven.

One browser and one page for all tests of chapters, links, files and faults.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from itlens.report import theme
from itlens.report.blocks import Choice, Column, Figure, Table, Text
from itlens.report.head_grid import head_map, panels, ticks
from itlens.report.render import CARTESIAN, render_page
from tests.browser import Page
from tests.report.pages import figure, groups, page, row, section
from tests.report.test_render import hostile_page
from tests.views.factory import HOSTILE

AXE = Path(__file__).parents[1] / ".axe" / "axe.min.js"
OVERFLOW = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
OPEN = "[...document.querySelectorAll('.chapter')].filter(c => c.getClientRects().length).map(c => c.id)"
DRAWN = "[...document.querySelectorAll('.itlens-figure')].filter(f => f.querySelector('.main-svg')).length"
ROWS = ["daily", "code", "prose"]
FORMULAS = ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\tx", "-0.5", 'fine, "quoted"', "a\nb"]


def two_panels() -> Figure:
    """A map of heads with a line beside it."""
    fig = theme.figure("Two panels", height=380)
    panels(fig, [0.6, 0.4], ["each head", "each layer"], shared=True)
    z = np.linspace(-1, 1, 12).reshape(3, 4)
    fig.add_trace(head_map(fig, z, [["x"] * 4] * 3, "tuned − base", signed=True), row=1, col=1)
    fig.add_trace(go.Scatter(x=[1, 2, 3], y=[0, 1, 2]), row=1, col=2)
    fig.update_xaxes(title={"text": "a title of an axis that is longer than a telephone is wide"}, row=1, col=2)
    fig.update_yaxes(**ticks(ROWS), title={"text": "task"}, range=[2.5, -0.5], row=1, col=1)
    return Figure(fig, wide=True)


def formulas() -> Table:
    data = pd.DataFrame({"id": FORMULAS, "x": np.linspace(-1, 1, len(FORMULAS)) / 3})
    return Table(data, [Column("id", "=name"), Column("x", "x", "signed")], "Formulas", sortable=True)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two findings (one without a change), panels, a switch, tables, and a script that registers a route."""
    kinds = Choice("vectors", {"value": [Text("Of values.", "Rotation"), figure("of values")],
                               "key": [Text("Of keys.", "Rotation"), figure("of keys")]})  # fmt: skip
    whole, heads = page().sections
    sections = [
        whole,
        heads,
        section("panels", two_panels()),
        section("kinds", kinds, Text("Rows.", "Tables"), formulas(), groups(folded=True)),
    ]
    rows = [row("score", "higher"), row("heads"), row("panels", "changed"), row("kinds", "changed")]
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(render_page(page(*sections, rows=rows, notes=["Two.", "Three.", "Four."])), encoding="utf-8")
    return file


def test_a_chapter_is_shown_at_a_time_and_figures_are_drawn_when_theirs_opens(browser: Page, path: Path) -> None:
    browser.open(path)
    assert browser.run(OPEN) == ["summary"]
    assert browser.run(DRAWN) == 0
    browser.run("document.querySelector('.summary a').click()")
    browser.wait(f"{DRAWN} === 2")
    assert browser.run(OPEN) == ["score"]
    assert browser.run("location.hash") == "#score"
    assert browser.run("document.querySelector('.menu [aria-current]').textContent.trim()") == "▲ Score"
    assert browser.run("document.activeElement.textContent") == "Does tuning change score?"
    assert browser.run("document.querySelectorAll('script:not([src])').length") > 4
    browser.driver.back()
    browser.wait(f"{OPEN}[0] === 'summary'")
    assert browser.requests() == [path.resolve().as_uri()]
    assert browser.complaints() == []


def test_the_vendored_bundle_draws_the_kinds_that_it_is_trusted_with(browser: Page, path: Path) -> None:
    browser.open(path, "score")
    browser.wait(f"{DRAWN} === 2")
    assert sorted(browser.run("Object.keys(Plotly.PlotSchema.get().traces)")) == sorted(CARTESIAN)


def test_without_script_every_chapter_is_there_and_links_are_anchors(browser: Page, path: Path) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open(path)
        dom = browser.driver.execute_cdp_cmd("DOM.getDocument", {"depth": 1})["root"]["nodeId"]
        found = browser.driver.execute_cdp_cmd("DOM.querySelectorAll", {"nodeId": dom, "selector": ".chapter, .option"})
        boxes = [browser.driver.execute_cdp_cmd("DOM.getBoxModel", {"nodeId": node}) for node in found["nodeIds"]]
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert len(boxes) == 9
    assert all(box["model"]["height"] > 40 for box in boxes)


def test_on_paper_every_chapter_is_there(browser: Page, path: Path) -> None:
    browser.open(path, "score")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert len(browser.run(OPEN)) == 7
        assert browser.run("[...document.querySelectorAll('.option')].every(o => o.getClientRects().length)")
        assert not browser.run("document.querySelector('.menu').getClientRects().length")
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize(
    "fragment",
    ["nothing", "/nothing/5", "/head/%zz", "%", "%E0%A4%A", "/", "//", "constructor", "__proto__", "/__proto__/x",
     *(quote(evil, safe="") for evil in HOSTILE), *(f"/head/{quote(evil, safe='')}/3" for evil in HOSTILE[:4]),
     "x" * 100_000, "<img src=x onerror=alert(1)>", "javascript:alert(1)"],
)  # fmt: skip
def test_an_unknown_or_hostile_fragment_shows_the_first_chapter(browser: Page, path: Path, fragment: str) -> None:
    if browser.run("location.href.split('#')[0]") != path.resolve().as_uri():  # not what another test has opened
        browser.open(path)
    browser.driver.execute_script("location.hash = arguments[0]", "score")
    browser.wait(f"{OPEN}[0] === 'score'")
    browser.driver.execute_script("location.hash = arguments[0]", fragment)
    browser.wait(f"{OPEN}[0] === 'summary'")
    assert browser.run("document.title") == "a and b"
    assert browser.complaints() == []


def test_a_script_registers_a_route_and_gets_its_parts_decoded(browser: Page, path: Path) -> None:
    browser.open(path, f"/word/{quote('a/b <i>', safe='')}/3")
    assert browser.run(OPEN) == ["summary"]
    browser.driver.execute_script(
        "itlens.route('word', (parts) => {"
        " window.seen = parts; return parts[0] ? document.querySelector('#kinds .table-card') : null; })"
    )
    assert browser.run("window.seen") == ["a/b <i>", "3"]
    assert browser.run(OPEN) == ["kinds"]
    assert browser.run("itlens.link('word', 'a/b <i>', 3)") == "#/word/a%2Fb%20%3Ci%3E/3"
    browser.driver.execute_script("itlens.go('#/word/')")
    browser.wait(f"{OPEN}[0] === 'summary'")
    refused = browser.run(
        "(() => { try { itlens.route('word', () => null); } catch (error) { return error.message; } })()"
    )
    assert refused == "The route word is taken."


def test_a_link_to_a_part_opens_its_chapter_and_chooses_its_set(browser: Page, path: Path) -> None:
    browser.open(path, "kinds--key--rotation")
    browser.wait(f"{DRAWN} === 1")
    assert browser.run(OPEN) == ["kinds"]
    assert browser.run("document.querySelector('.option.open').dataset.name") == "key"
    assert browser.run("[...document.querySelectorAll('.switch [aria-pressed=true]')].map(b => b.textContent)") == [
        "key"
    ]
    shown = "[...document.querySelectorAll('.menu .parts li')].filter(l => !l.hidden).map(l => l.textContent)"
    assert browser.run(shown) == ["Rotation", "Tables"]
    browser.run("document.querySelector('.switch button').click()")
    browser.wait(f"{DRAWN} === 2")
    assert browser.run("document.querySelector('.option.open').dataset.name") == "value"


def test_a_finding_without_a_change_is_one_line_with_the_rest_folded(browser: Page, path: Path) -> None:
    browser.open(path, "heads")
    assert "no significant change" in browser.run("document.querySelector('#heads .which').textContent")
    assert browser.run("document.querySelector('#heads details.rest').open") is False
    assert browser.run("document.querySelector('#heads .table-card').checkVisibility()") is False
    browser.run("document.querySelector('#heads details.rest > summary').click()")
    browser.wait("document.querySelector('#heads .table-card').checkVisibility()")


def test_everything_is_reached_by_the_keyboard(browser: Page, path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(path)
    active = browser.driver.switch_to
    body = browser.driver.find_element("tag name", "body")
    body.send_keys(Keys.TAB)
    assert browser.run("document.activeElement.className") == "skip"
    reached = []
    for _ in range(6):
        active.active_element.send_keys(Keys.TAB)
        reached.append(browser.run("document.activeElement.textContent.trim()"))
    assert reached == ["Copy link", "Dark", "Summary", "▲ Score", "= Heads", "◆ Panels"]
    active.active_element.send_keys(Keys.ENTER)
    browser.wait(f"{OPEN}[0] === 'panels'")
    browser.driver.execute_script("location.hash = 'kinds'")
    browser.wait(f"{OPEN}[0] === 'kinds'")
    heading = browser.driver.find_elements("css selector", "#kinds table.sortable th")[1]
    heading.send_keys(Keys.ENTER)
    heading.send_keys(Keys.ENTER)
    values = browser.run(
        "[...document.querySelectorAll('#kinds table.sortable tbody tr')].map(r => Number(r.cells[1].dataset.v))"
    )
    assert values == sorted(values, reverse=True)


def test_copy_link_copies_the_address_of_what_is_shown(browser: Page, path: Path) -> None:
    browser.open(path, "score")
    grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.driver.execute_cdp_cmd("Browser.grantPermissions", grant)
    browser.run("document.querySelector('button.copy-link').click()")
    browser.wait("document.querySelector('button.copy-link').textContent === 'Copied'")
    copied = browser.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == path.resolve().as_uri() + "#score"


CAUGHT = (
    "window.saved = []; itlens.save = () => {}; const click = HTMLAnchorElement.prototype.click;"
    "HTMLAnchorElement.prototype.click = function () { if (!this.download) return click.call(this);"
    " const href = this.href; saved.push({ name: this.download, href });"
    " const at = saved.length - 1; window.blobs[at]?.text().then((text) => { saved[at].text = text; }); };"
    "window.blobs = []; const create = URL.createObjectURL;"
    "URL.createObjectURL = (blob) => { blobs.push(blob); return create.call(URL, blob); };"
)


def test_a_table_is_saved_as_csv_in_which_no_cell_is_a_formula(browser: Page, path: Path) -> None:
    browser.open(path, "kinds")
    browser.driver.execute_script(CAUGHT)
    browser.run("[...document.querySelectorAll('#kinds [data-csv]')].find(b => b.getClientRects().length).click()")
    browser.wait("saved[0]?.text !== undefined")
    assert browser.run("saved[0].name") == "formulas.csv"
    head, *rows = list(csv.reader(io.StringIO(browser.run("saved[0].text").lstrip("\ufeff"))))
    assert head == ["'=name", "x"]
    assert [cells[0] for cells in rows] == [
        "'=1+1",
        "'+cmd",
        "'-2+3",
        "'@SUM(A1)",
        "⇥x",
        "-0.5",
        'fine, "quoted"',
        "a↵b",
    ]
    assert [float(cells[1]) for cells in rows] == pytest.approx(np.linspace(-1, 1, len(FORMULAS)) / 3)
    assert browser.run(r"itlens.csv([['\t=1', '\r', '-1e3', '+5', '-x']])") == "'\t=1,\"'\r\",-1e3,+5,'-x\r\n"


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_figure_is_saved_with_its_title(browser: Page, path: Path, kind: str) -> None:
    browser.open(path, "panels")
    browser.wait(f"{DRAWN} === 1")
    browser.driver.execute_script(CAUGHT.replace("itlens.save = () => {};", ""))
    browser.run(f"document.querySelector('#panels [data-save={kind}]').click()")
    browser.wait("saved.length === 1")
    name, address = browser.run("[saved[0].name, saved[0].href]")
    assert name == f"two-panels.{kind}"
    assert address.startswith(f"data:image/{'svg+xml' if kind == 'svg' else 'png'}")
    assert len(address) > 5000
    if kind == "svg":
        assert "Two panels" in browser.run("decodeURIComponent(saved[0].href)")
    assert browser.complaints() == []


def test_a_narrow_page_stacks_panels_and_hints_at_what_is_cut_off(browser: Page, path: Path) -> None:
    browser.open(path, "panels", width=1400)
    browser.wait(f"{DRAWN} === 1")
    domains = (
        "['xaxis', 'yaxis', 'xaxis2', 'yaxis2']"
        ".map(name => document.querySelector('#panels .itlens-figure')._fullLayout[name].domain)"
    )
    first, _, second, _ = browser.run(domains)
    assert first[1] < second[0]
    browser.open(path, "panels", width=420)
    browser.wait(f"{DRAWN} === 1")
    first, above, second, below = browser.run(domains)
    assert first == second
    assert above[0] > below[1]
    assert "<br>" in browser.run("document.querySelector('#panels .itlens-figure')._fullLayout.xaxis2.title.text")
    labels = "[...document.querySelectorAll('#panels .y2tick text')].map(label => label.textContent)"
    assert sorted(browser.run(labels)) == sorted(ROWS), "rows that panels share are named in each"
    assert browser.run("document.querySelector('#panels .y2title')?.textContent") == "task"
    assert browser.run("document.querySelector('select.chapters').value") == "panels"
    browser.driver.execute_script("location.hash = 'score'")
    browser.wait(f"{DRAWN} === 3")
    cell = "document.querySelector('#score .scroll td')"
    assert browser.run(f"getComputedStyle({cell}).position") == "sticky"
    assert "inset" in browser.run(f"getComputedStyle({cell}).boxShadow"), "it hides the row's rule"
    box = "document.querySelector('#score .scroll')"
    mask = f"getComputedStyle({box}).maskImage"
    browser.wait(f"{box}.classList.contains('more-right')")
    assert "64px" in browser.run(mask), "columns fade out where more of them follow"
    browser.driver.execute_script(f"{box}.scrollLeft = 1e4")
    assert browser.run(f"{cell}.getBoundingClientRect().left") >= 0
    browser.wait(f"!{box}.classList.contains('more-right')")
    assert "64px" not in browser.run(mask), "the last column is seen as it is"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [420, 1400])
def test_a_page_is_drawn_offline_and_fits_the_screen(browser: Page, path: Path, width: int, dark: bool) -> None:
    browser.open(path, width=width, dark=dark)
    browser.draw_all()
    assert browser.run(DRAWN) == 5
    assert browser.run(OVERFLOW) is False
    assert browser.run("document.querySelector('button.theme').textContent") == ("Light" if dark else "Dark")
    zero = "document.querySelector('#panels .itlens-figure').data[0].colorscale[2][1]"
    assert browser.run(zero) == ("#242a32" if dark else "#f3f3f1")
    browser.run("document.querySelector('button.theme').click()")
    browser.wait(f"{zero} === '{'#f3f3f1' if dark else '#242a32'}'")
    assert browser.requests() == [path.resolve().as_uri()]
    assert browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_serious_fault(browser: Page, path: Path, dark: bool) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed (tests/install_browser.sh, with npm)")
    browser.open(path, dark=dark)
    browser.draw_all()
    assert browser.faults(AXE) == []


def test_hostile_text_does_not_run(browser: Page, tmp_path: Path) -> None:
    for number, evil in enumerate(HOSTILE[:3]):
        file = tmp_path / f"{number}.html"
        file.write_text(render_page(hostile_page(evil)), encoding="utf-8")
        browser.open(file)
        browser.draw_all()
        assert browser.run(DRAWN) >= 1
        assert browser.run("document.title") != "pwned"
        assert browser.run("document.querySelectorAll('img, script[src], [onerror]').length") == 0
        assert browser.complaints() == []
