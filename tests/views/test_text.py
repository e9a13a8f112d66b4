from __future__ import annotations

import html as html_module
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itlens.report import numbers, text
from itlens.report.page import inline


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("a\n", "a↵"), ("\tb", "⇥b"), ("\x00", "<0x00>"), ("\x1b[0m", "<0x1B>[0m"), ("\r", "<0x0D>"),
        ("\x7f", "<0x7F>"), ("\x9b", "⟨U+009B⟩"), ("\ue000", "⟨U+E000⟩"), ("\u2028", "⟨U+2028⟩"),
        ("\u202e", "⟨U+202E⟩"), ("\ud800", "⟨U+D800⟩"), ("  two ", "  two "), ("👩\u200d🔬", "👩\u200d🔬"), ("é", "é"),
    ],
)  # fmt: skip
def test_what_prints_nothing_gets_a_sign(token: str, shown: str) -> None:
    assert text.with_signs(token) == shown


@given(st.text())
def test_html_shows_exactly_the_visible_text_and_no_markup(token: str) -> None:
    escaped = text.html(token)
    assert not set('<>"') & set(escaped)
    assert html_module.unescape(escaped) == text.with_signs(token)
    escaped.encode()  # writable as UTF-8, whatever the token held


@given(st.text())
def test_plotly_text_has_no_markup_and_no_formula(token: str) -> None:
    escaped = text.plotly(token)
    assert "<" not in escaped and "$" not in escaped
    assert html_module.unescape(escaped) == text.with_signs(token)


@given(st.text())
def test_json_in_a_script_reads_back_and_ends_no_script(data: str) -> None:
    safe = text.json_in_script(json.dumps({"a": data}, ensure_ascii=False))
    assert "<" not in safe and "\u2028" not in safe
    assert json.loads(safe) == {"a": data}


def test_inlined_javascript_cannot_end_its_script_or_ask_for_a_map() -> None:
    source = 'a="<script></script>";\r\nb="<!--";\n//# sourceMappingURL=x.map'
    assert inline(source) == 'a="<script><\\/script>";\nb="<\\!--";'


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.00004, "< 0.001"), (0.0123, "0.012"), (0.5, "0.50"), (float("nan"), "–"), (None, "–")],
)
def test_p_values(value: float | None, shown: str) -> None:
    assert numbers.p_value(value) == shown


def test_numbers_keep_their_sign_and_are_never_rounded_to_nothing() -> None:
    assert numbers.number(-1.23456) == "−1.235"
    assert numbers.number(0.5, sign=True) == "+0.500"
    assert numbers.number(0.00012) == "1.2e−04"
    assert numbers.number(2.7e-13, sign=True) == "0.000"
    assert numbers.interval(2.7e-9, 0.243) == "[0.000, +0.243]"
    assert numbers.interval(1.2e-4, 0.243) == "[+1.2e−04, +0.243]"
    assert numbers.interval(-1e-7, 3e-7, 6) == "[−1.0e−07, +3.0e−07]"
    assert numbers.interval(float("-inf"), float("inf")) == "[−∞, ∞]"
    assert numbers.number(float("nan")) == numbers.number("x") == numbers.number(None) == "–"
    assert numbers.number(float("-inf")) == "−∞"
    assert numbers.interval(-0.1, 0.2) == "[−0.100, +0.200]"
    assert numbers.interval(float("nan"), 0.2) == "–"
    assert numbers.whole(12345) == "12\u202f345"
    assert [numbers.stars(p) for p in (0.2, 0.04, 0.009, 0.0009, float("nan"))] == ["", "*", "**", "***", ""]


def test_shares_and_counts_are_rounded_to_nothing() -> None:
    assert [numbers.rounded(x, sign=True) for x in (0.04, -0.04, 2.26, -3)] == ["0.0", "0.0", "+2.3", "−3.0"]
    assert numbers.rounded(2.6, 0, sign=True) == "+3" and numbers.rounded(None) == "–"
    assert [numbers.percent(x) for x in (0.61349, 0.0001, 1, float("nan"))] == ["61.3", "0.0", "100.0", "–"]
    assert numbers.percent_range(-0.017, 0.203) == "[−1.7, +20.3]"
    assert numbers.percent_range(float("nan"), 0.2) == numbers.rounded_range(None, 1) == "–"


def test_short_text_says_that_it_was_cut() -> None:
    assert text.short("abcdef", 4) == "abc…"
    assert text.short("abcd", 4) == "abcd"
