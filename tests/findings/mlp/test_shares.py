from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from itlens import views
from itlens.diff import concept_shares
from itlens.errors import ResultError
from itlens.report import theme
from tests.findings.mlp import concept_factory
from tests.views import factory

LEVELS = ["phonology", "morphology", "syntax", "semantics"]
# of the labelled ones: base 0.2 0.5 0.1 0.0, the rest without level; half of base and a quarter of tuned were labelled
BASE, TUNED = [0.2, 0.5, 0.1, 0.0, 0.2], [0.2, 0.1, 0.6, 0.1, 0.0]
KNOWN = (0.5, 0.25)
TASKS = {"daily": (0.1, 0.3), "coding": (0.0, 0.4), "translation": (0.0, 0.0), "any": (0.1, 0.5), "none": (0.9, 0.5)}


def table(**changes: Any) -> pd.DataFrame:
    """Two groups with the same shares, of 80 concepts each: syntax and coding rose, by a test, in the second."""
    rows = []
    for group in ("all", "layers 0-1"):
        shares: list[tuple[str, str, float, float]] = [
            ("level", name, base, tuned) for name, base, tuned in zip([*LEVELS, "none"], BASE, TUNED, strict=True)
        ]
        shares += [("task", name, base, tuned) for name, (base, tuned) in TASKS.items()]
        for kind, name, base, tuned in [*shares, ("known", "known", *KNOWN)]:
            star = group == "layers 0-1" and name in ("syntax", "coding", "known")
            whole = (80, 80) if kind == "known" else (40, 20)
            rows.append(
                {"group": group, "kind": kind, "category": name, "base": base, "tuned": tuned,
                 "difference": tuned - base, "ci_low": tuned - base - 0.1, "ci_high": tuned - base + 0.1,
                 "p": 0.004 if star else 0.3, "p_holm": 0.012 if star else 0.9, "base_concepts": float(whole[0]),
                 "tuned_concepts": float(whole[1]), "p_seeds": np.nan, "note": ""}
            )  # fmt: skip
    made = pd.DataFrame(rows).assign(**changes)
    made.attrs = {"vectors": "value", "of": "known"}
    return made


def bars(fig: go.Figure) -> dict[str, go.Bar]:
    return {trace.name: trace for trace in fig.data}


def notes(fig: go.Figure) -> list[str]:
    return [annotation.text for annotation in fig.layout.annotations]


def test_bars_are_shares_of_all_concepts_and_make_a_hundred_per_cent() -> None:
    fig = views.shares(table())
    found = bars(fig)
    assert list(found) == [*LEVELS, "no level", "cannot tell"]
    # rows: base, tuned of all layers, then of the group; base: half of all was labelled, tuned: a quarter
    np.testing.assert_allclose(found["morphology"].x, [25, 2.5, 25, 2.5])
    np.testing.assert_allclose(found["syntax"].x, [5, 15, 5, 15])
    np.testing.assert_allclose(found["cannot tell"].x, [50, 75, 50, 75])
    np.testing.assert_allclose(sum(np.array(bar.x) for bar in fig.data), 100)
    assert fig.layout.barmode == "stack" and fig.layout.xaxis.range == (0, 100)


def test_a_button_shows_the_labelled_ones_only() -> None:
    fig = views.shares(table())
    (all_, known) = fig.layout.updatemenus[0].buttons
    assert (all_.label, known.label) == ("all concepts", "labelled ones only")
    np.testing.assert_allclose([list(x) for x in all_.args[0]["x"]], [list(bar.x) for bar in fig.data])
    expected = [[100 * one, 100 * other] * 2 for one, other in zip(BASE, TUNED, strict=True)]
    np.testing.assert_allclose(known.args[0]["x"], [*expected, [0, 0, 0, 0]])
    assert known.args[0]["text"][2] == ["10", "60", "10", "60 ★"], "numbers and stars change with the bars"


def test_rows_name_group_and_model_and_are_never_told_by_the_colours_of_the_levels() -> None:
    fig = views.shares(table())
    said = fig.layout.yaxis.ticktext
    assert [("base" in words, theme.BASE in words, theme.TUNED in words) for words in said] == [
        (True, True, False), (False, False, True),
    ] * 2  # fmt: skip
    assert said[0].startswith("<b>all layers</b>") and said[2].startswith("<b>layers 0-1</b>")
    assert not {bar.marker.color for bar in fig.data} & {theme.BASE, theme.TUNED}
    assert bars(fig)["syntax"].marker.color == theme.LEVELS["syntax"]
    assert list(fig.layout.yaxis.tickvals) == list(fig.data[0].y) == sorted(fig.data[0].y)
    assert fig.layout.yaxis.range[0] > fig.layout.yaxis.range[1], "all layers stand on top"


