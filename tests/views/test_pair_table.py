from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import pandas as pd
import pytest

from itlens import views
from itlens.errors import ResultError
from itlens.report.render import panel_body
from tests.diff.word_tables import word_table
from tests.views import factory

# layer, head, dim, query, key, relatedness, activations: "run eat" weighs 0.5 * (2 + 4), "write story" 0.9 * 3, and
# "cook bread" 0.8 * |1 - 3|, its energies being of opposite sign
BASE = word_table(
    [
        (0, 1, 0, "run", "eat", 0.5, 2.0, 1.0), (0, 1, 3, "run", "eat", 0.5, -2.0, -2.0),
        (0, 1, 0, "write", "story", 0.9, 3.0, 1.0),
        (0, 1, 1, "cook", "bread", 0.8, 1.0, 1.0), (0, 1, 2, "cook", "bread", 0.8, 3.0, -1.0),
        (0, 0, 0, "sing", "poem"),
    ],
    layers=(0, 2, 3),
)  # fmt: skip
TUNED = word_table(
    [(0, 1, 5, "write", "story", 0.9, 3.0, 1.0), (0, 1, 5, "story", "write", 0.9, 1.0, 1.0)],
    layers=(0, 2, 3), model="x/T",
)  # fmt: skip


class Rows(HTMLParser):
    """The rows of each table as lists of cell texts, and the tags that hold each cell's words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag == "td":
            self.tables[-1][-1].append("")

    def handle_data(self, data: str) -> None:
        if self.tables and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += data


def rows(view: views.PairTable) -> list[list[list[str]]]:
    return [[row for row in table if row] for table in Rows(panel_body(view)).tables]


def test_pairs_stand_once_in_the_order_of_relatedness_times_energy() -> None:
    (table,) = rows(views.word_pairs(BASE, layer=0, head=1))
    assert table == [
        ["1", "run → eat", "0.50", "2"],
        ["2", "write → story", "0.90", "1"],
        ["3", "cook → bread", "0.80", "2"],
    ]


def test_new_and_gone_are_marked_in_words_too() -> None:
    view = views.word_pairs(BASE, TUNED, layer=0, head=1)
    base, tuned = rows(view)
    assert [row[1] for row in base] == ["run → eat gone", "write → story", "cook → bread gone"]
    assert [row[1] for row in tuned] == ["write → story", "story → write new"], "the order of a pair counts"
    assert "<b><bdi>story</bdi> → <bdi>write</bdi></b>" in panel_body(view) and "<s><bdi>run</bdi>" in panel_body(view)
    assert "2 gone (only in base)" in panel_body(view) and "1 new (only in tuned)" in panel_body(view)
    assert "tuned: T" in panel_body(view) and "base: base" not in panel_body(view)


def test_marks_are_judged_by_all_pairs_not_by_those_shown() -> None:
    _, tuned = rows(views.word_pairs(BASE, TUNED, layer=0, head=1, top=1))
    assert tuned == [["1", "write → story", "0.90", "1"]], "second in base, so not new"
    assert "the first 1 shown" in panel_body(views.word_pairs(BASE, TUNED, layer=0, head=1, top=1))


def test_a_probed_head_without_pairs_is_no_error() -> None:
    view = views.word_pairs(BASE, TUNED, layer=2, head=0)
    assert panel_body(view).count("No pair:") == 2 and rows(view) == []
    assert views.word_pairs(BASE, layer=0, head=0).title == "L0H0: word pairs"


def test_plain_text_columns_and_any_order_of_rows_give_the_same() -> None:
    plain = BASE.astype({"query": object, "key": object}).sample(frac=1, random_state=0)
    plain.attrs = BASE.attrs
    again = views.word_pairs(plain, TUNED, layer=0, head=1)
    assert panel_body(again) == panel_body(views.word_pairs(BASE, TUNED, layer=0, head=1))


def test_the_page_and_the_notebook_need_nothing_else() -> None:
    view = views.word_pairs(BASE, TUNED, layer=0, head=1)
    assert view.html == str(view) and view.html.startswith("<!doctype html>") and len(view.html) < 30_000
    for out in (view.html, view._repr_html_()):
        assert "<script" not in out and panel_body(view) in out and "@import" not in out and "url(" not in out


def test_every_word_is_text_and_keeps_its_characters() -> None:
    words = [*factory.HOSTILE, "a=b", "c|||d", "tab\there", "🎉", "café", "$5", "שלום"]
    table = word_table([(0, 0, 0, word, "the") for word in words], words=[*words, "the"], model=factory.HOSTILE[1])
    view = views.word_pairs(table, table, layer=0, head=0, top=99)
    found = {row[1].removesuffix(" → the") for row in rows(view)[0]}
    signs = {"\t": "⇥", "\u2028": "⟨U+2028⟩", "\x00": "<0x00>", "\u202e": "⟨U+202E⟩"}
    assert found == {"".join(signs.get(c, c) for c in word) for word in words}
    tags = Rows(view.html).tags
    assert not tags & {"script", "img"} and "bdi" in tags
    assert "onerror" not in re.sub(r">[^<]*<|title=\"[^\"]*\"", "", unescape(panel_body(view).replace("&lt;", "")))


def no_pairs(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"layer": [0], "head": [0], **columns})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: views.word_pairs(BASE, layer=40, head=0), "layer=40, and the base table has layers 0, 2, 3"),
        (lambda: views.word_pairs(BASE, TUNED, layer=0, head=-1), "head=-1, and the base table has heads 0 to 1"),
        (lambda: views.word_pairs(BASE, _with(heads=[1]), layer=0, head=0), "the tuned table has heads 1 only"),
        (lambda: views.word_pairs(no_pairs(), layer=0, head=0), "needs the columns dim, query, key"),
        (lambda: views.word_pairs([1], layer=0, head=0), "not a list"),
        (lambda: views.word_pairs(BASE, _with(vocabulary="sha256:1"), layer=0, head=1), "with different vocabulary"),
        (lambda: views.word_pairs(BASE, _with(top_k=5), layer=0, head=1), "different top_k: base 100, tuned 5"),
    ],
)  # fmt: skip
def test_wrong_input_says_what_was_expected(call: object, words: str) -> None:
    with pytest.raises(ResultError, match=words):
        call()  # type: ignore[operator]


def _with(**attrs: object) -> pd.DataFrame:
    table = TUNED.copy()
    table.attrs = {**TUNED.attrs, **attrs}
    return table


def test_a_view_is_one_line_of_text() -> None:
    assert repr(views.word_pairs(BASE, layer=0, head=0)) == "PairTable('L0H0: word pairs')"
