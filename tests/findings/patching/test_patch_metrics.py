"""What patches are judged by: log-probabilities, importance scores, own functions; and the asks that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens.errors import PairError, ProbeError, PromptError
from itlens.hooked.hooks import run_hooked
from itlens.hooked.tokens import Forced, forced
from tests.findings.patching.patch_pairs import PROMPTS, llama, pair_of, with_blocks_of
from tests.tiny import tiny_hf_model

ASK: dict[str, Any] = {"responses": "given", "progress": False, "curve": False, "estimate": False}


def test_log_probability_is_that_of_the_response() -> None:
    pair = pair_of(llama(), llama(1))
    ds = itlens.patch(pair, PROMPTS[:2], what="mlp", **ASK)
    for which, name in (("tuned", "donor"), ("base", "receiver")):
        model = getattr(pair, which)
        for number, one in enumerate(forced(model, PROMPTS[:2])):
            whole = torch.log_softmax(model(torch.tensor([one.encoded.ids])), -1)[0].detach()
            by_hand = [float(whole[place, one.encoded.ids[place + 1]]) for place in one.positions]
            assert float(ds[name][number]) == pytest.approx(np.mean(by_hand), abs=1e-12)


def test_a_function_gets_the_logits_of_the_targets() -> None:
    pair = pair_of(llama(), llama(1))
    seen: list[tuple[int, ...]] = []

    def first_logit(logits: torch.Tensor, one: Forced) -> torch.Tensor:
        seen.append(tuple(logits.shape))
        assert logits.shape[1:] == (len(one.targets), 300)
        return logits[:, 0, one.targets[0]]

    ds = itlens.patch(pair, PROMPTS[:1], metric=first_logit, what="mlp", batch_size=2, **ASK)
    (one,) = forced(pair.tuned, PROMPTS[:1])
    expected = run_hooked(pair.tuned, torch.tensor([one.read]), positions=one.positions)[0, 0, one.targets[0]]
    assert float(ds.donor[0]) == pytest.approx(float(expected), abs=1e-12)
    assert max(shape[0] for shape in seen) <= 2 and ds.attrs["metric"] == "first_logit"


def test_importance_is_the_score_of_the_attributions_under_the_patch() -> None:
    base = llama()
    pair = pair_of(base, with_blocks_of(base, llama(1)))
    prompts = [prompt.replace(response=prompt.response + " and plum") for prompt in PROMPTS[:2]]
    ds = itlens.patch(pair, prompts, metric="importance", what="weights", unit="layer", **ASK | {"curve": True})
    for which, name in (("tuned", "donor"), ("base", "receiver")):
        for number, prompt in enumerate(prompts):
            scores = itlens.attribute(getattr(pair, which), prompt, mode="reverse", progress=False)
            density = itlens.importance_density(scores)
            expected = itlens.span_score(density, itlens.span_mask(scores, prompt))
            assert float(ds[name][number]) == pytest.approx(expected, abs=1e-9)
    gap = float((ds.donor - ds.receiver).sum())  # every block is the donor's: so are its attributions
    assert abs(gap) > 1e-3 and (ds.joint.isnull().all() or float(ds.joint[-1]) == pytest.approx(1, abs=1e-9))


def test_a_prompt_without_an_instruction_has_no_importance() -> None:
    with pytest.raises(ProbeError, match="Prompt 'bare' has no instruction span"):
        itlens.patch(
            pair_of(llama(), llama(1)), itlens.Prompt("dog", response=" x", id="bare"), metric="importance", **ASK
        )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"what": "neuron"}, "what='neuron' is unknown; expected one of head, mlp, resid, weights"),
        ({"what": "weights", "unit": "norm"}, "unit='norm' is unknown; expected one of head, group, mlp, layer"),
        ({"direction": "base"}, "direction='base' is unknown; expected one of 'tuned->base', 'base->tuned'"),
        ({"responses": "mine"}, "responses='mine' is unknown"),
        ({"metric": "loss"}, "metric='loss' is unknown; expected 'logprob', 'importance' or a function"),
        ({"metric": lambda logits, one: logits}, r"gave shape \(1, \d+, 300\) for logits .*expected a tensor of shape"),
        ({"metric": lambda logits, one: 1.0}, "gave a float for logits"),
        ({"metric": lambda logits, one: logits[:, 0, 0] * torch.nan}, "not finite on prompt 'p0'"),
        ({"positions": 90}, r"Position 90 lies outside prompt 'p0', which is \d+ tokens long .*: expected 0 to \d+\."),
        ({"positions": [-1]}, "Position -1 lies outside prompt 'p0'"),
        ({"positions": "context"}, "No token of these prompts is 'context'"),
        ({"positions": "query"}, "positions='query': expected \"all\", \"targets\", whole numbers"),
        ({"positions": ["first", "query"]}, "Unknown token class 'query'"),
        ({"positions": 1.5}, "positions=1.5: expected"),
        ({"positions": []}, r"positions=\[\]: expected"),
        ({"what": "weights", "positions": "targets"}, "Weights act at all positions"),
        ({"layers": 2}, "layer 2 is not there; the model has layers 0 to 1"),
        ({"heads": 4}, "head 4 is not there; the model has heads 0 to 3"),
        ({"what": "weights", "unit": "group", "heads": 2}, "head 2 is not there; the model has heads 0 to 1"),
        ({"what": "mlp", "heads": 1}, "heads=1 has no meaning for the mlp of a layer"),
        ({"batch_size": 0}, "batch_size=0; expected a whole number of at least 1"),
        ({"controls": -1}, "controls=-1; expected a whole number"),
        ({"seed": -1}, "seed=-1; expected a whole number of at least 0"),
        ({"seed": "a"}, "seed='a'; expected a whole number of at least 0"),
        ({"cache": "no/such/folder"}, "cache='no/such/folder' is no folder"),
    ],
)  # fmt: skip
def test_wrong_asks_are_one_sentence(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        itlens.patch(pair_of(llama(), llama(1)), PROMPTS[:1], **ASK | asked)


def test_wrong_pairs_and_prompts_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PairError, match=r"cannot be compared: heads 4 and 8"):
        itlens.patch(pair_of(tiny_hf_model("gpt2"), tiny_hf_model("gpt2", n_head=8)), PROMPTS[:1], **ASK)
    with pytest.raises(PairError, match=r"key-value heads 2 and 4"):
        itlens.patch(pair_of(llama(), llama(num_key_value_heads=4)), PROMPTS[:1], **ASK)
    with pytest.raises(ProbeError, match="The pair is a str; expected"):
        itlens.patch("model", PROMPTS[:1], **ASK)
    pair = pair_of(llama(), llama(1))
    with pytest.raises(PromptError, match="Prompt 'p0' has no response, which responses=\"given\" scores"):
        itlens.patch(pair, PROMPTS[0].replace(response=None), **ASK)
    with pytest.raises(PromptError, match="There are no prompts"):
        itlens.patch(pair, [], **ASK)
    with pytest.raises(PromptError, match="prompts is a int"):
        itlens.patch(pair, 5, **ASK | {"responses": "tuned"})  # type: ignore[arg-type]


def test_a_token_that_one_model_lacks_is_refused() -> None:
    small, large = llama(), llama(1, vocab=310)
    pair = pair_of(small, large)
    (one,) = forced(pair.base, PROMPTS[:1])
    foreign = Forced(**{**one.__dict__, "read": (*one.read[:-1], 305)})
    with pytest.raises(ProbeError, match=r"Prompt 'p0' holds token 305, which .* does not have"):
        itlens.patch(pair, [foreign], **ASK)
    assert "effect" in itlens.patch(pair, [one], what="mlp", **ASK)


def test_a_tuple_of_loaded_models_is_a_pair() -> None:
    pair = pair_of(llama(), llama(1))
    ds = itlens.patch((pair.base, pair.tuned), PROMPTS[:1], what="mlp", **ASK)
    assert float(np.abs(ds.effect - itlens.patch(pair, PROMPTS[:1], what="mlp", **ASK).effect).max()) < 1e-12
