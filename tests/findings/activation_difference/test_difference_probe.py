"""Activation difference on models: numbers by hand, nothing between equal models, a planted direction, passes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens import ProbeError, PromptError
from itlens.findings.activation_difference import probe_dial
from itlens.findings.activation_difference.probe import energy_shares
from itlens.findings.activation_difference.probe_words import IDENTITY, DirectionWords, instruction_ids
from itlens.hooked.hooks import attached
from itlens.models import ModelPair
from itlens.prompts import Prompt
from itlens.tokenization import encode
from tests.findings.divergence.two_blocks import BEGIN, two_block_model
from tests.findings.patching.patch_pairs import llama, pair_of
from tests.findings.token_shift.chains import TOKENIZER, WIDTH, pair_of_chains

A_BASE, A_TUNED, B = 1.0, 3.0, 2.0
SIZE = 300  # embeddings; the tokenizer knows 259 of them
TEXTS = [f"The {noun} by the river is {adjective} today." for noun in ("house", "dog", "fox") for adjective in (
    "white", "small", "old", "cold", "quick", "lazy", "brown")]  # fmt: skip


def two_blocks(backend: str = "hooked", b: float = B) -> ModelPair:
    return pair_of_chains(two_block_model(A_BASE, b), two_block_model(A_TUNED, b), backend=backend)


@pytest.mark.parametrize("backend", ["hooked", "bridge"])
def test_every_number_by_hand(backend: str) -> None:
    """Before block 1 a stream is 4 in dimension 0 and a in dimension 1: the difference is 2 in dimension 1."""
    ad = itlens.activation_difference(two_blocks(backend), TEXTS, layer=1, positions=3, draws=4, progress=False)
    expected = np.zeros((3, WIDTH))
    expected[:, 1] = A_TUNED - A_BASE
    np.testing.assert_allclose(ad["difference"], expected, atol=1e-6)
    np.testing.assert_allclose(ad["norm"], 2.0, rtol=1e-6)
    np.testing.assert_allclose(ad["constant_norm"], 2.0, rtol=1e-6)
    np.testing.assert_allclose(ad["text_norm"], 2.0, rtol=1e-6)
    np.testing.assert_allclose(ad["base_norm"], math.hypot(BEGIN, A_BASE), rtol=1e-6)
    np.testing.assert_allclose(ad["half_cosine"], 1.0, rtol=1e-6)
    np.testing.assert_allclose(ad["half_norm"], 0.0, atol=1e-5)
    np.testing.assert_allclose(ad["spectrum"][:2], [1, 0], atol=1e-6)
    known = np.isfinite(ad["base_projection"].values)
    assert known.sum(axis=0).tolist() == [11] * 4, "the half of 21 texts that did not choose the direction"
    np.testing.assert_allclose(ad["base_projection"].values[known], A_BASE, rtol=1e-6)
    np.testing.assert_allclose(ad["tuned_projection"].values[known], A_TUNED, rtol=1e-6)


def test_the_words_of_the_direction_by_hand() -> None:
    """W_U of "T" is 1 in dimensions 1 and 2: its logit is sqrt(32) times the direction's share of them."""
    ad = itlens.activation_difference(two_blocks(), TEXTS, layer=1, positions=3, draws=4, progress=False)
    for lens in ("base", "tuned"):
        assert ad["word"].sel(lens=lens, direction="mean").values[0] == "T"
        assert float(ad["score"].sel(lens=lens, direction="mean")[0]) == pytest.approx(math.sqrt(WIDTH), rel=1e-5)
    # the identity prompt: 5 in dimension 1 at its last token, whose own stream (4, 3) is that long
    count = len(encode(TOKENIZER, IDENTITY).ids)
    third = B * (count - 1) / count * BEGIN / math.hypot(BEGIN, A_TUNED)
    logit = math.sqrt(WIDTH) * (5 + third) / math.hypot(5, third)
    p = math.exp(logit) / (math.exp(logit) + SIZE - 1)
    patched = ad.sel(lens="patchscope", direction="mean")
    assert patched["word"].values[0] == "T"
    assert float(patched["score"][0]) == pytest.approx(p, rel=1e-4)


