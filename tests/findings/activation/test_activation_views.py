"""Figures of activations, as data: what is drawn is what the results say, in its place and colour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import itlens
from itlens import ResultError, views
from itlens.diff import shift_summary
from itlens.report import theme
from tests.findings.activation import made_results as factory
from tests.findings.activation.activation_models import PROMPTS, shared

ACTIVATIONS, SHIFT = factory.activation_diff(), factory.shift_means()


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


def test_axis_titles_are_whole_and_fit_a_panel() -> None:
    """Long words are in the figure's title: the axis then has their unit."""
    words = "logit lens: log-probability of the response token (nats)"
    ds = ACTIVATIONS.copy()
    ds["resid_rms"] = ds["resid_rms"].assign_attrs(long_name=words)
    axes = views.activations(ds, statistic="resid_rms").layout
    assert axes.xaxis.title.text == "mean over prompts (nats)"
    assert axes.xaxis2.title.text == "tuned − base (nats)"
    assert words in axes.title.text
    named_axes = views.activations(ACTIVATIONS, statistic="resid_rms").layout
    assert named_axes.xaxis.title.text == f"mean {ACTIVATIONS['resid_rms'].attrs.get('long_name', 'resid_rms')}"
    assert named_axes.xaxis2.title.text == "tuned − base"


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
    with pytest.raises(ResultError, match="statistic='lens_rank'; there are attention_mass, resid_rms"):
        views.activations(ds, statistic="lens_rank")


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


def test_what_has_neither_layers_nor_heads_is_a_row() -> None:
    fig = views.activations(ACTIVATIONS, statistic="lens_commitment")
    difference = ACTIVATIONS.lens_commitment.sel(group="all", measure="difference").item()
    assert list(named(fig, "difference").x) == [difference]
    assert list(fig.layout.yaxis.ticktext) == ["whole model"]
    series = factory.activation_series()
    line = named(views.activations(series, statistic="lens_commitment"), "sft")
    assert list(line.x) == [series.lens_commitment.sel(group="all", model="sft", summary="mean").item()]


def test_the_first_statistic_is_drawn_where_none_is_named() -> None:
    fig = views.activations(ACTIVATIONS[["resid_rms"]])
    np.testing.assert_allclose(named(fig, "tuned").x, ACTIVATIONS.resid_rms.sel(group="all", measure="tuned_mean"))
    assert "residual stream" in fig.layout.title.text


class TestOneModel:
    """A result of `itlens.activations` is drawn as it is."""

    base = factory.activation_results()[0].assign_attrs(model="<b>toy</b>")

    def test_heads_are_a_map_of_means(self) -> None:
        fig = views.activations(self.base, group="one")
        means = self.base.attention_mass.sel(token_class="instruction")[::2].mean("prompt")
        np.testing.assert_allclose(heat(fig).z, means)
        np.testing.assert_allclose(named(fig, "mean").x, means.mean("head"))
        assert heat(fig).zmin == 0
        assert "<b>L2H1</b>" in heat(fig).customdata[2][1]
        assert fig.layout.title.subtitle.text == "&lt;b&gt;toy&lt;/b&gt;; means over 8 prompts"

    def test_layers_are_a_line(self) -> None:
        fig = views.activations(self.base, statistic="resid_rms")
        np.testing.assert_allclose(named(fig, "mean").x, self.base.resid_rms.mean("prompt"))
        assert fig.layout.yaxis.range == (5.5, -0.5)

    def test_negative_numbers_are_coloured_on_both_sides_of_zero(self) -> None:
        signed = self.base.assign(attention_mass=self.base.attention_mass - 0.3)
        fig = views.activations(signed)
        assert heat(fig).zmin == -heat(fig).zmax

    def test_what_was_not_met_is_empty(self) -> None:
        without = self.base.assign(attention_mass=self.base.attention_mass.where(self.base["head"] > 0))
        assert np.isnan(heat(views.activations(without)).z[:, 0]).all()

    def test_an_unknown_group_is_named(self) -> None:
        with pytest.raises(ResultError, match=r"group='x'; there are all, one, <b>two</b>\."):
            views.activations(self.base, group="x")


