"""What patching cannot answer is refused, and responses that belong to no prompt are."""

from __future__ import annotations

import pytest

import itlens
from itlens.hooked.tokens import forced
from tests.findings.patching.patch_pairs import PROMPTS, llama, pair_of


def test_importance_behind_a_replaced_residual_stream() -> None:
    """The replaced stream is a constant: no gradient reaches the prompt, and every layer would seem to take it all."""
    pair = pair_of(llama(0), llama(1))
    with pytest.raises(itlens.ProbeError, match="cuts every path from the prompt"):
        itlens.patch(pair, PROMPTS, what="resid", metric="importance", max_new_tokens=2)


def test_responses_of_no_prompt() -> None:
    model = pair_of(llama(0), llama(0)).base
    with pytest.raises(itlens.PromptError, match="'zzz', which is no prompt's id"):
        forced(model, PROMPTS, responses={"zzz": "x"})
    with pytest.raises(itlens.PromptError, match="responses is a list"):
        forced(model, PROMPTS, responses=["x"])  # type: ignore[arg-type]
    with pytest.raises(itlens.ProbeError, match="max_new_tokens=0"):
        forced(model, PROMPTS, max_new_tokens=0)


def test_generated_ids_are_kept_as_they_are() -> None:
    """A text that is read again may have other tokens; ids that a model wrote are what both models read."""
    model = pair_of(llama(0), llama(0)).base
    own = forced(model, [prompt.replace(response=None) for prompt in PROMPTS], max_new_tokens=3)
    again = forced(model, PROMPTS, responses={one.id: one.targets for one in own})
    assert [one.read for one in again] == [one.read for one in own]
    assert [one.targets for one in again] == [one.targets for one in own]
