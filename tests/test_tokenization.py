"""Tokens and the characters they stand for: hand-written examples, and properties over all of unicode."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers, processors
from transformers import AddedToken, PreTrainedTokenizerFast

from itlens.errors import ModelError, PromptError
from itlens.results.density import overlaps
from itlens.tokenization import Encoded, encode, encode_ids, front_tokens
from tests.tiny import tiny_tokenizer

KINDS = ("bytes", "metaspace")
# special tokens written out in a text are read as such, as in any chat template: kept out of "ordinary text"
TEXT = st.text(min_size=1, max_size=30).filter(lambda text: "<" not in text)


@cache
def tokenizer(kind: str) -> Any:
    return tiny_tokenizer(kind)


@cache
def normalising() -> Any:
    """Lower case, compatibility forms and a prefix, as T5-like tokenizers have: text changes before it is read."""
    made = tokenizers.Tokenizer.from_str(tokenizer("metaspace").backend_tokenizer.to_str())
    steps = [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    made.normalizer = normalizers.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def spans(encoded: Encoded) -> list[tuple[str, int, int]]:
    return list(zip(encoded.prompt_tokens, encoded.prompt_start, encoded.prompt_stop, strict=True))


def test_bytes_by_hand() -> None:
    encoded = encode(tokenizer("bytes"), "the dog €", " sleeps")
    assert spans(encoded) == [
        ("t", 0, 1),
        ("h", 1, 2),
        ("e", 2, 3),
        (" dog", 3, 7),
        (" ", 7, 8),
        ("€", 8, 9),  # the euro sign is three bytes, each a token here: they share its range, and it is shown once
        ("", 8, 9),
        ("", 8, 9),
    ]
    assert encoded.front == (1,)
    assert (encoded.response_start[0], encoded.response_stop[-1]) == (0, 7)
    assert encoded.ids == [1, *encoded.prompt_ids, *encoded.response_ids]


def test_metaspace_by_hand() -> None:
    encoded = encode(tokenizer("metaspace"), "€ dog")
    # the prefix that the tokenizer itself puts in front stands for no character
    assert spans(encoded) == [("", 0, 0), ("€", 0, 1), ("", 0, 1), ("", 0, 1), (" ", 1, 2), ("dog", 2, 5)]


@pytest.mark.parametrize("trim", [True, False])
def test_white_space_in_front_belongs_to_the_token_whether_offsets_are_trimmed_or_not(trim: bool) -> None:
    made = tokenizers.Tokenizer.from_str(tokenizer("bytes").backend_tokenizer.to_str())
    made.post_processor = processors.ByteLevel(trim_offsets=trim)
    own = PreTrainedTokenizerFast(tokenizer_object=made)
    assert (" dog", 3, 7) in spans(encode(own, "the dog"))


def test_a_straddling_token_belongs_to_the_response() -> None:
    # " dog" is one token; the prompt ends inside it
    encoded = encode(tokenizer("bytes"), "the d", "og")
    assert encoded.prompt_tokens == ("t", "h", "e")
    assert encoded.response_tokens == (" dog",)
    assert (encoded.response_start, encoded.response_stop) == ((0,), (2,))


def test_normalised_text_keeps_ranges_in_the_original() -> None:
    text = "THE ﬁSH Ⅷ"  # the ligature becomes "fi", the numeral "viii"
    encoded = encode(normalising(), text)
    assert max(encoded.prompt_stop) == len(text)
    ligature = [text[start:stop] for _, start, stop in spans(encoded) if start <= 4 < stop]
    assert ligature
    assert all("ﬁ" in part for part in ligature)
    assert {text[start:stop] for _, start, stop in spans(encoded) if start >= 8} == {"Ⅷ"}


@pytest.mark.parametrize(("override", "front"), [(None, (1,)), (True, (1,)), (False, ())])
def test_the_tokenizer_rule_and_its_override(override: bool | None, front: tuple[int, ...]) -> None:
    encoded = encode(tokenizer("bytes"), "the dog", prepend_bos=override)
    assert encoded.front == front
    assert encoded.prompt_start[0] == 0


def test_a_tokenizer_without_bos_rule() -> None:
    own = tiny_tokenizer("bytes", bos=False)
    assert front_tokens(own) == []
    assert encode(own, "the dog").front == ()
    assert encode(own, "the dog", prepend_bos=True).front == (1,)


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("override", [None, True, False])
def test_bos_in_the_text_is_not_doubled_and_has_no_row(bos: bool, override: bool | None) -> None:
    encoded = encode(tiny_tokenizer("bytes", bos=bos), "<s>the dog", prepend_bos=override)
    assert encoded.front == (1,)
    assert 1 not in encoded.prompt_ids
    assert spans(encoded)[0] == ("t", 3, 4)


def test_special_tokens_at_the_end_are_not_added() -> None:
    own = tiny_tokenizer("bytes")
    own.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    assert own("the dog")["input_ids"][-1] == 2
    assert front_tokens(own) == [1]
    assert 2 not in encode(own, "the dog", " sleeps").ids


def test_generated_ids_are_kept_as_they_are() -> None:
    own = tokenizer("bytes")
    euro = list(encode(own, "€").prompt_ids)
    odd = [own.convert_tokens_to_ids("Ġ"), own.convert_tokens_to_ids("d"), own.convert_tokens_to_ids("o"), *euro]
    encoded = encode_ids(own, "the", odd)
    assert encoded.response_ids == tuple(odd)  # not merged into " do", as the tokenizer would
    assert encoded.response_text == " do€"
    assert list(zip(encoded.response_start, encoded.response_stop, strict=True)) == [
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
        (3, 4),
        (3, 4),
    ]


def test_a_response_cut_inside_a_character_stays_inside_its_text() -> None:
    own = tokenizer("bytes")
    encoded = encode_ids(own, "the", list(encode(own, "🙂").prompt_ids)[:2])
    assert len(encoded.response_text) == 1
    assert set(zip(encoded.response_start, encoded.response_stop, strict=True)) == {(0, 1)}


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_make_no_character_are_written_out(kind: str) -> None:
    own = tokenizer(kind)
    pieces = [number for number in encode(own, "🙂").prompt_ids if own.decode([number]) == "\ufffd"]
    assert encode_ids(own, "the", pieces[:2]).response_tokens == ("<0xF0>", "<0x9F>")
    assert encode_ids(own, "the", pieces).response_tokens == ("🙂", "", "", "")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(text=TEXT)
@example(text="J'aime 🙂👍🏽 数据 ไทย.")
@example(text="\ufffd")
def test_the_tokens_of_a_text_are_its_characters_each_once(kind: str, text: str) -> None:
    encoded = encode(tokenizer(kind), text)
    if kind == "bytes":
        assert "".join(encoded.prompt_tokens) == text
    assert ("\ufffd" in "".join(encoded.prompt_tokens)) == ("\ufffd" in text)


def test_a_token_with_a_space_and_part_of_a_character_shows_both_once() -> None:
    own = tiny_tokenizer("bytes")
    content = json.loads(own.backend_tokenizer.to_str())
    piece = "Ġ" + own.convert_ids_to_tokens(own("🙂", add_special_tokens=False)["input_ids"])[0]
    content["model"]["vocab"][piece] = len(content["model"]["vocab"])
    content["model"]["merges"].append(["Ġ", piece[1:]])
    merged = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_str(json.dumps(content)))
    assert spans(encode(merged, "a 🙂")) == [("a", 0, 1), (" 🙂", 1, 3), ("", 2, 3), ("", 2, 3), ("", 2, 3)]


def test_no_response_tokens() -> None:
    for encoded in (encode(tokenizer("bytes"), "the dog", ""), encode_ids(tokenizer("bytes"), "the dog", [])):
        assert encoded.response_ids == ()
        assert encoded.response_text == ""


@pytest.mark.parametrize(("prompt", "response"), [("", None), ("", "dog"), ("<s>", None), (" d", "og")])
def test_an_empty_prompt_is_refused(prompt: str, response: str | None) -> None:
    with pytest.raises(PromptError, match="no token of its own"):
        encode(tokenizer("bytes"), prompt, response)


def test_half_a_character_is_refused() -> None:
    with pytest.raises(PromptError, match="surrogate"):
        encode(tokenizer("bytes"), "a\ud83d")


def test_prepend_bos_without_a_bos_token_is_refused() -> None:
    own = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer("bytes", bos=False).backend_tokenizer)
    with pytest.raises(ModelError, match="no BOS token"):
        encode(own, "the dog", prepend_bos=True)


class Slow:
    """As much of a tokenizer without offsets as `encode` asks for: one id per character, or per lower-cased one."""

    is_fast = False
    bos_token_id = None

    def __init__(self, lower: bool) -> None:
        self.lower = lower

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in (text.lower() if self.lower else text)]}

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(map(chr, ids))


def test_a_slow_tokenizer_works_where_it_decodes_to_its_text() -> None:
    assert spans(encode(Slow(lower=False), "Äb")) == [("Ä", 0, 1), ("b", 1, 2)]
    with pytest.raises(ModelError, match="slow tokenizer"):
        encode(Slow(lower=True), "Äb")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(text=TEXT)
@example(text=" a")
@example(text="a\u0301\u200d👩‍👩‍👧")
@example(text="▁ ▁")
def test_ranges_are_ordered_inside_the_text_and_cover_it(kind: str, text: str) -> None:
    encoded = encode(tokenizer(kind), text)
    starts, stops = encoded.prompt_start, encoded.prompt_stop
    assert all(0 <= start <= stop <= len(text) for start, stop in zip(starts, stops, strict=True))
    assert list(starts) == sorted(starts)
    assert list(stops) == sorted(stops)
    covered = {place for start, stop in zip(starts, stops, strict=True) for place in range(start, stop)}
    assert covered == set(range(len(text)))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(text=TEXT.filter(lambda text: "▁" not in text))
def test_tokens_that_share_a_range_decode_to_its_characters(kind: str, text: str) -> None:
    own, encoded = tokenizer(kind), encode(tokenizer(kind), text)
    groups: dict[tuple[int, int], list[int]] = {}
    for number, start, stop in zip(encoded.prompt_ids, encoded.prompt_start, encoded.prompt_stop, strict=True):
        groups.setdefault((start, stop), []).append(number)
    for (start, stop), ids in groups.items():
        if len(ids) > 1 or kind == "bytes":
            assert own.decode(ids, clean_up_tokenization_spaces=False).strip(" ") == text[start:stop].strip(" ")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(prompt=TEXT, response=TEXT)
def test_prompt_and_response_are_one_text(kind: str, prompt: str, response: str) -> None:
    own = tokenizer(kind)
    try:
        encoded = encode(own, prompt, response)
    except PromptError:  # the whole prompt is in the first token
        return
    assert encoded.ids == own(prompt + response)["input_ids"]
    assert all(stop <= len(prompt) for stop in encoded.prompt_stop)
    assert all(start >= 0 for start in encoded.response_start)
    assert max(encoded.response_stop) == len(response)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(prompt=TEXT, response=TEXT)
def test_ids_and_text_are_two_routes_to_the_same_response(kind: str, prompt: str, response: str) -> None:
    own = tokenizer(kind)
    alone, joint = encode(own, prompt), None
    try:
        joint = encode(own, prompt, response)
    except PromptError:
        return
    if joint.prompt_ids != alone.prompt_ids or "▁" in prompt + response:  # a token straddles; or "▁" reads as a space
        return
    again = encode_ids(own, prompt, joint.response_ids)
    assert again.response_text == response
    assert again.response_start == joint.response_start
    assert again.response_stop == joint.response_stop


@settings(max_examples=150, deadline=None)
@given(text=TEXT)
def test_normalising_tokenizers_stay_inside_the_original_text(text: str) -> None:
    try:
        encoded = encode(normalising(), text)
    except PromptError:
        return
    assert all(
        0 <= start <= stop <= len(text) for start, stop in zip(encoded.prompt_start, encoded.prompt_stop, strict=True)
    )
    assert list(encoded.prompt_stop) == sorted(encoded.prompt_stop)


def test_words_of_a_whitespace_splitting_tokenizer_claim_the_space_before_them() -> None:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"the": 0, "dog": 1, "?": 2}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    own = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="?")
    assert [(start, stop) for _, start, stop in spans(encode(own, "the  dog"))] == [(0, 3), (3, 8)]


@pytest.mark.parametrize("kind", KINDS)
def test_spans_around_a_token_that_takes_white_space_are_followed(kind: str) -> None:
    """<|end|> takes the white space after it, <|user|> that before it: spans hold what is seen."""
    own = tiny_tokenizer(kind)
    own.add_tokens(
        [AddedToken("<|end|>", rstrip=True, special=True), AddedToken("<|user|>", lstrip=True, special=True)]
    )
    text = "the dog<|end|>\n  cat  <|user|>the"
    encoded = encode(own, text)
    start, stop = np.array(encoded.prompt_start), np.array(encoded.prompt_stop)

    def held(words: str) -> str:
        first = text.index(words)
        inside = overlaps(text, start, stop, [(first, first + len(words))])
        return "".join(text[a:b] for a, b in zip(start[inside], stop[inside], strict=True)).strip()

    assert held("cat") == "cat" and held("<|end|>") == "<|end|>" and held("<|user|>") == "<|user|>"
    assert held("dog") == "dog" and held("\n  cat") in ("cat", "<|end|>\n  cat")
    if kind == "bytes":
        assert "".join(encoded.prompt_tokens) == text
