from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

from itlens import views
from itlens.errors import ResultError
from itlens.findings.mlp.diff import compare_concepts as concept_diff
from tests.findings.mlp.concept_tables import concept_table, random_bases, turned

LAYERS, KS = (0, 2, 5), (10, 50)
OVERLAP = np.array([[0.9, 0.8], [0.4, 0.7], [0.95, 0.6]])
ANGLE = np.array([[0.1, 0.2], [0.9, 0.5], [0.05, np.pi / 4]])
FLOOR = {
    "base": np.array([[0.85, 0.75], [0.8, 0.8], [0.9, 0.9]]),
    "tuned": np.array([[0.8, 0.78], [0.85, 0.8], [0.92, 0.7]]),
}
BELOW = np.array([[False, False], [True, True], [False, True]])
DEGENERATE = np.array([[False, False], [False, True], [False, False]])
RANDOM = {"overlap": [0.1, 0.5], "low": [0.08, 0.49], "high": [0.13, 0.52]}
TURN = {"mean_angle": [1.3, 0.8], "mean_angle_low": [1.25, 0.79], "mean_angle_high": [1.35, 0.81]}


def dataset(**changes: Any) -> xr.Dataset:
    """Numbers written out, in the shape of itlens.diff.concepts: angles are in radians."""
    grid = {"overlap": OVERLAP, "mean_angle": ANGLE, "below_floor": BELOW, "degenerate": DEGENERATE}
    for name, floor in FLOOR.items():
        grid |= {f"floor_{name}": floor, f"floor_angle_{name}": np.arccos(np.sqrt(floor))}
    data = {name: (("layer", "k"), values) for name, values in grid.items()}
    data |= {f"random_{name}": ("k", values) for name, values in {**RANDOM, **TURN}.items()}
    ds = xr.Dataset(data, coords={"layer": list(LAYERS), "k": list(KS)}, attrs={"vectors": "value"})
    return ds.assign(**changes)


def without_floors(ds: xr.Dataset, *models: str) -> xr.Dataset:
    names = [f"{key}_{model}" for key in ("floor", "floor_angle") for model in models]
    return ds.assign({name: ds[name] * np.nan for name in names})


def trace(fig: go.Figure, name: str, *, legend: bool = False) -> go.Scatter:
    (found,) = (t for t in fig.data if t.name == name and (t.x[0] is None) == legend)
    return found


def entries(fig: go.Figure) -> list[str]:
    return [t.name for t in fig.data if t.showlegend is not False]


@pytest.mark.parametrize(("value", "curve", "end"), [("overlap", OVERLAP, 1), ("angle", np.degrees(ANGLE), 90)])
def test_a_line_per_k_on_an_axis_that_shows_all_there_can_be(value: str, curve: np.ndarray, end: float) -> None:
    fig = views.angles(dataset(), value=value)
    for place, k in enumerate(KS):
        line = trace(fig, f"k = {k}")
        assert list(line.x) == list(LAYERS)
        np.testing.assert_allclose(line.y, curve[:, place])
    assert fig.layout.yaxis.range == (0, end) and fig.layout.xaxis.tickvals == LAYERS
    assert ("degrees" if value == "angle" else "overlap") in fig.layout.yaxis.title.text


def test_the_floor_is_a_band_between_both_models() -> None:
    for value, of in (("overlap", lambda x: x), ("angle", lambda x: np.degrees(np.arccos(np.sqrt(x))))):
        band = trace(views.angles(dataset(), value=value), "noise floor, k = 10")
        low, high = np.sort([of(FLOOR["base"][:, 0]), of(FLOOR["tuned"][:, 0])], axis=0)
        np.testing.assert_allclose(band.x, [0, 2, 5, 5, 2, 0])
        np.testing.assert_allclose(band.y, [*high, *low[::-1]])
        assert band.fill == "toself"


def test_random_subspaces_are_a_dashed_line_with_their_range_over_the_whole_axis() -> None:
    fig = views.angles(dataset())
    line, band = (trace(fig, f"{name}, k = 50") for name in ("random mean", "random"))
    assert list(line.y) == [0.5, 0.5] and line.line.dash == "dash"
    assert list(band.y) == [0.52, 0.52, 0.49, 0.49] and list(line.x) == [-0.5, 5.5] == list(fig.layout.xaxis.range)
    turn = trace(views.angles(dataset(), value="angle"), "random, k = 10")
    np.testing.assert_allclose(turn.y, np.degrees([1.35, 1.35, 1.25, 1.25]))