def test_halves_are_read_with_both_signs(pair: ModelPair) -> None:
    """Each is followed by its opposite, so that the patchscope, which reads the first of them, has both as well."""
    halves = np.random.default_rng(0).standard_normal((3, WIDTH))
    words = DirectionWords.of({"mean": halves[0]}, halves, draws=2, top=1, seed=0)
    assert words.halves == 6
    np.testing.assert_array_equal(words.vectors[3:], [row for half in halves for row in (half, -half)])


def test_nothing_differs_before_the_first_block() -> None:
    ad = itlens.activation_difference(two_blocks(), TEXTS, layer=0, positions=2, draws=2, progress=False)
    assert (ad["difference"].values == 0).all()


@pytest.fixture(scope="module")
def pair() -> ModelPair:
    return pair_of(llama(0), llama(1))


def test_equal_models_show_exactly_nothing() -> None:
    same = pair_of(llama(0), llama(0), dtype="float32")
    ad = itlens.activation_difference(same, TEXTS, positions=3, draws=3, progress=False)
    for name in ("difference", "norm", "text_norm", "spectrum", "half_cosine"):
        assert (ad[name].values == 0).all(), name
    np.testing.assert_array_equal(ad["base_projection"], ad["tuned_projection"])
    assert (ad["word"].values == "").all()
    places = itlens.diff.difference_places(ad)
    assert (places[["difference", "ci_low", "ci_high"]] == 0).all(axis=None)
    assert (places["p_paired"] == 1).all()
    dial = itlens.difference_dial(same, ad, ["Say it.", "List it."], 3, draws=1, progress=False)
    assert (dial["kl"].values == 0).all()
    assert np.ptp(dial["logprob"].values, axis=(1, 2, 3)).max() == 0, "nothing is added, whatever the strength"


def test_it_is_the_mean_over_texts_of_both_models_streams(pair: ModelPair) -> None:
    ad = itlens.activation_difference(pair, TEXTS, layer=1, positions=4, draws=2, progress=False)
    total = np.zeros((4, WIDTH))
    for text in TEXTS:
        ids = encode(itlens.models.source_of(pair.base).tokenizer, text).ids
        streams = []
        for model in (pair.base, pair.tuned):
            kept: list[torch.Tensor] = []
            hook = ("blocks.1.hook_resid_pre", lambda value, hook, kept=kept: kept.append(value))
            model.run_with_hooks(torch.tensor([ids]), fwd_hooks=[hook])
            streams.append(kept[0][0, 1:5].detach().numpy())  # behind BOS
        total += streams[1] - streams[0]
    np.testing.assert_allclose(ad["difference"], total / len(TEXTS), atol=1e-9)


