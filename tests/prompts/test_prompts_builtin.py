"""The built-in prompts: enough, balanced in any prefix, long and short, and annotated."""

from __future__ import annotations

from collections import Counter

import pytest

from itlens import Prompt, load_prompts


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return load_prompts("builtin")


def words(text: str) -> int:
    return len(text.split())


def test_there_are_enough_in_many_families_and_any_prefix_is_balanced(prompts: list[Prompt]) -> None:
    assert len(prompts) >= 120
    assert len({prompt.text for prompt in prompts}) == len(prompts)
    groups = Counter(prompt.group for prompt in prompts)
    assert len(groups) >= 12
    for size in range(1, len(prompts) + 1):
        counts = Counter(prompt.group for prompt in prompts[:size])
        assert max(counts.values()) - min(counts.get(group, 0) for group in groups) <= 1


def test_ids_name_the_family(prompts: list[Prompt]) -> None:
    for prompt in prompts:
        family, number = prompt.id.removeprefix("builtin-").rsplit("-", 1)
        assert family == prompt.group
        assert number.isdigit() and len(number) == 2


def test_they_are_long_and_short(prompts: list[Prompt]) -> None:
    lengths = [words(prompt.text) for prompt in prompts]
    assert min(lengths) >= 8
    assert max(lengths) <= 220
    assert sum(length < 20 for length in lengths) >= 25
    assert sum(length > 120 for length in lengths) >= 15


def test_every_prompt_has_an_instruction_beside_its_context(prompts: list[Prompt]) -> None:
    for prompt in prompts:
        assert prompt.instruction, prompt.id
        assert prompt.response is None
        taken = [set(range(*span)) for kind in ("instruction", "context") for span in prompt.spans(kind)]
        assert len(set().union(*taken)) == sum(map(len, taken)), prompt.id
        for part in prompt.span_text("instruction") + prompt.span_text("context"):
            assert part == part.strip(), prompt.id


def test_contexts_are_real_passages_before_after_and_around_instructions(prompts: list[Prompt]) -> None:
    with_context = [prompt for prompt in prompts if prompt.context]
    assert sum(sum(map(words, prompt.span_text("context"))) >= 60 for prompt in prompts) >= 25
    assert sum(prompt.instruction[0] < prompt.context[0] for prompt in with_context) >= 25
    assert sum(prompt.context[0] < prompt.instruction[0] for prompt in with_context) >= 25
    assert sum(prompt.context[0] < prompt.instruction[0] < prompt.context[-1] for prompt in with_context) >= 3
    assert sum(len(prompt.instruction) > 1 for prompt in prompts) >= 15
