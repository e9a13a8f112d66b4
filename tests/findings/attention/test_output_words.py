"""What heads write, in words: against explicit loops on Hugging Face weights, planted copying heads, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import itlens
from itlens import Vocabulary, WordVectors
from itlens.errors import ProbeError
from itlens.weights import words as word_rows
from tests.probes import word_reference as reference
from tests.probes.word_reference import WORDS
from tests.tiny import on_backends, tiny_hf_model, tiny_tokenizer

ARCHITECTURES = ("llama", "gpt2", "gpt_neox", "gemma2", "gemma3")


@pytest.fixture(scope="module")
def vocab() -> Vocabulary:
    return Vocabulary(WORDS)


def scores_of(hf: Any, tokenizer: Any, layer: int, head: int) -> np.ndarray:
    """Score of each output word (columns) for each input word (rows), one dot product at a time."""
    maps = reference.head_of(hf, layer, head)
    read = reference.means(reference.embedding(hf), WORDS, tokenizer)
    write = reference.means(reference.unembedding(hf), WORDS, tokenizer)
    return np.array([[v @ maps.value @ maps.output @ u for u in write] for v in read])


@pytest.mark.parametrize("where", on_backends(ARCHITECTURES))
def test_every_head_writes_what_explicit_loops_say(
    where: tuple[str, Any], vocab: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture, backend = where
    monkeypatch.setattr(word_rows, "_LARGEST", 17)
    tokenizer = tiny_tokenizer()
    # products of other sizes round otherwise: in float64 that never decides between two different words
    hf, own = (tiny_hf_model(architecture, dtype=torch.float64) for _ in range(2))
    model = itlens.load_model(own, tokenizer=tokenizer, backend=backend, dtype="float64")
    table = itlens.ov_word_pairs(model, vocab, inputs=20, top_k=5)
    copying = itlens.ov_copying(model, vocab).set_index(["layer", "head"])["copying"]
    assert len(table) == hf.config.num_hidden_layers * 4 * 20 * 5
    for layer in range(hf.config.num_hidden_layers):
        for head in range(4):
            scores = scores_of(hf, tokenizer, layer, head)
            own = table[(table["layer"] == layer) & (table["head"] == head)]
            for number, (word, rows) in enumerate(own.groupby("input", observed=True, sort=False)):
                assert word == WORDS[number]
                best = np.argsort(-scores[number])[:5]
                assert rows["output"].tolist() == [WORDS[i] for i in best] and rows["rank"].tolist() == [1, 2, 3, 4, 5]
                np.testing.assert_allclose(rows["score"], scores[number][best], rtol=1e-3, atol=1e-4)
            values = np.linalg.eigvals(scores)  # of the whole words x words matrix
            assert copying[layer, head] == pytest.approx(values.real.sum() / np.abs(values).sum(), abs=1e-3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_planted_copying_head(sign: float) -> None:
    """W_V W_O = +-(projection onto d_head directions) and W_U = W_E^T: the head raises (lowers) what it reads."""
    hf, tokenizer = tiny_hf_model("llama", tie_word_embeddings=True), tiny_tokenizer()
    vocab = Vocabulary(WORDS)
    with torch.no_grad():
        block = hf.model.layers[1]
        basis = torch.linalg.qr(torch.randn(32, 12, generator=torch.Generator().manual_seed(0)))[0]
        block.input_layernorm.weight.fill_(1.0)
        hf.model.norm.weight.fill_(1.0)
        block.self_attn.v_proj.weight[:12] = basis.T  # key-value head 0, which query heads 0 and 1 read
        block.self_attn.o_proj.weight[:, :12] = sign * basis  # query head 0
    model = itlens.load_model(hf, tokenizer=tokenizer)
    copying = itlens.ov_copying(model, vocab, layers=1).set_index("head")["copying"]
    assert copying[0] == pytest.approx(sign, abs=1e-6)
    assert copying[1:].abs().max() < 0.9
    top = itlens.ov_word_pairs(model, vocab, layers=1, heads=0, inputs=WORDS[5:30], top_k=len(WORDS))
    own = top[top["input"].astype(str) == top["output"].astype(str)]
    assert len(own) == 25 and (np.sign(own["score"]) == sign).all()
    assert (own["rank"].mean() < 5) if sign > 0 else (own["rank"].mean() > len(WORDS) - 5)


def test_a_head_that_writes_nothing_has_no_copying_score() -> None:
    hf = tiny_hf_model("llama")
    with torch.no_grad():
        hf.model.layers[0].self_attn.o_proj.weight[:, :12] = 0
    model = itlens.load_model(hf, tokenizer=tiny_tokenizer())
    copying = itlens.ov_copying(model, Vocabulary(WORDS), layers=0)["copying"]
    assert np.isnan(copying[0]) and copying[1:].notna().all()


def test_a_head_raises_the_logits_that_its_table_says(vocab: Vocabulary) -> None:
    """An intervention: adding a head's output for one word to the final residual moves each logit by the score."""
    hf, tokenizer = tiny_hf_model("llama"), tiny_tokenizer()
    model = itlens.load_model(hf, tokenizer=tokenizer)
    word = WORDS[10]
    table = itlens.ov_word_pairs(model, vocab, layers=0, heads=2, inputs=[word], top_k=len(WORDS))
    read = itlens.mean_vectors(model, vocab)[10] * model.blocks[0].ln1.w
    written = read @ model.blocks[0].attn.W_V[2] @ model.blocks[0].attn.W_O[2]
    with torch.no_grad():
        logits = model.unembed((written * model.ln_final.w)[None, None])[0, 0] - model.b_U
    expected = dict(zip(WORDS, reference.means(logits[:, None].numpy(), WORDS, tokenizer), strict=True))
    np.testing.assert_allclose(table["score"], [expected[name][0] for name in table["output"]], rtol=1e-4, atol=1e-5)


