"""What is left out is named: prompts that a model answers with nothing, curves without a gap. Hooks are taken off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens.errors import ProbeError, PromptError
from itlens.findings.patching.probe_result import halves
from itlens.hooked.hooks import run_hooked, token_logprobs
from itlens.hooked.tokens import ForcedPrompts, forced, left_out_attrs
from itlens.prompts.formats import EMPTY_FORM
from tests.findings.patching.patch_pairs import PROMPTS, changed_heads, llama, pair_of
from tests.tiny import BACKENDS, tiny_tokenizer

BARE = [prompt.replace(response=None) for prompt in PROMPTS]
SAID = f"1 of 6 prompts left out, because the model's own response is empty ({EMPTY_FORM}): p2"


def stopping(network: Any) -> Any:
    """The network, which ends its own response to PROMPTS[2] at once: the token it begins with ends responses."""
    model = itlens.load_model(network, tokenizer=tiny_tokenizer(), dtype="float64", check=False)
    begun = {one.id: one.targets[0] for one in forced(model, BARE, max_new_tokens=1)}
    assert list(begun.values()).count(begun["p2"]) == 1, "the other prompts begin otherwise"
    network.generation_config.eos_token_id = begun["p2"]
    return network


@pytest.fixture(scope="module")
def pair() -> Any:
    base = llama()
    return pair_of(base, stopping(changed_heads(base, [(0, 1)])))


def test_an_empty_generated_response_leaves_its_prompt_out(pair: Any) -> None:
    read = forced(pair.tuned, BARE, max_new_tokens=3)
    assert [one.id for one in read] == ["p0", "p1", "p3", "p4", "p5"] and read.left_out == ("p2",)
    assert left_out_attrs(read) == {"left_out": "p2", "note": SAID}
    assert left_out_attrs(forced(pair.tuned, PROMPTS)) == {"left_out": "", "note": ""}
    many = left_out_attrs(ForcedPrompts(read, [f"q{n}" for n in range(7)]))
    assert many["note"].startswith("7 of 12 prompts") and many["note"].endswith("q0, q1, q2, q3, q4 and 2 more")


def test_an_empty_given_response_is_an_error_and_so_is_nothing_left(pair: Any) -> None:
    with pytest.raises(PromptError, match="'p2' has an empty response"):
        forced(pair.tuned, BARE, responses={"p2": ""})
    with pytest.raises(PromptError, match="ends its own response at once on the prompt, so nothing is predicted"):
        forced(pair.tuned, BARE[2])
    again = [BARE[2], BARE[2].replace(id="again")]
    with pytest.raises(PromptError, match="at once on all of 2 prompts"):
        itlens.patch(pair, again)


def test_probes_of_a_pair_say_what_was_left_out(pair: Any) -> None:
    read = forced(pair.tuned, BARE, max_new_tokens=3)
    for given, options in ((BARE, {"max_new_tokens": 3}), (read, {})):
        found = [
            itlens.activations(pair.tuned, given, hooks="norms", **options),
            itlens.activation_shift(pair, given, hooks="resid", **options),
            itlens.patch(pair, given, what="mlp", curve=False, **options),
        ]
        for ds in found:
            assert ds.sizes["prompt"] == 5 and "p2" not in ds.prompt.values
            assert ds.attrs["left_out"] == "p2" and ds.attrs["note"].startswith(SAID)


def test_a_difference_is_over_the_prompts_that_both_models_answer(pair: Any) -> None:
    base, tuned = (
        itlens.activations(model, BARE, hooks="norms", max_new_tokens=3) for model in (pair.base, pair.tuned)
    )
    assert base.sizes["prompt"] == 6
    both = itlens.diff.activations(base, tuned)
    whole = itlens.diff.activations(base.sel(prompt=tuned.prompt.values), tuned)
    assert int(both.prompts.sel(group="all")) == 5 and both.attrs["note"] == f"tuned: {SAID}"
    assert both.equals(whole)
    with pytest.raises(itlens.errors.ResultError, match="1 prompts have base results but no tuned ones: p2"):
        itlens.diff.activations(base, tuned.assign_attrs(left_out=""))


@pytest.mark.parametrize("backend", BACKENDS)
def test_hooks_act_in_order_and_are_taken_off(backend: str) -> None:
    model = itlens.load_model(llama(), tokenizer=tiny_tokenizer(), dtype="float64", backend=backend, check=False)
    tokens, met = torch.tensor([[5, 6, 7]]), []

    def double(value: torch.Tensor, hook: Any) -> torch.Tensor:
        met.append("double")
        return 2 * value

    def fails(value: torch.Tensor, hook: Any) -> None:
        met.append("fails")
        raise ProbeError("stop here")

    plain = run_hooked(model, tokens)
    doubled = run_hooked(model, tokens, [("blocks.0.attn.hook_z", double)])
    assert not torch.allclose(plain, doubled) and torch.equal(plain, run_hooked(model, tokens))
    met.clear()
    with pytest.raises(ProbeError, match="stop here"):
        run_hooked(model, tokens, [("blocks.0.attn.hook_z", double), ("blocks.0.attn.hook_z", fails)])
    assert met == ["double", "fails"] and torch.equal(plain, run_hooked(model, tokens))
    with pytest.raises(ProbeError, match=r"no hook point 'blocks.0.attn.hook_zz'; the nearest are blocks.0.attn"):
        run_hooked(model, tokens, [("blocks.0.attn.hook_z", double), ("blocks.0.attn.hook_zz", double)])
    assert torch.equal(plain, run_hooked(model, tokens))


def test_a_curve_that_is_judged_where_the_models_do_not_differ_says_so() -> None:
    """The metric differs on five prompts of six; of the three that judge the order two are too few."""
    _, judged = halves(len(PROMPTS), 0)
    without = PROMPTS[judged[0]].id

    def not_there(logits: torch.Tensor, one: Any) -> torch.Tensor:
        own = token_logprobs(logits, torch.tensor(one.targets)).mean(dim=-1)
        return torch.zeros_like(own) if one.id == without else own

    options: dict[str, Any] = {"metric": not_there, "max_new_tokens": 3, "controls": 1, "estimate": False}
    ds = itlens.patch(pair_of(llama(), llama(1)), BARE, what="mlp", **options)
    assert ds.attrs["gap_low"] > 0 and np.isfinite(ds.recovered).all() and ds.joint.isnull().all()
    assert f"no curve: on the {judged.size} prompts that judge it the metric does not differ" in ds.attrs["note"]
    assert itlens.patch(pair_of(llama(), llama(1)), BARE, what="mlp", **options | {"curve": False}).attrs["note"] == ""


def test_weights_take_no_positions_of_any_kind() -> None:
    for positions in ("targets", [0, 1], np.array([0, 1])):
        with pytest.raises(ProbeError, match="Weights act at all positions"):
            itlens.patch(pair_of(llama(), llama(1)), BARE, what="weights", positions=positions)
