from __future__ import annotations

import pytest

import itlens
from itlens.report.numbers import headline
from itlens.report.page_data import answer_paragraph
from tests.report.pages import row

UP, DOWN = row("score", "higher"), row("mass", "lower", short="the mass fell by 0.02")
MOVED = row("space", "changed", short="the space rotated in 5 of 12 layers")
SAME, STILL = row("verbs"), row("order")
NOT_SHOWN = row("trust", answer="not shown", short="the trust is not shown for either model")
OPEN, SHUT = row("parts", tested=False), row("labels", "higher", tested=False)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "Nothing was compared."),
        ([UP], "Tuning changed the one thing that was measured: the score rose by 0.07."),
        (
            [UP, DOWN],
            "Tuning changed both things that were measured: the score rose by 0.07; and the mass fell by 0.02.",
        ),
        (
            [UP, DOWN, MOVED],
            "Tuning changed all three things that were measured: the score rose by 0.07; the mass fell by 0.02; and "
            "the space rotated in 5 of 12 layers.",
        ),
        (
            [UP, SAME],
            "Tuning changed one of two things that were measured: the score rose by 0.07. No significant change was "
            "found in the verbs.",
        ),
        (
            [SAME, UP, OPEN],
            "Tuning changed one of two things that were tested: the score rose by 0.07. No significant change was "
            "found in the verbs. The parts could not be tested.",
        ),
        (
            [UP, SAME, STILL, OPEN, SHUT],
            "Tuning changed one of three things that were tested: the score rose by 0.07. No significant change was "
            "found in the verbs or the order. The parts and the labels could not be tested.",
        ),
        ([UP, OPEN], "Tuning changed the one thing that was tested: the score rose by 0.07. The parts could not be "
                     "tested."),
        ([SAME], "No significant change was found in the verbs."),
        ([SAME, OPEN], "No significant change was found in the verbs. The parts could not be tested."),
        (
            [SAME, STILL],
            "No significant change was found in either of the two things that were tested: the verbs and the order.",
        ),
        (
            [SAME, STILL, row("mass")],
            "No significant change was found in any of the three things that were tested: the verbs, the order and "
            "the mass.",
        ),
        (
            [NOT_SHOWN, UP, SAME, OPEN],
            "Tuning changed one of two things that were tested: the score rose by 0.07. No significant change was "
            "found in the verbs. The trust is not shown for either model. The parts could not be tested.",
        ),
        ([NOT_SHOWN], "The trust is not shown for either model."),
        ([NOT_SHOWN, OPEN], "The trust is not shown for either model. The parts could not be tested."),
        ([row("trust", answer="not shown", short="")], "The trust: not shown."),
        ([OPEN], "Nothing could be tested: the parts."),
        ([OPEN, SHUT], "Nothing could be tested: the parts and the labels."),
    ],
)  # fmt: skip
def test_the_paragraph_says_first_what_changed_then_what_did_not_then_what_is_not_known(
    rows: list[object], words: str
) -> None:
    assert answer_paragraph(rows) == words  # type: ignore[arg-type]


def test_a_finding_without_words_of_its_own_has_its_topic_and_direction() -> None:
    assert "the score is higher in the tuned model." in answer_paragraph([row("score", "higher", short="")])
    assert "the score changed." in answer_paragraph([row("score", "changed", short="")])
    assert "log odds is lower" in answer_paragraph([row("log_odds", "lower", short="", topic="")])


def test_an_answer_of_its_own_has_its_own_sign_and_no_change_of_its_own() -> None:
    assert (NOT_SHOWN.word, NOT_SHOWN.code, NOT_SHOWN.icon) == ("not shown", "own", "○")
    risen = row("trust", "higher", answer="more faithful")
    assert (risen.word, risen.code, risen.icon) == ("more faithful", "higher", "▲")
    untested = row("trust", answer="not shown", tested=False)
    assert (untested.word, untested.code) == ("not tested", "not tested")


@pytest.mark.parametrize("word", ["x" * 31, None, 3])
def test_an_answer_is_a_short_text(word: object) -> None:
    assert itlens.Verdict("Said.", word="x" * 30).answer == "x" * 30
    assert itlens.Verdict("Said.", tested=False, word="not shown").answer == "not tested"
    with pytest.raises(itlens.ItlensError, match=r"verdict's word is .*; expected a text of at most 30 characters"):
        itlens.Verdict("Said.", word=word)  # type: ignore[arg-type]


def test_a_full_stop_of_the_clause_is_not_doubled() -> None:
    assert answer_paragraph([row("score", "higher", short="the score rose. ")]).endswith("measured: the score rose.")


def test_many_findings_stay_a_paragraph() -> None:
    changed = [row(f"thing {i}", "higher") for i in range(9)]
    still = [row(f"other {i}") for i in range(8)]
    words = answer_paragraph([*changed, *still])
    assert words.startswith("Tuning changed nine of 17 things that were measured: ")
    assert "the thing 3 rose by 0.07; and five more in the table. No significant" in words
    assert words.endswith("the other 5 or two more.")


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0.0701, 0.031, 0.11, 0.002), "+0.070 [+0.031, +0.110], p = 0.002"),
        ((-0.07, -0.1, -0.01, 1e-5), "−0.070 [−0.100, −0.010], p < 0.001"),
        ((2.1, -3.4, 7.8, 0.42, "points"), "+2.10 points [−3.40, +7.80], p = 0.42"),
        ((12.34, None, None, None, "degrees"), "+12.3 degrees"),
        ((None, None, None, None, "nats"), "–"),
        ((float("nan"), 0.1, 0.2), "– [+0.100, +0.200]"),
    ],
)
def test_a_headline_has_its_interval_and_p(numbers: tuple[object, ...], words: str) -> None:
    assert headline(*numbers) == words  # type: ignore[arg-type]
    assert headline(0.5, 0.4, 0.6, sign=False) == "0.500 [0.400, 0.600]"
