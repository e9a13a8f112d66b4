"""What callers give as prompts: a Prompt, a text, or several; ids are made where none are given."""

from __future__ import annotations

from typing import Any

import pytest

import itlens
from itlens.errors import PromptError
from itlens.prompts import as_prompts

PROMPT = itlens.Prompt("Translate the dog.", instruction="Translate", id="a")


def test_one_prompt_or_several_prompts_and_texts() -> None:
    assert as_prompts(PROMPT) == [PROMPT]
    assert as_prompts("Hello there.") == [itlens.Prompt("Hello there.", id="prompt-0001")]
    mixed = as_prompts(iter([PROMPT, "Hello there.", PROMPT.replace(id="")]))
    assert mixed == [PROMPT, itlens.Prompt("Hello there.", id="prompt-0002"), PROMPT.replace(id="prompt-0003")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "There are no prompts; expected an itlens.Prompt, a text, or several of them"),
        ({"a": "b"}, "prompts is a dict; expected an itlens.Prompt"),
        (b"a", "prompts is a bytes; expected"),
        (3, "prompts is a int; expected"),
        ([PROMPT, None], "prompts holds a NoneType; expected"),
        ([PROMPT, PROMPT], "Two prompts have the id 'a'; give every prompt its own id."),
        (["  "], "its text is empty"),
    ],
)
def test_anything_else_is_one_sentence(given: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        as_prompts(given)


def test_an_instruction_can_be_required() -> None:
    assert as_prompts(PROMPT, instruction_required=True) == [PROMPT]
    with pytest.raises(PromptError, match=r"1 prompts have no instruction \(prompt-0002\); add the field"):
        as_prompts([PROMPT, "Hello there."], instruction_required=True)
