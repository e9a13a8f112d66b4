"""Words as tokens: the same pieces as word by word, the leading space dropped, and what is not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import itlens.demo
from itlens import ModelError, Vocabulary
from itlens.vocabulary import WordTokens
from tests.tiny import tiny_tokenizer

WORDS = (
    "the",
    "house",
    "Übermut",
    "zebra",
    "a=b",
    "x|||y",
    "tab\tinside",
    "🙂",
    "New York",
    "naïve",
    "'s",
    "_",
    "Ġa",
)


def pieces_of(tokens: WordTokens, number: int) -> list[int]:
    return tokens.ids[tokens.start[number] : tokens.start[number + 1]].tolist()


def word_level(entries: list[str], unk: str | None = "<unk>") -> Any:
    """A tokenizer that knows these words and nothing else, and forgets the character ^."""
    tokenizer = Tokenizer(models.WordLevel({entry: n for n, entry in enumerate(entries)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.normalizer = normalizers.Replace("^", "")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unk, eos_token="</s>")


@pytest.mark.parametrize("kind", ["bytes", "metaspace"])
@pytest.mark.parametrize("bos", [True, False])
def test_pieces_are_those_of_a_space_and_the_word(kind: str, bos: bool) -> None:
    tokenizer = tiny_tokenizer(kind, bos=bos)
    tokens = Vocabulary(WORDS).token_ids(tokenizer)
    assert tokens.known.all() and len(tokens) == len(WORDS)
    assert tokens.ids.dtype == tokens.start.dtype == np.int64 and tokens.start[0] == 0
    assert tokens.start[-1] == len(tokens.ids) and tokenizer.bos_token_id not in tokens.ids
    for number, word in enumerate(WORDS):
        alone = tokenizer.encode(" " + word, add_special_tokens=False)
        while len(alone) > 1 and set(tokenizer.convert_ids_to_tokens(alone[0])) <= {"Ġ", "▁"}:
            alone = alone[1:]
        assert pieces_of(tokens, number) == alone, word
        assert tokenizer.decode(pieces_of(tokens, number)).lstrip(" ") == word


def test_a_lone_space_goes_only_when_something_follows() -> None:
    """The metaspace tokenizer writes "zebra" as a lone space and letters, and "th" with its space in one piece."""
    tokenizer = tiny_tokenizer("metaspace")
    assert tokenizer.tokenize(" zebra")[0] == "▁"
    zebra, one, space = (pieces_of(Vocabulary(["zebra", "th", "▁"]).token_ids(tokenizer), n) for n in range(3))
    assert tokenizer.convert_ids_to_tokens(zebra)[0].startswith("z")
    assert tokenizer.convert_ids_to_tokens(one) == ["▁th"]
    assert set(tokenizer.convert_ids_to_tokens(space)) == {"▁"}


def test_words_with_unknown_special_or_no_pieces_are_not_known() -> None:
    tokenizer = word_level(["<unk>", "</s>", "cat", "dog"])
    tokens = Vocabulary(["cat", "cow", "cat cow", "</s>", "^", "dog"]).token_ids(tokenizer)
    assert tokens.known.tolist() == [True, False, False, False, False, True]
    assert tokens.start.tolist() == [0, 1, 1, 1, 1, 1, 2] and tokens.ids.tolist() == [2, 3]


def test_an_unknown_token_that_the_wrapper_does_not_name_is_found() -> None:
    tokenizer = word_level(["<unk>", "</s>", "cat", "dog"], unk=None)
    assert tokenizer.unk_token_id is None
    assert Vocabulary(["cow", "cat"]).token_ids(tokenizer).known.tolist() == [False, True]


def test_all_words_take_one_call_of_the_tokenizer() -> None:
    class Counting:
        calls = 0

        def __init__(self) -> None:
            self.own = tiny_tokenizer()

        def __call__(self, *args: Any, **options: Any) -> Any:
            self.calls += 1
            return self.own(*args, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.own, name)

    tokenizer = Counting()
    assert Vocabulary.load("builtin", size=3000).token_ids(tokenizer).known.all()
    assert tokenizer.calls == 1


def test_the_demo_tokenizer_reads_frequent_words_as_one_piece() -> None:
    tokenizer = AutoTokenizer.from_pretrained(Path(itlens.demo.__file__).parent / "base")
    tokens = Vocabulary(["the", "house", "antidisestablishmentarianism"]).token_ids(tokenizer)
    assert np.diff(tokens.start)[:2].tolist() == [1, 1] and np.diff(tokens.start)[2] > 3
    assert tokenizer.decode(pieces_of(tokens, 0)) == " the"


def test_a_model_is_not_a_tokenizer() -> None:
    with pytest.raises(ModelError, match="Expected a Hugging Face tokenizer, got NoneType"):
        Vocabulary(["a"]).token_ids(None)
