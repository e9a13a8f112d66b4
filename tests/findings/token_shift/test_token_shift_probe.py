"""Token shift on models: numbers by hand, a dense reference, nothing between equal models, a planted token, passes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens.errors import PairError, ProbeError, PromptError
from itlens.findings.token_shift.probe_kinds import token_kinds
from itlens.models import ModelPair
from itlens.prompts import Prompt
from tests.findings.patching.patch_pairs import PROMPTS, llama, pair_of
from tests.findings.token_shift.chains import END, chain, id_of, pair_of_chains
from tests.tiny import BACKENDS, tiny_tokenizer

# the tuned model answers "de" and ends; the base would say "a", then "e", then "x"
BASE = {"": {"a": 0.5, "b": 0.25, "c": 0.15, "d": 0.1}, "d": {"e": 0.8, "a": 0.2}, "e": {"x": 0.6, ".": 0.3, "a": 0.1}}
TUNED = {
    "": {"d": 0.7, "a": 0.2, "b": 0.05, "c": 0.05},
    "d": {"e": 0.8, "a": 0.2},
    "e": {".": 0.9, "x": 0.06, "a": 0.04},
}
FIRST_KL = 0.7 * math.log(7) + 0.2 * math.log(0.4) + 0.05 * math.log(0.2) + 0.05 * math.log(1 / 3)
LAST_KL = 0.9 * math.log(3) + 0.06 * math.log(0.1) + 0.04 * math.log(0.4)
GIVEN = [prompt.replace(response=prompt.response * 2) for prompt in PROMPTS]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_number_by_hand(backend: str) -> None:
    pair = pair_of_chains(chain(BASE), chain(TUNED), backend=backend)
    shift = itlens.token_shift(pair, [Prompt("Q:", id="q", group="g")], 8, progress=False)
    assert shift["token"].values.tolist() == [["d", "e", "</s>"]]
    assert shift["token_id"].values.tolist() == [[id_of("d"), id_of("e"), END]]
    assert shift["kind"].values.tolist() == [["content word", "content word", "end of text"]]
    assert shift["rank"].values.tolist() == [[4, 1, 2]]
    assert shift["rank_tuned"].values.tolist() == [[1, 1, 1]]
    np.testing.assert_allclose(shift["p_base"], [[0.1, 0.8, 0.3]], rtol=1e-6)
    np.testing.assert_allclose(shift["p_tuned"], [[0.7, 0.8, 0.9]], rtol=1e-6)
    np.testing.assert_allclose(shift["kl"], [[FIRST_KL, 0, LAST_KL]], atol=1e-6)
    assert shift["base_top"].values[0, 0, :4].tolist() == ["a", "b", "c", "d"]
    np.testing.assert_allclose(shift["base_top_p"][0, 0, :4], [0.5, 0.25, 0.15, 0.1], rtol=1e-6)
    assert (shift["length"].item(), shift["finish"].item(), shift["response_text"].item()) == (3, "eos", "de")


def test_a_shorter_response_ends_in_numbers_that_do_not_exist() -> None:
    pair = pair_of_chains(chain(BASE), chain(TUNED))
    shift = itlens.token_shift(pair, [Prompt("Q:", id="long"), Prompt("Qd", id="short")], 8, progress=False)
    assert shift["length"].values.tolist() == [3, 2]
    assert np.isnan(shift["kl"].values[1, 2])
    assert (shift["token"].values[1, 2], shift["token_id"].values[1, 2]) == ("", -1)


@pytest.fixture(scope="module")
def pair() -> ModelPair:
    return pair_of(llama(0), llama(1))


def dense(model: Any, one: Any) -> torch.Tensor:
    """Log-probabilities (target, d_vocab) of the whole vocabulary."""
    with torch.no_grad():
        logits = model(torch.tensor([one.read]))[0, list(one.positions)]
    return torch.log_softmax(logits, dim=-1)


def test_it_is_the_dense_computation(pair: ModelPair) -> None:
    from itlens.hooked.tokens import forced

    shift = itlens.token_shift(pair, GIVEN, responses="given", progress=False)
    for number, one in enumerate(forced(pair.base, GIVEN)):
        base, tuned = dense(pair.base, one), dense(pair.tuned, one)
        ids = torch.tensor(one.targets)[:, None]
        own = base.gather(1, ids)
        row = shift.isel(prompt=number, position=slice(0, len(one.targets)))
        np.testing.assert_array_equal(row["rank"], 1 + (base > own).sum(1))
        np.testing.assert_allclose(row["p_base"], own[:, 0].exp(), rtol=1e-7)
        np.testing.assert_allclose(row["kl"], (tuned.exp() * (tuned - base)).sum(1), rtol=1e-7)
        np.testing.assert_allclose(row["base_top_p"], base.topk(5).values.exp(), rtol=1e-7)


def test_both_backends_agree(pair: ModelPair) -> None:
    bridged = pair_of(llama(0), llama(1), backend="bridge")
    one, other = (itlens.token_shift(each, GIVEN[:2], responses="given", progress=False) for each in (pair, bridged))
    np.testing.assert_array_equal(one["rank"], other["rank"])
    np.testing.assert_allclose(one["kl"], other["kl"], rtol=1e-5)
    assert one["base_top"].values.tolist() == other["base_top"].values.tolist()


def test_equal_models_show_exactly_nothing() -> None:
    shift = itlens.token_shift(pair_of(llama(0), llama(0), dtype="float32"), PROMPTS, 6, progress=False)
    known = np.isfinite(shift["rank"].values)
    assert known.sum() > 20
    assert (shift["kl"].values[known] == 0).all()
    np.testing.assert_array_equal(shift["rank"], shift["rank_tuned"])
    np.testing.assert_array_equal(shift["p_base"], shift["p_tuned"])
    tests = itlens.diff.token_shift_tests(shift)
    assert (tests.loc[tests["group"] == "all", ["difference", "ci_low", "ci_high"]] == 0).all(axis=None)
    assert (tests.loc[tests["group"] == "all", "p_paired"] == 1).all()


def test_a_planted_token_is_found_and_no_other() -> None:
    """W_U of the tuned model gives "z" more in every row: wherever it now wins, the base would have written another."""
    rng = np.random.default_rng(0)
    letters = "abcdefghijklmnopz"
    drawn = {letter: rng.dirichlet(np.full(len(letters), 0.3)) + 1e-3 for letter in ["", *letters]}
    base = {letter: dict(zip(letters, p / p.sum(), strict=True)) for letter, p in drawn.items()}
    for following in base.values():
        following["z"] = 0.02  # seldom and never the first choice
    tuned = {letter: following | {"z": 0.02 * math.exp(2.5)} for letter, following in base.items()}
    prompts = [Prompt(f"Q{letter}", id=letter) for letter in letters[:-1]]
    shift = itlens.token_shift(pair_of_chains(chain(base), chain(tuned)), prompts, 12, progress=False)
    found = itlens.diff.shifted_tokens(shift)
    assert found["token"][0] == "z"
    assert found["p_bh"][0] < 0.001
    assert (found["shifted"][0], found["shifted"][1:].max()) == (pytest.approx(1, abs=0.3), 0)


def test_each_model_runs_once_a_prompt(pair: ModelPair) -> None:
    runs = []
    for model in (pair.base, pair.tuned):
        for layer in (0, 1):
            model.hook_dict[f"blocks.{layer}.hook_resid_pre"].add_perma_hook(
                lambda value, hook: runs.append(len(value))
            )
    try:
        itlens.token_shift(pair, GIVEN, responses="given", progress=False)
    finally:
        for model in (pair.base, pair.tuned):
            model.reset_hooks(including_permanent=True)
    assert sum(runs) / 2 / len(GIVEN) == 2, "two passes of two layers, one for each model; at most 2.3 are allowed"


def test_a_longer_vocabulary_is_left_out_and_said() -> None:
    tuned = llama(1)
    tuned.resize_token_embeddings(310)
    shift = itlens.token_shift(pair_of(llama(0), tuned), GIVEN[:2], responses="given", progress=False)
    assert "over the 300 tokens that both models have; the tuned model has 10 more" in shift.attrs["note"]
    known = np.isfinite(shift["kl"].values)
    assert (shift["kl"].values[known] > 0).all()


def test_other_tokenizers_are_refused_with_what_still_makes_sense() -> None:
    base = itlens.load_model(llama(0), tokenizer=tiny_tokenizer(), check=False)
    tuned = itlens.load_model(llama(1), tokenizer=tiny_tokenizer("metaspace"), check=False)
    with pytest.raises(PairError, match="only what reads each model by itself") as caught:
        itlens.token_shift((base, tuned), PROMPTS)
    assert "\n" not in str(caught.value)


def test_empty_responses_are_left_out() -> None:
    rows = {"": TUNED[""], "!": {".": 1.0}, "d": {".": 1.0}}
    pair = pair_of_chains(chain(BASE), chain(rows))
    shift = itlens.token_shift(pair, [Prompt("Q!", id="silent"), Prompt("Q:", id="speaks")], 4, progress=False)
    assert shift["prompt"].values.tolist() == ["speaks"]
    assert "1 of 2 prompts left out" in shift.attrs["note"] and "silent" in shift.attrs["note"]
    with pytest.raises(PromptError, match="nothing is predicted"):
        itlens.token_shift(pair, [Prompt("Q!", id="silent")], 4, progress=False)


def test_unknown_choices_are_refused(pair: ModelPair) -> None:
    with pytest.raises(ProbeError, match="responses='both' is unknown"):
        itlens.token_shift(pair, PROMPTS, responses="both")  # type: ignore[arg-type]
    with pytest.raises(ProbeError, match="max_new_tokens"):
        itlens.token_shift(pair, PROMPTS, 0)


def test_kinds_by_characters_and_words() -> None:
    pieces = [
        "The",
        " cat",
        "s",
        " don",
        "'t",
        " sleep",
        ".",
        "\n",
        "2",
        ".",
        " **",
        "It",
        "'s",
        "**",
        " 42",
        " -",
        "\n-",
        " x",
    ]
    text = "".join(pieces)
    stops = np.cumsum([len(piece) for piece in pieces]).tolist()
    ranges = list(zip([0, *stops[:-1]], stops, strict=True))
    function, content, mark, form = "function word", "content word", "punctuation", "format"
    assert token_kinds(text, ranges, ended=True) == [
        function, content, content, function, function, content, mark, form, form, form, form, function, function, form,
        content, mark, form, content, "end of text",
    ]  # fmt: skip
