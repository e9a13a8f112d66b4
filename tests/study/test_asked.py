"""What is refused before any weights are loaded."""

from __future__ import annotations

import pytest

from itlens import Prompt, PromptError
from itlens.models.compatibility import Side
from itlens.study.asked import refuse_long
from tests.tiny import tiny_tokenizer


def test_a_prompt_must_leave_room_for_the_response_that_is_asked_of_the_model() -> None:
    """ "a" * 9 and BOS are ten tokens."""
    sides = {"base": Side("base", "x", {"context": 10}, tiny_tokenizer(), "r")}
    refuse_long([Prompt("a" * 8, id="p"), Prompt("a" * 9, id="q", response="b")], sides, None)
    with pytest.raises(PromptError, match="10 tokens long; the base model reads at most 10, so there is no room"):
        refuse_long([Prompt("a" * 9, id="p")], sides, None)
    with pytest.raises(PromptError, match="11 tokens long; the base model reads at most 10: shorten"):
        refuse_long([Prompt("a" * 9, id="p", response="bb")], sides, None)
