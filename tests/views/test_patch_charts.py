"""Figures of patching, as data: what each part recovers, parts together, and estimates against exact effects."""

from __future__ import annotations

import numpy as np
import pytest

from itlens import ResultError, views
from tests.views import running_factory as factory
from tests.views.test_running_charts import heat, named


def test_patching_draws_recovered_fractions_and_the_curve_above_random_parts() -> None:
    ds = factory.patch_result()
    fig = views.patching(ds)
    np.testing.assert_allclose(heat(fig).z, ds.recovered)
    stars = named(fig, "p BH < 0.05")
    assert (tuple(stars.x), tuple(stars.y)) == ((2,), (3,))
    np.testing.assert_allclose(named(fig, "best heads (band: 95 % interval)").y, ds.joint)
    np.testing.assert_allclose(
        named(fig, "as many random heads (band: 95 % of draws), 95 %").y.max(), ds.joint_random_high.max()
    )
    assert fig.layout.xaxis2.type == "log" and fig.layout.xaxis2.ticktext[-1] == "24"
    assert fig.layout.title.text == "What the tuned model's heads do in the base model"
    for words in ("gap between the models +1.40 nats", "estimate and exact 0.91", "80 % of the gap with 8 heads"):
        assert words in fig.layout.title.subtitle.text


def test_patching_of_layers_and_of_estimates_alone() -> None:
    ds = factory.patch_result("mlp")
    fig = views.patching(ds)
    np.testing.assert_allclose(named(fig, "recovered").x, ds.recovered)
    assert named(fig, "recovered, 95 %").x.max() == pytest.approx(ds.recovered_high.max().item())
    ds = factory.patch_result("estimate").drop_vars([n for n in factory.patch_result() if "joint" in str(n)])
    fig = views.patching(ds)
    np.testing.assert_allclose(heat(fig).z, ds.estimated)
    assert "estimated" in fig.layout.annotations[0].text and len(fig.data) == 1


def test_estimates_stand_against_exact_effects() -> None:
    ds = factory.patch_result()
    fig = views.estimates(ds)
    points = named(fig, "parts")
    np.testing.assert_allclose(points.x, ds.recovered.values.ravel())
    np.testing.assert_allclose(points.y, ds.estimated.values.ravel())
    assert points.text[3 * 4 + 2] == "L3H2" and 1 < sum(bool(name) for name in points.text) <= 3
    assert "24 heads" in fig.layout.title.subtitle.text and "rank correlation 0.91" in fig.layout.title.subtitle.text
    line = named(fig, "equal")
    assert line.x == line.y
    with pytest.raises(ResultError, match=r"needs recovered: pass what itlens\.patch returns with exact=True"):
        views.estimates(factory.patch_result("estimate"))


def test_names_of_points_that_lie_together_are_written_once() -> None:
    ds = factory.patch_result()
    near = ds.recovered.copy(deep=True)
    near[3, 1], near[0, 0] = near[3, 2] - 0.001, 0.3
    fig = views.estimates(ds.assign(recovered=near, estimated=near))
    assert [name for name in named(fig, "parts").text if name] == ["L0H0", "L3H2"]


def test_counts_that_would_run_into_one_another_are_not_written() -> None:
    ds = factory.patch_result()
    told = views.patching(ds.assign_coords(count=[1, 2, 3, 5, 8, 23, 24])).layout.xaxis2.ticktext
    assert told[-1] == "24" and "23" not in told and told[0] == "1"
