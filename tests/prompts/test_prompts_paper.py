"""The paper's TSV files, in both layouts; every file here is written by the test."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from itlens import Prompt, PromptError, load_prompts
from itlens.prompts.paper import PromptWarning, decode, group_of, sentences, widen

HEADER = "ID\tPrompt\tResponse\tInstruct&Context"
RATED = "File\tModel\tPrompt\tReference\tInstruct\tResponse\tRating"


def load(folder: Path, *rows: str, header: str = HEADER, end: str = "\n") -> list[Prompt]:
    path = folder / "paper.tsv"
    path.write_bytes((end.join([header, *rows]) + end).encode("utf-8"))
    return load_prompts(path)


def test_instructions_are_widened_to_whole_sentences_each_once(tmp_path: Path) -> None:
    text = "You are a cook. Write a short menu for two, with wine. Keep it cheap! Thank you."
    (prompt,) = load(tmp_path, f"set_food_7\t{text}\tA menu.\tshort menu|||with wine|||Keep it cheap")
    assert prompt.span_text("instruction") == ["Write a short menu for two, with wine.", "Keep it cheap!"]
    assert prompt == Prompt(text, [(16, 54), (55, 69)], id="set_food_7", group="food", answer="A menu.")


def test_references_are_answers_and_never_responses(tmp_path: Path) -> None:
    (prompt,) = load(tmp_path, "a_b_1\tGo.\tLine one/nand/ttwo\tGo.")
    assert (prompt.response, prompt.answer) == (None, "Line one\nand\ttwo")


def test_context_stays_as_it_is_and_line_ends_are_decoded(tmp_path: Path) -> None:
    (prompt,) = load(tmp_path, "x_edit_1\tFix this:/nHe go home, and sleeps/nOr not\t\tthis:&&&go home, and sleeps")
    assert prompt.text == "Fix this:\nHe go home, and sleeps\nOr not"
    assert prompt.span_text("instruction") == ["Fix this:"]
    assert prompt.span_text("context") == ["go home, and sleeps"]


def test_a_part_that_spans_sentences_takes_all_of_them(tmp_path: Path) -> None:
    (prompt,) = load(tmp_path, "x_y_1\tA b. C d? E f! G.\t\tb. C d? E")
    assert prompt.span_text("instruction") == ["A b.", "C d?", "E f!"]


def test_a_leading_input_mark_is_cut_off(tmp_path: Path) -> None:
    first, second = load(
        tmp_path, "x_y_1\tInput:Sort them. Now\t\tSort", "x_y_2\tTell me. Input: the tale\t\tme.|||Input: the tale"
    )
    assert first.span_text("instruction") == ["Sort them."]
    assert second.span_text("instruction") == ["Tell me.", "the tale"]


def test_sentences_by_hand() -> None:
    text = 'Dr. No has 1.8 km: "Go!" he said.\n\n  Next line e.g.x\nEnd'
    assert [text[a:b] for a, b in sentences(text)] == [
        "Dr.",
        "No has 1.8 km:",
        '"Go!"',
        "he said.",
        "Next line e.g.x",
        "End",
    ]
    assert sentences("...") == [(0, 3)]
    assert sentences(" \n ") == []
    assert widen("A b. C", []) == []


def test_quotes_are_ordinary_characters_and_doubled_ones_mean_one(tmp_path: Path) -> None:
    (prompt,) = load(tmp_path, 'x_y_1\tSay ""hi"" and "bye now\t"quoted"\tSay ""hi""')
    assert prompt.text == 'Say "hi" and "bye now'
    assert prompt.answer == '"quoted"'
    assert decode('"He said ""no""."') == 'He said "no".'
    assert decode('"""Who?"""') == '"Who?"'
    assert decode('""Who?""') == '"Who?"'
    assert decode('"Who?"') == '"Who?"'
    assert decode('"a" or "b"') == '"a" or "b"'
    assert decode('"') == '"'


def test_ratings_belong_to_the_response_in_the_file(tmp_path: Path) -> None:
    first, second = load(
        tmp_path,
        "set_food_1.pkl\tmodel_x\tEat. Now.\tref\tEat.&&&\tYum/nyum\t4",
        "set_food_2.pkl\tmodel_x\tDrink.\tref\tDrink.&&&\t\t-1",
        header=RATED,
        end="\r\n",
    )
    assert first == Prompt("Eat. Now.", "Eat.", (), "Yum\nyum", "set_food_1", "food", 4.0, "ref")
    assert (second.rating, second.response) == (None, "")


def test_loose_matches_are_placed_and_counted(tmp_path: Path) -> None:
    rows = [
        'x_y_1\tName “two”  rivers. Thanks.\t\tname "two" rivers',
        "x_y_2\tDescribe the old wooden bridge. Thanks.\t\tDescribe the old woden bridge",
        "x_y_3\tGo on.\t\tGo on.",
    ]
    with pytest.warns(PromptWarning, match=r"annotations of 2 of 3 prompts .*\(x_y_1, x_y_2\)"):
        first, second, _ = load(tmp_path, *rows)
    assert first.span_text("instruction") == ["Name “two”  rivers."]
    assert second.span_text("instruction") == ["Describe the old wooden bridge."]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path, rows[2])


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (
            ["x_y_1\tGo on.\t\tEat the cake"],
            HEADER,
            'line 2: Prompt "x_y_1": the annotation "Eat the cake" does not occur',
        ),
        (["x_y_1\tPaint the wall red.\t\tPaint a ball rot"], HEADER, 'nearest text there is "Paint the wall'),
        (["x_y_1\tGo on."], HEADER, "line 2: 2 columns where the header has 4"),
        (["\tGo on.\t\tGo"], HEADER, "line 2: the prompt has no id"),
        (["x_y_1\t\t\t"], HEADER, "line 2: .*its text is empty"),
        (["x_y_1\ta\t\ta", "x_y_1\tb\t\tb"], HEADER, 'line 3: the id "x_y_1" is that of line 2'),
        (["a.pkl\tm\tGo.\t\tGo.\tr\tgood"], RATED, 'line 2: the rating "good" is not a number'),
        ([], HEADER, "a header and no prompts"),
        (["x\ty"], "a\tb", "is not a TSV file of the paper: its header is"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, rows: list[str], header: str, message: str) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        load(tmp_path, *rows, header=header)
    assert "paper.tsv" in str(caught.value)


def test_groups_come_from_ids() -> None:
    ids = ("mtbench_writing_81", "lima_7", "a_b_c-d_12", "plain", "x_1_2", "7_8")
    assert [group_of(id) for id in ids] == ["writing", "lima", "c-d", "", "", ""]
