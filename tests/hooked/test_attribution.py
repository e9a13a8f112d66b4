"""Attribution against Hugging Face loops, finite differences and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import itlens
from itlens.hooked.attribution import attribute, scores_of
from itlens.hooked.gradients import Task, read_embeddings, target_logits
from itlens.models import load_model, source_of
from itlens.tokenization import Response, encode
from tests.chat_templates import TEMPLATES
from tests.probes.reference import per_token_scores
from tests.tiny import on_backends, tiny_hf_model, tiny_tokenizer

PROMPT = "Translate the sentence: the cat sleeps by the river."
RESPONSE = " Le chat dort, yes."


def close_to(found, expected):
    """Equal up to 1e-4 of the largest score: Hugging Face computes norms and angles in float32 whatever the dtype."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module", params=on_backends())
def loaded(request):
    """A Hugging Face model in float64 and the same weights on one of the two backends."""
    architecture, backend = request.param
    hf = tiny_hf_model(architecture, dtype=torch.float64)
    model = load_model(
        tiny_hf_model(architecture, dtype=torch.float64), dtype="float64", tokenizer=tiny_tokenizer(), backend=backend
    )
    return hf, model


@pytest.mark.parametrize("mode", ["reverse", "forward", "auto"])
def test_every_architecture_and_backend_equals_the_hugging_face_loop(loaded, mode):
    hf, model = loaded
    found = attribute(model, PROMPT, RESPONSE, mode=mode, batch_size=5)
    encoded = encode(source_of(model).tokenizer, PROMPT, RESPONSE)
    expected = per_token_scores(hf, list(encoded.front), list(encoded.prompt_ids), list(encoded.response_ids))
    assert np.abs(expected).max() > 1e-6
    close_to(found.score, expected)


@pytest.fixture(scope="module")
def llama():
    return tiny_hf_model("llama", dtype=torch.float64), load_model(
        tiny_hf_model("llama", dtype=torch.float64), dtype="float64", tokenizer=tiny_tokenizer()
    )


@pytest.mark.parametrize("objective", ["prob", "logprob", "logit", "contrastive"])
@pytest.mark.parametrize("method", ["input_x_gradient", "saliency"])
def test_objectives_and_methods_equal_the_hugging_face_loop(llama, objective, method):
    hf, model = llama
    found = attribute(model, PROMPT, RESPONSE, method=method, objective=objective)
    encoded = encode(source_of(model).tokenizer, PROMPT, RESPONSE)
    parts = list(encoded.front), list(encoded.prompt_ids), list(encoded.response_ids)
    expected = per_token_scores(hf, *parts, objective, "saliency" if method == "saliency" else "ixg")
    close_to(found.score, expected)


def test_finite_differences(llama):
    _, model = llama
    found = attribute(model, PROMPT, RESPONSE)
    encoded = encode(source_of(model).tokenizer, PROMPT, RESPONSE)
    front, count = len(encoded.front), len(encoded.prompt_ids)
    positions = torch.arange(len(encoded.response_ids)) + front + count - 1
    targets = torch.tensor(encoded.response_ids)
    task = Task(model, torch.tensor(encoded.ids[:-1]), slice(front, front + count), positions, lambda logits, _: logits)
    embeddings, step = read_embeddings(task), 1e-5

    def objectives(point):
        with torch.no_grad():
            return torch.softmax(target_logits(task, point), -1).gather(1, targets[:, None])[:, 0]

    numeric = np.zeros(found.score.shape)
    for n in range(count):
        more, less = embeddings.clone(), embeddings.clone()
        more[front + n] *= 1 + step
        less[front + n] *= 1 - step
        numeric[n] = ((objectives(more) - objectives(less)) / (2 * step)).numpy()
    np.testing.assert_allclose(found.score, numeric, atol=1e-6 * np.abs(numeric).max())
    np.testing.assert_allclose(found.objective, objectives(embeddings), rtol=1e-12)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_integrated_gradients_sum_to_the_change_of_the_objective(mode):
    """GPT-2's learned positions keep its LayerNorm smooth down to empty embeddings, so the sum rule must hold."""
    model = load_model(tiny_hf_model("gpt2", dtype=torch.float64), dtype="float64", tokenizer=tiny_tokenizer())
    found = attribute(
        model, "cat and dog", " sleep", method="integrated_gradients", objective="logit", steps=40, mode=mode
    )
    encoded = encode(source_of(model).tokenizer, "cat and dog", " sleep")
    front, count = len(encoded.front), len(encoded.prompt_ids)
    with torch.no_grad():
        tokens = torch.tensor([encoded.ids])

        def empty(value, hook):
            value[:, front : front + count] = 0
            return value

        rows = slice(front + count - 1, -1)
        full = model(tokens)[0, rows]
        none = model.run_with_hooks(tokens, fwd_hooks=[("hook_embed", empty)])[0, rows]
    picks = torch.tensor(encoded.response_ids)[:, None]
    np.testing.assert_allclose(found.score.sum("source"), (full - none).gather(1, picks)[:, 0], rtol=1e-3, atol=1e-3)
    assert found.attrs["completeness_error"] < 1e-3


