"""What heads write, in the finding: a planted head by hand, kept, gained and lost pairs, and both models compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import itlens
from itlens import Vocabulary, WordVectors
from itlens.errors import ResultError
from itlens.findings.attention.probe import LayerSearch
from itlens.findings.attention.probe_output import BothHalves, input_words
from itlens.vocabulary.verbs import instruction_verbs
from itlens.weights import weights_of
from tests.tiny import tiny_hf_model, tiny_tokenizer

WORDS = ("the", "river", "write", "house", "list", "plum")
HERE = {"n_layers": 1, "n_heads": 2, "layers": [0], "heads": [0, 1], "vocabulary": "sha256:x", "top_k": 2, "inputs": 2}


def written(rows: Iterable[tuple[int, str, int, str, float]], words: Iterable[str] = WORDS, **attrs: Any) -> Any:
    """A table of written words from rows (head, input, rank, output, score) of layer 0."""
    table = pd.DataFrame(list(rows), columns=["head", "input", "rank", "output", "score"])
    table = table.assign(layer=0)[["layer", "head", "input", "rank", "output", "score"]]
    table = table.astype({name: pd.CategoricalDtype(list(words)) for name in ("input", "output")})
    table = table.astype({"score": np.float32})
    table.attrs = {"probe": "ov_word_pairs", **HERE, **attrs}
    return table


BASE = [
    (0, "the", 1, "river", 3.0), (0, "the", 2, "house", 2.0), (0, "write", 1, "list", 1.0),
    (0, "write", 2, "plum", 0.5),
    (1, "the", 1, "plum", 0.0), (1, "the", 2, "river", -1.0), (1, "write", 1, "plum", -2.0),
    (1, "write", 2, "river", -3.0),
]  # fmt: skip
TUNED = [
    (0, "the", 1, "house", 4.0), (0, "the", 2, "plum", 1.5), (0, "write", 1, "river", 9.0),
    (0, "write", 2, "list", 0.7),
    (1, "the", 1, "plum", 0.0), (1, "the", 2, "river", -1.0), (1, "write", 1, "plum", -2.0),
    (1, "write", 2, "river", -3.0),
]  # fmt: skip


def test_pairs_kept_gained_and_lost_by_hand() -> None:
    """Kept: the → house, write → list. Head 1 raises no word: it writes nothing."""
    changes = itlens.diff.written_changes(written(BASE), written(TUNED, WORDS[::-1]))  # words in another order
    assert changes["layer"].eq(0).all() and changes["head"].eq(0).all()
    rows = changes[["change", "rank", "input", "output", "base_rank", "tuned_rank"]].astype({"change": str})
    assert rows.to_numpy().tolist() == [
        ["kept", 1, "the", "house", 2, 1],
        ["kept", 2, "write", "list", 1, 2],
        ["gained", 1, "write", "river", 0, 1],
        ["gained", 2, "the", "plum", 0, 2],
        ["lost", 1, "the", "river", 1, 0],
        ["lost", 2, "write", "plum", 2, 0],
    ]
    np.testing.assert_allclose(changes["base_score"], [2.0, 1.0, np.nan, np.nan, 3.0, 0.5])
    np.testing.assert_allclose(changes["tuned_score"], [4.0, 0.7, 9.0, 1.5, np.nan, np.nan])
    by_head = itlens.diff.written_heads(changes)
    counts = ["head", "base_pairs", "tuned_pairs", "kept", "gained", "lost"]
    assert by_head[counts].to_numpy().tolist() == [[0, 4, 4, 2, 2, 2], [1, 0, 0, 0, 0, 0]]
    np.testing.assert_allclose(by_head["overlap"], [1 / 3, np.nan])


def test_identical_models_write_the_same() -> None:
    changes = itlens.diff.written_changes(written(BASE), written(BASE))
    assert set(changes["change"]) == {"kept"}
    assert itlens.diff.written_heads(changes)["overlap"].tolist()[0] == 1.0


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (pd.DataFrame({"layer": [0]}), r"tuned is no table of written words \(no column head, input, rank"),
        ("written", r"tuned is a str: give the DataFrame that itlens\.ov_word_pairs returned"),
        (written(TUNED, probe="qk_word_pairs"), "tuned is a result of qk_word_pairs by its attrs, expected ov_word"),
        (written(TUNED, top_k=3), r"The tables differ in top_k: base 2, tuned 3\. Probe both models alike"),
        (written(TUNED, n_heads=4), r"The tables differ in number of heads: base 2, tuned 4\."),
        (written(TUNED[:2]), r"base and tuned have other input words: probe both models with the same `inputs`\."),
    ],
)
def test_other_tables_are_refused(other: Any, message: str) -> None:
    with pytest.raises(ResultError, match=message):
        itlens.diff.written_changes(written(BASE), other)


def test_heads_of_another_table_are_refused() -> None:
    with pytest.raises(ResultError, match=r"give the result of itlens\.diff\.written_changes"):
        itlens.diff.written_heads(written(BASE))


# ---- two models, one head of which is known


@pytest.fixture(scope="module")
def vocab() -> Vocabulary:
    nouns = ("river", "house", "letter", "story", "poem", "word", "cat", "dog", "horse", "mouse", "apple", "pear")
    return Vocabulary(("the", "and", *nouns, "write", "explain", "plum"))


def planted(seed: int) -> Any:
    """Head 0 of layer 1 reads along one direction and writes along another, which depends on the seed."""
    hf = tiny_hf_model("llama")
    rng = np.random.default_rng(7)
    into, out = rng.normal(size=32), np.random.default_rng(seed).normal(size=32)
    with torch.no_grad():
        block = hf.model.layers[1]
        block.input_layernorm.weight.fill_(1.0)
        hf.model.norm.weight.fill_(1.0)
        block.self_attn.v_proj.weight[:12] = 0
        block.self_attn.v_proj.weight[0] = torch.tensor(into)
        block.self_attn.o_proj.weight[:, :12] = 0
        block.self_attn.o_proj.weight[:, 0] = torch.tensor(out)
    return itlens.load_model(hf, tokenizer=tiny_tokenizer(), check=False), into, out


def by_hand(model: Any, vocab: Vocabulary, into: np.ndarray, out: np.ndarray, word: str) -> dict[str, float]:
    """What the planted head writes when it reads a word: the two words of the highest score, where it is above 0."""
    read, write = (itlens.mean_vectors(model, vocab, embedding=side).double().numpy() for side in ("input", "output"))
    scores = (read[vocab.words.index(word)] @ into) * (write @ out)
    return {vocab.words[i]: scores[i] for i in np.argsort(-scores)[:2] if scores[i] > 0}


def layers_of(model: Any, vocab: Vocabulary, *, count: int) -> dict[str, pd.DataFrame]:
    vectors = WordVectors(vocab.words, np.random.default_rng(0).normal(size=(len(vocab), 8)))
    search = LayerSearch(model, vocab, vectors=vectors, top_k=10)
    return BothHalves(weights_of(model), vocab, search, count=count, top_k=2).layer(1)


def test_the_planted_head_writes_what_its_weights_say_and_tuning_changes_it(vocab: Vocabulary) -> None:
    sides = [planted(seed) for seed in (1, 2)]
    tables = [layers_of(model, vocab, count=3)["written"] for model, _, _ in sides]
    assert tables[0]["input"].unique().tolist() == ["the", "and", "river", "write", "explain"]
    changes = itlens.diff.written_changes(*tables)
    own = changes[changes["head"] == 0].astype({"input": str, "output": str})
    for word in ("the", "river", "write"):
        expected = [by_hand(model, vocab, into, out, word) for model, into, out in sides]
        rows = own[own["input"] == word]
        for side, scores in zip(("base", "tuned"), expected, strict=True):
            found = rows[rows[f"{side}_rank"] > 0].sort_values(f"{side}_rank")
            assert found["output"].tolist() == list(scores)
            np.testing.assert_allclose(found[f"{side}_score"], list(scores.values()), rtol=1e-4)
        gained = rows[rows["change"] == "gained"]["output"].tolist()
        assert set(gained) == set(expected[1]) - set(expected[0])
    overlap = itlens.diff.written_heads(changes).set_index("head")["overlap"]
    assert overlap[0] < 1
    assert (overlap[1:] == 1).all(), "the other heads are the same in both models"


def test_both_halves_are_those_of_the_two_probes(vocab: Vocabulary) -> None:
    model, _, _ = planted(1)
    tables = layers_of(model, vocab, count=3)
    words = ["the", "and", "river", "write", "explain"]
    alone = itlens.ov_word_pairs(model, vocab, layers=1, inputs=words, top_k=2)
    pd.testing.assert_frame_equal(tables["written"], alone)
    assert tables["written"].attrs == {**alone.attrs, "layers": [1]}
    assert set(layers_of(model, vocab, count=0)) == {"pairs", "energy"}


def test_input_words_are_the_first_known_ones_and_the_instruction_verbs() -> None:
    vocab = Vocabulary.load("builtin")
    known = np.ones(len(vocab), dtype=bool)
    known[0] = False
    words = input_words(vocab, known, 150)
    assert words[:150] == list(vocab.words[1:151])
    assert set(words[150:]) == set(instruction_verbs()) - set(words[:150])
    assert len(words) == len(set(words))
