"""Pages as a reader's browser sees them: drawn, silent, offline, and deaf to text that would like to be a script."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from itlens import views
from itlens.findings import findings
from itlens.report.blocks import Block, Figure, leaves
from itlens.report.page_data import Page as PageData
from itlens.report.page_data import Section
from itlens.report.render import render_page
from itlens.study import Comparison
from itlens.study.comparison import open_comparison
from tests.browser import Page, fits
from tests.views import factory, word_factory

pytestmark = pytest.mark.long

TOKENS_DRAWN = (
    "[...document.querySelectorAll('.prompt .cv')].filter(h => h.querySelector('.colored-tokens')).length >= {}"
)
INTRUDERS = "document.querySelectorAll('img, script[src], [onerror], .colored-tokens > span > span > *').length"
UNFOLD = "document.querySelectorAll('details').forEach(d => d.open = true)"
EVIL = factory.HOSTILE[1]


def write_page(path: Path, title: str, *blocks: Block, name: str = "only", question: str = "Only?") -> Path:
    """A page with one section of these blocks, whose other texts would like to be scripts."""
    section = Section(name, question, EVIL, EVIL, blocks, factory.HOSTILE, {EVIL: EVIL}, {EVIL: EVIL})
    page = PageData(
        title, answer=EVIL, sections=[section], notes=factory.HOSTILE, facts={EVIL: EVIL}, base=EVIL,
        tuned=factory.HOSTILE[0],
    )  # fmt: skip
    path.write_text(render_page(page), encoding="utf-8")
    return path


def hostile_pair() -> tuple[views.TokenView, list[str]]:
    source = ["Say", *factory.HOSTILE, "\n"]
    base = factory.attribution(source, list(factory.HOSTILE), seed=1, model=factory.HOSTILE[1])
    tuned = factory.attribution(source, [" fine", *factory.HOSTILE[:2]], seed=2, model=factory.HOSTILE[0])
    prompt = factory.prompt(source, 0, 3, id=factory.HOSTILE[1], group="<b>g")
    return views.token_pair(base, tuned, prompt), source


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Figures, a table and tokens, each token a hostile one."""
    pair, _ = hostile_pair()
    prompts = factory.prompts(12, factory.HOSTILE[:2])
    columns = [views.Column("id", "prompt"), views.Column("group", "group"), views.Column("base", "base", "number")]
    figures = [
        views.scores(prompts),
        views.groups(factory.group_table(prompts)),
        views.profile(factory.profile()),
        views.sensitivity(factory.sensitivity()),
    ]
    blocks = [*(Figure(fig) for fig in figures), views.table(prompts, columns, sortable=True), pair, pair]
    return write_page(tmp_path_factory.mktemp("page") / "report.html", "Hostile", *blocks)


def test_a_comparison_of_every_finding_draws_everything_asks_for_nothing_and_unfolds(
    browser: Page, comparison: Comparison, report: Path
) -> None:
    assert comparison.failures == []
    browser.draw(report)
    shown = leaves(block for section in comparison.page.sections for block in section.blocks)
    figures = sum(isinstance(block, Figure) for block in shown)
    assert figures >= 15
    drawn = "[...document.querySelectorAll('.itlens-figure')].filter(f => f.querySelector('.main-svg')).length"
    assert browser.run(drawn) == figures
    panels = sum(isinstance(block, views.TokenView) for block in shown)
    browser.wait(TOKENS_DRAWN.format(2 * panels))
    assert panels >= 1
    assert browser.run("document.querySelectorAll('.itlens-tokens[data-ready]').length") == 2 * panels
    cards = [len(block.cards) for block in shown if isinstance(block, views.ConceptCards)]
    assert browser.run("document.querySelectorAll('.itlens-concepts article').length") == sum(cards)
    assert browser.run("document.querySelectorAll('.itlens-pairs table').length") > 0
    links = browser.run("[...document.querySelectorAll('.summary a')].map(a => a.getAttribute('href').slice(1))")
    assert links == list(findings())
    assert browser.run("[...document.querySelectorAll('section.finding-section')].map(s => s.id)") == links
    words = browser.run("document.body.textContent")
    assert all(evil in words for evil in factory.HOSTILE[:5])
    assert browser.run(INTRUDERS) == 0
    assert browser.requests() == [report.resolve().as_uri()]
    assert browser.complaints() == []
    _opens_by_a_click(browser)


