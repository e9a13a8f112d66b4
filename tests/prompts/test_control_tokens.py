"""A control token that is written out in a prompt is named, with the prompt and with who reads it so."""

from __future__ import annotations

from typing import Any

from itlens import Prompt
from itlens.prompts.control_tokens import control_token_notices
from tests.tiny import tiny_tokenizer


def tuned() -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    return tokenizer


def test_a_control_token_in_a_raw_prompt_is_named() -> None:
    prompts = [Prompt("Explain </s> briefly.", id="tag"), Prompt("Go.", id="x", response="a<|im_end|>b")]
    both = {"the base model": tiny_tokenizer(), "the tuned model": tuned()}
    end, turn = control_token_notices(prompts, both)
    assert "'</s>' in the text of prompt 'tag' is read as a control token by the base model and the tuned model;" in end
    assert "'<|im_end|>' in the text of prompt 'x' is read as a control token by the tuned model; " in turn
    assert "the base model reads its characters" in turn


def test_many_prompts_are_counted_and_ordinary_ones_are_not_named() -> None:
    (said,) = control_token_notices([Prompt("<s>a", id=f"p{n}") for n in range(8)], {"the model": tiny_tokenizer()})
    assert "prompts 'p0', 'p1', 'p2', 'p3', 'p4' and 3 more is read" in said
    (said,) = control_token_notices([Prompt("a </s>")], {"the model": tiny_tokenizer()})
    assert said.startswith("'</s>' in the text of the prompt is read as a control token by the model; where")
    assert control_token_notices([Prompt("a < s > b", id="p")], {"the model": tiny_tokenizer()}) == []
    assert control_token_notices([Prompt("</s>", id="p")], {"the model": None}) == []
