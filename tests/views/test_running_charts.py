"""Figures of running models, as data: what is drawn is what the results say, at its place and in its colour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from itlens import ResultError, views
from itlens.diff import shift_summary
from itlens.views import theme
from tests.views import running_factory as factory

ACTIVATIONS, SHIFT = factory.activation_diff(), factory.shift_means()
EFFECTS, SERIES, FAITHFUL = factory.effect_table(), factory.model_series(), factory.faithfulness_table()


def named(fig: Any, name: str) -> Any:
    """The one trace of this name that is drawn as a line or points (not the band behind it)."""
    (trace,) = [trace for trace in fig.data if trace.name == name]
    return trace


def heat(fig: Any) -> Any:
    return next(trace for trace in fig.data if trace.type == "heatmap")


def test_activations_draw_the_difference_of_a_class_and_star_what_holds() -> None:
    fig = views.activations(ACTIVATIONS)
    part = ACTIVATIONS.attention_mass.sel(group="all", token_class="instruction")
    np.testing.assert_allclose(heat(fig).z, part.sel(measure="difference"))
    assert heat(fig).zmin == -heat(fig).zmax and list(heat(fig).colorscale[2]) == theme.DIVERGING[2]
    stars = named(fig, "p BH < 0.05")
    assert (1, 2) in set(zip(stars.x, stars.y, strict=True)), "head 1 of layer 2"
    expected = {(int(j), int(i)) for i, j in np.argwhere(part.sel(measure="p_bh").values < 0.05)}
    assert set(zip(stars.x, stars.y, strict=True)) == expected
    np.testing.assert_allclose(named(fig, "tuned").x, part.sel(measure="tuned_mean").mean("head"))
    assert (named(fig, "base").line.color, named(fig, "tuned").line.color) == (theme.BASE, theme.TUNED)
    assert f"{len(expected)} of 24 heads" in fig.layout.title.subtitle.text
    assert "<b>L2H1</b>" in heat(fig).customdata[2][1] and "Benjamini" in heat(fig).customdata[2][1]
    assert fig.layout.yaxis.range == (5.5, -0.5), "layers go down"


def test_activations_on_layers_have_an_interval_and_stars() -> None:
    fig = views.activations(ACTIVATIONS, statistic="resid_rms", group="one")
    part = ACTIVATIONS.resid_rms.sel(group="one")
    np.testing.assert_allclose(named(fig, "difference").x, part.sel(measure="difference"))
    band = named(fig, "difference, 95 %")
    assert band.x.max() == pytest.approx(part.sel(measure="ci_high").max().item())
    assert len(named(fig, "p BH < 0.05").x) == 6 and "6 of 6 layers" in fig.layout.title.subtitle.text


def test_shift_draws_means_over_prompts_with_their_intervals() -> None:
    fig = views.shift(SHIFT)
    part = SHIFT.sel(group="all", token_class="rest")
    np.testing.assert_allclose(heat(fig).z, part.result_relative_change.sel(summary="mean"))
    assert heat(fig).zmin == 0 and np.unravel_index(heat(fig).z.argmax(), (6, 4)) == (4, 3)
    np.testing.assert_allclose(named(fig, "residual stream").x, part.resid_relative_change.sel(summary="mean"))
    kl = part.lens_kl_base_tuned.sel(summary="mean", reading="tuned")
    np.testing.assert_allclose(named(fig, "KL, tuned's readout").x, kl)
    assert named(fig, "MLP output, 95 %").x.max() == pytest.approx(
        part.mlp_relative_change.sel(summary="ci_high").max().item()
    )
    assert named(fig, "residual stream").xaxis == "x2" and named(fig, "KL, own readouts").xaxis == "x3"
    without = views.shift(factory.shift_means(lens=False), statistic="pattern_jsd", group="one")
    assert "xaxis3" not in without.layout and without.layout.xaxis2.title.text == "relative change"


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


def named_first(fig: Any, name: str) -> Any:
    return next(trace for trace in fig.data if trace.name == name)


def test_activations_of_a_series_are_a_line_per_model() -> None:
    ds = factory.activation_series()
    fig = views.activations(ds, statistic="resid_rms", group="one")
    part = ds.resid_rms.sel(group="one")
    for label, shown in (("base", "base"), ("sft", "sft"), ("<b>dpo</b>", "&lt;b&gt;dpo&lt;/b&gt;")):
        np.testing.assert_allclose(named(fig, shown).x, part.sel(model=label, summary="mean"))
        band = named(fig, f"{shown}, 95 %")
        assert band.x.max() == pytest.approx(part.sel(model=label, summary="ci_high").max().item())
    assert fig.layout.yaxis.range == (5.5, -0.5) and "means over 8 prompts" in fig.layout.title.subtitle.text
    heads = views.activations(ds)
    instruction = ds.attention_mass.sel(group="all", token_class="instruction", summary="mean").mean("head")
    np.testing.assert_allclose(named(heads, "sft").x, instruction.sel(model="sft"))
    assert len(heads.data) == 3, "an interval of a mean over heads is not the mean of their intervals"
    with pytest.raises(ResultError, match="statistic='lens_commitment'; on layers there are attention_mass"):
        views.activations(ds, statistic="lens_commitment")


def test_what_is_one_where_nothing_moved_is_coloured_by_its_distance_from_one() -> None:
    raw = factory.shift_result()
    moved = raw.result_relative_change
    shift = raw.assign(result_cosine=1 - moved / 4, result_norm_ratio=1 + moved * (raw["head"] - 1.5))
    ds = shift_summary(shift, resamples=50)
    cosine = heat(views.shift(ds, statistic="result_cosine"))
    assert cosine.zmax == 1 and cosine.zmin == np.min(cosine.z) and cosine.reversescale
    ratio = heat(views.shift(ds, statistic="result_norm_ratio"))
    assert ratio.zmin + ratio.zmax == pytest.approx(2) and list(ratio.colorscale[0]) == theme.DIVERGING[0]
    assert max(abs(np.asarray(ratio.z) - 1).ravel()) == pytest.approx(ratio.zmax - 1)


def test_readouts_that_agree_are_all_seen() -> None:
    fig = views.shift(SHIFT)
    lines = [named(fig, f"KL, {name}") for name in ("own readouts", "base's readout", "tuned's readout")]
    assert [line.line.dash for line in lines] == ["solid", "dash", "dot"]
    bands = [trace.name for trace in fig.data if trace.type == "scatter" and trace.fill]
    assert [name for name in bands if "KL" in name] == ["KL, own readouts, 95 %"]


def test_the_table_of_faithfulness_is_a_dot_per_model_method_and_direction() -> None:
    fig = views.faithfulness(FAITHFUL)
    for name in ("base", "tuned"):
        np.testing.assert_allclose(named(fig, name).x, FAITHFUL[f"{name}_advantage"])
        np.testing.assert_allclose(
            named(fig, name).error_x.array, FAITHFUL[f"{name}_high"] - FAITHFUL[f"{name}_advantage"]
        )
    assert fig.layout.yaxis.ticktext[0] == "input x gradient by density, deletion (n=8)"
    assert len(named(fig, "base").x) == 6


def test_effects_have_a_panel_per_statistic_and_fill_what_holds() -> None:
    fig = views.effects(EFFECTS)
    panels = [a.text for a in fig.layout.annotations]
    assert panels == ["instruction score", "response (tokens)", "&lt;i&gt;x&lt;/i&gt;"]
    dots = {(trace.name, trace.xaxis): trace for trace in fig.data}
    rows = EFFECTS.set_index(["statistic", "effect"])
    for statistic, axis in (("instruction_score", "x"), ("response_tokens", "x2"), ("<i>x</i>", "x3")):
        for effect in ("weights", "template", "interaction", "total"):
            row, dot = rows.loc[(statistic, effect)], dots[effect, axis]
            assert dot.x[0] == row["mean"] and dot.x[0] + dot.error_x.array[0] == pytest.approx(row["ci_high"])
    assert dots["weights", "x"].marker.symbol == "circle" and dots["template", "x2"].marker.symbol == "circle"
    assert dots["weights", "x3"].marker.symbol == dots["interaction", "x"].marker.symbol == "circle-open"
    single = EFFECTS[EFFECTS["statistic"] == "response_tokens"].drop(columns="statistic")
    assert len(views.effects(single).data) == 4


def test_a_series_has_its_models_in_order_and_stars_what_differs() -> None:
    fig = views.series(SERIES)
    means = SERIES.models.query("statistic == 'response_tokens'")
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
        (lambda: views.activations(SHIFT), "got a result of diff.shift_summary; pass what itlens.diff.activations"),
        (lambda: views.activations(None), "got a NoneType; pass what"),
        (
            lambda: views.activations(ACTIVATIONS, statistic="lens_commitment"),
            "cannot draw statistic='lens_commitment'",
        ),
        (lambda: views.activations(ACTIVATIONS, token_class="verbs"), "token_class='verbs'; there are first, template"),
        (lambda: views.activations(ACTIVATIONS, group="x"), "group='x'; there are all, one"),
        (
            lambda: views.shift(factory.shift_result()),
            "a result of activation_shift; pass what itlens.diff.shift_summary",
        ),
        (lambda: views.shift(SHIFT, statistic="resid_relative_change"), "on heads there are result_relative_change"),
        (lambda: views.patching(SHIFT), "pass what itlens.patch returns"),
        (lambda: views.patching(xr.Dataset(attrs={"probe": "patch"})), "without recovered fractions"),
        (lambda: views.faithfulness(SHIFT), "pass what itlens.faithfulness, itlens.diff.faithfulness or"),
        (lambda: views.faithfulness(pd.DataFrame({"n": [1]})), "needs the columns method, by"),
        (lambda: views.effects(pd.DataFrame({"n": [1]})), "needs the columns group, effect"),
        (lambda: views.effects(EFFECTS, group="x"), "group='x'; there are all"),
        (lambda: views.series(EFFECTS), "needs models, differences and trend"),
        (lambda: views.series(SERIES, statistics=["x"]), "got the statistic 'x'; there are instruction_score"),
        (lambda: views.series(SERIES, group="x"), "group='x'; there are all"),
    ],
)
def test_other_results_get_one_sentence(call: Any, message: str) -> None:
    with pytest.raises(ResultError, match=message):
        call()


@pytest.mark.parametrize("layers", [1, 48])
def test_one_layer_and_many_are_drawn(layers: int) -> None:
    ds = factory.shift_means(layers=max(layers, 5)) if layers > 1 else SHIFT.isel(layer=[0])
    fig = views.shift(ds)
    assert len(fig.layout.yaxis.tickvals) <= 40 and fig.layout.height <= 1100
