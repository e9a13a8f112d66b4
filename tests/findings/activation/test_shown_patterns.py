"""Which heads and prompts a report shows attention patterns of, and how a long prompt is cut."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import itlens
from itlens.errors import ProbeError
from itlens.findings.activation.probe_patterns import changed_heads, prompts_to_show, shown_patterns
from itlens.findings.activation.view_patterns import changed_patterns
from itlens.hooked.tokens import Forced, forced
from itlens.models import ModelPair, load_model
from tests.tiny import tiny_hf_model, tiny_tokenizer


def shift(values: list[list[float]]) -> xr.Dataset:
    data = np.array([values, values])
    return xr.Dataset({"pattern_jsd": (("prompt", "layer", "head"), data)}, coords={"layer": [0, 1], "head": [0, 1, 2]})


def test_heads_are_ranked_by_their_divergence() -> None:
    ranked = changed_heads(shift([[0.1, 0.5, float("nan")], [0.3, 0.0, 0.2]]), 3)
    assert ranked == [(0, 1), (1, 0), (1, 2)]
    with pytest.raises(ProbeError, match="kind 'pattern'"):
        changed_heads(xr.Dataset())


def read(length: int, group: str, id: str) -> Forced:
    return Forced(id, group, (1,) * length, np.zeros(length), (), (), None, "given", "given")  # type: ignore[arg-type]


def test_short_prompts_and_new_groups_come_first() -> None:
    prompts = [read(120, "a", "0"), read(9, "a", "1"), read(9, "a", "2"), read(9, "b", "3"), read(9, "c", "4")]
    assert [prompt.id for prompt in prompts_to_show(prompts, 3)] == ["1", "3", "4"]
    assert [prompt.id for prompt in prompts_to_show(prompts, 4)] == ["1", "2", "3", "4"]
    assert [prompt.id for prompt in prompts_to_show(prompts, 9)] == ["0", "1", "2", "3", "4"]


@pytest.fixture(scope="module")
def pair() -> ModelPair:
    models = [load_model(tiny_hf_model("llama", seed=seed), tokenizer=tiny_tokenizer()) for seed in (0, 1)]
    return ModelPair(*models)


def test_a_long_prompt_is_cut_and_the_panel_says_so(pair: ModelPair) -> None:
    prompts = forced(pair.tuned, [itlens.Prompt("The cat sleeps by the river.", response=" Yes, it does.", id="p")])
    whole = shown_patterns(pair, prompts, [(1, 2), (0, 0)])
    cut = shown_patterns(pair, prompts, [(1, 2), (0, 0)], longest=6)
    assert (cut.sizes["query"], int(cut["length"][0]), int(cut["whole"][0])) == (6, 6, len(prompts[0].read))
    np.testing.assert_allclose(cut["pattern"], whole["pattern"][..., :6, :6], atol=2e-4)
    np.testing.assert_allclose(whole["pattern"].sum("key"), 1, atol=2e-3)
    panel = changed_patterns(cut, "p")
    assert panel.note == f"cut to the first 6 of {len(prompts[0].read)} tokens"
    assert panel.places == [(1, 2), (0, 0)]
    assert len(panel.tokens) == 6
    assert changed_patterns(whole, "p").note == ""


def test_nothing_to_show_is_refused(pair: ModelPair) -> None:
    with pytest.raises(ProbeError, match="got 0 prompts and 1 heads"):
        shown_patterns(pair, [], [(0, 0)])


def test_prompts_of_different_lengths_end_where_they_end(pair: ModelPair) -> None:
    texts = [itlens.Prompt(text, response=" No.", id=text) for text in ("The cat.", "The cat sleeps.")]
    patterns = shown_patterns(pair, forced(pair.tuned, texts), [(0, 1)])
    size = int(patterns["length"][0])
    assert size < patterns.sizes["query"]
    assert float(np.abs(patterns["pattern"][0, ..., size:, :]).sum()) == 0
    assert len(changed_patterns(patterns, "The cat.").tokens) == size
