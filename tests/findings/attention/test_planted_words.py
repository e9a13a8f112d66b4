"""Probe and diff together on models of which the truth is known: a planted head, no change, and noise."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import itlens
from itlens import Vocabulary, WordVectors
from itlens.vocabulary import general_verbs, instruction_verbs
from tests.tiny import tiny_hf_model

NOUNS = ("notes", "stories", "book", "books", "words", "articles")
LAYER, HEAD, DIM = 1, 2, 5


def word_tokenizer(words: tuple[str, ...]) -> Any:
    """A word is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {name: number for number, name in enumerate(("<pad>", "<s>", "</s>", "<unk>", *words))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


class Study:
    """A tiny model over the first built-in words and some verbs, and its word pairs."""

    def __init__(self, words: int = 1200, **config: Any) -> None:
        first = Vocabulary.load("builtin", words).words
        self.vocab = Vocabulary(tuple(dict.fromkeys((*first, *NOUNS, *instruction_verbs(), *general_verbs()[:300]))))
        self.vectors = WordVectors.load("builtin", words=self.vocab)
        self.tokenizer = word_tokenizer(self.vocab.words)
        shape = {"hidden_size": 48, "num_key_value_heads": 4, "head_dim": 12} | config
        self.base = tiny_hf_model("llama", vocab=len(self.tokenizer), **shape)

    def pairs(self, hf: Any) -> pd.DataFrame:
        model = itlens.load_model(copy.deepcopy(hf), tokenizer=self.tokenizer, check=False)
        return itlens.qk_word_pairs(model, self.vocab, vectors=self.vectors, top_k=40)

    def row(self, word: str) -> torch.Tensor:
        return self.base.get_input_embeddings().weight[self.tokenizer(word)["input_ids"][0]]


@pytest.fixture(scope="module")
def study() -> Study:
    return Study()


@pytest.fixture(scope="module")
def planted(study: Study) -> Any:
    """The base with a rank-one term in one head: W_Q reads "write" and W_K reads the nouns, both into one dimension."""
    hf = copy.deepcopy(study.base)
    block = hf.model.layers[LAYER]
    rows = slice(HEAD * 12, (HEAD + 1) * 12)
    with torch.no_grad():
        gain = block.input_layernorm.weight
        nouns = torch.stack([study.row(noun) for noun in NOUNS])
        # what each map must read so that it meets the word's row after the gain, and the nouns equally
        query = torch.linalg.pinv(study.row("write")[None])[:, 0] / gain
        key = (torch.linalg.pinv(nouns) @ torch.ones(len(NOUNS))) / gain
        block.self_attn.q_proj.weight[rows][DIM] += 300 * query
        block.self_attn.k_proj.weight[rows][DIM] += 300 * key
    return hf


def test_a_planted_head_is_the_one_that_moved_most_with_the_planted_words(study: Study, planted: Any) -> None:
    base, tuned = study.pairs(study.base), study.pairs(planted)
    found = itlens.diff.word_pairs(base, tuned, draws=200)
    moved = itlens.diff.moved_heads(found)
    assert (moved.iloc[0]["layer"], moved.iloc[0]["head"]) == (LAYER, HEAD)
    overlap = found.overlap.to_series()
    assert overlap.pop((LAYER, HEAD)) < 1 and (overlap == 1).all(), "no other head has moved at all"
    assert int(found.gained.sum()) == int(found.gained.sel(layer=LAYER, head=HEAD)) > 0
    changes = itlens.diff.pair_changes(base, tuned, layers=[LAYER], heads=[HEAD])
    gained = changes[changes["change"] == "gained"].sort_values("rank")
    joined = [key for query, key in zip(gained["query"], gained["key"], strict=True) if query == "write"]
    limits = relatedness_limits(study)
    related = {noun for noun in NOUNS if cosine(study, "write", noun) > max(limits["write"], limits[noun])}
    assert len(related) >= 4, "the built-in vectors relate these nouns to writing"
    assert related <= set(joined), "every planted pair of related words is found"
    assert gained.iloc[0]["query"] == "write" and gained.iloc[0]["key"] in related, "and stands first"


def test_a_planted_pair_of_unrelated_words_stays_out(study: Study, planted: Any) -> None:
    """The head joins "write" with all six nouns; those under the threshold of relatedness are not pairs."""
    vectors = study.vectors.vectors.copy()
    place = study.vectors.words.index("words")
    vectors[place] = -vectors[study.vectors.words.index("write")]
    model = itlens.load_model(copy.deepcopy(planted), tokenizer=study.tokenizer, check=False)
    turned = WordVectors(study.vectors.words, vectors)
    table = itlens.qk_word_pairs(model, study.vocab, vectors=turned, top_k=40, layers=LAYER, heads=HEAD)
    own = table[(table["dim"] == DIM) & (table["query"] == "write")]
    assert "book" in set(own["key"]) and "words" not in set(own["key"])


def test_identical_models_show_nothing(study: Study) -> None:
    base, tuned = study.pairs(study.base), study.pairs(copy.deepcopy(study.base))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = itlens.diff.word_pairs(base, tuned, draws=200)
        verdict = itlens.diff.pairs_verdict(found)
    assert int(found.gained.sum()) == int(found.lost.sum()) == 0 and int(found.kept.sum()) > 500
    assert (found.overlap == 1).all() and (found.instruction_change == 0).all()
    assert (found.instruction_p_bh == 1).all()
    assert int(found.changed_heads.sum()) == 0 and not (found.p_null < 0.05).any() and not (found.p_welch < 0.05).any()
    assert verdict == "Base and tuned model relate the same words: none of the 8 heads gained or lost a word pair."


@pytest.mark.long
def test_noise_is_not_mistaken_for_tuning() -> None:
    """The embedded base against itself with noise in every query and key map: 4 draws of 36 heads.

    Over 175 such draws, at noise of 0.05 to 1 standard deviations of each map, no head was found and `p_null` was at
    most 0.05 in 4 %.
    """
    base = itlens.load_model(itlens.demo.base_path(), check=False)
    vocab, vectors = Vocabulary.load("builtin"), WordVectors.load("builtin")
    kept = [(block.attn, copy.deepcopy(block.attn.state_dict())) for block in base.blocks]
    before = itlens.qk_word_pairs(base, vocab, vectors=vectors)
    small, groups, draws, heads = 0, [], 4, 36
    for draw in range(draws):
        generator = torch.Generator().manual_seed(draw)
        for attn, state in kept:
            attn.load_state_dict(state)
            for name in ("W_Q", "W_K"):
                weight = getattr(attn, f"_{name}", getattr(attn, name))
                weight.data += 0.2 * weight.std() * torch.randn(weight.shape, generator=generator)
        found = itlens.diff.word_pairs(before, itlens.qk_word_pairs(base, vocab, vectors=vectors), seed=draw)
        assert found.sizes["layer"] * found.sizes["head"] == heads and float(found.overlap.mean()) < 0.8
        assert not (found.instruction_p_bh < 0.05).any(), f"draw {draw}"
        small += int((found.instruction_p <= 0.05).sum())
        groups.append(float(found.p_null.sel(group="all")))
    assert np.isfinite(groups).all(), "noise changes enough verbs for a test in every draw"
    assert small <= 0.05 * draws * heads
    assert sum(p <= 0.05 for p in groups) <= 1, "of 4 at 5 %: two or more have a chance of 1.4 %"


def cosine(study: Study, a: str, b: str) -> float:
    u, v = (study.vectors.vectors[study.vectors.words.index(word)] for word in (a, b))
    return float(u @ v / np.linalg.norm(u) / np.linalg.norm(v))


def relatedness_limits(study: Study) -> dict[str, float]:
    """Threshold of each word, by the definition."""
    units = study.vectors.vectors / np.linalg.norm(study.vectors.vectors, axis=1, keepdims=True)
    rows = units[study.vectors.rows(study.vocab.words[:3000])].astype(np.float64)
    return {
        word: float(np.mean(rows @ u) + 1.96 * np.std(rows @ u))
        for word in ("write", *NOUNS)
        for u in [units[study.vectors.words.index(word)].astype(np.float64)]
    }
