from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from itlens import views
from itlens.errors import ResultError
from itlens.findings.mlp.diff import compare_concepts as concept_diff
from itlens.report.render import panel_body
from tests.browser import Page
from tests.findings.mlp.concept_tables import concept_table, random_bases
from tests.views import factory

# two layers of two components in four dimensions; layer 3 is the one that is read
WORDS = {3: [["bread", "wine", "oven"], ["river", "lake", "sea"]], 1: [["a", "b", "c"], ["d", "e", "f"]]}
OTHER = {3: [["lake", "shore", "boat"], ["oven", "bread", "knife"]], 1: [["a", "b", "c"], ["d", "e", "f"]]}
SCORES = np.array([[0.8, 0.4, 0.2], [0.6, 0.3, 0.1]])


def dataset(words: Any = WORDS, *, explained: tuple[float, ...] = (0.25, 0.125), **attrs: Any) -> xr.Dataset:
    """What itlens.mlp_concepts gives, with words and numbers written out."""
    layers = [3, 1]
    word = np.array([words[layer] for layer in layers], dtype=object)
    ds = xr.Dataset(
        {
            "word": (("layer", "component", "rank"), word),
            "score": (("layer", "component", "rank"), np.broadcast_to(SCORES, word.shape).astype(np.float32)),
            "explained": (("layer", "component"), np.broadcast_to(explained, (2, 2))),
            "direction": (("layer", "component", "d_model"), np.broadcast_to(np.eye(4)[:2], (2, 2, 4))),
        },
        coords={"layer": layers, "component": [0, 1], "rank": np.arange(3)},
    )
    known = {"probe": "mlp_concepts", "model": "x/T", "vectors": "value", "vocabulary": "v", "top_k": 3, "signed": 0}
    return ds.assign_attrs({**known, **attrs})


def swapped() -> xr.Dataset:
    """A match that crosses: tuned 0 with base 1, tuned 1 with base 0."""
    values = {"match": [[1, 0], [0, 1]], "match_cosine": [[0.9, 0.5], [1, 1]]}
    coords = {"layer": [3, 1], "component": [0, 1]}
    return xr.Dataset({name: (("layer", "component"), rows) for name, rows in values.items()}, coords=coords)


def signed(words: list[list[str]], sign: float = 1.0) -> xr.Dataset:
    """One layer of one component with two poles of words; `sign` turns its direction round."""
    ds = xr.Dataset(
        {
            "word": (("layer", "component", "pole", "rank"), np.array([[words]], dtype=object)),
            "score": (("layer", "component", "pole", "rank"), np.array([[[[0.5, 0.25], [0.4, -0.1]]]])),
            "explained": (("layer", "component"), [[0.5]]),
            "direction": (("layer", "component", "d_model"), [[[sign, 0.0]]]),
        },
        coords={"layer": [0], "component": [0], "pole": ["+", "-"], "rank": [0, 1]},
    )
    return ds.assign_attrs(probe="mlp_concepts", model="x/T", vectors="key", vocabulary="v", top_k=2, signed=1)