def _opens_by_a_click(browser: Page) -> None:
    """Every folded part of the page that is open."""
    folded = "[...document.querySelectorAll('section.finding-section > details:not(.rest), details.rest > details')]"
    assert browser.run(f"{folded}.length") > len(findings())
    assert not browser.run(f"{folded}.at(-1).open")
    browser.run(f"{folded}.filter(d => !d.open).forEach(d => d.querySelector('summary').click())")
    assert browser.run(f"{folded}.every(d => d.open && d.lastElementChild.clientHeight > 0)")


def test_the_whole_report_fits_a_wide_screen_in_both_themes_and_is_quiet_when_it_gets_narrow(
    browser: Page, report: Path
) -> None:
    """On a narrow one from the start: below, together with its texts."""
    browser.draw(report)
    browser.run(UNFOLD)
    fits(browser, 1280, dark=False)
    browser.resize(400)
    narrow = "[...document.querySelectorAll('.itlens-figure')].every(f => f.dataset.narrow === 'true')"
    browser.wait(narrow)
    assert browser.complaints() == []


def test_the_page_of_tokens_draws_everything_and_asks_for_nothing(browser: Page, page: Path) -> None:
    browser.draw(page)
    browser.wait(TOKENS_DRAWN.format(4))
    figures = "[...document.querySelectorAll('.itlens-figure')].filter(f => f.querySelector('.main-svg')).length"
    assert browser.run(figures) == 4
    assert browser.requests() == [page.resolve().as_uri()]
    assert browser.complaints() == []


def test_no_hostile_token_runs_or_becomes_markup(browser: Page, page: Path) -> None:
    browser.draw(page)
    browser.wait(TOKENS_DRAWN.format(4))
    _, source = hostile_pair()
    # every response token in turn, so that circuitsvis draws every selection
    browser.run("document.querySelectorAll('.r').forEach(r => r.dispatchEvent(new MouseEvent('mouseenter')))")
    browser.wait("[...document.querySelectorAll('.cv')].every(h => h.querySelector('.colored-tokens'))")
    assert browser.run("document.title") == "Hostile"
    assert browser.run(INTRUDERS) == 0
    shown = browser.run(
        "[...document.querySelectorAll('.cv')[0].querySelectorAll('.colored-tokens > span')].map(s => s.textContent)"
    )
    joined = [token.replace("\u2060", "").replace("\u00a0", " ") for token in shown if token]
    assert joined[1:4] == list(factory.HOSTILE[:3])
    assert len(joined) == len(source)
    # the instruction's line is inside its tokens: outside, the next line would cover it
    line = "getComputedStyle(document.querySelector('.cv .colored-tokens .i > span')).boxShadow"
    assert browser.run(line).endswith("-2px 0px 0px inset")
    assert browser.complaints() == []


def test_a_table_sorts_by_number(browser: Page, page: Path) -> None:
    browser.draw(page)
    column = "[...document.querySelectorAll('table.sortable tbody tr')].map(r => Number(r.cells[2].dataset.v))"
    browser.run("document.querySelectorAll('table.sortable th')[2].click()")
    values = browser.run(column)
    assert len(values) == 12
    assert values == sorted(values)
    browser.run("document.querySelectorAll('table.sortable th')[2].click()")
    assert browser.run(column) == sorted(values, reverse=True)


@pytest.mark.parametrize("which", ["page", "report"])
def test_escaping_is_what_keeps_text_quiet_not_only_the_policy(
    browser: Page, request: pytest.FixtureRequest, tmp_path: Path, which: str
) -> None:
    bare = request.getfixturevalue(which).read_text(encoding="utf-8")
    start = bare.index('<meta http-equiv="Content-Security-Policy"')
    path = tmp_path / "bare.html"
    path.write_text(bare[:start] + bare[bare.index("\n", start) :], encoding="utf-8")
    browser.draw(path, width=400, dark=True)
    browser.wait(TOKENS_DRAWN.format(4))
    browser.run(UNFOLD)
    browser.run("document.querySelectorAll('.r').forEach(r => r.dispatchEvent(new MouseEvent('mouseenter')))")
    assert browser.run("document.title") == {"page": "Hostile", "report": "What did instruction tuning change?"}[which]
    assert browser.run(INTRUDERS) == 0
    assert browser.requests() == [path.resolve().as_uri()]
    fits(browser, 400, dark=True)
    assert browser.complaints() == []


