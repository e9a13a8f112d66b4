"""Words as tokens: what a model reads when a word stands in the middle of a text.

1. The pieces of a word are the tokens of " " + word, without special tokens. 2. A leading piece that is nothing but the
space is dropped when other pieces follow: it says nothing about the word. 3. A word with a piece that the tokenizer
does not know (unk) or reads as a special token ("</s>"), or without any piece, is not known, and has no pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from itlens.errors import ModelError

_PLAIN = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
_ONLY_IDS = {
    "add_special_tokens": False,
    "return_attention_mask": False,
    "return_token_type_ids": False,
    "verbose": False,
}


@dataclass(frozen=True)
class WordTokens:
    """The tokens of words: those of word w are ids[start[w] : start[w + 1]]; none when not known[w]."""

    ids: Int64[np.ndarray, " pieces"]
    start: Int64[np.ndarray, " bounds"]  # one more than words
    known: Bool[np.ndarray, " words"]

    def __len__(self) -> int:
        return len(self.known)


def word_tokens(words: Sequence[str], tokenizer: Any) -> WordTokens:
    """Return the pieces of each word (see the module's text), in one call of the tokenizer.

    Raises ModelError for something that is no Hugging Face tokenizer.
    """
    pieces = _without_space(tokenizer, _read(tokenizer, words))
    strange = _strange_ids(tokenizer)
    known = np.array([bool(ids) and strange.isdisjoint(ids) for ids in pieces], dtype=bool)
    counts = np.array([len(ids) if good else 0 for ids, good in zip(pieces, known, strict=True)], dtype=np.int64)
    flat = [number for ids, good in zip(pieces, known, strict=True) if good for number in ids]
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return WordTokens(np.array(flat, dtype=np.int64), start, known)


def own_words(tokenizer: Any) -> list[str]:
    """Return the words that are one token of the tokenizer, with a letter in them, in the order of the tokens' ids."""
    _check(tokenizer)
    numbers = _word_starts(tokenizer)
    texts = tokenizer.batch_decode([[number] for number in numbers], **_PLAIN)
    ids = {number: text.strip(" ") for number, text in zip(numbers, texts, strict=True)}
    ids = {number: text for number, text in ids.items() if _is_word(text)}
    tokens = word_tokens(list(ids.values()), tokenizer)
    single = np.diff(tokens.start) == 1
    own = [
        text
        for (number, text), good, start in zip(ids.items(), single, tokens.start[:-1], strict=True)
        if good and tokens.ids[start] == number
    ]
    if not own:
        raise ModelError(f"{type(tokenizer).__name__} has no token that is a whole word; give a list of words instead.")
    return own


def _word_starts(tokenizer: Any) -> list[int]:
    """Return the tokens with a space in front, where a tokenizer writes spaces into its tokens; else all tokens."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    marked = [number for number, token in enumerate(tokens) if str(token).startswith(("Ġ", "▁"))]
    return marked or list(range(len(tokens)))


def _is_word(text: str) -> bool:
    return any(map(str.isalpha, text)) and not any(map(str.isspace, text)) and "\ufffd" not in text


def _check(tokenizer: Any) -> None:
    if not callable(tokenizer) or not hasattr(tokenizer, "convert_ids_to_tokens"):
        raise ModelError(
            f"Expected a Hugging Face tokenizer, got {type(tokenizer).__name__}: pass the model's (model.tokenizer)."
        )


def _read(tokenizer: Any, words: Sequence[str]) -> list[list[int]]:
    _check(tokenizer)
    if not words:
        return []
    return list(tokenizer([f" {word}" for word in words], **_ONLY_IDS)["input_ids"])


def _without_space(tokenizer: Any, pieces: list[list[int]]) -> list[list[int]]:
    """Return the pieces without leading ones that stand for spaces only; a metaspace tokenizer may write two."""
    spaces = _space_ids(tokenizer, {ids[0] for ids in pieces if ids})
    cut = []
    for ids in pieces:
        first = next((i for i, number in enumerate(ids[:-1]) if number not in spaces), max(len(ids) - 1, 0))
        cut.append(ids[first:])
    return cut


def _space_ids(tokenizer: Any, ids: set[int]) -> set[int]:
    """Return those of the ids that are nothing but spaces, however the tokenizer writes one."""
    numbers = sorted(ids)
    tokens = tokenizer.convert_ids_to_tokens(numbers)
    likely = [
        number
        for number, token in zip(numbers, tokens, strict=True)
        if isinstance(token, bytes) or not str(token).strip("▁Ġ ")
    ]
    return {number for number in likely if not tokenizer.decode([number], **_PLAIN).strip(" ")}


def _strange_ids(tokenizer: Any) -> set[int]:
    """Return the ids of special tokens, and of the token for unknown characters, which a wrapped tokenizer may not
    admit to."""
    strange = set(tokenizer.all_special_ids)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    unknown = getattr(getattr(backend, "model", None), "unk_token", None)
    if backend is not None and unknown is not None:
        strange.add(backend.token_to_id(unknown))
    return strange - {None}