class Cards(HTMLParser):
    """The cards: headings and notes as text, and each list of words as (word, number, bar's width, common)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.headings: list[str] = []
        self.notes: list[str] = []
        self.poles: list[str] = []
        self.lists: list[list[dict[str, Any]]] = []
        self._into: list[str] | None = None
        self._field = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        said = dict(attrs)
        texts = {"h4": self.headings, "about": self.notes, "pole": self.poles, "side": self.notes}
        self._into = texts.get(said.get("class") or tag, self._into)
        if tag == "ol":
            self.lists.append([])
        elif tag == "li":
            width = re.fullmatch(r"--w:([\d.]+)%", said["style"] or "")
            assert width
            self.lists[-1].append({"w": "", "n": "", "bar": float(width[1]), "common": False})
        elif tag == "b":
            self.lists[-1][-1]["common"] = True
        elif tag == "span":
            self._field = said["class"] or ""
        if self._into is not None and tag in ("h4", "p"):
            self._into.append("")

    def handle_endtag(self, tag: str) -> None:
        self._into = None if tag in ("h4", "p") else self._into
        self._field = "" if tag == "span" else self._field

    def handle_data(self, data: str) -> None:
        if self._into:
            self._into[-1] += data
        elif self._field:
            self.lists[-1][-1][self._field] += data

    @property
    def words(self) -> list[list[str]]:
        return [[row["w"] for row in part] for part in self.lists]

    @property
    def common(self) -> list[list[str]]:
        return [[row["w"] for row in part if row["common"]] for part in self.lists]


def cards(*args: Any, **options: Any) -> Cards:
    return Cards(panel_body(views.concepts(*args, **options)))


def test_a_card_has_its_share_and_words_with_bars_from_zero_of_one_scale() -> None:
    found = cards(dataset(), layer=3)
    assert found.headings == ["Component 0", "Component 1"] and found.notes == ["25.00 %", "12.50 %"]
    assert found.words == WORDS[3]
    assert [[row["n"] for row in part] for part in found.lists] == [["0.80", "0.40", "0.20"], ["0.60", "0.30", "0.10"]]
    # of the largest score of all cards, 0.8
    assert [[row["bar"] for row in part] for part in found.lists] == [[100, 50, 25], [75, 37.5, 12.5]]
    assert "full width = 0.80" in panel_body(views.concepts(dataset(), layer=3))


def test_layers_and_components_are_taken_by_label() -> None:
    assert cards(dataset(), layer=1).words == WORDS[1], "layer 1 stands second"
    found = cards(dataset().isel(component=[1, 0]), layer=3, components=[1])
    assert found.words == [WORDS[3][1]] and found.headings == ["Component 1"]
    assert cards(dataset(), layer=3, components=0).words == [WORDS[3][0]]
    assert cards(dataset(), layer=3, components=[1, 0]).headings == ["Component 1", "Component 0"]


def test_top_words_only_and_the_first_eight_components() -> None:
    assert cards(dataset(), layer=3, top=2).words == [words[:2] for words in WORDS[3]]
    table = concept_table(random_bases(0), top_k=20)
    found = cards(table, layer=2)
    assert len(found.headings) == 8 and {len(words) for words in found.words} == {15}
    assert found.words[3] == table.word.sel(layer=2, component=3).values[:15].tolist()


def test_the_matched_base_component_stands_on_the_left_with_common_words_marked() -> None:
    base = dataset(OTHER, explained=(0.5, 0.0625), model="x/B")
    view = views.concepts(dataset(), layer=3, base=base, match=swapped())
    found = Cards(panel_body(view))
    assert found.words == [OTHER[3][1], WORDS[3][0], OTHER[3][0], WORDS[3][1]]
    assert found.common == [["oven", "bread"], ["bread", "oven"], ["lake"], ["lake"]]
    assert found.notes[:5] == [
        "next to base component 1, |cosine| 0.90 · 2 of 3 words in both",
        "base: B", "component 1 · 6.25 %", "tuned: T", "component 0 · 25.00 %",
    ]  # fmt: skip
    assert "|cosine| 0.50 · 1 of 3" in found.notes[5]
    assert view.title == "Layer 3: concepts, base and tuned"


def test_common_words_are_judged_by_all_words() -> None:
    found = cards(dataset(), layer=3, base=dataset(OTHER), match=swapped(), top=1)
    assert found.words == [["oven"], ["bread"], ["lake"], ["river"]]
    assert found.common == [["oven"], ["bread"], ["lake"], []], "oven is third in tuned"


def test_both_poles_are_shown_and_words_that_point_away_have_no_bar() -> None:
    found = cards(signed([["hot", "warm"], ["cold", "ice"]]), layer=0)
    assert found.poles == ["pole +", "pole −"] and found.words == [["hot", "warm"], ["cold", "ice"]]
    assert [[(row["n"], row["bar"]) for row in part] for part in found.lists] == [
        [("0.50", 100), ("0.25", 50)],
        [("0.40", 80), ("−0.10", 0)],
    ]


@pytest.mark.parametrize(("sign", "poles"), [(1.0, ["+", "−"]), (-1.0, ["−", "+"])])
def test_poles_of_the_base_are_faced_with_those_they_match(sign: float, poles: list[str]) -> None:
    lists = [["hot", "sun"], ["ice", "snow"]]
    base = signed(lists if sign > 0 else lists[::-1], sign)
    match = swapped().isel(layer=[1], component=[0]).assign_coords(layer=[0])
    found = cards(signed([["hot", "warm"], ["cold", "ice"]]), layer=0, base=base, match=match)
    assert found.poles == [f"pole {pole}" for pole in (*poles, "+", "−")]
    assert found.words == [*lists, ["hot", "warm"], ["cold", "ice"]]
    assert found.common == [["hot"], ["ice"], ["hot"], ["ice"]]
    assert "2 of 4 words in both" in found.notes[0]


def test_what_the_diff_matches_is_shown() -> None:
    bases = random_bases(0)
    base, tuned = concept_table(bases), concept_table(bases[:, np.r_[3, 0, 1, 2, 4:40]])
    match = concept_diff(base, tuned, ks=(5,), draws=5)
    found = cards(tuned, layer=1, base=base, match=match, components=range(5))
    said = [note.split(" ·")[0] for note in found.notes if note.startswith("next to")]
    assert said == [f"next to base component {i}, |cosine| 1.00" for i in (3, 0, 1, 2, 4)]
    assert found.common == found.words, "the same directions have the same words"


def test_every_word_is_text_and_keeps_its_characters() -> None:
    words = [*factory.HOSTILE[:3], *factory.HOSTILE[3:], "a=b", "c|||d", "tab\there", "שלום"]
    words = words[: len(words) // 2 * 2]
    half = len(words) // 2
    shape = ("layer", "component", "rank")
    ds = xr.Dataset(
        {
            "word": (shape, np.array([[words[:half], words[half:]]], dtype=object)),
            "score": (shape, np.full((1, 2, half), 0.5)),
            "explained": (("layer", "component"), [[0.5, 0.25]]),
            "direction": (("layer", "component", "d_model"), np.eye(2)[None]),
        },
        coords={"layer": [0], "component": [0, 1], "rank": np.arange(half)},
        attrs={"model": factory.HOSTILE[1], "vectors": factory.HOSTILE[0]},
    )
    match = swapped().isel(layer=[1]).assign_coords(layer=[0])
    for view in (views.concepts(ds, layer=0), views.concepts(ds, layer=0, base=ds, match=match)):
        found = Cards(panel_body(view))
        signs = {"\t": "⇥", "\u2028": "⟨U+2028⟩", "\x00": "<0x00>", "\u202e": "⟨U+202E⟩"}
        assert {w for part in found.words for w in part} == {"".join(signs.get(c, c) for c in w) for w in words}
        tags = Cards(view.html.split("</head>")[1]).tags
        assert not tags & {"script", "img"} and "bdi" in tags
        assert "<script" not in view.html and "<img" not in view.html


def test_the_page_and_the_notebook_need_nothing_else() -> None:
    view = views.concepts(dataset(), layer=3)
    assert view.html == str(view) and view.html.startswith("<!doctype html>") and view.title in view.html
    for out in (view.html, view._repr_html_()):
        assert "<script" not in out and panel_body(view) in out and "@import" not in out and "url(" not in out


@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_draws_bars_as_long_as_the_weights(tmp_path: Path, browser: Page, dark: bool) -> None:
    (tmp_path / "cards.html").write_text(views.concepts(dataset(), layer=3).html, encoding="utf-8")
    browser.open(tmp_path / "cards.html", width=420, dark=dark)
    drawn = browser.run("[...document.querySelectorAll('li')].map(e => getComputedStyle(e).backgroundImage)")
    assert [re.findall(r"([\d.]+)%", image)[0] for image in drawn] == ["100", "50", "25", "75", "37.5", "12.5"]
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth"), "no sideways scrolling"
    assert len(browser.requests()) == 1 and browser.complaints() == []


def other(**attrs: Any) -> xr.Dataset:
    return dataset(OTHER, **attrs)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: views.concepts(dataset(), layer=7), "layer=7, and concepts has layers 1, 3"),
        (lambda: views.concepts(dataset(), layer=True), "layer=True"),
        (
            lambda: views.concepts(dataset(), layer=3, components=[0, 2]),
            "component=2, and concepts has components 0 to 1",
        ),
        (lambda: views.concepts(dataset(), layer=3, components=-1), "component=-1"),
        (lambda: views.concepts(dataset(), layer=3, components="0"), "component='0'"),
        (lambda: views.concepts(dataset(), layer=3, components=[]), "got no components"),
        (lambda: views.concepts(dataset(), layer=3, components=1.5), "component=1.5"),
        (lambda: views.concepts(dataset(), layer=3, top=0), "top=0: expected a whole number of at least 1"),
        (lambda: views.concepts([1], layer=3), "got a list as concepts: pass what itlens.mlp_concepts returns"),
        (lambda: views.concepts(xr.Dataset(), layer=3), "needs word, score, explained"),
        (lambda: views.concepts(dataset(), layer=3, base=other()), "got base without match"),
        (lambda: views.concepts(dataset(), layer=3, match=swapped()), "got match without base"),
        (lambda: views.concepts(dataset(), layer=3, base=other(), match=dataset()), "a Dataset without match as match"),
        (lambda: views.concepts(dataset(), layer=3, base=other(), match=3), "got a int as match"),
        (
            lambda: views.concepts(dataset(), layer=3, base=other(vectors="key"), match=swapped()),
            "different vectors: base key",
        ),
        (
            lambda: views.concepts(dataset(), layer=3, base=other().isel(layer=[1]), match=swapped()),
            "layer=3, and base has layers 1\\.",
        ),
        (
            lambda: views.concepts(dataset(), layer=3, base=other().isel(component=[0]), match=swapped()),
            "component=1, and base has components 0\\.",
        ),
        (
            lambda: views.concepts(dataset(), layer=3, base=other(), match=swapped().isel(layer=[1])),
            "layer=3, and match has layers 1\\.",
        ),
    ],
)
def test_wrong_input_says_what_was_expected(call: object, words: str) -> None:
    with pytest.raises(ResultError, match=words):
        call()  # type: ignore[operator]


def test_a_view_is_one_line_of_text() -> None:
    assert repr(views.concepts(dataset(), layer=3)) == "ConceptCards('Layer 3: concepts of T')"