def test_hollow_marks_are_within_the_noise_and_crosses_degenerate() -> None:
    for value in ("overlap", "angle"):
        fig = views.angles(dataset(), value=value)
        assert list(trace(fig, "k = 10").marker.symbol) == ["circle-open", "circle", "circle-open"]
        assert list(trace(fig, "k = 50").marker.symbol) == ["square-open", "square", "square"]
        cross = trace(fig, "degenerate, k = 50")
        assert list(cross.x) == [2] and cross.y[0] == trace(fig, "k = 50").y[1]
        assert not [t for t in fig.data if t.name == "degenerate, k = 10"]


def test_without_floors_nothing_is_called_noise_and_it_says_so() -> None:
    none = without_floors(dataset(below_floor=dataset().below_floor & False), "base", "tuned")
    fig = views.angles(none)
    assert not [t for t in fig.data if "noise" in t.name] and set(trace(fig, "k = 10").marker.symbol) == {"circle"}
    assert "the probe ran without resamples" in fig.layout.title.subtitle.text
    assert "noise floor: not measured" in trace(fig, "k = 10").customdata[0]
    assert "resamples" not in views.angles(dataset()).layout.title.subtitle.text


def test_the_floor_of_one_model_alone_is_drawn() -> None:
    fig = views.angles(without_floors(dataset(), "base"))
    band = trace(fig, "noise floor, k = 10")
    np.testing.assert_allclose(band.y, [*FLOOR["tuned"][:, 0], *FLOOR["tuned"][::-1, 0]])
    assert band.line.width > 0, "a band without width is seen by its edge"
    assert "base –, tuned 0.800" in trace(fig, "k = 10").customdata[0]


def test_hover_gives_the_number_with_both_nulls() -> None:
    said = trace(views.angles(dataset()), "k = 50").customdata
    assert said[1].startswith("<b>layer 2, k = 50</b><br>overlap 0.700<br>noise floor: base 0.800, tuned 0.800")
    assert "more than every resampled draw" in said[1] and "no more than the noise of rows" in said[0]
    assert "random subspaces 0.500, 95 % [0.490, 0.520]" in said[1]
    assert "degenerate: components 50 and 51" in said[1] and "degenerate" not in said[0]
    assert "mean angle 45.0°" in trace(views.angles(dataset(), value="angle"), "k = 50").customdata[2]


def test_the_legend_names_what_is_drawn_and_hides_a_k_with_its_bands() -> None:
    fig = views.angles(dataset())
    lines, marks = ["k = 10", "k = 50"], ["random subspaces, 95 %", "noise floor, base to tuned"]
    assert entries(fig) == [*lines, *marks, "within the noise", "degenerate"]
    assert {t.name for t in fig.data if t.legendgroup == "k = 50"} >= {"random, k = 50", "noise floor, k = 50"}
    assert trace(fig, "k = 10", legend=True).marker.symbol == "circle"
    plain = dataset(degenerate=dataset().degenerate & False)
    assert entries(views.angles(without_floors(plain, "base", "tuned"))) == [*lines, marks[0]]


def test_layers_in_any_order_and_a_single_layer() -> None:
    fig = views.angles(dataset().isel(layer=[2, 0, 1]))
    assert fig.to_json() == views.angles(dataset()).to_json()
    band = trace(views.angles(dataset().isel(layer=[1])), "noise floor, k = 10")
    assert min(band.x) < 2 < max(band.x), "one layer's band has a width"


def test_what_the_diff_gives_is_drawn() -> None:
    base = random_bases(0)
    tuned = turned(base, 1, 2, 30, 0.6)
    floor = np.full((3, 2, 2), 0.999)
    tables = [concept_table(part, floor=floor, ks=(5, 10)) for part in (base, tuned)]
    ds = concept_diff(*tables, ks=(5, 10), draws=20)
    line = trace(views.angles(ds), "k = 5")
    # one of five angles is 0.6, in layer 1 only
    np.testing.assert_allclose(line.y, [1, (4 + np.cos(0.6) ** 2) / 5, 1], atol=1e-6)
    assert list(line.marker.symbol) == ["circle-open", "circle", "circle-open"]
    turn = trace(views.angles(ds, value="angle"), "k = 10")
    np.testing.assert_allclose(turn.y, np.degrees([0, 0.06, 0]), atol=0.02)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: views.angles(dataset(), value="cosine"), "cannot draw value='cosine': choose one of overlap, angle"),
        (lambda: views.angles([1]), "needs a Dataset, got a list: pass what itlens.diff.concepts returns"),
        (lambda: views.angles(dataset().drop_vars("random_low")), "needs random_low, got a Dataset of overlap"),
        (lambda: views.angles(xr.Dataset()), "got a Dataset of nothing"),
        (lambda: views.angles(dataset().isel(layer=[])), "the axes layer and k, each with an entry"),
    ],
)
def test_wrong_input_says_what_was_expected(call: object, words: str) -> None:
    with pytest.raises(ResultError, match=words):
        call()  # type: ignore[operator]
