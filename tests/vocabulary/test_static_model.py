"""Word vectors of a static sentence-transformers model: its own words, words asked for, and models of another kind."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from itlens import StoreError, WordVectors

ENTRIES = ["[UNK]", "[CLS]", "cat", "cats", "##fish", "sea", "!", "12"]
TABLE = np.random.default_rng(0).normal(size=(len(ENTRIES), 6)).astype(np.float32)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of eight tokens: "catfish" is "cat" and "##fish"."""
    pytest.importorskip("sentence_transformers", reason="the static extra is not installed")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {entry: number for number, entry in enumerate(ENTRIES)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[UNK]", "[CLS]"])
    folder = tmp_path_factory.mktemp("static") / "tiny-static"
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=TABLE)]).save(str(folder))
    return folder


def test_its_own_words_are_its_single_tokens(model_folder: Path) -> None:
    related = WordVectors.load(model_folder)
    assert related.words == ("cat", "cats", "sea") and related.name == "tiny-static"
    assert np.array_equal(related.vectors, TABLE[[2, 3, 5]])
    assert WordVectors.load(model_folder, size=2).words == ("cat", "cats")


def test_a_word_asked_for_is_the_mean_of_its_tokens_as_the_model_has_it(model_folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    related = WordVectors.load(model_folder, words=["seafish", "dog", "catfish", "sea", "seadog"])
    assert related.words == ("seafish", "catfish", "sea")  # the model knows no part of "dog"
    np.testing.assert_allclose(related.vectors[1], (TABLE[2] + TABLE[4]) / 2, rtol=1e-6)
    own = SentenceTransformer(str(model_folder), device="cpu").encode(list(related.words))
    np.testing.assert_allclose(related.vectors, own, rtol=1e-5)
    assert related.rows(["dog", "sea"]).tolist() == [-1, 2]


def test_a_model_that_does_not_load_is_named(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="the static extra is not installed")
    (tmp_path / "empty").mkdir()
    for name in (str(tmp_path / "empty"), "nobody/no-such-model"):
        with pytest.raises(StoreError, match="neither a file of word vectors nor a model that loads"):
            WordVectors.load(name)


def test_without_sentence_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(StoreError, match=r"'nobody/no-such-model' is no file.*pip install 'itlens\[static\]'"):
        WordVectors.load("nobody/no-such-model")


@pytest.mark.parametrize("content", ['[{"type": "own_code.Module"}]', '[{"path": ""}]', "[1]", "{"])
def test_modules_of_the_folders_own_are_not_run(model_folder: Path, tmp_path: Path, content: str) -> None:
    for path in model_folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "modules.json").write_text(content)
    (tmp_path / "own_code.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    with pytest.raises(StoreError, match=r"own_code\.Module in modules\.json|modules\.json cannot be read") as error:
        WordVectors.load(tmp_path)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()
