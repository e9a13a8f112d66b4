"""Fifty hostile texts in every place of a page: tokens, words, labels, ids, groups, models, fragments. None runs."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from itlens import views
from itlens.findings import findings
from itlens.findings.mlp.view_section import concept_blocks
from itlens.report.blocks import Block, Card, Figure, Text
from itlens.report.page_data import Page as PageData
from itlens.report.page_data import Row, Section
from itlens.report.prompts import PromptAnswer, PromptEntry, PromptNumber, PromptsChapter
from itlens.report.render import render_page
from itlens.report.text import with_signs
from tests.browser import Page
from tests.findings.mlp.concept_factory import concept_content
from tests.hostile import HOSTILE, INTRUDERS, LONG, RAN, SHORT
from tests.views import factory, word_factory

pytestmark = pytest.mark.long

READY = "document.querySelector('.itlens-prompts[data-ready]')"


def tokens() -> views.TokenView:
    base, tuned = (factory.attribution(HOSTILE, SHORT[:12], seed=n, model=SHORT[n]) for n in (1, 2))
    return views.token_pair(base, tuned, factory.prompt(HOSTILE, 0, 3, id=SHORT[0]))


def patterns() -> views.AttentionView:
    size = len(HOSTILE)
    values = np.tril(np.ones((2, 1, 2, size, size), dtype=np.float32)) / size
    coords = {"model": ["base", "tuned"], "layer": [0], "head": [0, 1], "token": ("query", list(HOSTILE))}
    attrs = {"base_model": SHORT[0], "tuned_model": SHORT[1], "note": SHORT[2]}
    return views.attention(xr.Dataset({"pattern": (("model", "layer", "head", "query", "key"), values)}, coords, attrs))


def chapter() -> PromptsChapter:
    entries = [
        PromptEntry(
            text, HOSTILE[-1 - n], [("Say ", []), (text, ["instruction"])],
            {"base": PromptAnswer(text), "tuned": PromptAnswer(HOSTILE[(n + 1) % 50])},
        )
        for n, text in enumerate(HOSTILE)
    ]  # fmt: skip
    numbers = [
        PromptNumber(name, name, {text: (0.0, float(n)) for n, text in enumerate(HOSTILE)}) for name in SHORT[:2]
    ]
    return PromptsChapter(entries, numbers, SHORT[0], SHORT[1], SHORT[2], lambda id: [tokens()] if id == LONG else [])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page in which every text is a hostile one."""
    table = factory.prompts(len(SHORT), SHORT).assign(id=list(SHORT))
    columns = [views.Column("id", SHORT[0], help=SHORT[1], link="prompt"), views.Column("group", SHORT[2])]
    words = word_factory.attention_tables(words=(*SHORT, *word_factory.WORDS))
    blocks: list[Block] = [
        *(Card(text, text, text) for text in SHORT[:3]), *(Text(text, text) for text in SHORT),
        Figure(views.scores(table, dict(zip(SHORT, HOSTILE, strict=False))), SHORT[0]),
        views.table(table, columns, SHORT[0], SHORT[1], sortable=True), tokens(), patterns(),
    ]  # fmt: skip
    said = (*SHORT, *(f"word{i}" for i in range(150)))
    concepts = concept_blocks([concept_content(words=said, said=SHORT[1])])
    sections = [
        Section(
            SHORT[0], SHORT[1], SHORT[2], SHORT[3], blocks, SHORT, dict.fromkeys(SHORT, SHORT[0]), {SHORT[1]: SHORT}
        ),
        Section("words", SHORT[4], blocks=findings()["attention"].show(words)),
        Section("concepts", SHORT[5], blocks=concepts),
    ]
    rows = [Row(SHORT[0], SHORT[1], SHORT[2], SHORT[3], number=SHORT[4], sentence=SHORT[5], short=SHORT[6])]
    page = PageData(
        "Hostile", answer=SHORT[0], rows=rows, sections=sections, notes=SHORT, facts={SHORT[1]: SHORT[0]},
        parameters=dict.fromkeys(SHORT, SHORT[1]), versions={SHORT[0]: SHORT[1]}, created=SHORT[0], base=SHORT[1],
        tuned=SHORT[2], prompts=chapter(), source=SHORT[0],
    )  # fmt: skip
    path = tmp_path_factory.mktemp("hostile") / "page.html"
    path.write_text(render_page(page), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def opened(browser: Page, written: Path) -> Page:
    browser.open(written)
    browser.run("itlens.go('prompts')")
    browser.wait(READY)
    return browser


def quiet(page: Page, written: Path) -> None:
    assert not page.run(RAN)
    assert page.run("document.title") == "Hostile"
    assert page.run(INTRUDERS) == []
    assert {address.split("#")[0] for address in page.requests()} == {written.resolve().as_uri()}


def test_no_text_of_a_page_runs_or_becomes_an_element(opened: Page, written: Path) -> None:
    opened.run("document.querySelector('button.whole-page').click()")
    opened.wait("document.querySelector('.itlens-attention[data-drawn]')")
    opened.wait("document.querySelector('.itlens-tokens[data-ready]')")
    opened.wait("document.querySelector('.itlens-figure .main-svg')")
    quiet(opened, written)
    said = opened.run("document.body.textContent")
    missing = [text[:80] for text in SHORT if with_signs(text).strip() not in said]
    opened.run("document.querySelector('button.whole-page').click()")
    assert missing == []
    assert opened.complaints() == []


READ_ALL = """
const [texts, done] = [arguments[0], arguments[1]];
const title = () => document.querySelector('.chosen h3.part bdi')?.textContent;
(async () => {
  const shown = [];
  for (const [fragment, name] of texts) {
    location.hash = fragment;
    for (let n = 0; n < 400 && title() !== name; n++) await new Promise((next) => setTimeout(next, 10));
    shown.push([title(), document.querySelector('.chosen .instruction:not(.legend *)')?.textContent]);
  }
  done(shown);
})();
"""


def test_every_prompt_is_read_as_text(opened: Page, written: Path) -> None:
    """By its own address, so that ids are fragments, too."""
    opened.driver.set_script_timeout(60)
    names = [with_signs(text) for text in HOSTILE]
    names = [name if len(name) <= 200 else f"{name[:200]}…" for name in names]
    asked = [["#/prompt/" + quote(text, safe=""), name] for text, name in zip(HOSTILE, names, strict=True)]
    shown = opened.driver.execute_async_script(READ_ALL, asked)
    lines = ["\n".join(map(with_signs, text.replace("\r\n", "\n").split("\n"))) for text in HOSTILE]
    expected = [[name, text] for (_, name), text in zip(asked, lines, strict=True)]
    assert shown == expected
    quiet(opened, written)
    assert opened.complaints() == []


OPEN_ALL = """
const [fragments, texts, done] = arguments;
(async () => {
  const q = document.querySelector('.picker').elements.q;
  for (const text of texts) { q.value = text; q.dispatchEvent(new Event('input', { bubbles: true })); }
  for (const fragment of fragments) {
    location.hash = fragment;
    await new Promise((next) => setTimeout(next, 5));
  }
  done();
})();
"""


def test_texts_as_they_are_in_a_fragment_and_in_the_search_box(opened: Page, written: Path) -> None:
    opened.driver.set_script_timeout(60)
    routes = [route + quote(text, safe="") for text in SHORT for route in ("/word/", "/prompts/")]
    fragments = [*SHORT, *(f"/prompt/{text}" for text in SHORT), *routes]
    opened.driver.execute_async_script(OPEN_ALL, fragments, list(SHORT))
    quiet(opened, written)
    assert opened.complaints() == []


def test_a_notebook_shows_them_as_text(browser: Page, tmp_path: Path) -> None:
    path = tmp_path / "notebook.html"
    outputs = "".join(panel._repr_html_() for panel in (tokens(), patterns()))
    path.write_text(f"<!doctype html><meta charset=utf-8><title>Hostile</title>{outputs}", encoding="utf-8")
    browser.open(path)
    browser.wait("document.querySelector('.itlens-attention[data-drawn]')")
    browser.run("document.querySelectorAll('.r, .t').forEach(t => t.dispatchEvent(new MouseEvent('mouseenter')))")
    quiet(browser, path)


def test_a_table_of_them_survives_the_disk(tmp_path: Path) -> None:
    import itlens

    table = pd.DataFrame({"word": list(HOSTILE)})
    for name in ("words.parquet", "words.csv"):
        read = itlens.load(itlens.save(table, tmp_path / name))
        assert read["word"].tolist() == list(HOSTILE)
