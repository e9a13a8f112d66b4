"""Word vectors of a static embedding model of sentence-transformers: a vector per token, a word is their mean.

Only the extra "static" needs sentence-transformers; it is imported here, when such a model is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from itlens.errors import StoreError
from itlens.foreign import foreign


def read_static_model(
    name: str, words: Sequence[str] | None = None, size: int | None = None
) -> tuple[list[str], np.ndarray]:
    """Return the words and vectors, float32 (words, dimensions), of a static model (a folder, or a name on the model
    hub).

    words: get the vectors of these, each the mean of its tokens' vectors, as the model itself does it; words with a
    token that the model does not know are left out. None: the first `size` of the model's own words that are a single
    token. Raises StoreError when sentence-transformers is not installed, or the model cannot be loaded or is not
    static.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise StoreError(
            f"{name!r} is no file of word vectors; to read it as a sentence-transformers model: "
            "pip install 'itlens[static]'."
        ) from error
    _refuse_own_code(name)
    with foreign(StoreError, f"{name!r} is neither a file of word vectors nor a model that loads"):
        module: Any = SentenceTransformer(name, device="cpu", trust_remote_code=False)[0]
    if type(module).__name__ != "StaticEmbedding":
        raise StoreError(
            f"{name!r} is no static model: its vectors depend on the whole text. Expected a StaticEmbedding model."
        )
    table = module.embedding.weight.detach().float().numpy()
    if words is None:
        return _own_words(module.tokenizer, table, size)
    return _asked_words(module.tokenizer, table, list(words)[:size])


def _refuse_own_code(name: str) -> None:
    """Raise StoreError for a folder whose modules are not those of sentence-transformers: loading runs their code."""
    path = Path(name).expanduser() / "modules.json"
    if not path.is_file():
        return
    with foreign(StoreError, f"{path} cannot be read"):
        kinds = [str(module["type"]) for module in json.loads(path.read_text(encoding="utf-8"))]
    strange = [kind for kind in kinds if kind.partition(".")[0] != "sentence_transformers"]
    if strange:
        raise StoreError(
            f"{name!r} asks for code of its own ({strange[0]} in modules.json), which is not run; expected the modules "
            "of sentence-transformers."
        )


def _own_words(tokenizer: Any, table: np.ndarray, size: int | None) -> tuple[list[str], np.ndarray]:
    ids = {number: tokenizer.decode([number], skip_special_tokens=True).strip(" ") for number in range(len(table))}
    ids = {number: word for number, word in ids.items() if any(map(str.isalpha, word))}
    read = tokenizer.encode_batch(list(ids.values()), add_special_tokens=False)
    single = [number for number, pieces in zip(ids, read, strict=True) if pieces.ids == [number]][:size]
    return [ids[number] for number in single], table[single]


def _asked_words(tokenizer: Any, table: np.ndarray, words: list[str]) -> tuple[list[str], np.ndarray]:
    unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "[UNK]")
    read = [encoding.ids for encoding in tokenizer.encode_batch(words, add_special_tokens=False)]
    known = [number for number, ids in enumerate(read) if ids and unknown not in ids]
    vectors = np.empty((len(known), table.shape[1]), dtype=np.float32)
    for row, number in enumerate(known):
        vectors[row] = table[read[number]].mean(axis=0)
    return [words[number] for number in known], vectors