def test_a_model_computed_by_hand():
    """One head that averages all positions and copies; no norms, no MLP, no positions.

    The residual stream at the last position is e_last + mean(e). With e_a = (1, 0), e_b = (0, 2) and W_U mapping to the
    three logits (r0, r1, 0), the prompt "a b" gives r = (0, 2) + (0.5, 1) = (0.5, 3), so
    p = softmax(0.5, 3, 0) = (0.07249, 0.88354, 0.04397) up to rounding. For target 1:
    dp1/dr = (-p0 p1, p1 (1 - p1)); d r / d e_a = 1/2, d r / d e_b = 3/2, so
    score(a) = -p0 p1 * 1/2 * 1 and score(b) = p1 (1 - p1) * 3/2 * 2.
    """
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    config = HookedTransformerConfig(
        n_layers=1,
        d_model=2,
        d_head=2,
        n_heads=1,
        d_vocab=3,
        n_ctx=8,
        attn_only=True,
        normalization_type=None,
        act_fn="relu",
        dtype=torch.float64,
        positional_embedding_type="rotary",
        rotary_dim=2,
        device="cpu",
    )
    model = HookedTransformer(config)
    for parameter in model.parameters():
        parameter.data.zero_()
    model.W_E.data = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    model.W_U.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    model.blocks[0].attn.W_V.data[0] = torch.eye(2, dtype=torch.float64)
    model.blocks[0].attn.W_O.data[0] = torch.eye(2, dtype=torch.float64)
    task = Task(
        model,
        torch.tensor([0, 1]),
        slice(0, 2),
        torch.tensor([1]),
        lambda logits, _: torch.softmax(logits, -1)[:, 1],
    )
    weights = np.exp([0.5, 3.0, 0.0])
    p0, p1, _ = weights / weights.sum()
    for mode in ("reverse", "forward"):
        scores, objectives = scores_of(task, "input_x_gradient", mode, None, 1, None, "the prompt")
        np.testing.assert_allclose(scores[:, 0], [-p0 * p1 * 0.5, p1 * (1 - p1) * 3], rtol=1e-12)
        np.testing.assert_allclose(objectives, [p1], rtol=1e-12)


def test_batch_size_and_mode_do_not_change_scores(llama):
    _, model = llama
    whole = attribute(model, PROMPT, RESPONSE, batch_size=64)
    for options in ({"batch_size": 1}, {"batch_size": 4}, {"mode": "forward", "batch_size": 7}, {"mode": "reverse"}):
        np.testing.assert_allclose(attribute(model, PROMPT, RESPONSE, **options).score, whole.score, rtol=1e-9)


def test_auto_takes_the_cheaper_mode(llama):
    _, model = llama
    assert attribute(model, PROMPT, " Yes").attrs["mode"] == "reverse"
    assert attribute(model, "Cat", " and the dog sleeps by the river").attrs["mode"] == "forward"
    assert attribute(model, "Cat", " and the dog sleeps", method="saliency").attrs["mode"] == "reverse"


def test_labels_are_characters_of_prompt_and_response(llama):
    _, model = llama
    found = attribute(model, itlens.Prompt(PROMPT, id="p7", group="translation"), RESPONSE)
    assert found.attrs["prompt_text"] == PROMPT
    assert found.attrs["response_text"] == RESPONSE
    assert found.attrs["prompt_id"] == "p7"
    assert found.attrs["prompt_group"] == "translation"
    pieces = [PROMPT[a:b] for a, b in zip(found.source_start.values, found.source_stop.values, strict=True)]
    assert pieces == list(found.source_token.values)
    assert "".join(pieces) == PROMPT
    pieces = [RESPONSE[a:b] for a, b in zip(found.target_start.values, found.target_stop.values, strict=True)]
    assert pieces == list(found.target_token.values)
    assert "".join(pieces) == RESPONSE
    assert found.attrs["finish"] == "given"


def test_bos_is_fed_but_gets_no_row(llama):
    _, model = llama
    with_bos, without = attribute(model, PROMPT, RESPONSE), attribute(model, PROMPT, RESPONSE, prepend_bos=False)
    assert with_bos.attrs["front_tokens"] == 1
    assert without.attrs["front_tokens"] == 0
    assert with_bos.sizes == without.sizes
    assert float(abs(with_bos.score - without.score).max()) > 1e-6


