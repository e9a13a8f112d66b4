"""The chapter of prompts as data: words that differ, numbers, what fits into a page, and texts that stay texts."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itlens.report.blocks import Panel
from itlens.report.prompts import (
    PromptAnswer,
    PromptEntry,
    PromptNumber,
    PromptsChapter,
    changed_words,
    draw_prompts,
    numbers_by_prompt,
    prompts_json,
)
from tests.hostile import HOSTILE
from tests.report.pages import DummyPanel, unpacked_text

SHARED, OWN = slice(0, None, 2), slice(1, None, 2)


def unpacked(packed: str) -> Any:
    return json.loads(unpacked_text(packed))


def entry(id: str, base: str = "", tuned: str = "") -> PromptEntry:
    text = [("Say ", []), (id, ["instruction"])]
    return PromptEntry(id, "group", text, {"base": PromptAnswer(base, "cut"), "tuned": PromptAnswer(tuned, "ended")})


def chapter(count: int = 3, **changes: Any) -> PromptsChapter:
    entries = [entry(f"p{n}", "the cat", "the dog") for n in range(count)]
    values = {f"p{n}": (1.0, 1.0 + n) for n in range(count)}
    fields: dict[str, Any] = {"numbers": [PromptNumber("score", "the score", values)]}
    return PromptsChapter(entries, **(fields | changes))


@pytest.mark.parametrize(
    ("base", "tuned", "of_base", "of_tuned"),
    [
        ("the cat sat", "the dog sat", ["the ", "cat", " sat"], ["the ", "dog", " sat"]),
        ("a b", "a b c d", ["a b"], ["a b ", "c d", ""]),
        ("", "new words", [""], ["", "new words", ""]),
        ("same", "same", ["same"], ["same"]),
        ("one, two", "one two", ["one", ",", " two"], ["one two"]),
        ("Rome.", "rome.", ["", "Rome", "."], ["", "rome", "."]),
        ("多分猫です", "多分犬です", ["多分", "猫", "です"], ["多分", "犬", "です"]),
        ("don't go", "do go", ["", "don't", " go"], ["", "do", " go"]),
    ],
)
def test_words_that_differ(base: str, tuned: str, of_base: list[str], of_tuned: list[str]) -> None:
    assert changed_words(base, tuned) == (of_base, of_tuned)


WORDS = st.lists(st.sampled_from(["the", "cat", "\n", "  ", "é", "猫", ",", "\u202e"]), max_size=12).map("".join)


@settings(deadline=None)  # a busy machine is no fault
@given(WORDS, WORDS)
def test_pieces_make_the_texts_and_shared_pieces_the_same_words(base: str, tuned: str) -> None:
    of_base, of_tuned = changed_words(base, tuned)
    assert ("".join(of_base), "".join(of_tuned)) == (base, tuned)
    shared = ["".join("".join(pieces[SHARED]).split()) for pieces in (of_base, of_tuned)]
    assert shared[0] == shared[1]
    assert all(piece.strip() == piece for pieces in (of_base, of_tuned) for piece in pieces[OWN])


def test_a_text_that_repeats_itself_is_compared_at_once() -> None:
    loop = "the cat and " * 200
    of_base, of_tuned = changed_words(loop, "the cat and " * 150 + "stop")
    assert ("".join(of_base), of_tuned[OWN]) == (loop, ["stop"])


def test_the_json_holds_texts_answers_and_numbers() -> None:
    (prompt,) = prompts_json(chapter(1))["prompts"]  # type: ignore[misc]
    assert prompt == {
        "id": "p0",
        "group": "group",
        "text": [["Say ", []], ["p0", ["instruction"]]],
        "answers": {
            "base": {"end": "cut", "text": ["the ", "cat", ""]},
            "tuned": {"end": "ended", "text": ["the ", "dog", ""]},
        },
        "values": [[1.0, 1.0]],
    }  # fmt: skip


def test_numbers_are_those_of_the_table() -> None:
    table = pd.DataFrame(
        {
            "model": ["base", "base", "tuned"], "id": ["a", "b", "a"], "group": ["", "", ""],
            "some_score": [0.25, float("nan"), 0.5], "count": [1, 2, 3], "tokens": ["x", "y", "z"],
        }
    )  # fmt: skip
    score, count = numbers_by_prompt(table, "the score")
    assert (score.name, score.about) == ("some score", "the score")
    assert score.values == {"a": (0.25, 0.5), "b": (None, None)}
    assert count.values == {"a": (1.0, 3.0), "b": (2.0, None)}


def test_panels_are_those_that_changed_most_where_there_is_no_room_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def panels(id: str) -> list[Panel]:
        asked.append(id)
        return [DummyPanel(id)]

    drawn = draw_prompts(chapter(5, panels=panels), lambda panel: f"<b>{panel.title}</b>", most_bytes=100)
    assert asked == ["p4", "p3", "p2"], "the largest change first; none once there is no room"
    assert [(list(places), unpacked(packed)) for places, packed in drawn.views] == [
        ([3, 4], {"3": "<b>p3</b>", "4": "<b>p4</b>"})
    ]
    assert "the tokens of 2 of 5 prompts" in unpacked(drawn.data)["cut"]
    assert drawn.styles == ["pairs.css"]
    everything = draw_prompts(chapter(5, panels=panels), lambda panel: panel.title)
    assert [list(places) for places, _ in everything.views] == [[0, 1, 2, 3, 4]]
    monkeypatch.setattr("itlens.report.prompts.TOGETHER", 2)
    in_twos = draw_prompts(chapter(5, panels=panels), lambda panel: panel.title)
    assert [list(places) for places, _ in in_twos.views] == [[0, 1], [2, 3], [4]]
    assert unpacked(everything.data)["cut"] == ""


def test_texts_are_shortened_where_there_is_no_room() -> None:
    long = [entry(f"p{n}", " ".join(str((n * 7919 + k * k * 104729) % 99991) for k in range(200))) for n in range(20)]
    data = draw_prompts(PromptsChapter(long), lambda panel: "", most_text=5000).data
    content = unpacked(data)
    whole = [prompt for prompt in content["prompts"] if not prompt.get("short")]
    assert 0 < len(whole) < 20
    assert len(content["prompts"]) == 20
    assert content["short"].startswith(f"The page has room for {len(whole)} of 20 prompts")
    assert content["prompts"][-1] == {
        "id": "p19", "group": "group", "text": [["Say p19", []]], "answers": {}, "values": [], "short": True,
    }  # fmt: skip
    assert len(data) < 6000


@pytest.mark.parametrize("text", [*HOSTILE[:-1], "\ud800"])
def test_a_hostile_text_is_data(text: str) -> None:
    told = PromptEntry(text, text, [(text, ["instruction"])], {"tuned": PromptAnswer(text)})
    data = draw_prompts(PromptsChapter([told], base=text), lambda panel: "").data
    assert not set(data) & set("<>&\"'")
    (prompt,) = unpacked(data)["prompts"]
    assert prompt["id"] == text
    shown = prompt["text"][0][0]
    assert not any(sign in shown for sign in "\x00\x1b\u2028\u2029\u202e\u2067\ud800")
