"""Contrasts of the colours of pages (WCAG 2.2): 3 for marks, 4.5 for letters, on light and on dark cards.

Computed from the colours in the code and in the style sheets, for both themes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from itlens import report
from itlens.findings.attribution.view_tokens import _OPACITY
from itlens.report import theme

ASSETS = Path(report.__file__).parent / "assets"
MARK, LETTER = 3.0, 4.5
WHITE, BLACK, THEMES = "#ffffff", "#000000", ("light", "dark")
DARK_LETTERS = "#1f2328"  # of figures, on coloured cells and segments
MARKS = {"base": theme.BASE, "tuned": theme.TUNED, "neutral": theme.NEUTRAL, "text": theme.TEXT, **theme.MATRICES}


def channels(color: str) -> np.ndarray:
    """Red, green and blue from 0 to 1, of "#rgb" or "#rrggbb"."""
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    return np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])


def contrast(first: str | np.ndarray, second: str | np.ndarray) -> float:
    """The contrast ratio of WCAG 2.2."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str | np.ndarray) -> float:
    part = channels(color) if isinstance(color, str) else color
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def mixed(color: str, behind: str, opacity: float) -> np.ndarray:
    return opacity * channels(color) + (1 - opacity) * channels(behind)


def inverted(color: str | np.ndarray) -> np.ndarray:
    """What the dark page's filter makes of a colour: invert(.89) hue-rotate(180deg) (CSS Filter Effects 1)."""
    part = 0.89 - 0.78 * (channels(color) if isinstance(color, str) else color)
    turn = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])
    return np.clip(turn @ part, 0, 1)


def page_colors(which: str) -> dict[str, str]:
    """The colours of the page's style sheet, by their names without dashes."""
    sheet = (ASSETS / "page.css").read_text(encoding="utf-8")
    rule = next(line for line in sheet.splitlines() if f"color-scheme: {which};" in line)
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", rule))


def toned(color: str, which: str) -> str:
    return theme.DARK_TONES.get(color, color) if which == "dark" else color


def token_colors() -> Sequence[str]:
    """The three colours of tokens: of the tuned model, of the base, of negative numbers."""
    sheet = (ASSETS / "tokens.css").read_text(encoding="utf-8")
    found = re.findall(r"--(?:rgb|neg): (\d+), (\d+), (\d+);", sheet)
    return ["#" + "".join(f"{int(part):02x}" for part in color) for color in found]


def test_the_ratio_is_that_of_wcag() -> None:
    assert contrast("#000", "#fff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert contrast(inverted("#fff"), inverted("#fff")) == 1


@pytest.mark.parametrize("which", THEMES)
@pytest.mark.parametrize("name", MARKS)
def test_a_mark_is_seen_on_its_card(name: str, which: str) -> None:
    assert contrast(toned(MARKS[name], which), page_colors(which)["card"]) >= MARK


@pytest.mark.parametrize("which", THEMES)
def test_marks_on_bars_take_the_colour_of_the_pages_text(which: str) -> None:
    """Error bars and null marks are drawn in `theme.TEXT`, which figures.js replaces by the page's text colour."""
    for bar in (theme.BASE, theme.TUNED):
        assert contrast(page_colors(which)["text"], bar) >= MARK, bar


@pytest.mark.parametrize("which", THEMES)
@pytest.mark.parametrize("level", theme.LEVELS)
def test_a_segment_is_seen_by_its_colour_or_its_outline_and_its_letters_are_read(level: str, which: str) -> None:
    color, card = toned(theme.LEVELS[level], which), page_colors(which)["card"]
    assert max(contrast(color, card), contrast(theme.NEUTRAL, card)) >= MARK
    letters = WHITE if level in ("phonology", "syntax") else DARK_LETTERS
    assert contrast(letters, color) >= LETTER


@pytest.mark.parametrize("which", THEMES)
def test_letters_on_the_pale_segment_are_read_and_it_does_not_glare_in_the_dark(which: str) -> None:
    assert contrast(DARK_LETTERS, toned(theme.PALE, which)) >= LETTER
    assert which == "light" or contrast(toned(theme.PALE, which), page_colors(which)["card"]) <= 7


@pytest.mark.parametrize("which", THEMES)
@pytest.mark.parametrize("name", ["text", "soft", "base", "tuned"])
@pytest.mark.parametrize("ground", ["bg", "card", "shade"])
def test_letters_of_the_page_are_read(name: str, ground: str, which: str) -> None:
    colors = page_colors(which)
    needed = MARK if name == "base" else LETTER  # the base's colour writes no small letters on a shade
    assert contrast(colors[name], colors[ground]) >= needed


def test_placeholders_have_the_colour_of_soft_letters() -> None:
    sheet = (ASSETS / "page.css").read_text(encoding="utf-8")
    assert "::placeholder { color: var(--soft); opacity: 1; }" in sheet, "browsers write them fainter"


@pytest.mark.parametrize("color", token_colors())
def test_letters_of_the_strongest_token_are_read(color: str) -> None:
    light, dark = page_colors("light"), page_colors("dark")
    strongest = mixed(color, WHITE, _OPACITY)
    assert contrast(BLACK, strongest) >= LETTER, "drawn by circuitsvis"
    assert contrast(inverted(BLACK), inverted(strongest)) >= LETTER, "drawn by circuitsvis, on a dark page"
    for colors in (light, dark):
        assert contrast(colors["text"], mixed(color, colors["card"], _OPACITY)) >= LETTER, "drawn by the page"


def test_the_page_draws_tokens_as_strong_as_python_does() -> None:
    script, sheet = ((ASSETS / name).read_text(encoding="utf-8") for name in ("tokens.js", "tokens.css"))
    assert f"const STRONGEST = {_OPACITY:g};" in script
    assert set(re.findall(r"rgba\(var\(--(?:rgb|neg)\), (\.\d+)\)\)", sheet)) == {f"{_OPACITY:g}"[1:]}


@pytest.mark.parametrize("side", ["base", "tuned"])
def test_a_kept_token_of_the_response_is_read(side: str) -> None:
    ground, letters = (theme.BASE, BLACK) if side == "base" else (theme.TUNED, WHITE)
    sheet = (ASSETS / "tokens.css").read_text(encoding="utf-8")
    assert '.itlens-tokens.base .r[aria-pressed="true"] { color: #000; }' in sheet
    assert contrast(letters, ground) >= LETTER
