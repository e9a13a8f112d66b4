from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from itlens import views
from itlens.errors import ResultError
from itlens.report import theme
from tests.views import factory

VERBS = ("write", "explain", "edit", "find", "run", "eat")


def dataset() -> xr.Dataset:
    """Worked out by hand: write 3 of 4, explain 1 of 4, edit 2 of 4, find never changed; run 1 of 2, eat 1 of 1."""
    raised = np.array([[3, 1, 2, 0, 1, 1], [1, 0, 0, 0, 0, 0]])
    lowered = np.array([[1, 3, 2, 0, 1, 0], [0, 0, 0, 0, 0, 0]])
    with np.errstate(invalid="ignore"):
        share = raised / (raised + lowered)
    tests = {
        "instruction_share": [0.5, 1.0], "instruction_std": [0.2, np.nan], "general_share": [0.75, np.nan],
        "general_std": [0.25, np.nan], "null_low": [-0.3, np.nan], "null_high": [0.2, np.nan],
        "p_null": [0.21, np.nan], "instruction_verbs": [3, 1], "general_verbs": [2, 0],
        "note": ["", "no general verb changed"],
    }  # fmt: skip
    data = {"raised": raised, "lowered": lowered, "share": share}
    return xr.Dataset(
        {name: (("group", "verb"), values) for name, values in data.items()}
        | {name: ("group", values) for name, values in tests.items()},
        coords={
            "group": ["all", "layers 0-1"], "verb": list(VERBS),
            "kind": ("verb", ["instruction"] * 4 + ["general"] * 2),
        },
    )  # fmt: skip


def test_bars_go_from_one_half_to_each_verbs_share() -> None:
    fig = views.verbs(dataset())
    (bars,) = (trace for trace in fig.data if trace.type == "bar")
    labels = fig.layout.yaxis.ticktext
    ends = {labels[int(y)]: base + x for y, base, x in zip(bars.y, bars.base, bars.x, strict=True)}
    assert ends == {"write": 75, "edit": 50, "explain": 25}
    assert labels[2:] == ("write", "edit", "explain"), "the highest share first"
    assert bars.marker.color == (theme.TUNED, theme.NEUTRAL, theme.BASE)
    (counts,) = (trace for trace in fig.data if trace.name == "heads")
    assert counts.text == ("3 of 4", "2 of 4", "1 of 4")
    assert "rose in 3, fell in 1 heads<br>rose in 75.0 % of them" in bars.customdata[0]


def test_means_and_the_null_stand_where_the_numbers_are() -> None:
    fig = views.verbs(dataset())
    means = {trace.name: (trace.x[0], trace.error_x.array[0]) for trace in fig.data if trace.name.endswith(")")}
    assert means == {"<b>instruction verbs</b> (3)": (50, 20), "<b>general verbs</b> (2)": (75, 25)}
    band = next(shape for shape in fig.layout.shapes if shape.name == "null")
    assert (band.x0, band.x1) == pytest.approx((45, 95))
    assert "permutation p = 0.21" in fig.layout.title.subtitle.text


def test_a_group_without_general_verbs_has_no_null_and_says_why() -> None:
    fig = views.verbs(dataset(), group="layers 0-1")
    assert fig.layout.yaxis.ticktext == ("<b>instruction verbs</b> (1)", "write")
    assert not [shape for shape in fig.layout.shapes if shape.name == "null"]
    assert "no general verb changed" in fig.layout.title.subtitle.text and "nan" not in fig.to_json().lower()


def test_top_keeps_the_verbs_with_the_most_changed_heads() -> None:
    ds = dataset()
    ds.raised[0, 0], ds.lowered[0, 0], ds.share[0, 0] = 1, 0, 1.0
    fig = views.verbs(ds, top=2)
    assert fig.layout.yaxis.ticktext[2:] == ("edit", "explain")


def test_no_change_at_all_is_said() -> None:
    none = dataset().map(lambda a: a * np.nan if a.dtype.kind == "f" else a)
    fig = views.verbs(none)
    assert "no instruction verb's count changed" in fig.layout.annotations[-1].text


def test_verbs_and_groups_are_text() -> None:
    ds = dataset().assign_coords(verb=[*factory.HOSTILE[:4], "run", "eat"], group=["all", factory.HOSTILE[1]])
    for group in ("all", factory.HOSTILE[1]):
        found = views.verbs(ds, group=group).to_json()
        assert "<script" not in found and "<img" not in found


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: views.verbs(dataset(), group="layers 9"), "group='layers 9': the groups of this result are all,"),
        (lambda: views.verbs(xr.Dataset()), "views.verbs needs raised, lowered"),
        (lambda: views.verbs(None), "got a NoneType"),
    ],
)  # fmt: skip
def test_wrong_input_says_what_was_expected(call: object, words: str) -> None:
    with pytest.raises(ResultError, match=words):
        call()  # type: ignore[operator]
