"""Figures of running models, as data: what is drawn is what the results say, at its place and in its colour."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from itlens import ResultError, views
from itlens.report import theme
from tests.views import running_factory as factory

shift, effects = cache(factory.shift_means), cache(factory.effect_table)
series, faithfulness = cache(factory.model_series), cache(factory.faithfulness_table)


def named(fig: Any, name: str) -> Any:
    """The one trace of this name that is drawn as a line or points (not the band behind it)."""
    (trace,) = [trace for trace in fig.data if trace.name == name]
    return trace


def heat(fig: Any) -> Any:
    return next(trace for trace in fig.data if trace.type == "heatmap")


def test_faithfulness_curves_lie_between_their_ends_and_random_ones_behind() -> None:
    ds = factory.faithful()
    fig = views.faithfulness(ds)
    own = [trace for trace in fig.data if trace.name == "attribution"]
    for trace, direction in zip(own, ("deletion", "insertion"), strict=True):
        np.testing.assert_allclose(trace.y, ds.curve.sel(order="attribution", direction=direction))
        assert (trace.x[0], trace.x[-1]) == (0, 100)
    band = fig.data[0]
    assert band.y.max() == pytest.approx(ds.curve_high.max().item()) and band.hoverinfo == "skip"
    assert [trace.showlegend for trace in own] == [True, False]
    assert "advantage over random +0.2" in fig.layout.title.subtitle.text


def test_mean_curves_of_any_number_of_models_are_shares_in_per_cent() -> None:
    labels = ("base", "<b>sft</b>", "tuned")
    ds = factory.mean_curves(labels)
    fig = views.faithfulness(ds)
    for label, color in zip(labels, theme.model_colors(3), strict=True):
        shown = label.replace("<", "&lt;").replace(">", "&gt;")
        lines = [trace for trace in fig.data if trace.name == shown]
        for trace, direction in zip(lines, ("deletion", "insertion"), strict=True):
            one = ds.sel(model=label, direction=direction, order="attribution")
            np.testing.assert_allclose(trace.y, 100 * one.share)
            assert trace.line.color == color and trace.line.dash == "solid"
        random = named_first(fig, f"{shown}, random orders")
        np.testing.assert_allclose(random.y, 100 * ds.sel(model=label, direction="deletion", order="random").share)
        assert random.line.dash == "dash"
    assert sum(bool(trace.showlegend) for trace in fig.data) == 6 and "8 prompts" in fig.layout.title.subtitle.text


def test_a_model_without_shares_is_named() -> None:
    ds = factory.mean_curves()
    fig = views.faithfulness(ds.assign(share=ds["share"].where(ds["model"] != "base")))
    assert "without a share: base;" in fig.layout.title.subtitle.text
    assert "without a share" not in views.faithfulness(ds).layout.title.subtitle.text


def named_first(fig: Any, name: str) -> Any:
    return next(trace for trace in fig.data if trace.name == name)


def test_the_table_of_faithfulness_is_a_dot_per_model_method_and_direction() -> None:
    fig = views.faithfulness(faithfulness())
    for name in ("base", "tuned"):
        np.testing.assert_allclose(named(fig, name).x, faithfulness()[f"{name}_advantage"])
        np.testing.assert_allclose(
            named(fig, name).error_x.array, faithfulness()[f"{name}_high"] - faithfulness()[f"{name}_advantage"]
        )
    assert fig.layout.yaxis.ticktext[0] == "input x gradient by density, deletion (n=8)"
    assert len(named(fig, "base").x) == 6


def test_effects_have_a_panel_per_statistic_and_fill_what_holds() -> None:
    fig = views.effects(effects())
    panels = [a.text for a in fig.layout.annotations]
    assert panels == ["instruction score", "response (tokens)", "&lt;i&gt;x&lt;/i&gt;"]
    dots = {(trace.name, trace.xaxis): trace for trace in fig.data}
    rows = effects().set_index(["statistic", "effect"])
    for statistic, axis in (("instruction_score", "x"), ("response_tokens", "x2"), ("<i>x</i>", "x3")):
        for effect in ("weights", "template", "interaction", "total"):
            row, dot = rows.loc[(statistic, effect)], dots[effect, axis]
            assert dot.x[0] == row["mean"] and dot.x[0] + dot.error_x.array[0] == pytest.approx(row["ci_high"])
    assert dots["weights", "x"].marker.symbol == "circle" and dots["template", "x2"].marker.symbol == "circle"
    assert dots["weights", "x3"].marker.symbol == dots["interaction", "x"].marker.symbol == "circle-open"
    single = effects()[effects()["statistic"] == "response_tokens"].drop(columns="statistic")
    assert len(views.effects(single).data) == 4


def test_a_series_has_its_models_in_order_and_stars_what_differs() -> None:
    fig = views.series(series())
    means = series().models.query("statistic == 'response_tokens'")
    points = [t for t in fig.data if t.mode == "markers" and t.xaxis == "x2"]
    np.testing.assert_allclose(points[0].y, means["mean"])
    assert fig.layout.xaxis.ticktext == ("base", "sft", "dpo", "&lt;b&gt;4&lt;/b&gt;")
    colors = points[0].marker.color
    assert (colors[0], colors[-1]) == (theme.BASE, theme.TUNED) and len(set(colors)) == 4
    starred = {trace.xaxis: tuple(trace.x) for trace in fig.data if trace.mode == "text"}
    assert starred["x"] == starred["x2"] == (1, 2, 3) and "x3" not in starred
    titles = [a.text for a in fig.layout.annotations]
    assert "trend" in titles[0] and "trend" not in titles[2] and "a step" in titles[1]
    pair = views.series(factory.model_series(("base", "tuned")), statistics=["noise"])
    assert len(pair.layout.annotations) == 1 and pair.layout.xaxis.ticktext == ("base", "tuned")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: views.patching(shift()), "pass what itlens.patch returns"),
        (lambda: views.patching(xr.Dataset(attrs={"probe": "patch"})), "without recovered fractions"),
        (lambda: views.faithfulness(shift()), "pass what itlens.faithfulness, itlens.diff.faithfulness or"),
        (lambda: views.faithfulness(pd.DataFrame({"n": [1]})), "needs the columns method, by"),
        (lambda: views.effects(pd.DataFrame({"n": [1]})), "needs the columns group, effect"),
        (lambda: views.effects(effects(), group="x"), "group='x'; there are all"),
        (lambda: views.series(effects()), "needs models, differences and trend"),
        (lambda: views.series(series(), statistics=["x"]), "got the statistic 'x'; there are instruction_score"),
        (lambda: views.series(series(), group="x"), "group='x'; there are all"),
    ],
)
def test_other_results_get_one_sentence(call: Any, message: str) -> None:
    with pytest.raises(ResultError, match=message):
        call()
