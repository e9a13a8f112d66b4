"""What a model is made to read: classes of tokens by characters, positions that predict, both backends, hooks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr

import itlens
from itlens.errors import ModelError, ProbeError, PromptError, StoreError
from itlens.hooked.hooks import hook_points, run_hooked, token_logprobs
from itlens.hooked.response import respond, with_response
from itlens.hooked.tokens import CLASSES, Forced, forced
from itlens.tokenization import Finish, Response
from tests.tiny import BACKENDS, tiny_hf_model, tiny_tokenizer

TEMPLATE = "{% for m in messages %}<u>{{ m['content'] }}</u>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
PROMPT = itlens.Prompt(
    "Translate the dog. A river flows.", instruction="Translate the dog.", context="A river", response=" yes", id="a"
)


@pytest.fixture(scope="module", params=BACKENDS)
def model(request: pytest.FixtureRequest) -> object:
    tokenizer = tiny_tokenizer(chat_template=TEMPLATE)
    return itlens.load_model(tiny_hf_model("llama"), tokenizer=tokenizer, backend=request.param)


def texts(one: Forced) -> dict[str, str]:
    """The text of each class, the special tokens in front as "^"."""
    tokens = ["^"] * len(one.encoded.front) + [*one.encoded.prompt_tokens, *one.encoded.response_tokens]
    return {name: "".join(tokens[place] for place in one.of_class(name)) for name in CLASSES}


def test_every_character_has_its_class(model: object) -> None:
    (one,) = forced(model, PROMPT, format="chat")
    got = texts(one)
    assert got["first"] == "^" and got["template"] == "<u></u><a>"
    assert got["instruction"].split() == ["Translate", "the", "dog."]
    assert got["context"].replace(" ", "") == "Ariver" and got["prompt"].replace(" ", "") == "flows."
    assert "".join(one.encoded.response_tokens) == " yes", "as given"
    assert " yes".startswith(got["response"]) and got["response"] != " yes", "the last token is predicted, not read"
    (raw,) = forced(model, PROMPT)
    assert texts(raw)["template"] == "" and texts(raw)["instruction"] == got["instruction"]


def test_without_a_token_in_front_the_first_token_of_the_text_is_the_first(model: object) -> None:
    (one,) = forced(model, PROMPT, prepend_bos=False)
    assert texts(one)["first"] == one.encoded.prompt_tokens[0]
    assert texts(one)["first"] + texts(one)["instruction"] == "Translate the dog."


def test_targets_are_predicted_where_positions_say(model: object) -> None:
    (one,) = forced(model, PROMPT)
    ids = one.encoded.ids
    assert [ids[place + 1] for place in one.positions] == list(one.targets) == ids[-len(one.targets) :]
    logits = run_hooked(model, torch.tensor([one.read]), positions=one.positions)
    whole = torch.log_softmax(model(torch.tensor([ids])).detach(), -1)[0]  # type: ignore[operator]
    by_hand = [float(whole[place, ids[place + 1]]) for place in one.positions]
    np.testing.assert_allclose(token_logprobs(logits, torch.tensor(one.targets))[0].detach(), by_hand, atol=1e-5)


def test_responses_are_given_own_or_generated(model: object) -> None:
    bare = PROMPT.replace(response=None, id="b")
    one, other = forced(model, [PROMPT, bare], responses={"a": " no"}, max_new_tokens=3)
    assert "".join(one.encoded.response_tokens) == " no" and one.source == "given"
    assert len(other.targets) == 3 and (other.source, other.finish) == ("generated", "length")
    greedy = model(torch.tensor([other.encoded.ids])).argmax(-1)[0]  # type: ignore[operator]
    assert [int(greedy[place]) for place in other.positions] == list(other.targets)


def test_hooks_are_found_by_pattern_and_never_skipped(model: object) -> None:
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(2)]
    assert hook_points(model, "blocks.{layer}.attn.hook_z") == hook_points(model, ["blocks.*.attn.hook_z"]) == names
    with pytest.raises(
        ProbeError, match=r"no hook point 'blocks.0.attn.hook_zz'; the nearest are blocks.0.attn.hook_z"
    ):
        hook_points(model, ["hook_embed", "blocks.0.attn.hook_zz"])
    with pytest.raises(ProbeError, match="named by text"):
        hook_points(model, [3])


def test_wrong_prompts_are_one_sentence(model: object) -> None:
    with pytest.raises(PromptError, match="There are no prompts"):
        forced(model, [])
    with pytest.raises(PromptError, match="prompts holds a int"):
        forced(model, [3])
    with pytest.raises(PromptError, match="Two prompts have the id 'a'"):
        forced(model, [PROMPT, PROMPT])
    with pytest.raises(PromptError, match="'a' has an empty response"):
        forced(model, PROMPT, responses={"a": ""})
    with pytest.raises(ProbeError, match="Unknown token class 'query'"):
        forced(model, PROMPT)[0].of_class("query")


def test_texts_are_prompts_with_ids_by_their_places(model: object) -> None:
    read = forced(model, ["The dog sleeps.", PROMPT], max_new_tokens=2)
    assert [one.id for one in read] == ["prompt-0001", "a"]
    with pytest.raises(ModelError, match=r"forced got 'gpt2' as the model; expected .* itlens.load_model\('gpt2'\)"):
        forced("gpt2", "The dog sleeps.")  # type: ignore[arg-type]


@pytest.mark.parametrize("most", [1, 6])
def test_a_response_that_is_handed_back_is_read_and_attributed_as_the_own_one(model: object, most: int) -> None:
    prompt = PROMPT.replace(response=None)
    own = itlens.attribute(model, prompt, max_new_tokens=most, progress=False)
    made = respond(model, prompt.text, max_new_tokens=most, prepend_bos=None, name="it")
    kept = Response.from_json(json.loads(json.dumps(made.as_json())))
    assert kept == made
    assert kept.source == "generated"
    assert kept.ids == tuple(own["target_id"].values)
    again = itlens.attribute(model, prompt, kept, max_new_tokens=most, progress=False)
    xr.testing.assert_identical(own, again)
    (first,), (second,) = forced(model, prompt, max_new_tokens=most), forced(model, prompt, responses={"a": kept})
    assert first.encoded == second.encoded
    assert first.response == second.response == kept
    assert (first.read, first.positions) == (second.read, second.positions)
    np.testing.assert_array_equal(first.classes, second.classes)


@pytest.mark.parametrize("finish", ["eos", "length", "empty"])
def test_why_a_response_ended_is_kept(model: object, finish: Finish) -> None:
    ids = () if finish == "empty" else (40, 41)
    kept = Response(ids, "", finish, "generated")
    encoded, how = with_response(model, PROMPT.text, kept, max_new_tokens=1, prepend_bos=None, name="it")
    assert encoded.response_ids == ids
    assert how == {"response_source": "generated", "finish": finish}


def test_given_texts_are_handed_back_as_texts(model: object) -> None:
    (one,) = forced(model, PROMPT)
    (again,) = forced(model, PROMPT.replace(response=None), responses={"a": one.response})
    assert again.encoded == one.encoded
    assert (again.source, again.finish) == ("given", "given")


def test_responses_of_other_models_and_broken_ones_are_refused(model: object) -> None:
    other = Response((40, 300), "", "length", "generated")
    with pytest.raises(ProbeError, match=r"holds token 300, which .* does not have \(its vocabulary ends at 299\)"):
        forced(model, PROMPT, responses={"a": other})
    for kept in ({"ids": [1.5], "text": "", "finish": "eos", "source": "given"}, {"ids": []}, [3]):
        with pytest.raises(StoreError, match="is no response; expected the fields ids"):
            Response.from_json(kept)