# linear sRGB as a protanope, a deuteranope and a tritanope see it (Machado et al. 2009, full severity)
BLIND = (
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
)
XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))


def lab(color: str, seen: Any) -> np.ndarray:
    """CIE Lab of a colour like #5b3fa8."""
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.clip(np.array(seen) @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    x, y, z = np.cbrt(np.array(XYZ) @ linear / np.array([0.9505, 1, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", [np.eye(3), *BLIND], ids=["all", "protan", "deutan", "tritan"])
@pytest.mark.parametrize("tones", [{}, theme.DARK_TONES], ids=["light", "dark"])
def test_levels_are_told_apart_by_colour_blind_readers(seen: Any, tones: dict[str, str]) -> None:
    colors = [lab(tones.get(color, color), seen) for color in (*theme.LEVELS.values(), theme.PALE)]
    apart = [np.linalg.norm(a - b) for i, a in enumerate(colors) for b in colors[:i]]
    assert min(apart) > 20, "ten times what is just seen as a difference"


def test_what_changed_is_starred_in_its_bar_and_said_below_it() -> None:
    fig = views.shares(table())
    assert list(bars(fig)["syntax"].text) == ["5", "15", "5", "15 ★"], "in the tuned model's bar of that group only"
    assert notes(fig) == [
        "labelled: 40 (base) and 20 (tuned) of 80",
        "labelled: 40 (base) and 20 (tuned) of 80",
        "<b>★ syntax</b> +50.0 points of the labelled [+40.0, +60.0], Holm p 0.012",
        "<b>★ cannot tell</b> +25.0 points [+15.0, +35.0], p 0.012",
    ]
    assert "none" not in fig.layout.title.subtitle.text
    assert views.shares(table(p_holm=0.5)).layout.title.subtitle.text.endswith(": none")


def test_pointing_at_a_bar_gives_its_counts_and_tests() -> None:
    found = bars(views.shares(table()))
    assert found["syntax"].customdata[3] == (
        "<b>layers 0-1, tuned</b><br>syntax: 12 of 20 labelled concepts (60.0 %), 15.0 % of all<br>"
        "of the labelled: tuned − base +50.0 points, 95 % [+40.0, +60.0]<br>permutation p 0.004, Holm p 0.012"
    )
    assert "cannot tell: 60 of 80 concepts (75.0 %)<br>tuned − base +25.0 points" in found["cannot tell"].customdata[1]
    assert "over seeds p 0.02" in bars(views.shares(table(p_seeds=0.02)))["syntax"].customdata[0]


def test_shares_out_of_all_concepts_draw_the_same_bars() -> None:
    base, tuned = concept_factory.concept_pair()
    labels = [concept_factory.label_table(ds, said) for ds, said in
              ((base, concept_factory.BASE_SAID), (tuned, concept_factory.TUNED_SAID))]  # fmt: skip
    one, other = (views.shares(concept_shares(*labels, of=of, resamples=50)) for of in ("known", "all"))
    for left, right in zip(one.data, other.data, strict=True):
        np.testing.assert_allclose(left.x, right.x)
    for left, right in zip(*(fig.layout.updatemenus[0].buttons[1].args[0]["x"] for fig in (one, other)), strict=True):
        np.testing.assert_allclose(left, right)
    assert (
        "<br>of the labelled: tuned" in one.data[0].customdata[0] and "<br>of all: tuned" in other.data[0].customdata[0]
    )
    # one of twelve components each layer; base: 0 semantics, 1 and 5 morphology, 2 phonology, 7 without a level
    np.testing.assert_allclose(np.array([list(bar.x) for bar in one.data])[:, 0] * 0.12, [1, 2, 0, 1, 1, 7])


def test_a_group_without_labels_or_without_a_test_says_so() -> None:
    few = "too few concepts for a test (at least 5 in each model needed)"
    made = table(note=few, p=np.nan, p_holm=np.nan, ci_low=np.nan, ci_high=np.nan)
    made.loc[made["kind"] != "known", ["base", "tuned", "difference"]] = np.nan
    made.loc[made["kind"] == "known", ["base", "tuned"]] = 0.0
    fig = views.shares(made)
    assert notes(fig)[1] == f"<i>{few}</i>" and few in fig.data[0].customdata[0]
    np.testing.assert_allclose(bars(fig)["cannot tell"].x, 100)
    assert f"<i>{few}</i>" in notes(views.shares(made, kind="task"))[1]
    assert "nan" not in fig.to_json().lower()


def dots(fig: go.Figure, name: str) -> go.Scatter:
    (found,) = (trace for trace in fig.data if trace.name == name)
    return found


def test_tasks_are_dots_on_lines_of_their_own_because_they_are_no_parts_of_a_whole() -> None:
    fig = views.shares(table(), kind="task")
    assert list(fig.layout.yaxis.ticktext) == ["daily", "coding", "<b>any of them</b>"] * 2
    np.testing.assert_allclose(dots(fig, "base").x, [10, 0, 10] * 2)
    np.testing.assert_allclose(dots(fig, "tuned").x, [30, 40, 50] * 2)
    assert dots(fig, "base").marker.color == theme.BASE and dots(fig, "tuned").marker.color == theme.TUNED
    assert list(dots(fig, "tuned").y) == list(fig.layout.yaxis.tickvals)
    assert "a concept can count for several tasks" in fig.layout.title.subtitle.text
    assert "in no concept of either model: translation" in fig.layout.xaxis.title.text


def test_the_whisker_is_the_interval_of_the_difference_laid_at_base() -> None:
    whiskers = dots(views.shares(table(), kind="task"), "95 % interval of the difference, from base")
    np.testing.assert_allclose(whiskers.x + np.array(whiskers.error_x.array), [40, 50, 60] * 2)
    np.testing.assert_allclose(whiskers.x - np.array(whiskers.error_x.arrayminus), [20, 30, 40] * 2)


def test_task_differences_are_read_at_the_right_and_by_pointing() -> None:
    fig = views.shares(table(), kind="task")
    assert list(dots(fig, "difference").text) == ["+20.0", "+40.0", "+40.0", "+20.0", "+40.0 <b>★</b>", "+40.0"]
    assert dots(fig, "tuned").customdata[4] == (
        "<b>layers 0-1, tuned</b><br>coding: 8 of 20 labelled concepts (40.0 %)<br>"
        "tuned − base +40.0 points, 95 % [+30.0, +50.0]<br>permutation p 0.004, Holm p 0.012"
    )
    assert "permutation p 0.30" in dots(fig, "base").customdata[2] and "Holm" not in dots(fig, "base").customdata[2]


def test_models_that_serve_no_task_are_drawn_at_zero_and_it_is_said() -> None:
    none = table()
    none.loc[none["kind"] == "task", ["base", "tuned", "difference", "ci_low", "ci_high"]] = 0.0
    fig = views.shares(none, kind="task")
    assert "no labelled concept of either model serves a user task" in fig.layout.title.subtitle.text
    assert set(fig.layout.yaxis.ticktext) == {"<b>any of them</b>"} and set(dots(fig, "tuned").x) == {0}


def test_names_from_outside_are_text() -> None:
    evil = factory.HOSTILE[1]
    made = table().replace({"layers 0-1": evil, "coding": factory.HOSTILE[0]})
    made.attrs["vectors"] = evil
    for kind in ("level", "task"):
        said = views.shares(made, kind=kind).to_json()
        assert "<img" not in said and "<script" not in said and "&lt;img" in said


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: views.shares(table(), kind="tasks"), "cannot draw kind='tasks': choose one of level, task"),
        (lambda: views.shares([1]), "needs the columns group, kind.*pass the table of itlens.diff.concept_shares"),
        (lambda: views.shares(table().drop(columns="p_holm")), "needs the columns p_holm"),
        (lambda: views.shares(table().iloc[:0]), "a table without rows"),
        (lambda: views.shares(table()[lambda t: t["kind"] != "known"]), "no level or known shares of the group 'all'"),
        (lambda: views.shares(table()[lambda t: t["kind"] != "task"], kind="task"), "no task or known shares"),
    ],
)
def test_wrong_input_says_what_was_expected(call: object, words: str) -> None:
    with pytest.raises(ResultError, match=words):
        call()  # type: ignore[operator]