def test_both_backends_agree(pair: ModelPair) -> None:
    bridged = pair_of(llama(0), llama(1), backend="bridge")
    one, other = (
        itlens.activation_difference(each, TEXTS, positions=3, draws=5, progress=False) for each in (pair, bridged)
    )
    for name in ("difference", "tuned_projection", "spectrum", "score"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert one["word"].values.tolist() == other["word"].values.tolist()
    dials = [
        itlens.difference_dial(each, one, ["Say it.", "List it."], 3, draws=1, progress=False)
        for each in (pair, bridged)
    ]
    np.testing.assert_allclose(*(dial["kl"] for dial in dials), rtol=1e-4, atol=1e-6)


def test_a_planted_direction_is_found() -> None:
    """The tuned model's embeddings all carry one vector more: that is what differs, and all that does."""
    base, tuned = llama(0), llama(0)
    planted = 0.2 * np.random.default_rng(0).standard_normal(WIDTH)
    with torch.no_grad():
        tuned.model.embed_tokens.weight += torch.from_numpy(planted)
    both = pair_of(base, tuned)
    ad = itlens.activation_difference(both, TEXTS, layer=0, positions=3, draws=2, progress=False)
    np.testing.assert_allclose(ad["difference"], np.tile(planted, (3, 1)), atol=1e-6)
    assert float(ad["spectrum"][0]) > 0.999
    later = itlens.activation_difference(both, TEXTS, layer=1, positions=3, draws=2, progress=False)
    places = itlens.diff.difference_places(later)
    assert places["half_cosine"][0] > 0.9
    assert places["p_paired"][0] < 1e-6


def test_the_dial_moves_the_base_to_the_tuned_model_by_hand() -> None:
    """With b = 0 the models differ in dimension 1 alone: the base with the difference added IS the tuned model."""
    both = two_blocks(b=0.0)
    ad = itlens.activation_difference(both, TEXTS, layer=1, positions=3, draws=2, progress=False)
    prompts = [Prompt("Say", response="T", id="t"), Prompt("Say", response="B", id="b")]
    dial = itlens.difference_dial(
        both, ad, prompts, strengths=(0.5, 1), draws=2, responses="given", progress=False
    ).sel(direction="difference")

    def logprob(letter: str, a: float) -> float:
        size = math.hypot(BEGIN, a) / math.sqrt(WIDTH)
        logits = {"T": a / size, "B": BEGIN / size}
        return logits[letter] - math.log(sum(math.exp(value) for value in logits.values()) + SIZE - 2)

    for prompt, letter in (("t", "T"), ("b", "B")):
        expected = [logprob(letter, a) for a in (1, 2, 3)]
        np.testing.assert_allclose(dial["logprob"].sel(prompt=prompt, model="base"), expected, rtol=1e-5)
        np.testing.assert_allclose(dial["logprob"].sel(prompt=prompt, model="tuned"), expected[::-1], rtol=1e-5)
    for model in ("base", "tuned"):
        assert float(dial["kl"].sel(prompt="t", model=model, strength=1)) < 1e-6
        assert float(dial["kl"].sel(prompt="t", model=model, strength=0)) > 0.1


def test_the_score_under_the_dial_is_that_of_the_attributions(pair: ModelPair) -> None:
    """The vector is added by a hook of the caller, and the model attributed as anybody would."""
    ad = itlens.activation_difference(pair, TEXTS[:6], layer=1, positions=3, draws=1, progress=False)
    prompts = [
        Prompt("Say it: the dog", response=" big", id="none"),
        Prompt("Say it: the dog", instruction="it: the", response=" big", id="one"),
        Prompt("Say it: the dog", instruction="dog", response=" big", id="two"),
    ]
    dial = itlens.difference_dial(
        pair, ad, prompts, strengths=[1], draws=1, scores=1, responses="given", progress=False
    )  # fmt: skip
    assert np.isfinite(dial["score"].values).all(axis=(1, 2, 3)).tolist() == [False, True, False]
    delta = torch.from_numpy(ad["difference"].values[int(ad.attrs["first"]) :].mean(axis=0))
    for side, sign in (("base", 1), ("tuned", -1)):

        def add(value: torch.Tensor, hook: Any, sign: int = sign) -> torch.Tensor:
            mask = torch.arange(value.shape[1])[:, None] > 0
            return value + sign * mask * delta.to(value)

        model = getattr(pair, side)
        plain = itlens.attribute(model, prompts[1], progress=False)
        with attached(model, [("blocks.1.hook_resid_pre", add)]):
            dialled = itlens.attribute(model, prompts[1], progress=False)
        assert float(np.abs(plain["score"] - dialled["score"]).max()) > 1e-6
        for strength, scores in ((0, plain), (1, dialled)):
            expected = itlens.span_score(itlens.importance_density(scores), itlens.span_mask(scores, prompts[1]))
            got = dial["score"].sel(prompt="one", model=side, direction="difference", strength=strength)
            assert float(got) == pytest.approx(float(expected), abs=1e-6)


def test_the_dial_runs_in_the_parts_that_memory_holds(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven runs (plain, and three strengths of two directions), at most three at a time."""
    ad = itlens.activation_difference(pair, TEXTS[:6], positions=3, draws=1, progress=False)
    given: Any = {"max_new_tokens": 3, "draws": 1, "progress": False}
    together = itlens.difference_dial(pair, ad, ["Say it.", "List it."], **given)
    rows: list[int] = []
    for model in (pair.base, pair.tuned):
        model.hook_dict["blocks.1.hook_resid_post"].add_perma_hook(lambda value, hook: rows.append(len(value)))
    monkeypatch.setattr(probe_dial, "rows_at_a_time", lambda model, length: 3)
    try:
        apart = itlens.difference_dial(pair, ad, ["Say it.", "List it."], **given)
    finally:
        for model in (pair.base, pair.tuned):
            model.reset_hooks(including_permanent=True)
    assert max(rows) == 3
    assert rows.count(3) == 8, "two full parts of each prompt under each model"
    for name in ("logprob", "kl"):
        np.testing.assert_allclose(apart[name], together[name], atol=1e-9, err_msg=name)


def test_passes_are_counted(pair: ModelPair) -> None:
    """In plain forward passes of all texts: tokens that go through blocks, of those that whole texts would."""
    texts = itlens.load_texts(limit=60)
    tokenizer = itlens.models.source_of(pair.base).tokenizer
    one_pass = 2 * sum(len(encode(tokenizer, text).ids) for text in texts)  # two blocks
    read: list[int] = []
    for model in (pair.base, pair.tuned):
        for layer in (0, 1):
            hook: Any = model.hook_dict[f"blocks.{layer}.hook_mlp_out"]
            hook.add_perma_hook(lambda value, hook: read.append(value.shape[0] * value.shape[1]))
    try:
        itlens.activation_difference(pair, texts, progress=False)
    finally:
        for model in (pair.base, pair.tuned):
            model.reset_hooks(including_permanent=True)
    assert 0.1 < sum(read) / one_pass < 2.3


def test_short_texts_are_left_out_and_counted(pair: ModelPair) -> None:
    ad = itlens.activation_difference(pair, [*TEXTS, "A", "B"], positions=4, draws=1, progress=False)
    assert ad.sizes["text"] == len(TEXTS)
    assert ad.attrs["note"] == ("2 of 23 texts are left out, since they have fewer than 4 tokens: text-0022, text-0023")
    with pytest.raises(PromptError, match=r"None of 2 texts has the 4 tokens that are requested \(the longest has 1\)"):
        itlens.activation_difference(pair, ["A", "B"], positions=4)


def test_wrong_input_is_one_sentence(pair: ModelPair) -> None:
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"texts": []}, PromptError, "There are no texts"),
        ({"texts": ["", "a"]}, PromptError, "'text-0001' is empty"),
        ({"texts": "no/such.txt"}, PromptError, "is no file"),
        ({"texts": [3]}, PromptError, "texts holds a int"),
        ({"layer": 2}, ProbeError, "the model has layers 0 to 1"),
        ({"positions": 0}, ProbeError, "positions=0"),
    ]
    for changes, kind, said in cases:
        with pytest.raises(kind, match=said) as caught:
            itlens.activation_difference(pair, **{"texts": TEXTS, **changes})
        assert "\n" not in str(caught.value)


def test_wrong_dials_are_one_sentence(pair: ModelPair) -> None:
    ad = itlens.activation_difference(pair, TEXTS[:4], positions=2, draws=1, progress=False)
    with pytest.raises(ProbeError, match=r"strengths=\[0\]; expected finite numbers above 0"):
        itlens.difference_dial(pair, ad, ["Say it."], strengths=[0])
    with pytest.raises(ProbeError, match=r"takes a Dataset of itlens\.activation_difference; got another kind"):
        itlens.difference_dial(pair, ad.drop_attrs(), ["Say it."])
    wide = ad.isel(d_model=slice(0, 8))
    with pytest.raises(ProbeError, match="8 dimensions before block 1, which this pair does not have"):
        itlens.difference_dial(pair, wide, ["Say it."])


def test_instruction_words_are_whole_tokens() -> None:
    """A tokenizer of bytes has none; no share can be read then."""
    assert instruction_ids(TOKENIZER, 259) == []
    ad = itlens.activation_difference(two_blocks(), TEXTS, layer=1, positions=2, draws=2, progress=False)
    assert np.isnan(ad["instruction_share"].values).all()


def test_energy_is_shared_by_singular_values() -> None:
    rows = np.array([[3.0, 0, 0], [0, 4.0, 0]])
    np.testing.assert_allclose(energy_shares(rows), [16 / 25, 9 / 25])
    np.testing.assert_allclose(energy_shares(rows.T), [16 / 25, 9 / 25])
    assert (energy_shares(0 * rows) == 0).all()