class TestOwnHooks:
    """Whatever a user's function gives is drawn, of one model and of a diff."""

    def runs(self, *hooks: str, **options: Any) -> list[xr.Dataset]:
        models = shared("llama"), shared("llama", dtype="float64")
        return [itlens.activations(model, PROMPTS, hooks=hooks, progress=False, **options) for model in models]

    def test_a_number_per_layer(self) -> None:
        base, tuned = self.runs("blocks.{layer}.hook_resid_post", reduce=lambda value, prompt: value.norm())
        assert base.hook_reduced.dims == ("prompt", "hook", "layer")
        means = base.hook_reduced.mean("prompt").squeeze("hook")
        np.testing.assert_allclose(named(views.activations(base), "mean").x, means)
        diff = itlens.diff.activations(base, tuned)
        fig = views.activations(diff)
        there = diff.hook_reduced.sel(group="all", measure="difference").squeeze("hook")
        np.testing.assert_allclose(named(fig, "difference").x, there)
        assert "blocks.{layer}.hook_resid_post" in fig.layout.title.text

    def test_an_array_per_layer_is_a_map(self) -> None:
        def first_two(value: Any, prompt: Any) -> Any:
            return value[-1, :2]

        base, tuned = self.runs("blocks.{layer}.hook_resid_post", reduce=first_two, axes="feature")
        assert base.hook_reduced.dims == ("prompt", "hook", "layer", "feature")
        fig = views.activations(base)
        np.testing.assert_allclose(heat(fig).z, base.hook_reduced.mean("prompt").squeeze("hook"))
        assert fig.layout.xaxis.title.text == "feature"
        assert "<b>layer 1, feature 0</b>" in heat(fig).customdata[1][0]
        diff = itlens.diff.activations(base, tuned)
        there = diff.hook_reduced.sel(group="all", measure="difference").squeeze("hook")
        np.testing.assert_allclose(heat(views.activations(diff)).z, there)

    def test_a_number_per_head_is_a_map_of_heads(self) -> None:
        def sizes(value: Any, prompt: Any) -> Any:
            return value[-1].norm(dim=-1)

        base, _ = self.runs("blocks.{layer}.attn.hook_z", reduce=sizes, axes=("head",))
        assert base.hook_reduced.dims == ("prompt", "hook", "layer", "head")
        fig = views.activations(base)
        assert "<b>L1H3</b>" in heat(fig).customdata[1][3]

    def test_several_points_are_rows_or_chosen(self) -> None:
        base, _ = self.runs("hook_embed", "ln_final.hook_normalized")
        fig = views.activations(base)
        assert list(fig.layout.yaxis.ticktext) == ["hook_embed", "ln_final.hook_normalized"]
        means = base.hook_rms.sel(token_class="instruction").mean("prompt")
        np.testing.assert_allclose(named(fig, "mean").x, means)
        one = views.activations(base, at={"hook": "hook_embed"})
        np.testing.assert_allclose(named(one, "mean").x, means[:1])

    def test_axes_that_are_left_over_are_named(self) -> None:
        points = ("blocks.{layer}.hook_resid_mid", "blocks.{layer}.hook_resid_post")
        base, _ = self.runs(*points, reduce=lambda value, prompt: value[-1, :3], axes=("feature",))
        with pytest.raises(ResultError, match=r"'hook_reduced' has layer, feature, hook: .* at=\{'hook': \.\.\.\}"):
            views.activations(base)
        fig = views.activations(base, at={"hook": points[1]})
        np.testing.assert_allclose(heat(fig).z, base.hook_reduced.sel(hook=points[1]).mean("prompt"))
        with pytest.raises(ResultError, match=r"at=\{'hook': 'x'\}; there are 'blocks"):
            views.activations(base, at={"hook": "x"})
        with pytest.raises(ResultError, match=r"at=\{'model': \.\.\.\}; 'hook_reduced' has hook, layer, feature"):
            views.activations(base, at={"model": 1})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: views.activations(SHIFT), "got a result of diff.shift_summary; pass what itlens.diff.activations"),
        (lambda: views.activations(None), "got a NoneType; pass what"),  # type: ignore[arg-type]
        (
            lambda: views.activations(ACTIVATIONS, statistic="lens_rank"),
            "cannot draw statistic='lens_rank'; there are attention_mass, resid_rms, lens_commitment",
        ),
        (lambda: views.activations(ACTIVATIONS, token_class="verbs"), "token_class='verbs'; there are first, template"),
        (lambda: views.activations(ACTIVATIONS, group="x"), "group='x'; there are all, one"),
        (
            lambda: views.shift(factory.shift_result()),
            "a result of activation_shift; pass what itlens.diff.shift_summary",
        ),
        (lambda: views.shift(SHIFT, statistic="resid_relative_change"), "on heads there are result_relative_change"),
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
