"""The attention view in a browser: what is drawn, pointed at, pinned and pressed, and that token texts do not run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from itlens import views
from tests.browser import Page
from tests.views.factory import HOSTILE

WORDS = ["<s>", "The", " cat", *HOSTILE[:3]]


def patterns() -> xr.Dataset:
    """Base: all attention on the first token. Tuned: the same, but head 1 looks at itself."""
    size = len(WORDS)
    values = np.zeros((2, 1, 3, size, size), dtype=np.float32)
    values[..., 0] = 1
    values[1, 0, 1] = np.eye(size)
    coords = {"model": ["base", "tuned"], "layer": [4], "head": [0, 1, 2], "token": ("query", WORDS)}
    return xr.Dataset({"pattern": (("model", "layer", "head", "query", "key"), values)}, coords=coords)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attention") / "page.html"
    path.write_text(views.attention(patterns(), layer=4).html, encoding="utf-8")
    return path


def open_view(page: Page, path: Path, *, width: int = 1280) -> None:
    page.open(path, width=width)
    page.wait("document.querySelector('.itlens-attention[data-drawn]')")


def pressed(page: Page, selector: str) -> list[str]:
    buttons = f"[...document.querySelectorAll('{selector}')].filter(b => b.ariaPressed === 'true')"
    return list(page.run(f"{buttons}.map(b => b.textContent)"))


def test_it_is_drawn_silent_and_offline(browser: Page, written: Path) -> None:
    open_view(browser, written)
    assert browser.run("document.querySelector('.map').clientWidth") > 100
    assert pressed(browser, ".head") == ["L4H1"], "the head that differs"
    assert pressed(browser, "[data-side]") == ["difference"]
    assert browser.run("document.querySelectorAll('.rows span').length") == len(WORDS)
    assert browser.run("document.querySelectorAll('.itlens-attention script, .itlens-attention img').length") == 0
    assert browser.requests() == [written.resolve().as_uri()]
    assert browser.complaints() == []


def test_tokens_are_pinned_by_click_and_key(browser: Page, written: Path) -> None:
    open_view(browser, written)
    browser.run("document.querySelectorAll('.t')[2].click()")
    said = browser.run("document.querySelector('.readout').textContent")
    assert said == (
        "Layer 4, head 1: “ cat” (token 3) looks most at “<s>” −100 points (base 100 %, tuned 0 %), "
        "“ cat” +100 points (base 0 %, tuned 100 %)."
    )
    assert len(pressed(browser, ".t")) == 1
    browser.run("document.querySelector('[data-side=tuned]').click()")
    assert "looks most at “ cat” 100 %." in browser.run("document.querySelector('.readout').textContent")
    browser.run("document.querySelector('[data-direction=to]').click()")
    assert "is looked at most by “ cat” 100 %." in browser.run("document.querySelector('.readout').textContent")
    enter = json.dumps({"key": "Enter", "bubbles": True})
    browser.run(f"document.querySelectorAll('.t')[2].dispatchEvent(new KeyboardEvent('keydown', {enter}))")
    assert pressed(browser, ".t") == []


def test_heads_change_and_arrow_keys_move_in_the_map(browser: Page, written: Path) -> None:
    open_view(browser, written)
    browser.run("document.querySelectorAll('.head')[0].click()")
    assert pressed(browser, ".head") == ["L4H0"]
    up = json.dumps({"key": "ArrowUp", "bubbles": True})
    browser.run(f"document.querySelector('.map').dispatchEvent(new KeyboardEvent('keydown', {up}))")
    said = browser.run("document.querySelector('.readout').textContent")
    assert said.startswith("Layer 4, head 0: ")
    assert said.endswith("looks at “<s>” (token 1): +0 points (base 100 %, tuned 100 %).")


def test_a_narrow_page_does_not_run_off(browser: Page, written: Path) -> None:
    open_view(browser, written, width=420)
    assert browser.run("document.documentElement.scrollWidth") <= 420


def test_a_tap_on_a_cell_names_its_two_tokens_below_the_map(browser: Page, written: Path) -> None:
    """Also where the map has no room for names."""
    open_view(browser, written, width=420)
    tap = (
        "[document.querySelector('.map')].forEach(map => { const box = map.getBoundingClientRect();"
        f"const at = {{bubbles: true, clientX: box.left + box.width * 0.5 / {len(WORDS)},"
        f" clientY: box.top + box.height * 2.5 / {len(WORDS)}}};"
        "map.dispatchEvent(new MouseEvent('mousemove', at)); map.dispatchEvent(new MouseEvent('click', at)); })"
    )
    browser.run(tap)
    said = browser.run("document.querySelector('.readout').textContent")
    assert said == ("Layer 4, head 1: “ cat” (token 3) looks at “<s>” (token 1): −100 points (base 100 %, tuned 0 %).")
    assert pressed(browser, ".t") == [" cat"]


def test_the_legend_has_end_values(browser: Page, written: Path) -> None:
    open_view(browser, written)
    ends = "['.low', '.high'].map(end => document.querySelector(end).textContent)"
    assert browser.run(ends) == ["−100 (base more)", "+100 (tuned more)"]
    browser.run("document.querySelector('[data-side=tuned]').click()")
    assert browser.run(ends) == ["0", "100"]


def test_one_token_takes_the_tab_key_and_arrows_move_among_them(browser: Page, written: Path) -> None:
    open_view(browser, written)
    assert browser.run("[...document.querySelectorAll('.t')].map(t => t.tabIndex)") == [0, *[-1] * (len(WORDS) - 1)]
    browser.run("document.querySelector('.t').focus()")
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        press = json.dumps({"key": key, "bubbles": True})
        browser.run(f"document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {press}))")
    assert browser.run("document.activeElement.textContent") == " cat"
    assert pressed(browser, ".t") == [" cat"]
    escape = json.dumps({"key": "Escape", "bubbles": True})
    browser.run(f"document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {escape}))")
    assert pressed(browser, ".t") == []


def test_the_large_map_has_the_colour_of_its_numbers(browser: Page, written: Path) -> None:
    """Head 1 of the tuned model looks at itself: its diagonal is opaque, in the tuned model's colour."""
    open_view(browser, written)
    browser.run("document.querySelector('[data-side=tuned]').click()")
    pixel = "[...document.querySelector('.map').getContext('2d').getImageData({}, {}, 1, 1).data]"
    assert browser.run(pixel.format(2, 2)) == [36, 121, 194, 255]
    assert browser.run(pixel.format(0, 2)) == [0, 0, 0, 0]


def test_512_tokens_fit_a_phone(browser: Page, tmp_path: Path) -> None:
    size = 512
    values = np.zeros((1, 2, size, size), dtype=np.float32)
    values[..., 0] = 1
    coords = {"layer": [0], "head": [0, 1], "token": ("query", [f" w{i}" for i in range(size)])}
    long = xr.Dataset({"pattern": (("layer", "head", "query", "key"), values)}, coords=coords)
    path = tmp_path / "long.html"
    path.write_text(views.attention(long).html, encoding="utf-8")
    assert path.stat().st_size < 120_000
    open_view(browser, path, width=420)
    assert browser.run("document.documentElement.scrollWidth") <= 420
    assert browser.run("document.querySelector('.map').clientWidth") <= 420
    ends = browser.run("[...document.querySelectorAll('.columns.ends span')].map(end => end.textContent)")
    assert ends == ["1:  w0", "512:  w511"], "where names do not fit, the first and the last"
    browser.run("document.querySelectorAll('.t')[511].click()")
    said = browser.run("document.querySelector('.readout').textContent")
    assert said == "Layer 0, head 0: “ w511” (token 512) looks most at “ w0” 100 %."