def test_inputs_and_attrs(vocab: Vocabulary) -> None:
    model = itlens.load_model(tiny_hf_model("gpt2"), tokenizer=tiny_tokenizer())
    by_name = itlens.ov_word_pairs(model, vocab, layers=1, inputs=[WORDS[4], WORDS[2]])
    by_count = itlens.ov_word_pairs(model, vocab, layers=1, inputs=5)
    expected = by_count[by_count["input"].isin([WORDS[2], WORDS[4]])].reset_index(drop=True)
    pd.testing.assert_frame_equal(by_name, expected, rtol=1e-4)
    assert by_count.attrs["probe"] == "ov_word_pairs" and by_count.attrs["layers"] == [1]
    assert by_count.attrs["inputs"] == 5 and by_count.attrs["vocabulary"] == vocab.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k=0; expected a whole number of at least 1"),
        ({"inputs": 0}, "inputs=0; expected a whole number of at least 1"),
        ({"inputs": ["Haus"]}, r"inputs names 'Haus'; expected words of the vocabulary"),
        ({"inputs": []}, r"inputs names no word; expected words of the vocabulary"),
        ({"heads": 7}, r"head 7 is not there; the model has heads 0 to 3"),
    ],
)
def test_bad_input(vocab: Vocabulary, options: dict[str, Any], message: str) -> None:
    model = itlens.load_model(tiny_hf_model("gpt2"), tokenizer=tiny_tokenizer())
    with pytest.raises(ProbeError, match=message):
        itlens.ov_word_pairs(model, vocab, **options)


