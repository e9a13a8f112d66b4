"""Words of the same tokens tie exactly: "ha" and "haha" share one vector, and the order of the vocabulary decides."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens import Vocabulary, WordVectors
from itlens.vocabulary import WordTokens
from itlens.weights import ModelWeights
from itlens.weights import words as word_rows
from itlens.weights.unit_words import UnitWords
from itlens.weights.words import Sharing, TopWords, WordRows, known_tokens, shared_vectors
from tests.probes import word_reference as reference
from tests.tiny import tiny_hf_model, tiny_tokenizer

# Of the tiny tokenizer, words that are spelled by the same tokens: in another order, or again and again.
SAME = [("theine", "eithen"), ("xz", "zx", "xzxz", "zxxz"), ("q", "qq", "qqq"), ("xxz",), ("dogx", "xdog")]
OTHER = ["the", "house", "river", "man", "book", "b", "k"]


def ids_of(tokenizer: Any, word: str) -> tuple[list[int], list[int]]:
    tokens = Vocabulary([word]).token_ids(tokenizer).ids
    found, counts = np.unique(tokens, return_counts=True)
    return found.tolist(), (counts / counts.sum()).tolist()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer("metaspace")


@pytest.fixture(scope="module")
def words(tokenizer: Any) -> list[str]:
    """Some groups of words of the same tokens, as the tokenizer has it, far from one another."""
    listed = [word for place in range(4) for group in SAME for word in group[place : place + 1]]
    middle = len(listed) // 2
    words = listed[:middle] + OTHER + listed[middle:]
    groups: dict[str, list[str]] = {}
    for word in words:
        groups.setdefault(str(ids_of(tokenizer, word)), []).append(word)
    assert sum(len(group) > 1 for group in groups.values()) >= 2, "the tokenizer spells no two words alike"
    return words


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=str)
def model(request: Any, tokenizer: Any) -> Any:
    hf = tiny_hf_model("llama", vocab=len(tokenizer), dtype=request.param)
    return itlens.load_model(hf, tokenizer=tokenizer, dtype=str(request.param).removeprefix("torch."), check=False)


def means(matrix: np.ndarray, words: list[str], tokenizer: Any) -> np.ndarray:
    """The mean rows by the shares of different tokens."""
    tokens = [ids_of(tokenizer, word) for word in words]
    return np.array([np.average(matrix[ids], axis=0, weights=shares) for ids, shares in tokens])


def equal_words(words: list[str], tokenizer: Any) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        groups.setdefault(str(ids_of(tokenizer, word)), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def made(lists: list[list[int]]) -> WordTokens:
    start = np.cumsum([0, *map(len, lists)])
    return WordTokens(np.array([i for ids in lists for i in ids], dtype=np.int64), start, np.diff(start) > 0)


def test_which_words_share_a_vector() -> None:
    tokens = made([[1, 2], [3], [], [2, 1], [3, 3, 3], [1, 1, 2], [1, 2, 1, 2], [2, 1, 1, 1, 2, 1], [4]])
    vector, ids, start = shared_vectors(tokens, np.flatnonzero(tokens.known))
    assert vector.tolist() == [0, 1, 0, 1, 2, 0, 2, 3], "numbered by the first word"
    assert [ids[a:b].tolist() for a, b in pairwise(start.tolist())] == [[1, 2], [3], [1, 1, 2], [4]]


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("k", [1, 2, 3, 7, 29, 30, 50])
def test_the_top_words_are_those_of_a_stable_sort_over_all_words(k: int, absolute: bool) -> None:
    generator = np.random.default_rng(k)
    drawn = generator.integers(0, 12, 30)
    order = {number: place for place, number in enumerate(dict.fromkeys(drawn.tolist()))}
    vector = np.array([order[number] for number in drawn.tolist()])
    values = torch.tensor(generator.integers(-3, 4, (5, vector.max() + 1)), dtype=torch.float32)  # many are equal
    top = TopWords(k, absolute=absolute)
    for start in range(0, values.shape[1], 5):
        top.add(values[:, start : start + 5], start)
    found, sizes = top.best(Sharing(torch.tensor(vector)))
    spread = values.numpy()[:, vector]
    key = -np.abs(spread) if absolute else -spread
    expected = np.sort(np.argsort(key, axis=1, kind="stable")[:, :k], axis=1)
    assert found.numpy().tolist() == expected.tolist()
    assert sizes.numpy().tolist() == np.take_along_axis(spread, expected, 1).tolist()


@pytest.mark.parametrize("block", [1, 2, 3, 5, 100])
def test_words_of_the_same_tokens_have_the_same_scores(
    block: int, model: Any, words: list[str], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_rows, "_LARGEST", block)
    weights = ModelWeights(model)
    directions = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0)).double()).Q
    for order in (words, words[::-1]):
        vocab = Vocabulary(order)
        rows = UnitWords(weights, vocab, "output", directions=32)
        monkeypatch.setattr(rows.rows, "block", block)  # the smallest block is larger
        found = rows.absolute(directions, len(words))
        for named, scores in zip(found.words, found.scores, strict=True):
            at = {word: number for number, word in enumerate(named)}
            for group in equal_words(order, tokenizer):
                ranks = [at[order[i]] for i in group]
                assert len({float(scores[rank]) for rank in ranks}) == 1
                assert ranks == list(range(ranks[0], ranks[0] + len(group))), "side by side, the more frequent first"
        cut = rows.absolute(directions, 5)
        for named, whole in zip(cut.words, found.words, strict=True):
            assert named.tolist() == whole[:5].tolist()
        assert sorted(order) == sorted(found.words[0])


def test_word_pairs_of_equal_words_go_by_the_vocabulary(model: Any, words: list[str], tokenizer: Any) -> None:
    """All words are related but to themselves, so that a dimension's pairs are its top words, as float64 has them."""
    vectors = WordVectors(words, np.ones((len(words), 2)) + np.random.default_rng(0).normal(size=(len(words), 2)) / 9)
    hf = tiny_hf_model("llama", vocab=len(tokenizer), dtype=torch.float64)
    for order in (words, words[::-1]):
        vocab = Vocabulary(order)
        table = itlens.qk_word_pairs(model, vocab, vectors=vectors, top_k=4, deviations=-9.0, signed=False)
        inputs = means(reference.embedding(hf), order, tokenizer)
        energy = itlens.qk_energy(model, vocab).set_index(["layer", "head", "dim"])["energy"]
        for (layer, head, dim), own in table.groupby(["layer", "head", "dim"]):
            maps = reference.head_of(hf, layer, head)
            query, key = inputs @ maps.query[:, dim], inputs @ maps.key[:, dim]
            assert set(own["query"]) == {order[i] for i in _top(query)}
            assert set(own["key"]) == {order[i] for i in _top(key)}
            assert energy[layer, head, dim] == pytest.approx(float(query @ query + key @ key), rel=1e-5)


