"""Prompt: what spans mean, and what each wrong value is answered with."""

from __future__ import annotations

import copy
import pickle
import re
from html import unescape
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itlens import Prompt, PromptError
from itlens.prompts.spans import merge_spans, nearest_text

TEXT = "Summarise the note. The cat sat on the mat. Be brief."


def test_substrings_and_ranges_mean_the_same_characters() -> None:
    by_text = Prompt(TEXT, instruction=["Summarise the note.", "Be brief."], context="The cat sat on the mat.")
    by_range = Prompt(TEXT, instruction=[(0, 19), [44, 53]], context=(20, 43))
    assert by_text == by_range
    assert by_text.instruction == ((0, 19), (44, 53))
    assert by_text.span_text("instruction") == ["Summarise the note.", "Be brief."]
    assert by_text.spans("context") == ((20, 43),)


def test_numpy_integers_are_ranges() -> None:
    assert Prompt(TEXT, instruction=np.array([[0, 9]])).instruction == ((0, 9),)


def test_a_substring_that_occurs_twice_means_its_first_occurrence() -> None:
    assert Prompt("go, go, go", instruction="go").instruction == ((0, 2),)


def test_overlapping_spans_are_merged_and_touching_ones_are_not() -> None:
    assert Prompt("abcdefgh", instruction=[(4, 6), (0, 3), (2, 4)]).instruction == ((0, 4), (4, 6))
    assert Prompt("abcdefgh", instruction=[(0, 8), (2, 3), (0, 8)]).instruction == ((0, 8),)


def test_instruction_and_context_may_share_characters() -> None:
    prompt = Prompt("abcdef", instruction=(0, 4), context=(2, 6))
    assert (prompt.instruction, prompt.context) == (((0, 4),), ((2, 6),))


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ((3, 3), r"\(3, 3\) does not fit; 0 <= start < stop <= 53"),
        ((5, 2), r"\(5, 2\) does not fit"),
        ((-1, 4), r"\(-1, 4\) does not fit"),
        ((0, 54), r"\(0, 54\) does not fit"),
        ((9, 10), "holds only white space"),
        ("", "the empty text"),
        ([(0, 1, 2)], "neither a substring nor a pair"),
        ([7], "neither a substring nor a pair"),
        ([(True, 4)], "neither a substring nor a pair"),
        ([(0.0, 4.0)], "neither a substring nor a pair"),
    ],
)
def test_a_span_that_does_not_fit_is_refused(span: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        Prompt(TEXT, instruction=span, id="cat-1")
    assert 'Prompt "cat-1": its instruction' in str(caught.value)


def test_a_substring_that_does_not_occur_is_answered_with_the_nearest_text() -> None:
    with pytest.raises(PromptError) as caught:
        Prompt(TEXT, context="the Cat  sat on a mat.", id="cat-1")
    message = str(caught.value)
    assert message.startswith('Prompt "cat-1": its context "the Cat  sat on a mat." does not occur in the prompt;')
    assert '"The cat sat on the mat."' in message


def test_a_substring_like_nothing_there_is_answered_with_how_the_prompt_begins() -> None:
    with pytest.raises(PromptError, match=r'nothing there is like it\. The prompt begins "Summarise the note'):
        Prompt(TEXT, instruction="ξυω")


def test_the_nearest_text_is_a_range_of_whole_words() -> None:
    near = nearest_text("cat sit on", TEXT)
    assert near is not None
    assert TEXT[slice(*near[0])] == "cat sat on"
    assert near[1] > 0.8


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": ""}, "its text is empty"),
        ({"text": " \n\t"}, "its text is empty"),
        ({"text": 7}, r"its text must be text, not \"7\" \(int\)"),
        ({"text": None}, "its text must be text, not None"),
        ({"text": "half \ud83d"}, "half of a surrogate pair at character 5"),
        ({"response": 3}, "its response must be text or None"),
        ({"answer": ["x"]}, "its answer must be text or None"),
        ({"id": 3}, "its id must be text, not"),
        ({"group": None}, "its group must be text, not None"),
        ({"rating": "4"}, "its rating must be a number or None"),
        ({"rating": True}, "its rating must be a number or None"),
        ({"rating": float("nan")}, "not a finite number"),
        ({"rating": 10**400}, "not a finite number"),
        ({"instruction": 5}, "is of the type int; give a substring"),
        ({"instruction": {"a": 1}}, "is of the type dict; give a substring"),
    ],
)
def test_wrong_values_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Prompt(**{"text": TEXT, **fields})


