"""Logit differences on models: numbers by hand, a dense reference, nothing between equal models, a planted bias."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens import PairError, ProbeError, PromptError, diff
from itlens.findings.logit_diff import probe as logit_probe
from itlens.findings.logit_diff.probe import sign_test
from itlens.hooked import readout as readout_module
from itlens.models import ModelPair
from itlens.prompts import Prompt
from itlens.stats.p_values import share_interval
from itlens.stats.paired import adjust
from itlens.tokenization import encode
from tests.findings.patching.patch_pairs import PROMPTS, llama, pair_of
from tests.findings.token_shift.chains import END, chain, id_of, pair_of_chains
from tests.tiny import tiny_hf_model, tiny_tokenizer

SIZE = 300  # embeddings of the tiny models
BASE = {"": {"a": 0.5, "b": 0.5}, "d": {"e": 0.8, "a": 0.2}, "e": {"x": 0.6, ".": 0.3, "a": 0.1}}
TUNED = {"": {"a": 0.5, "b": 0.5}, "d": {"e": 0.8, "a": 0.2}, "e": {".": 0.9, "x": 0.06, "a": 0.04}}
CENTRE = math.log(0.9 / 0.3 * 0.06 / 0.6 * 0.04 / 0.1) / SIZE  # mean over the vocabulary behind "e"


@pytest.mark.parametrize("backend", ["hooked", "bridge"])
def test_every_number_by_hand(backend: str) -> None:
    """Behind "d" nothing changes; behind "e" the end rises by ln 3, "x" falls by ln 10, "a" by ln 2.5."""
    pair = pair_of_chains(chain(BASE), chain(TUNED), backend=backend)
    ld = itlens.logit_diff(pair, ["de"] * 6, top=1, themes=1, progress=False)
    assert (ld.attrs["positions"], ld.attrs["texts"]) == (12, 6)
    expected = {END: math.log(3), id_of("x"): math.log(0.1), id_of("a"): math.log(0.4), id_of("b"): 0.0}
    for token, change in expected.items():
        assert float(ld["mean"].sel(token=token)) == pytest.approx((change - CENTRE) / 2, abs=1e-6)
        assert float(ld["text_mean"].sel(token=token)) == pytest.approx(change / 2, abs=1e-6)
    assert float(ld["risen"].sel(token=END)) == 0.5, "behind every second letter it rises most"
    assert float(ld["fallen"].sel(token=id_of("x"))) == 0.5
    assert float(ld["risen"].sum()) == 0.5
    assert ld["share_texts"].sel(token=[END, id_of("x")]).values.tolist() == [1, 0]
    moved = np.isin(ld["token"], [END, id_of("x"), id_of("a")])
    np.testing.assert_allclose(ld["p"], np.where(moved, 2 * 0.5**6, 1), err_msg="what stays has no sign")
    np.testing.assert_allclose(ld["p_bh"], np.where(moved, 2 * 0.5**6, 1), err_msg="all three that differ do")
    assert ld["theme_word"].values.ravel().tolist() == ["</s>"]
    assert ld["theme_share"].values.tolist() == [1]


def dense(pair: ModelPair, texts: list[str]) -> np.ndarray:
    """Logit differences (position, token) of the whole vocabulary."""
    rows = []
    for text in texts:
        ids = torch.tensor([encode(itlens.models.source_of(pair.base).tokenizer, text).ids])
        with torch.no_grad():
            rows.append((pair.tuned(ids) - pair.base(ids))[0, 1:])  # behind BOS
    return np.asarray(torch.cat(rows).numpy())


def less(d: np.ndarray, centre: Any) -> np.ndarray:
    """Take the mean or the (lower) median over tokens off."""
    if centre is np.median:
        return np.asarray(d - np.sort(d, axis=1)[:, (d.shape[1] - 1) // 2, None])
    return np.asarray(d - d.mean(axis=1, keepdims=True))


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
def test_in_pieces_it_is_the_dense_computation(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """gemma2 caps its logits, gpt2 has a norm with a bias."""
    monkeypatch.setattr(readout_module, "PIECE", 64)
    monkeypatch.setattr(logit_probe, "_ROWS", 40)
    monkeypatch.setattr(logit_probe, "_WIDE", 128)
    monkeypatch.setattr(logit_probe, "_MEDIAN_OF", 101)
    models = [tiny_hf_model(architecture, seed, dtype=torch.float64) for seed in (0, 1)]
    pair, texts = pair_of(*models), [prompt.text for prompt in PROMPTS]
    ld = itlens.logit_diff(pair, texts, top=7, themes=0, progress=False)
    d = dense(pair, texts)
    assert ld.attrs["positions"] == len(d)
    np.testing.assert_allclose(ld["mean"], less(d, np.mean).mean(axis=0), atol=1e-6)
    sample = np.random.default_rng(0).permutation(SIZE)[:101]
    of_texts = [dense(pair, [text]) for text in texts]
    means = [(each - np.median(each[:, sample], axis=1, keepdims=True)).mean(axis=0) for each in of_texts]
    np.testing.assert_allclose(ld["text_mean"], np.mean(means, axis=0), atol=1e-6)
    d = np.concatenate(of_texts) - np.concatenate([np.median(each[:, sample], axis=1) for each in of_texts])[:, None]
    order = np.argsort(-d, axis=1)
    for name, columns in (("risen", order[:, :7]), ("fallen", order[:, -7:])):
        np.testing.assert_allclose(ld[name], np.bincount(columns.ravel(), minlength=SIZE) / len(d), err_msg=name)


@pytest.fixture(scope="module")
def pair() -> ModelPair:
    return pair_of(llama(0), llama(1))


def test_texts_count_alike_and_groups_have_their_own_tests(pair: ModelPair) -> None:
    prompts = [Prompt(prompt.text, id=prompt.id, group=prompt.group) for prompt in PROMPTS]
    ld = itlens.logit_diff(pair, prompts, themes=2, progress=False)
    means = np.stack([less(dense(pair, [prompt.text]), np.median).mean(axis=0) for prompt in prompts])
    np.testing.assert_allclose(ld["text_mean"], means.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(ld["share_texts"], (means > 0).mean(axis=0))
    reach = 2.570582 * means.std(axis=0, ddof=1) / math.sqrt(6)  # t of 5 degrees of freedom
    np.testing.assert_allclose(ld["text_high"], means.mean(axis=0) + reach, atol=1e-5)
    assert ld["group"].values.tolist() == ["a", "b"]
    np.testing.assert_allclose(ld["group_mean"].sel(group="b"), means[1::2].mean(axis=0), atol=1e-5)
    assert np.isnan(ld["group_p"]).all(), "three texts are too few for a test"
    np.testing.assert_allclose(ld["theme_group"].sum("theme"), 1)


def test_responses_are_read_too(pair: ModelPair) -> None:
    given, joined = PROMPTS[:2], [prompt.text + str(prompt.response) for prompt in PROMPTS[:2]]
    one, other = (itlens.logit_diff(pair, texts, themes=0, progress=False) for texts in (given, joined))
    np.testing.assert_allclose(one["mean"], other["mean"], atol=1e-12)
    read = itlens.logit_diff(pair, list(itlens.hooked.tokens.forced(pair.base, given)), themes=0, progress=False)
    np.testing.assert_allclose(read["mean"], other["mean"], atol=1e-12)


def test_equal_models_show_exactly_nothing() -> None:
    same = pair_of(llama(0), llama(0), dtype="float32")
    ld = itlens.logit_diff(same, [prompt.text for prompt in PROMPTS], progress=False)
    for name in ("mean", "risen", "fallen", "text_mean", "text_low", "text_high"):
        assert (ld[name].values == 0).all(), name
    assert (ld["p"].values == 1).all()
    assert ld.sizes["theme"] == 0
    assert not len(diff.token_changes(ld))


def test_both_backends_agree(pair: ModelPair) -> None:
    bridged = pair_of(llama(0), llama(1), backend="bridge")
    texts = [prompt.text for prompt in PROMPTS]
    one, other = (itlens.logit_diff(each, texts, themes=0, progress=False) for each in (pair, bridged))
    np.testing.assert_allclose(one["mean"], other["mean"], atol=1e-5)
    np.testing.assert_allclose(one["risen"], other["risen"], atol=1e-9)


def test_a_planted_bias_is_found_and_no_other() -> None:
    """W_U of the tuned model gives "z" 2.5 more in every row: it rises everywhere, and all others stay."""
    rng = np.random.default_rng(0)
    letters = "abcdefghijklmnopz"
    drawn = {letter: rng.dirichlet(np.full(len(letters), 0.3)) + 1e-3 for letter in ["", *letters]}
    base = {letter: dict(zip(letters, p / p.sum(), strict=True)) for letter, p in drawn.items()}
    tuned = {letter: following | {"z": following["z"] * math.exp(2.5)} for letter, following in base.items()}
    texts = ["".join(rng.choice(list(letters), 8)) for _ in range(12)]
    ld = itlens.logit_diff(pair_of_chains(chain(base), chain(tuned)), texts, themes=1, progress=False)
    found = diff.token_changes(ld)
    risen = found[found["change"] == "risen"]
    assert risen["word"].tolist() == ["z"]
    assert (risen["risen"].iloc[0], risen["share_texts"].iloc[0]) == (1, 1)
    assert risen["text_mean"].iloc[0] == pytest.approx(2.5, abs=1e-5)
    assert float(ld["mean"].sel(token=id_of("z"))) == pytest.approx(2.5 * (1 - 1 / SIZE), abs=1e-5)
    assert (found.attrs["rose_all"], found.attrs["fell_all"]) == (1, 0), "no other token has moved"
    others = ld["text_mean"].values[ld["token"].values != id_of("z")]
    assert (others == 0).all(), f"up to {np.abs(others).max()} of tokens that stay"
    assert risen["p_bh"].iloc[0] < 0.05
    assert ld["theme_word"].values[0, 0] == "z"


def test_the_sign_test_keeps_five_percent() -> None:
    """200 draws of 30 texts and 300 tokens that are as often above as below 0; it is discrete, so below 5 %."""
    rng = np.random.default_rng(3)
    small, families = [], 0
    for _ in range(200):
        above = rng.binomial(30, 0.5, SIZE)
        p = sign_test(above, 30 - above, 30)
        small.append((p < 0.05).sum())
        families += bool((adjust(p, "fdr_bh") < 0.05).any())
    low, high = share_interval(np.array(small), np.full(200, SIZE))
    assert high < 0.055, f"[{low:.3f}, {high:.3f}] of the p-values are below 0.05"
    assert low > 0.03, f"[{low:.3f}, {high:.3f}] of the p-values are below 0.05"
    assert families <= 20, f"something was found in {families} of 200 draws"


def test_each_model_runs_once_a_text(pair: ModelPair) -> None:
    read: list[int] = []
    for model in (pair.base, pair.tuned):
        for layer in (0, 1):
            model.hook_dict[f"blocks.{layer}.hook_resid_pre"].add_perma_hook(
                lambda value, hook: read.append(len(value))
            )
    try:
        itlens.logit_diff(pair, [prompt.text for prompt in PROMPTS], themes=0, progress=False)
    finally:
        for model in (pair.base, pair.tuned):
            model.reset_hooks(including_permanent=True)
    assert sum(read) / 2 / len(PROMPTS) == 2


def test_without_scikit_learn_there_are_no_themes(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.decomposition", None)
    ld = itlens.logit_diff(pair, ["Say it.", "List it."], progress=False)
    assert ld.sizes["theme"] == 0
    assert ld.attrs["note_themes"] == "themes need scikit-learn: pip install 'itlens[themes]'"


def test_a_longer_vocabulary_and_long_texts_are_cut() -> None:
    tuned = llama(1)
    tuned.resize_token_embeddings(310)
    ld = itlens.logit_diff(pair_of(llama(0), tuned), ["Say it twice.", "It"], max_tokens=3, themes=0, progress=False)
    assert ld.sizes["token"] == SIZE
    assert ld.attrs["note"] == "1 of 2 texts are cut, to 3 tokens"


def test_wrong_input_is_one_sentence(pair: ModelPair) -> None:
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"texts": []}, PromptError, "There are no texts"),
        ({"texts": "no/such.txt"}, PromptError, "is no file"),
        ({"top": 0}, ProbeError, "top=0"),
        ({"themes": -1}, ProbeError, "themes=-1"),
    ]
    for changes, kind, said in cases:
        with pytest.raises(kind, match=said) as caught:
            itlens.logit_diff(pair, **{"texts": ["Say it."], **changes})
        assert "\n" not in str(caught.value)
    base = itlens.load_model(llama(0), tokenizer=tiny_tokenizer(), check=False)
    other = itlens.load_model(llama(1), tokenizer=tiny_tokenizer("metaspace"), check=False)
    with pytest.raises(PairError, match="only what reads each model by itself"):
        itlens.logit_diff((base, other), ["Say it."])