def _top(values: np.ndarray) -> list[int]:
    return sorted(range(len(values)), key=lambda i: (-round(abs(values[i]), 6), i))[:4]


def test_output_words_and_copying_count_every_word(model: Any, words: list[str], tokenizer: Any) -> None:
    vocab = Vocabulary(words)
    hf = tiny_hf_model("llama", vocab=len(tokenizer), dtype=torch.float64)
    table = itlens.ov_word_pairs(model, vocab, layers=1, heads=2, inputs=len(words), top_k=len(words))
    maps = reference.head_of(hf, 1, 2)
    read = means(reference.embedding(hf), words, tokenizer)
    write = means(reference.unembedding(hf), words, tokenizer)
    scores = read @ maps.value @ maps.output @ write.T
    lists = {}
    for word, own in table.groupby("input", observed=True):
        place = words.index(str(word))
        np.testing.assert_allclose(own["score"], scores[place, [words.index(o) for o in own["output"]]], atol=1e-4)
        lists[place] = (own["output"].tolist(), own["score"].tolist())
    for group in equal_words(words, tokenizer):
        assert all(lists[place] == lists[group[0]] for place in group)
        at = [lists[0][0].index(words[place]) for place in group]
        assert at == list(range(at[0], at[0] + len(group)))
    copying = itlens.ov_copying(model, vocab, layers=1, heads=2)["copying"][0]
    values = np.linalg.eigvals(scores)
    assert copying == pytest.approx(values.real.sum() / np.abs(values).sum(), abs=1e-3)


def test_mean_vectors_come_back_for_every_word(model: Any, words: list[str], tokenizer: Any) -> None:
    found = itlens.mean_vectors(model, Vocabulary(words)).double().numpy()
    matrix = reference.embedding(tiny_hf_model("llama", vocab=len(tokenizer), dtype=torch.float64))
    np.testing.assert_allclose(found, means(matrix, words, tokenizer), atol=1e-6)
    for group in equal_words(words, tokenizer):
        assert all((found[place] == found[group[0]]).all() for place in group)
    weights = ModelWeights(model)
    rows = WordRows(weights, known_tokens(weights, Vocabulary(words)), "input", per_word=0)
    assert rows.sharing.count < rows.sharing.words == len(words)
