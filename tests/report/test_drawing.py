"""Figures as compact data: what is rounded, what is packed, and which ramps a page needs."""

from __future__ import annotations

import json

import numpy as np
import plotly.graph_objects as go
import pytest

from itlens.report import theme
from itlens.report.blocks import Choice, Figure, Text, leaves
from itlens.report.drawing import compact, draw, figure_json
from itlens.report.numbers import headline, p_equals, p_value
from itlens.report.render import render_block, render_page
from itlens.stats.paired import p_text
from tests.report.pages import figure, groups, page, section, unpacked_text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.array([0.123456789, -12.3456789, np.nan, np.inf]), [0.123, -12.346, None, None]),
        (np.array([1.0, 2.0]), [1, 2]),
        (np.array([1e-7, 3.00004e-7]), [1e-7, 3e-7]),
        (np.array([[0.5], [np.nan]]), [[0.5], [None]]),
        (np.array(["a", "b"], dtype=object), ["a", "b"]),
        (np.zeros(2), [0, 0]),
        ({"a": (np.float64(1 / 3), True, 3, None)}, {"a": [0.3333333, True, 3, None]}),
    ],
)
def test_numbers_are_rounded_to_what_a_screen_shows(value: object, shown: object) -> None:
    assert compact(value) == shown


def test_arrays_that_plotly_packs_are_unpacked_and_rounded() -> None:
    z = np.array([[1 / 3, np.nan], [2.0, -1e-9]])
    fig = go.Figure(go.Heatmap(z=z, x=np.arange(2, dtype=np.int8)))
    (trace,) = json.loads(figure_json(fig))["data"]
    assert trace["z"] == [[0.3333, None], [2, 0]]
    assert trace["x"] == [0, 1]


def test_long_data_are_packed_and_short_ones_are_not() -> None:
    few, many = theme.figure("Few").add_scatter(y=[1, 2]), go.Figure(go.Scatter(y=np.linspace(0, 1, 1500)))
    assert not draw(Figure(few)).is_packed
    drawing = draw(Figure(many))
    assert drawing.is_packed
    data = json.loads(unpacked_text(drawing.data))["data"]
    assert data[0]["y"][:2] == [0, pytest.approx(1 / 1499, abs=1e-4)]
    assert 'type="application/gzip;base85"' in render_block(Figure(many))


def test_a_drawing_of_a_map_carries_the_dark_form_of_every_ramp() -> None:
    heat = go.Figure(go.Heatmap(z=[[1.0]], colorscale=theme.DIVERGING))
    drawing = json.loads(figure_json(heat))
    assert drawing["data"][0]["colorscale"] in [light for light, _ in drawing["ramps"]]
    assert json.loads(figure_json(go.Figure(go.Scatter(y=[1]))))["ramps"] == []


@pytest.mark.parametrize(("light", "dark"), theme.RAMPS)
def test_in_the_dark_zero_is_dark_and_the_ends_are_bright(light: list[list[object]], dark: list[list[object]]) -> None:
    assert [at for at, _ in light] == [at for at, _ in dark]
    zero = 0 if len(light) == 3 else 2
    brightness = [sum(int(str(tone)[i : i + 2], 16) for i in (1, 3, 5)) for _, tone in dark]
    assert brightness[zero] == min(brightness)
    assert brightness[-1] > 3 * brightness[zero]


def test_the_same_page_has_the_same_bytes() -> None:
    assert render_page(page()) == render_page(page())


def test_a_choice_holds_every_set_with_anchors_of_its_own() -> None:
    blocks = [Text("Words.", "Part"), groups()]
    html = render_page(page(section("score", Choice("vectors", {"value": blocks, "key": [*blocks, figure()]}))))
    assert html.count('class="option" data-name=') == 2
    assert 'id="score--value--part"' in html
    assert 'id="score--key--part"' in html
    assert 'data-bundle="plotly"' in html
    assert len(leaves([Choice("vectors", {"value": blocks, "key": [figure()]}), *blocks])) == 5


@pytest.mark.parametrize("p", [0.0, 1e-9, 0.0009999, 0.001, 0.0012, 0.0123, 0.0996, 0.1, 0.456, 1.0])
def test_a_p_value_reads_alike_in_tables_headlines_and_sentences(p: float) -> None:
    assert p_text(p) == f"p {p_equals(p)}"
    assert headline(1.0, p=p).endswith(f"p {p_equals(p)}")
    assert p_equals(p).removeprefix("= ") == p_value(p)
    assert p_text(float("nan")) == "no p-value"
