from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import pytest
import xarray as xr

from itlens import views
from itlens.errors import ResultError
from itlens.report import theme
from tests.views import factory


def test_scores_put_every_prompt_once_on_its_side_of_the_diagonal() -> None:
    table = pd.DataFrame(
        {"id": list("abcd"), "group": "g", "base": [1.0, 2.0, 1.5, np.nan], "tuned": [1.5, 1.0, 1.5, 1.0]}
    )
    table["difference"] = table["tuned"] - table["base"]
    fig = views.scores(table)
    points = {trace.name: (list(trace.x), list(trace.y)) for trace in fig.data[1:]}
    expected = {"tuned higher": ([1.0], [1.5]), "base higher": ([2.0], [1.0]), "no difference": ([1.5], [1.5])}
    assert points == expected
    assert "tuned higher on 1 of 3 prompts, base on 1" in fig.layout.title.subtitle.text
    assert fig.data[1].marker.color == theme.TUNED and fig.data[2].marker.color == theme.BASE


def test_groups_draw_the_interval_and_say_what_was_not_tested() -> None:
    table = factory.group_table(factory.prompts(12, ("many", "many", "many", "few")))
    fig = views.groups(table)
    drawn = {y: (x, x - low, x + high) for trace in fig.data for x, y, low, high in
             zip(trace.x, trace.y, trace.error_x.arrayminus, trace.error_x.array, strict=True)}  # fmt: skip
    for y, row in enumerate(table.itertuples()):
        assert drawn[y] == pytest.approx((row.difference, row.ci_low, row.ci_high))
    words = [annotation.text for annotation in fig.layout.annotations]
    assert words[-1] == "too few to test" and words[0].startswith("p ")
    assert fig.layout.yaxis.ticktext == ("<b>all prompts</b> (n=12)", "many (n=9)", "few (n=3)")


def test_profile_is_in_per_cent_with_a_band_per_model() -> None:
    ds = factory.profile()
    fig = views.profile(ds)
    assert [trace.name for trace in fig.data] == ["base band", "base", "tuned band", "tuned"]
    assert np.allclose(fig.data[1].y, 100 * ds.share.sel(model="base"))
    assert np.allclose(fig.data[3].x, 100 * ds.position)
    assert [trace.line.color for trace in fig.data[1::2]] == [theme.BASE, theme.TUNED]
    three = xr.concat([ds, ds.sel(model=["tuned"]).assign_coords(model=["<b>dpo</b>"])], dim="model")
    lines = [t for t in views.profile(three).data if t.mode == "lines+markers"]
    assert [line.name for line in lines] == ["base", "tuned", "&lt;b&gt;dpo&lt;/b&gt;"]
    assert [line.line.color for line in lines] == theme.model_colors(3)
    only = views.profile(ds.sel(model=["tuned"])[["share"]])
    assert [trace.name for trace in only.data] == ["tuned"]


def test_sensitivity_marks_significance_and_outlines_the_default() -> None:
    ds = factory.sensitivity()
    fig = views.sensitivity(ds, threshold=7, p=4)
    assert np.allclose(fig.data[0].z, ds.difference.T)
    assert fig.data[0].zmin == -fig.data[0].zmax
    (outline,) = fig.layout.shapes
    assert (outline.x0, outline.x1, outline.y0, outline.y1) == (6.5, 7.5, 0.5, 1.5)
    marks = {(a.x, a.y): a.text.split("<br>")[1].count("*") for a in fig.layout.annotations}
    for (b, q), stars in marks.items():
        p = float(ds.p_paired[int(b), int(q)])
        assert stars == (p < 0.05) + (p < 0.01) + (p < 0.001)
    assert np.allclose(views.sensitivity(ds, value="t_welch").data[0].z, ds.t_welch.T)
    assert not views.sensitivity(ds, threshold=42).layout.shapes


def test_heatmap_keeps_equal_tokens_apart_and_escapes_all() -> None:
    ds = factory.attribution(["the", " cat", "the", "<b>x</b>"], [" a", " a", "$y$"])
    fig = views.heatmap(ds)
    assert np.allclose(fig.data[0].z, ds.score)
    assert list(fig.data[0].y) == [0, 1, 2, 3] and list(fig.data[0].x) == [0, 1, 2]
    assert fig.layout.yaxis.ticktext == ("the", "\u00a0cat", "the", "&lt;b&gt;x&lt;/b&gt;")
    assert fig.layout.xaxis.ticktext[2] == "&#36;y&#36;"
    assert "&lt;b&gt;x" in fig.data[0].customdata[3][0]
    levels = views.heatmap(ds, values="levels").data[0].z
    assert levels.max() == 10 and not ((levels > 0) & (levels <= 7)).any()


def test_long_axes_are_labelled_sparsely() -> None:
    fig = views.heatmap(factory.attribution([f"t{i}" for i in range(150)], ["a"]))
    assert len(fig.layout.yaxis.tickvals) == 50 and fig.layout.yaxis.ticktext[1] == "t3"
    assert fig.data[0].z.shape == (150, 1)


def test_nothing_to_draw_is_drawn_as_nothing() -> None:
    empty = factory.prompts(0, ("g",))
    assert isinstance(views.scores(empty), go.Figure)
    assert isinstance(views.groups(factory.group_table(factory.prompts(1, ("g",))).iloc[:0]), go.Figure)
    assert views.heatmap(factory.attribution(["a", "b"], [])).layout.annotations[0].text == "no response tokens"
    ds = factory.sensitivity()
    assert not views.sensitivity(ds.map(lambda a: a * np.nan)).layout.annotations


def test_hostile_names_are_text_in_figures() -> None:
    table = factory.prompts(10, (factory.HOSTILE[0], factory.HOSTILE[1]))
    for fig in (views.scores(table), views.groups(factory.group_table(table))):
        assert "<script" not in fig.to_json() and "<img" not in fig.to_json()


def test_figures_set_no_global_style_and_stay_see_through() -> None:
    before = pio.templates.default, set(pio.templates)
    fig = views.profile(factory.profile())
    assert (pio.templates.default, set(pio.templates)) == before
    assert fig.layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: views.scores(pd.DataFrame({"base": [1.0]})), "views.scores needs the columns id, group, tuned"),
        (lambda: views.groups(pd.DataFrame()), "pass AttributionDiff.groups"),
        (lambda: views.profile(xr.Dataset()), "views.profile needs share on"),
        (lambda: views.sensitivity(xr.Dataset()), "views.sensitivity needs difference on"),
        (lambda: views.sensitivity(factory.sensitivity(), value="n"), "choose one of difference, t_paired"),
        (lambda: views.heatmap(xr.Dataset()), "pass what itlens.attribute returns"),
        (lambda: views.heatmap(factory.attribution(["a"], ["b"]), values="x"), "choose 'score' or 'levels'"),
    ],
)
def test_wrong_input_says_what_was_expected(call: object, words: str) -> None:
    with pytest.raises(ResultError, match=words.replace("(", r"\(")):
        call()  # type: ignore[operator]
