from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import xarray as xr

from itlens import views
from itlens.errors import ResultError
from itlens.report import theme
from tests.views import factory, word_factory

BASE, TUNED = word_factory.pair_tables()
DS = word_factory.word_diff(BASE, TUNED)
CHANGES = word_factory.change_table(BASE, TUNED)
VALUES = ("overlap", "gained", "lost", "kept", "instruction_change", "instruction_share_change")


def expected(value: str) -> np.ndarray:
    if value == "instruction_share_change":
        return (DS.tuned_instruction_share - DS.base_instruction_share).values
    return DS[value].values


@pytest.mark.parametrize("value", VALUES)
def test_each_value_is_drawn_layers_down_and_heads_across(value: str) -> None:
    fig = views.heads(DS, value=value)
    np.testing.assert_allclose(fig.data[0].z, expected(value))
    assert fig.data[0].z.shape == (4, 3)
    assert fig.layout.updatemenus[0].active == VALUES.index(value)
    assert (fig.layout.yaxis.title.text, fig.layout.xaxis.title.text) == ("layer", "head")


def test_every_button_brings_the_numbers_of_its_value() -> None:
    for value, button in zip(VALUES, views.heads(DS).layout.updatemenus[0].buttons, strict=True):
        change, traces = button.args
        assert button.method == "restyle" and list(traces) == [0]
        cells = np.array([[np.nan if x is None else x for x in row] for row in change["z"][0]])
        np.testing.assert_allclose(cells, expected(value))
        drawn = views.heads(DS, value=value).data[0]
        assert (change["zmin"], change["zmax"]) == (drawn.zmin, drawn.zmax)
        assert change["colorbar.title.text"] == drawn.colorbar.title.text


def test_scales_start_at_zero_or_are_alike_around_it() -> None:
    limits = {value: (trace.zmin, trace.zmax) for value in VALUES for trace in views.heads(DS, value=value).data[:1]}
    assert limits["overlap"] == (0, DS.overlap.max().item())
    most = max(DS.gained.max().item(), DS.lost.max().item())
    assert limits["gained"] == limits["lost"] == (0, most) and limits["kept"] == (0, DS.kept.max().item())
    for value in VALUES[4:]:
        largest = np.nanmax(np.abs(expected(value)))
        assert limits[value] == pytest.approx((-largest, largest))
        scale = views.heads(DS, value=value).data[0].colorscale
        assert list(scale[2]) == theme.DIVERGING[2], "zero is the pale middle"


def test_a_head_without_pairs_stays_empty_and_says_so() -> None:
    fig = views.heads(DS, changes=CHANGES)
    assert np.isnan(fig.data[0].z[3, 2]) and np.isfinite(fig.data[0].z).sum() == 11
    assert "empty cells: no pairs" in fig.layout.title.subtitle.text
    words = fig.data[0].customdata[3][2]
    assert "no repeated pairs" in words and words.count("nothing") == 2 and "nan" not in words
    full = DS.isel(head=[0, 1])
    assert "empty" not in views.heads(full).layout.title.subtitle.text


def test_significant_heads_are_starred_where_they_stand() -> None:
    ds = DS.assign(instruction_p_bh=DS.instruction_p_bh * 0 + 0.9)
    assert len(views.heads(ds).data) == 1
    assert "changed in no head" in views.heads(ds).layout.title.subtitle.text
    ds.instruction_p_bh[2, 0], ds.instruction_p_bh[0, 1], ds.instruction_p_bh[1, 1] = 0.01, 0.049, 0.05
    marks = views.heads(ds).data[1]
    assert sorted(zip(marks.y, marks.x, strict=True)) == [(0, 1), (2, 0)]
    assert "in 2 of 12 heads" in views.heads(ds).layout.title.subtitle.text


def test_hover_names_counts_and_the_first_pairs_only() -> None:
    words = views.heads(DS, changes=CHANGES, top=2).data[0].customdata[1][2]
    one = DS.sel(layer=1, head=2)
    assert words.startswith("<b>L1H2</b>")
    for part in (f"{one.kept.item()} kept", f"{one.gained.item()} gained", f"{one.lost.item()} lost"):
        assert part in words
    for change in ("gained", "lost"):
        here = CHANGES.query(f"layer == 1 and head == 2 and change == '{change}'")
        part = words[words.index(f"<i>{change}") :]
        part = part[: part.index("<i>", 3)] if "<i>" in part[3:] else part
        listed = [line.strip("\u2003") for line in part.split("<br>")[1:] if line]
        listed = [line.replace("\u2068", "").replace("\u2069", "") for line in listed]
        assert listed == [f"{row.query} → {row.key}" for row in here.nsmallest(2, "rank").itertuples()]


def test_layers_and_heads_that_were_not_probed_are_not_drawn() -> None:
    part = DS.assign_coords(layer=[2, 5, 11, 30], head=[1, 4, 7])
    fig = views.heads(part)
    assert fig.layout.yaxis.ticktext == ("2", "5", "11", "30") and fig.layout.xaxis.ticktext == ("1", "4", "7")
    assert fig.data[0].customdata[3][1].startswith("<b>L30H4</b>")


def test_hostile_words_are_text_and_right_to_left_words_stay_apart() -> None:
    rows = [(0, 0, "gained", word, "שלום", i) for i, word in enumerate(factory.HOSTILE, start=1)]
    changes = pd.DataFrame(rows, columns=["layer", "head", "change", "query", "key", "rank"])
    words = views.heads(DS, changes=changes, top=50).data[0].customdata[0][0]
    assert "<script" not in words and "<img" not in words and "$" not in words and "⟨U+202E⟩" in words
    assert words.count("\u2068שלום\u2069") == len(factory.HOSTILE)


@pytest.mark.long
def test_categorical_words_and_a_big_model_stay_small() -> None:
    changes = CHANGES.assign(query=pd.Categorical(CHANGES["query"]), key=pd.Categorical(CHANGES["key"]))
    assert views.heads(DS, changes=changes).to_json() == views.heads(DS, changes=CHANGES).to_json()
    base, tuned = word_factory.pair_tables(32, 32, pairs=2)
    ds, changes = word_factory.word_diff(base, tuned), word_factory.change_table(base, tuned)
    assert len(views.heads(ds, changes=changes).to_json()) < 800_000


def test_nothing_to_compare_is_drawn() -> None:
    none = DS.copy(deep=True)
    for name in VALUES[:5]:
        none[name] = none[name] * 0
    for value in VALUES:
        assert isinstance(views.heads(none, value=value), go.Figure)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: views.heads(DS, value="heat"), "cannot draw value='heat': choose one of overlap, gained"),
        (lambda: views.heads(xr.Dataset()), "pass what itlens.diff.word_pairs returns"),
        (lambda: views.heads(CHANGES), "got a DataFrame"),
        (lambda: views.heads(DS, changes=BASE), "pass the table of itlens.diff.pair_changes"),
    ],
)
def test_wrong_input_says_what_was_expected(call: object, words: str) -> None:
    with pytest.raises(ResultError, match=words):
        call()  # type: ignore[operator]
