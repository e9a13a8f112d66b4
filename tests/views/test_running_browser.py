"""The figures of running models in a reader's browser: drawn, silent, offline, and deaf to mark-up in names."""

from __future__ import annotations

from pathlib import Path

import pytest

from itlens import views
from itlens.findings import findings
from itlens.report import head_grid
from itlens.report.blocks import Figure, Text
from itlens.report.page_data import Page as PageData
from itlens.report.page_data import Section
from itlens.report.render import render_page
from tests.browser import Page, fits
from tests.views import running_factory as factory
from tests.views.factory import HOSTILE
from tests.views.test_browser import INTRUDERS, UNFOLD

pytestmark = pytest.mark.long

# pairs of texts in one figure whose boxes overlap by more than a sliver
OVERLAPS = """(() => {
  const found = [];
  for (const figure of document.querySelectorAll('.itlens-figure')) {
    const texts = [...figure.querySelectorAll('.xtick text, .ytick text, .x2tick text, .y2tick text, .x3tick text, '
      + '.infolayer .g-gtitle text, .annotation-text, .infolayer [class*=title] text, .cbaxis text, .legendtext')];
    const boxes = texts.map((t) => [t.textContent, t.getBoundingClientRect()]).filter(([, b]) => b.width > 0);
    boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
      const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const tall = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (wide > 2 && tall > 2) found.push(`${a} | ${b}`);
    }));
  }
  return found;
})()"""


def test_all_are_drawn_and_ask_for_nothing(browser: Page, tmp_path: Path) -> None:
    figures = [
        views.activations(factory.activation_diff(), group="<b>two</b>"),
        views.shift(factory.shift_means()),
        views.patching(factory.patch_result()),
        views.faithfulness(factory.faithful()),
        views.faithfulness(factory.faithfulness_table()),
        views.effects(factory.effect_table()),
        views.series(factory.model_series()),
    ]
    parts = [fig.to_html(full_html=False, include_plotlyjs=number == 0) for number, fig in enumerate(figures)]
    path = tmp_path / "figures.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><body>{''.join(parts)}</body>", encoding="utf-8")
    browser.open(path)
    browser.wait(f"document.querySelectorAll('.main-svg').length >= {len(figures)}")
    assert browser.requests() == [path.resolve().as_uri()]
    assert browser.complaints() == []
    stars = browser.run("document.querySelectorAll('.plotly-graph-div')[0].querySelectorAll('.points path').length")
    assert stars >= 1
    assert head_grid.LEVEL == 0.05
    texts = browser.run("[...document.querySelectorAll('.plotly-graph-div')[6].querySelectorAll('text')]"
                        ".map(t => t.textContent)")  # fmt: skip
    assert "<b>4</b>" in texts, "a label is shown as it was written"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of running models alone, and a page over several comparisons, with labels that would like to be tags."""
    tables = {
        "activation": factory.activation_tables(),
        "patching": factory.patch_tables(),
        "faithfulness": factory.faithfulness_tables(),
    }
    own = [
        Section(name, findings()[name].question, HOSTILE[1], blocks=findings()[name].show(shown), notes=HOSTILE)
        for name, shown in tables.items()
    ]
    series = factory.model_series(("base", *HOSTILE))
    differences = views.table(series.differences, [views.Column(str(n), str(n)) for n in series.differences.columns])
    several = [
        Section(
            "effects", HOSTILE[0], blocks=[Text(HOSTILE[1]), Figure(views.effects(factory.effect_table()), wide=True)]
        ),
        Section("series", "Series", blocks=[Figure(views.series(series), wide=True)]),
        Section("table", "Table", blocks=[differences]),
    ]
    folder = tmp_path_factory.mktemp("running")
    contents = {
        "report": PageData("Running", sections=own, base="b", tuned="t"),
        "overview": PageData("Over", "overview", HOSTILE[1], sections=several, links=[(HOSTILE[1], "off/report.html")]),
    }
    for name, content in contents.items():
        (folder / f"{name}.html").write_text(render_page(content), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in contents}


@pytest.mark.parametrize(("name", "figures", "title"), [("overview", 2, "Over"), ("report", 7, "Running")])
def test_pages_are_drawn_offline_and_show_labels_as_they_were_written(
    browser: Page, pages: dict[str, Path], name: str, figures: int, title: str
) -> None:
    browser.draw(pages[name])
    assert browser.run("document.querySelectorAll('.itlens-figure').length") == figures
    assert browser.requests() == [pages[name].resolve().as_uri()]
    assert browser.complaints() == []
    assert (browser.run("document.title"), browser.run(INTRUDERS)) == (title, 0)
    links = browser.run("[...document.querySelectorAll('nav.menu li > a')].map(a => a.getAttribute('href').slice(1))")
    places = "[...document.querySelectorAll('main > .chapter')].map(s => s.id)"
    assert browser.run(places) == links


def test_nothing_of_a_figure_runs_into_anything_else(browser: Page, pages: dict[str, Path]) -> None:
    """Titles of panels and axes, and what is written along them, have room of their own."""
    browser.draw(pages["report"])
    assert browser.run(OVERLAPS) == []


@pytest.mark.parametrize("name", ["report", "overview"])
def test_pages_fit_a_wide_screen(browser: Page, pages: dict[str, Path], name: str) -> None:
    browser.draw(pages[name])
    browser.run(UNFOLD)
    fits(browser, 1280, dark=False)


def test_figures_stay_inside_their_cards_on_paper(browser: Page, pages: dict[str, Path]) -> None:
    browser.open(pages["report"])
    browser.draw_all()
    drawn = "[...document.querySelectorAll('.itlens-figure')].filter(f => f.querySelector('.main-svg'))"
    widths = f"{drawn}.map(f => f._fullLayout.width)"
    outside = (
        f"{drawn}.filter(f => f.querySelector('.main-svg').getBoundingClientRect().right"
        " > f.closest('.card').getBoundingClientRect().right + 1).length"
    )
    browser.run("dispatchEvent(new Event('beforeprint'))")
    paper = {"width": 718, "height": 1000, "deviceScaleFactor": 1, "mobile": False}  # A4 with Chrome's margins
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", paper)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        browser.wait(f"{widths}.every(w => w === 760)")
        assert len(browser.run(widths)) >= 5
        assert browser.run(outside) == 0
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.run("dispatchEvent(new Event('afterprint'))")
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", paper | {"width": 1400})
    browser.draw_all()
    browser.wait(f"{widths}.every(w => w !== 760 && w > 300)")


def test_all_panels_of_a_figure_follow_the_theme(browser: Page, pages: dict[str, Path]) -> None:
    browser.draw(pages["report"], width=400, dark=True)
    grid = "[...document.querySelectorAll('.itlens-figure')].find(f => f.layout?.xaxis3)?.layout"
    browser.wait(f"({grid})?.xaxis3.gridcolor === ({grid})?.xaxis.gridcolor && ({grid})?.xaxis.gridcolor?.[0] === '#'")
    assert browser.run(f"({grid}).yaxis2.gridcolor") == browser.run(f"({grid}).yaxis.gridcolor")


def test_nothing_of_a_narrow_figure_runs_into_anything_else(browser: Page, pages: dict[str, Path]) -> None:
    browser.draw(pages["report"], width=400, dark=True)
    assert browser.run(OVERLAPS) == []


@pytest.mark.parametrize("name", ["report", "overview"])
def test_pages_fit_a_narrow_screen(browser: Page, pages: dict[str, Path], name: str) -> None:
    browser.draw(pages[name], width=400, dark=True)
    browser.run(UNFOLD)
    fits(browser, 400, dark=True)