def test_the_policy_stops_a_script_that_got_in_all_the_same(browser: Page, page: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.html"
    text = page.read_text(encoding="utf-8")
    path.write_text(text.replace("<main>", "<main>" + "".join(factory.HOSTILE[:2]), 1), encoding="utf-8")
    browser.open(path)
    browser.wait("document.readyState === 'complete'")
    assert browser.run("document.title") == "Hostile"
    assert any("Content Security Policy" in words for words in browser.complaints())


def test_pointing_and_clicking_choose_the_target(browser: Page, tmp_path: Path) -> None:
    path = tmp_path / "tokens.html"
    score = [[0.5, 0.0], [-1.0, 0.2], [0.25, 0.4]]
    view = views.tokens(factory.attribution(["Do", " this", " now"], [" one", " two"], score))
    path.write_text(view.html, encoding="utf-8")
    browser.open(path)
    browser.wait(TOKENS_DRAWN.format(1))
    mode = "document.querySelector('.mode').textContent"
    drawn = "[...document.querySelectorAll('.cv:not([hidden]) .colored-tokens > span > span')]"
    colors = f"{drawn}.map(s => s.style.backgroundColor)"
    assert browser.run(mode) == "importance density"
    browser.run("document.querySelectorAll('.r')[0].dispatchEvent(new MouseEvent('mouseenter'))")
    browser.wait(f"{colors}.length === 3")
    assert browser.run(mode) == "attribution for response token 1 “ one”"
    blue, violet, pale = browser.run(colors)
    assert violet == "rgb(204, 161, 220)", "the strongest: six tenths of rgb(168, 100, 196) on white"
    assert blue != pale
    browser.run("document.querySelectorAll('.r')[0].dispatchEvent(new MouseEvent('mouseleave'))")
    assert browser.run(mode) == "importance density"
    browser.run("document.querySelectorAll('.r')[1].click()")
    browser.run("document.querySelectorAll('.r')[1].dispatchEvent(new MouseEvent('mouseleave'))")
    assert browser.run(mode) == "attribution for response token 2 “ two”"
    browser.run("document.querySelector('.whole').click()")
    assert browser.run(mode) == "importance density"
    assert browser.complaints() == []


def test_a_notebook_output_works_without_the_bundle_and_twice(browser: Page, tmp_path: Path) -> None:
    pair, source = hostile_pair()
    output = pair._repr_html_()
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><title>nb</title>{output}{output}", encoding="utf-8")
    browser.open(path)
    browser.wait("document.querySelectorAll('.itlens-tokens[data-ready]').length === 4")
    assert browser.run("document.querySelectorAll('.prompt')[3].querySelectorAll('.t').length") == len(source)
    browser.run("document.querySelectorAll('.itlens-tokens')[3].querySelector('.r').click()")
    assert "for response token 1" in browser.run("document.querySelectorAll('.mode')[3].textContent")
    assert "for response" not in browser.run("document.querySelectorAll('.mode')[1].textContent")
    assert (browser.run("document.title"), browser.run(INTRUDERS)) == ("nb", 0)


HEADS = word_factory.attention_tables(words=(*factory.HOSTILE, *word_factory.WORDS))


@pytest.fixture(scope="module")
def heads_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The section of attention alone, whose words would like to be scripts."""
    path = tmp_path_factory.mktemp("heads") / "report.html"
    return write_page(path, "Heads", *findings()["attention"].show(HEADS))


MAP = "[...document.querySelectorAll('.itlens-figure')].find(f => f.data && f.data[0].type === 'heatmap')"


def test_the_buttons_of_the_map_change_what_it_shows(browser: Page, heads_page: Path) -> None:
    browser.open(heads_page, "only")
    browser.wait(f"({MAP})?.querySelector('.main-svg') && document.querySelectorAll('.choices button').length === 6")
    assert browser.run(f"({MAP}).querySelectorAll('.updatemenu-button').length") == 0, "the page has its own buttons"
    names = browser.run("[...document.querySelectorAll('.choices button')].map(b => b.textContent)")
    shown = dict(zip(names, ("overlap", "gained", "lost", "kept", "instruction_change"), strict=False))
    title = f"({MAP}).querySelector('.cbtitle').textContent"
    seen = set()
    for place, (name, value) in enumerate(shown.items()):
        browser.run(f"document.querySelectorAll('.choices button')[{place}].click()")
        expected = HEADS["word_pairs"][value].values
        browser.wait(f"Math.abs(({MAP})._fullData[0].z[1][2] - {expected[1, 2].item()!r}) < 1e-3")
        assert browser.run(f"({MAP})._fullData[0].z[0]") == pytest.approx(expected[0].tolist(), rel=1e-3)
        pressed = browser.run("[...document.querySelectorAll('.choices [aria-pressed=true]')].map(b => b.textContent)")
        assert pressed == [name]
        seen.add(browser.run(title))
    assert len(seen) == 5, "the words next to the colours change too"
    assert browser.requests() == [heads_page.resolve().as_uri()]
    assert browser.complaints() == []


def test_pointing_at_a_head_shows_its_pairs_as_text(browser: Page, heads_page: Path) -> None:
    browser.open(heads_page, "only")
    browser.wait(f"({MAP})?.querySelector('.main-svg')")
    browser.driver.execute_script(f"({MAP}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
    place = (
        f"(() => {{ const f = {MAP}, b = f.getBoundingClientRect(), l = f._fullLayout; return [b.left + l.xaxis._offset"
        " + l.xaxis.l2p(1), b.top + l.yaxis._offset + l.yaxis.l2p(2)]; })()"
    )
    x, y = browser.run(place)
    for dx in (-4, 0):
        move = {"type": "mouseMoved", "x": x + dx, "y": y}
        browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", move)
    browser.wait(f"({MAP}).querySelector('.hoverlayer')?.textContent.includes('L2H1')")
    assert "gained" in browser.run(f"({MAP}).querySelector('.hoverlayer').textContent")
    assert (browser.run("document.title"), browser.run(INTRUDERS)) == ("Heads", 0)
    assert browser.complaints() == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_the_attention_report_fits_every_screen(browser: Page, heads_page: Path, width: int, dark: bool) -> None:
    browser.open(heads_page, "only", width=width, dark=dark)
    browser.wait("document.querySelectorAll('.itlens-figure .main-svg').length >= 2")
    fits(browser, width, dark=dark)
    assert (browser.run("document.title"), browser.run(INTRUDERS)) == ("Heads", 0)


def test_a_table_of_pairs_is_a_quiet_page(browser: Page, tmp_path: Path) -> None:
    path = tmp_path / "pairs.html"
    panel = views.word_pairs(HEADS["_base_pairs"], HEADS["_tuned_pairs"], layer=0, head=0)
    path.write_text(panel.html, encoding="utf-8")
    browser.open(path, width=400)
    assert browser.run("document.querySelectorAll('.itlens-pairs table').length") == 2
    assert browser.run("document.documentElement.scrollWidth") <= 400
    assert browser.run("getComputedStyle(document.querySelector('tr.new b')).fontWeight") == "700"
    assert "line-through" in browser.run("getComputedStyle(document.querySelector('tr.gone s')).textDecoration")
    assert (browser.run("document.title"), browser.run(INTRUDERS)) == ("L0H0: word pairs, base and tuned", 0)
    assert browser.requests() == [path.resolve().as_uri()]
    assert browser.complaints() == []


def test_the_page_of_a_folder_with_missing_results_says_what_is_missing(
    browser: Page, comparison: Comparison, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(comparison.out, folder)
    shutil.rmtree(folder / "mlp" / "tuned")
    next((folder / "faithfulness").rglob("*.nc")).write_bytes(b"broken")
    found = open_comparison(folder)
    assert {row.name for row in found.page.rows} == set(findings())
    assert any("'mlp' are finished" in note for note in found.page.notes)
    path = tmp_path / "partial.html"
    path.write_text(render_page(found.page), encoding="utf-8")
    browser.open(path, "mlp")
    said = browser.run("document.querySelector('#mlp .verdict').textContent")
    assert said == "Not finished; run the same comparison to go on."
    assert "not tested" in browser.run("document.querySelector('#mlp .which').textContent")
    assert browser.run("document.querySelectorAll('.chapter.finding-section').length") == len(findings())
    assert browser.complaints() == []