def test_an_unknown_kind_of_span_is_refused() -> None:
    for method in (Prompt(TEXT).spans, Prompt(TEXT).span_text):
        with pytest.raises(PromptError, match="'instructions' is no kind of span"):
            method("instructions")


def test_a_prompt_is_immutable_hashable_and_survives_copies() -> None:
    prompt = Prompt(TEXT, instruction="Be brief.", id="a", rating=4)
    with pytest.raises(AttributeError):
        prompt.text = "other"  # type: ignore[misc]
    assert prompt == pickle.loads(pickle.dumps(prompt)) == copy.deepcopy(prompt)
    assert len({prompt, copy.copy(prompt)}) == 1
    assert prompt.rating == 4.0


def test_replace_keeps_the_rest_and_the_old_prompt() -> None:
    prompt = Prompt(TEXT, instruction="Be brief.", id="a")
    changed = prompt.replace(response="A cat.", rating=2)
    assert (changed.instruction, changed.response, changed.rating) == (prompt.instruction, "A cat.", 2.0)
    assert prompt.response is None


def test_replace_wants_new_spans_for_a_new_text() -> None:
    prompt = Prompt(TEXT, instruction="Be brief.", id="a")
    with pytest.raises(PromptError, match='Prompt "a": a new text moves its instruction; give `instruction` too'):
        prompt.replace(text="Be brief. Go.")
    assert prompt.replace(text="Be brief. Go.", instruction="Be brief.").instruction == ((0, 9),)
    assert Prompt("one").replace(text="two").text == "two"
    with pytest.raises(PromptError, match="'prompt' is no field"):
        prompt.replace(prompt="x")


def test_repr_is_one_short_line() -> None:
    prompt = Prompt("line\n" * 500, instruction="line", response="r" * 999, id="a-1", group="g", rating=3)
    assert repr(prompt).startswith('Prompt("line\\nline')
    assert len(repr(prompt)) < 200
    assert "id='a-1', group='g', response=..., rating=3" in repr(prompt)


def test_html_escapes_everything_and_marks_the_spans() -> None:
    hostile = "<img src=x onerror=alert(1)> & </script>"
    prompt = Prompt(hostile, instruction=(0, 28), context=(20, 30), id="<b>", group="</div>")
    html = prompt._repr_html_()
    for raw in ("<img", "</script", "<b><b>", "</div></div></div>x"):
        assert raw not in html
    assert 'class="itlens-instruction" style=' in html
    assert 'class="itlens-instruction itlens-context" style=' in html
    assert "&lt;img src=x onerro" in html


@st.composite
def texts_with_ranges(draw: st.DrawFn) -> tuple[str, list[tuple[int, int]]]:
    text = draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip))
    ends = st.integers(0, len(text))
    pairs = draw(st.lists(st.tuples(ends, ends).map(lambda p: (min(p), max(p))), max_size=5))
    return text, [(a, b) for a, b in pairs if text[a:b].strip()]


@given(texts_with_ranges())
def test_spans_are_sorted_disjoint_and_cover_the_same_characters(case: tuple[str, list[tuple[int, int]]]) -> None:
    text, ranges = case
    spans = Prompt(text, instruction=ranges).spans("instruction")
    assert all(a < b for a, b in spans)
    assert all(b <= c for (_, b), (c, _) in pairwise(spans))
    assert {i for a, b in spans for i in range(a, b)} == {i for a, b in ranges for i in range(a, b)}
    assert merge_spans(spans) == spans


@given(texts_with_ranges())
def test_substrings_are_found_whatever_they_hold(case: tuple[str, list[tuple[int, int]]]) -> None:
    text, ranges = case
    for a, b in ranges:
        prompt = Prompt(text, context=[text[a:b]])
        assert prompt.span_text("context") == [text[a:b]]
        assert prompt.context[0][0] <= a
        # Without its tags the view ends with the prompt's own words, so nothing of them was taken for a tag.
        assert unescape(re.sub("<[^>]*>", "", prompt._repr_html_())).endswith(text)


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=60))
def test_the_nearest_text_always_lies_in_the_text(part: str, text: str) -> None:
    near = nearest_text(part, text)
    if near is not None:
        (start, stop), likeness = near
        assert 0 <= start <= stop <= len(text)
        assert 0.0 <= likeness <= 1.0