def test_generated_response_is_greedy_and_its_attribution_that_of_the_same_ids(loaded):
    hf, model = loaded
    found = attribute(model, PROMPT, max_new_tokens=9)
    ids = list(encode(source_of(model).tokenizer, PROMPT).ids)
    prompt = len(ids)
    for token in found.target_id.values:
        assert int(hf(torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(int(token))
    expected = per_token_scores(hf, ids[:1], ids[1:prompt], ids[prompt:])
    close_to(found.score, expected)
    assert found.attrs["response_source"] == "generated"
    assert found.attrs["finish"] == "length"


def test_generation_stops_at_eos_and_an_empty_response_has_no_targets():
    hf = tiny_hf_model("llama", dtype=torch.float64)
    with torch.no_grad():  # </s> wins everywhere
        hf.lm_head.weight[2] = 0
        hf.model.norm.weight.zero_()
        hf.lm_head.weight.zero_()
    model = load_model(hf, dtype="float64", tokenizer=tiny_tokenizer())
    model.unembed.b_U.data[2] = 5.0
    found = attribute(model, PROMPT)
    assert found.sizes["target"] == 0
    assert found.attrs["finish"] == "empty"
    assert attribute(model, PROMPT, "").sizes["target"] == 0


def test_parameters_that_require_gradients_are_left_as_they_were(llama):
    _, model = llama
    model.W_E.requires_grad_(True)
    attribute(model, PROMPT, " Yes")
    assert model.W_E.requires_grad
    assert model.W_E.grad is None
    model.W_E.requires_grad_(False)


def test_contrast_with_a_named_token(llama):
    hf, model = llama
    tokenizer = source_of(model).tokenizer
    other = tokenizer("Z", add_special_tokens=False)["input_ids"][0]
    encoded = encode(tokenizer, PROMPT, RESPONSE)
    parts = list(encoded.front), list(encoded.prompt_ids), list(encoded.response_ids)
    target_part = per_token_scores(hf, *parts, "logit")
    other_part = np.zeros_like(target_part)
    for m in range(len(parts[2])):
        seen = [*parts[0], *parts[1], *parts[2][:m]]
        other_part[:, m] = per_token_scores(hf, parts[0], seen[len(parts[0]) :], [other], "logit")[: len(parts[1]), 0]
    close_to(attribute(model, PROMPT, RESPONSE, objective="contrastive", contrast="Z").score, target_part - other_part)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method='magic' is unknown; expected one of input_x_gradient"),
        ({"objective": "loss"}, "objective='loss' is unknown; expected one of prob"),
        ({"mode": "sideways"}, "mode='sideways' is unknown"),
        ({"batch_size": 0}, "batch_size=0; expected at least 1"),
        ({"method": "saliency", "mode": "forward"}, "saliency needs whole gradients"),
        ({"objective": "contrastive", "contrast": "two tokens"}, "tokens; give one token"),
        ({"objective": "contrastive", "contrast": [3, 4]}, "has 2 tokens; expected one, or one for each"),
    ],
)
def test_wrong_options(llama, options, message):
    with pytest.raises(itlens.ProbeError, match=message):
        attribute(llama[1], PROMPT, RESPONSE, **options)


def test_a_prompt_longer_than_the_context(llama):
    with pytest.raises(itlens.PromptError, match=r"prompt 'long' is \d+ tokens long .* reads at most 256"):
        attribute(llama[1], itlens.Prompt("word " * 200, id="long"), " yes")


def test_a_response_may_end_exactly_at_the_context(llama):
    _, model = llama
    found = attribute(model, "a" * 40, max_new_tokens=10_000)
    assert found.attrs["front_tokens"] + found.sizes["source"] + found.sizes["target"] == 256


def test_numbers_that_are_not_finite_name_the_layer(llama):
    _, model = llama
    kept = model.blocks[1].attn.W_O.data.clone()
    model.blocks[1].attn.W_O.data[0, 0, 0] = float("inf")
    try:
        with pytest.raises(itlens.ProbeError, match="Activations of layer 1 are not finite on prompt 'p'"):
            attribute(model, itlens.Prompt(PROMPT, id="p"), RESPONSE)
    finally:
        model.blocks[1].attn.W_O.data = kept


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_small_probabilities_keep_their_scores_in_float16(mode):
    """Gradients of probabilities under 1e-8 are zeros in float16 unless their size is carried apart."""
    hf = tiny_hf_model("llama")
    with torch.no_grad():
        hf.lm_head.weight *= 4
    single = load_model(hf, tokenizer=tiny_tokenizer())
    half = load_model(hf.half(), dtype="float16", tokenizer=tiny_tokenizer(), check=False)
    expected, found = (attribute(model, PROMPT, RESPONSE, mode=mode) for model in (single, half))
    assert float(expected.objective.min()) < 1e-12
    largest = np.abs(expected.score).max("source")
    # a logit is off by 1e-3, so a probability and its scores by a factor; directions are compared
    for one, other in zip(
        (expected.score / largest).T, (found.score / np.abs(found.score).max("source")).T, strict=True
    ):
        assert float(abs(one - other).max()) < 0.15


