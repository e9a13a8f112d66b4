"""The panel of a head with its attention patterns on the prompts of the study, as a reader uses it; and axe-core on it.

Skipped where no browser can be driven.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr

from itlens.findings.activation.view_patterns import AttentionView, changed_patterns
from itlens.findings.activation.view_places import pattern_places
from itlens.report.explorer import Chapter, Explorer
from itlens.report.explorer_places import Place, PlaceNumber, PlaceWords
from itlens.report.prompts import PromptAnswer, PromptEntry, PromptNumber, PromptsChapter
from itlens.report.render import render_page
from tests.browser import Page
from tests.hostile import HOSTILE, RAN
from tests.report.pages import page, section
from tests.report.test_page_browser import AXE

IDS, HEADS = ("plain", HOSTILE[0]), ((0, 1), (2, 3), (5, 0))
BOX = "document.querySelector('dialog.explorer .shown-on')"
VIEW = f"{BOX}.querySelector('.itlens-attention')"


def patterns() -> xr.Dataset:
    """Head k of prompt i puts all attention of the base on the token itself, of the tuned model on token 0."""
    size = 4
    values = np.zeros((len(IDS), 2, len(HEADS), size, size), dtype=np.float32)
    values[:, 0] = np.eye(size)
    values[:, 1, :, :, 0] = 1
    on_prompts = {"group": ["g"] * 2, "length": [size] * 2, "whole": [size] * 2}
    return xr.Dataset(
        {"pattern": (("prompt", "model", "place", "query", "key"), values)},
        coords={
            "prompt": np.array(IDS, dtype=object),
            **{name: ("prompt", np.array(each)) for name, each in on_prompts.items()},
            "model": ["base", "tuned"],
            "layer": ("place", [layer for layer, _ in HEADS]),
            "head": ("place", [head for _, head in HEADS]),
            "token": (("prompt", "query"), np.array([["a", "b", "c", HOSTILE[1]]] * 2, dtype=object)),
        },
        attrs={"base_model": "base", "tuned_model": "tuned"},
    )


def panels(id: str) -> list[AttentionView]:
    return [changed_patterns(patterns(), id)] if id in IDS else []


@pytest.fixture(scope="module")
def opened(browser: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    words = PlaceWords([("write", "poem")], {"related": [0.5]}, [True])
    places = [
        *pattern_places(patterns()),
        Place(2, 3, "Word pairs", numbers=[PlaceNumber("overlap", 0.5, p=0.01)], base=words, tuned=words),
        Place(1, 1, "Where it looks", shown_on=["gone"]),
    ]
    entries = [
        PromptEntry(id, "g", [("Say it.", ["instruction"])], {"base": PromptAnswer("x")}) for id in (*IDS, "gone")
    ]
    numbers = [PromptNumber("score", "score", {"plain": (0.0, 0.1)})]
    content = page(
        section("heads"),
        tools=[Explorer("Heads and layers", [Chapter("heads", "Activations", places)], "base", "tuned")],
        prompts=PromptsChapter(entries, numbers, "base", "tuned", "", panels),
    )
    path = tmp_path_factory.mktemp("head") / "page.html"
    path.write_text(render_page(content), encoding="utf-8")
    browser.open(path, "/head/2/3", width=1200)
    browser.wait(f"{VIEW} && {VIEW}.dataset.drawn")
    yield browser
    assert browser.requests() == [path.resolve().as_uri()]
    assert browser.complaints() == []


def test_the_head_that_is_open_is_the_one_that_is_drawn(opened: Page) -> None:
    assert (
        opened.run(f"{VIEW}.querySelector('.head[aria-pressed=true]').getAttribute('aria-label')") == "Layer 2, head 3"
    )
    assert opened.run(f"{VIEW}.querySelector('.heads').getClientRects().length") == 0


def test_base_tuned_and_difference_are_there(opened: Page) -> None:
    sides = f"[...{VIEW}.querySelectorAll('[data-side]')]"
    assert opened.run(f"{sides}.map((each) => each.dataset.side)") == ["base", "tuned", "difference"]
    said = {}
    for side in ("base", "tuned", "difference"):
        opened.run(f"void {sides}.find((each) => each.dataset.side === '{side}').click()")
        opened.run(f"void {VIEW}.querySelectorAll('.t')[2].click()")
        said[side] = opened.run(f"{VIEW}.querySelector('.readout').textContent")
        opened.run(f"void {VIEW}.querySelectorAll('.t')[2].click()")
    assert "looks most at “c” 100 %" in said["base"]
    assert "looks most at “a” 100 %" in said["tuned"]
    assert "+100 points" in said["difference"]


def test_another_prompt_is_chosen(opened: Page) -> None:
    choice = "document.querySelector('dialog.explorer .part select')"
    assert opened.run(f"[...{choice}.options].map((each) => each.value)") == [*IDS]
    opened.run(f"void ({choice}.value = {choice}.options[1].value)")
    opened.run(f"void {choice}.dispatchEvent(new Event('change'))")
    opened.wait(f"{choice}.closest('.part').querySelector('a').hash.includes('script')")
    opened.wait(f"{VIEW} && {VIEW}.dataset.drawn")
    assert HOSTILE[1] in opened.run(f"{VIEW}.querySelector('.tokens').textContent")
    assert not opened.run(RAN)


def test_a_prompt_without_panels_in_the_page_says_so(opened: Page) -> None:
    opened.run("void (location.hash = '#/head/1/1')")
    opened.wait(f"{BOX} && {BOX}.textContent.includes('no room for the panels of this prompt')")
    opened.run("void (location.hash = '#/head/2/3')")
    opened.wait(f"{VIEW} && {VIEW}.dataset.drawn")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_fault_in_the_panel(opened: Page, theme: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed (tests/install_browser.sh, with npm)")
    opened.run(f"void itlens.setTheme('{theme}')")
    assert opened.faults(AXE) == []


def test_prompts_that_a_head_needs_get_room_before_others() -> None:
    from itlens.report.prompts import draw_prompts

    def chapter(first: tuple[str, ...]) -> PromptsChapter:
        entries = [PromptEntry(id, "", [("x", [])]) for id in IDS]
        values = {IDS[0]: (0.0, 1.0), IDS[1]: (0.0, 0.0)}
        return PromptsChapter(entries, [PromptNumber("n", "n", values)], panels=panels, first=first)

    drawn = [draw_prompts(chapter(first), lambda panel: panel.title, most_bytes=1) for first in ((), (IDS[1],))]
    assert [[list(numbers) for numbers, _ in each.views] for each in drawn] == [[[0]], [[1]]]
