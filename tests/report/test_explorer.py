"""What is known of heads and layers: the data of a finding, the default from tables, and the block of a page."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens.errors import ItlensError
from itlens.report.explorer import Chapter, Explorer, packed_places
from itlens.report.explorer_places import Place, PlaceNumber, PlaceWords, checked_places, places_of_tables
from itlens.report.render import render_page
from tests.report.explorer_block import block_of, opened, places_in
from tests.report.pages import page
from tests.views.factory import HOSTILE

NAN = float("nan")


def pairs(*words: tuple[str, str], **changes: Any) -> PlaceWords:
    fields: dict[str, Any] = {"columns": {"related": np.linspace(0.9, 0.1, len(words)).tolist()}}
    return PlaceWords(list(words), **(fields | changes))


def packed(*places: Place) -> list[dict[str, Any]]:
    return places_in(packed_places([Chapter("mine", "things", places)]))


# ---- the default: tables with a row for each layer or head


def test_base_tuned_and_their_test_are_one_line() -> None:
    table = pd.DataFrame(
        {"layer": [0, 1], "base": [1.0, 2.0], "tuned": [1.5, 1.0], "difference": [0.5, -1.0], "ci_low": [0.1, -2.0],
         "ci_high": [0.9, -0.5], "p": [0.01, 0.2], "n": [7, 8], "loud": [True, False], "note": ["", "few"]}
    )  # fmt: skip
    places = places_of_tables({"gain_lengths": table})
    assert [(place.layer, place.head, place.what) for place in places] == [
        (0, None, "gain lengths"),
        (1, None, "gain lengths"),
    ]
    assert places[0].numbers == [PlaceNumber("gain lengths", 0.5, 1.0, 1.5, 0.1, 0.9, 0.01), PlaceNumber("n", 7.0)]


def test_heads_of_a_table_are_places_of_heads() -> None:
    table = pd.DataFrame(
        {"layer": [0, 0], "head": [0, 1], "mean": [3.0, 4.0], "mean_low": [2.0, 3.0], "mean_high": [5.0, 6.0]}
    )
    places = places_of_tables({"shifted": table})
    assert [(place.kind, place.layer, place.head) for place in places] == [("head", 0, 0), ("head", 0, 1)]
    assert places[1].numbers == [PlaceNumber("mean", 4.0, low=3.0, high=6.0)]


def test_variables_of_a_dataset_on_layers_and_heads_are_places() -> None:
    ds = xr.Dataset(
        {
            "overlap": (("head", "layer"), [[0.1, 0.2], [0.3, 0.4]]),
            "depth": ("layer", [5.0, 6.0]),
            "all": ("group", [9.0]),
        },
        coords={"layer": [3, 4], "head": [0, 1], "group": ["all"]},
    )
    found = {
        (place.layer, place.head): [(line.name, line.value) for line in place.numbers]
        for place in places_of_tables({"mine": ds})
    }
    assert found == {(3, 0): [("overlap", 0.1)], (3, 1): [("overlap", 0.3)], (4, 0): [("overlap", 0.2)],
                     (4, 1): [("overlap", 0.4)], (3, None): [("depth", 5.0)], (4, None): [("depth", 6.0)]}  # fmt: skip


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"layer": [0, 0], "value": [1.0, 2.0]}),  # two rows of one layer
        pd.DataFrame({"id": ["p1"], "value": [1.0]}),
        pd.DataFrame({"layer": ["all"], "value": [1.0]}),
        pd.DataFrame({"layer": [0], "note": ["few"]}),
        xr.Dataset({"value": ("prompt", [1.0])}),
    ],
)
def test_tables_of_something_else_have_no_places(table: Any) -> None:
    assert places_of_tables({"mine": table}) == []


def test_tables_that_stay_in_memory_have_no_places() -> None:
    assert places_of_tables({"_mine": pd.DataFrame({"layer": [0], "value": [1.0]})}) == []


# ---- what a finding may hand over


@pytest.mark.parametrize(
    ("places", "sentence"),
    [
        ("a head", "places returned a str; expected a list of itlens.Place."),
        (None, "places returned a NoneType; expected a list of itlens.Place."),
        ([{"layer": 0}], "places returned a dict in its list; expected an itlens.Place."),
        ([Place(-1)], "places returned a Place with layer=-1; expected a whole number from 0."),
        ([Place(0, 1, shown_on="p1")], "places returned a Place with shown_on='p1'; expected ids of prompts."),
        ([Place(0, 1.5)], "places returned a Place with head=1.5; expected a whole number from 0."),  # type: ignore[arg-type]
        ([Place(0, base=pairs(("a", "b"), columns={"x": []}))], "places returned 1 words and 0 numbers 'x'"),
        ([Place(0, what="w", tuned=PlaceWords(["a"], alone=[True, False]))], "1 words and 2 numbers 'alone' for 'w'"),
        ([Place(0, tuned=PlaceWords(["a", ("b", "c")]))], "neither all texts nor all pairs"),  # type: ignore[list-item]
    ],
)  # fmt: skip
def test_what_no_panel_can_show_is_refused_in_one_sentence(places: Any, sentence: str) -> None:
    with pytest.raises(ItlensError) as caught:
        checked_places(places)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_places_are_public() -> None:
    assert (itlens.Place, itlens.PlaceNumber, itlens.PlaceWords) == (Place, PlaceNumber, PlaceWords)
    assert checked_places([Place(np.int64(2), np.int64(1))])[0].kind == "head"  # type: ignore[arg-type]


# ---- the block of a page


def test_places_come_back_as_they_went_in() -> None:
    base = pairs(("write", "story"), ("tell", "write"), alone=[False, True], total=9, label="texts")
    tuned = PlaceWords(["story", "poem"], {"|cosine|": [0.5, 0.25]})
    number = PlaceNumber("effect", 0.12345, -1.5, None, -0.00123, 1234.0, 2e-9, "nats")
    one = Place(3, 2, "Pairs", "first", [number, PlaceNumber("n", 7)], base, tuned, "A note.")
    found, bare = packed(one, Place(3))
    assert {name: found[name] for name in ("chapter", "layer", "head", "what", "part", "text")} == {
        "chapter": "mine", "layer": 3, "head": 2, "what": "Pairs", "part": "first", "text": "A note.",
    }  # fmt: skip
    assert found["base"]["words"] == [("write", "story"), ("tell", "write")]
    assert (found["base"]["alone"], found["base"]["total"], found["base"]["label"]) == ([False, True], 9, "texts")
    assert found["base"]["columns"]["related"] == pytest.approx([0.9, 0.1], rel=5e-4)
    assert found["tuned"] == {"words": ["story", "poem"], "columns": {"|cosine|": [0.5, 0.25]}, "alone": [False, False],
                              "total": 2, "label": ""}  # fmt: skip
    line = found["numbers"][0]
    assert (line["name"], line["unit"]) == ("effect", "nats")
    assert [line[name] for name in ("value", "base", "low", "high", "p")] == pytest.approx(
        [0.12345, -1.5, -0.00123, 1234.0, 2e-9], rel=1e-5
    )
    assert math.isnan(line["tuned"])
    assert found["numbers"][1]["value"] == 7
    assert (bare["head"], bare["numbers"], bare["base"], bare["tuned"]) == (None, [], None, None)


def test_numbers_print_with_their_digits_as_they_were_rounded() -> None:
    """Scores with 3 digits, other numbers with 5: what the page prints is the decimal number nearest to the value."""
    rng = np.random.default_rng(0)
    values = (rng.uniform(-1, 1, 3000) * 10.0 ** rng.integers(-6, 6, 3000)).tolist()
    lines = [PlaceNumber("x", value) for value in values]
    (found,) = packed(Place(0, numbers=lines, base=PlaceWords(["w"] * len(values), {"score": values})))
    wrong = [
        value for value, line in zip(values, found["numbers"], strict=True) if f"{line['value']:.4e}" != f"{value:.4e}"
    ]
    assert wrong == []
    wrong = [
        value
        for value, score in zip(values, found["base"]["columns"]["score"], strict=True)
        if f"{score:.2e}" != f"{value:.2e}"
    ]
    assert wrong == []


def test_words_are_written_once_the_most_frequent_first() -> None:
    header, columns = opened(
        packed_places([Chapter("a", "a", [Place(0, 0, base=pairs(("x", "y"), ("z", "y"), ("y", "z")))])])
    )
    assert header["words"] == ["y", "z", "x"]
    assert columns["base.word"].tolist() == [2, 0, 1, 0, 0, 1]


def test_columns_belong_to_the_lists_that_have_them() -> None:
    one, other = PlaceWords(["a"], {"x": [1.0]}), PlaceWords(["b", "c"], {"y": [2.0, 3.0], "x": [4.0, 5.0]})
    found = packed(Place(0, base=one), Place(1, base=PlaceWords([])), Place(2, base=other))
    assert [place["base"]["columns"] for place in found] == [{"x": [1.0]}, {}, {"x": [4.0, 5.0], "y": [2.0, 3.0]}]


def test_hostile_and_broken_texts_come_back() -> None:
    words = [*HOSTILE, "\ud800", "x" * 100_000, ""]
    (found,) = packed(Place(0, what=HOSTILE[0], text="\u2028", base=PlaceWords(words)))
    assert found["base"]["words"] == words
    assert (found["what"], found["text"]) == (HOSTILE[0], "\u2028")


def test_the_same_places_make_the_same_block() -> None:
    places = [Place(0, 0, numbers=[PlaceNumber("x", 1.0)], base=pairs(("a", "b")))]
    assert packed_places([Chapter("a", "b", places)]) == packed_places([Chapter("a", "b", places)])


def test_a_page_of_many_heads_and_concepts_stays_small() -> None:
    """A tenth of 270 heads with 300 pairs and 30 layers with 300 concepts, both models: 3 MB in all are 300 kB here."""
    rng = np.random.default_rng(0)
    names = np.array([f"word{number}" for number in rng.permutation(2600)], dtype=object)
    odds = np.arange(1, len(names) + 1) ** -0.6

    def words(count: int) -> list[str]:
        return names[rng.choice(len(names), count, p=odds / odds.sum())].tolist()

    def head_list() -> PlaceWords:
        listed = list(zip(words(300), words(300), strict=True))
        numbers = {"related": rng.uniform(0.2, 0.9, 300).tolist(), "dims": rng.integers(1, 6, 300).tolist()}
        return PlaceWords(listed, numbers, (rng.random(300) < 0.5).tolist(), 5000)

    def concept() -> PlaceWords:
        return PlaceWords(words(13), {"|cosine|": np.sort(rng.uniform(0.1, 0.5, 13))[::-1].tolist()}, [False] * 13, 50)

    heads = [Place(number // 9, number % 9, "Word pairs", base=head_list(), tuned=head_list()) for number in range(27)]
    concepts = [
        Place(number // 300, what="Concepts", part=str(number), base=concept(), tuned=concept())
        for number in range(900)
    ]
    assert len(packed_places([Chapter("heads", "", heads), Chapter("concepts", "", concepts)])) < 300_000


def test_a_page_holds_the_block_once_and_its_scripts() -> None:
    tool = Explorer("Heads", [Chapter("score", "the score", [Place(0, 1, text=HOSTILE[0])])], "a", "b")
    html = render_page(page(tools=[tool]))
    assert places_in(block_of(html))[0]["text"] == HOSTILE[0]
    assert html.count('<dialog class="explorer"') == 1
    assert "itlens.places =" in html


def test_a_page_without_places_has_none_of_it() -> None:
    html = render_page(page())
    assert "explorer" not in html