def test_both_sides_of_the_vocabulary_come_in_the_same_blocks(
    vocab: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other programs take memory between the two looks at what is free."""
    model = itlens.load_model(tiny_hf_model("gpt2"), tokenizer=tiny_tokenizer())
    expected = itlens.ov_copying(model, vocab)
    free = iter([6_000_000, 6_000_000, 400_000, 400_000] * 2)
    monkeypatch.setattr(word_rows, "free_bytes", lambda device: next(free))
    monkeypatch.setattr(word_rows, "_SHARE", 0.0)
    pd.testing.assert_frame_equal(itlens.ov_copying(model, vocab), expected, rtol=1e-5)


def test_vectors_add_how_related_the_two_words_are(vocab: Vocabulary) -> None:
    model = itlens.load_model(tiny_hf_model("gpt2"), tokenizer=tiny_tokenizer())
    rows = np.random.default_rng(1).normal(size=(len(WORDS), 6)).astype(np.float32)
    rows[3] = 0  # no direction
    vectors = WordVectors(WORDS, rows)
    plain = itlens.ov_word_pairs(model, vocab, layers=1, inputs=8, top_k=len(WORDS))
    table = itlens.ov_word_pairs(model, vocab, vectors=vectors, layers=1, inputs=8, top_k=len(WORDS))
    pd.testing.assert_frame_equal(table.drop(columns="relatedness"), plain)
    assert "vectors" not in plain.attrs
    assert table.attrs["vectors"] == vectors.fingerprint
    place = {word: number for number, word in enumerate(WORDS)}
    pairs = np.array([[place[str(word)] for word in table[name]] for name in ("input", "output")])
    unknown = (pairs == 3).any(axis=0)
    assert unknown.any()
    assert table["relatedness"].isna().tolist() == unknown.tolist()
    read, written = rows[pairs].astype(float)
    sizes = np.linalg.norm(rows[pairs].astype(float), axis=2).prod(axis=0)
    expected = (read * written).sum(axis=1)[~unknown] / sizes[~unknown]
    np.testing.assert_allclose(table["relatedness"][~unknown], expected, atol=1e-5)


def test_built_in_words_are_the_default_for_every_probe_of_words(tmp_path: Path) -> None:
    model = itlens.load_model(tiny_hf_model("llama"), tokenizer=tiny_tokenizer())
    some = {"layers": 1, "heads": 2}
    whole = Vocabulary.load("builtin")
    pairs = itlens.qk_word_pairs(model, **some, top_k=20)
    assert (pairs.attrs["vocabulary"], pairs.attrs["vectors_name"]) == (whole.fingerprint, "builtin")
    written = itlens.ov_word_pairs(model, **some, inputs=3)
    assert written["output"].dtype.categories.tolist() == list(whole.words)
    assert itlens.qk_energy(model, **some).attrs["vocabulary_name"] == "builtin"
    assert itlens.ov_copying(model, **some).attrs["vocabulary_name"] == "builtin"
    words, vectors = tmp_path / "words.txt", tmp_path / "vectors.npz"
    words.write_text("\n".join(WORDS), encoding="utf-8")
    np.savez(vectors, words=np.array(WORDS), vectors=np.random.default_rng(0).normal(size=(len(WORDS), 6)))
    for probe in (itlens.qk_word_pairs, itlens.ov_word_pairs):
        table = probe(model, words, vectors=str(vectors), **some)
        assert (table.attrs["vocabulary_name"], table.attrs["vectors_name"]) == ("words.txt", "vectors.npz")


@pytest.mark.parametrize("probe", [itlens.qk_word_pairs, itlens.ov_word_pairs])
def test_words_of_another_kind_are_refused(probe: Any, vocab: Vocabulary) -> None:
    model = itlens.load_model(tiny_hf_model("gpt2"), tokenizer=tiny_tokenizer())
    with pytest.raises(ProbeError, match=r'vocab is a list; expected "builtin", a file, or an itlens.Vocabulary'):
        probe(model, ["house"])
    with pytest.raises(ProbeError, match=r'vectors is a dict; expected "builtin", a file, or itlens.WordVectors'):
        probe(model, vocab, vectors={"house": [1.0]})