def test_a_prompt_that_fills_the_context_leaves_no_room_for_a_response(llama):
    _, model = llama
    full = "a" * 255  # and BOS
    with pytest.raises(itlens.PromptError, match=r"prompt 'full' is 256 tokens long, .* no room for a response"):
        attribute(model, itlens.Prompt(full, id="full"), max_new_tokens=3)
    assert attribute(model, full, "b").sizes["target"] == 1
    assert attribute(model, full[1:], max_new_tokens=3).sizes["target"] == 1


def test_a_contrast_is_a_token_or_any_whole_number_and_only_for_its_objective(llama):
    _, model = llama
    with pytest.raises(itlens.ProbeError, match=r'contrast= is for objective="contrastive"'):
        attribute(model, PROMPT, " Yes", contrast="Z")
    plain, numpys = (
        attribute(model, PROMPT, RESPONSE, objective="contrastive", contrast=token) for token in (5, np.int64(5))
    )
    np.testing.assert_array_equal(plain.score, numpys.score)


def test_a_text_gets_an_id_of_its_own_the_same_for_every_model(llama):
    _, model = llama
    first, again, other = (attribute(model, text, " Yes") for text in (PROMPT, itlens.Prompt(PROMPT), "Another one."))
    assert first.attrs["prompt_id"] == again.attrs["prompt_id"]
    assert first.attrs["prompt_id"] != other.attrs["prompt_id"]


def test_results_of_plain_texts_can_be_compared(llama):
    """By ids that are made of the texts, for results and for prompts; a mapping's own keys win over them."""
    _, model = llama
    texts = [f"Translate: the {word} sleeps." for word in ("cat", "dog", "man", "mouse", "fox")]
    results = [attribute(model, text, " Yes", progress=False) for text in texts]
    prompts = [itlens.Prompt(text, instruction="Translate:") for text in texts]
    diff = itlens.diff.attributions(results, results, prompts, resamples=100)
    assert diff.prompts["id"].tolist() == [result.attrs["prompt_id"] for result in results]
    named = {f"n{number}": result for number, result in enumerate(results)}
    prompts = [prompt.replace(id=f"n{number}") for number, prompt in enumerate(prompts)]
    assert itlens.diff.attributions(named, named, prompts, resamples=100).prompts["id"].tolist() == list(named)


def test_a_format_wraps_the_prompt_and_moves_its_spans(llama):
    _, model = llama
    prompt = itlens.Prompt("Say yes.", instruction="Say", id="p")
    wrapped = attribute(model, prompt, " Yes", format="User: {prompt} Bot:")
    assert wrapped.attrs["prompt_text"] == "User: Say yes. Bot:"
    (formatted,) = itlens.format_prompts([prompt], "User: {prompt} Bot:")
    np.testing.assert_array_equal(wrapped.score, attribute(model, formatted, " Yes").score)
    assert itlens.span_mask(wrapped, formatted).any()
    with pytest.raises(itlens.PromptError, match=r"has no chat template; use format="):
        attribute(model, prompt, " Yes", format="chat")
    chatty = tiny_tokenizer(chat_template=TEMPLATES["chatml"])
    chat = attribute(model, prompt, " Yes", format="chat", tokenizer=chatty)
    assert "Say yes." in chat.attrs["prompt_text"]
    assert chat.attrs["prompt_text"] != "Say yes."


def test_a_response_that_was_generated_is_read_again_to_the_same_ids(llama):
    _, model = llama
    own = attribute(model, PROMPT, max_new_tokens=6)
    ids = [int(id) for id in own["target_id"].values]
    again = attribute(model, PROMPT, ids)
    assert again["target_id"].values.tolist() == ids
    np.testing.assert_array_equal(again.score, own.score)
    kept = Response(tuple(ids), own.attrs["response_text"], "length", "generated")
    with_finish = attribute(model, PROMPT, kept)
    assert with_finish.attrs["finish"] == "length"
    assert with_finish.attrs["response_source"] == "generated"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("gpt2", r"attribute got 'gpt2' as the model; expected a loaded model: itlens\.load_model\('gpt2'\)"),
        (3, r"attribute got a int as the model; expected a loaded model"),
    ],
)
def test_what_is_no_loaded_model_is_refused(model, message):
    with pytest.raises(itlens.ModelError, match=message):
        attribute(model, "hi")
