"""Prompt and response as tokens, with the characters that each token stands for.

1. Prompt and response are tokenised as ONE text, as the model would read it. 2. A token that straddles the boundary
belongs to the response: it is the first one in which characters of the response are predicted. 3. Special tokens that
the tokenizer puts in front (BOS) are kept apart, since they are fed but get no row; a BOS that the text itself begins
with (chat templates) takes their place and is never doubled; special tokens at the end (EOS, SEP) are not added.
4. Each token has the range of characters that it stands for in the ORIGINAL text, whatever the tokenizer normalises:
from the fast tokenizer's offsets, extended to the left over the white space that no token claims. Tokens that are
parts of one character (bytes) share its range, and the first of them is its text; a token that stands for no character
(a prefix "▁") has an empty range.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args

from itlens.errors import ModelError, PromptError, StoreError
from itlens.results.characters import BROKEN, own_characters

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_PLAIN = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
_NAMED = 5  # tokens that an error names


class Tokenizer(Protocol):
    """What is read of a tokenizer of transformers."""

    chat_template: Any
    bos_token_id: int | None
    eos_token_id: Any
    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    all_special_ids: list[int]

    def __call__(self, text: Any, **settings: Any) -> Mapping[str, Any]: ...

    def __len__(self) -> int: ...

    def decode(self, token_ids: Any, **settings: Any) -> Any: ...

    def batch_decode(self, sequences: Any, **settings: Any) -> list[str]: ...

    def convert_ids_to_tokens(self, ids: Any, **settings: Any) -> Any: ...

    def get_vocab(self) -> dict[str, int]: ...

    def get_added_vocab(self) -> dict[str, int]: ...

    def apply_chat_template(self, conversation: Any, **settings: Any) -> Any: ...

    def save_pretrained(self, save_directory: Any, **settings: Any) -> Any: ...


# as users give one: itself, a hub id or folder, False for none at all, None for the one beside the weights
TokenizerLike: TypeAlias = Tokenizer | str | Path | Literal[False] | None


@dataclass(frozen=True)
class Encoded:
    """A prompt and its response as tokens.

    front: ids of special tokens in front of the prompt, which get no row. prompt_start[i]:prompt_stop[i] are the
    characters of `prompt_text` that prompt token i stands for, response_start[j]:response_stop[j] those of
    `response_text` for response token j (a straddling token counts from 0). Tokens are decoded strings; of the pieces
    of one character, the first has it and the others are "".
    """

    front: tuple[int, ...]
    prompt_ids: tuple[int, ...]
    prompt_tokens: tuple[str, ...]
    prompt_start: tuple[int, ...]
    prompt_stop: tuple[int, ...]
    response_ids: tuple[int, ...]
    response_tokens: tuple[str, ...]
    response_start: tuple[int, ...]
    response_stop: tuple[int, ...]
    prompt_text: str
    response_text: str

    @property
    def ids(self) -> list[int]:
        """All ids in the order in which the model reads them."""
        return [*self.front, *self.prompt_ids, *self.response_ids]


Finish: TypeAlias = Literal["given", "eos", "length", "empty"]
ResponseSource: TypeAlias = Literal["given", "generated"]


@dataclass(frozen=True)
class Response:
    """A response that a model is made to read: one that it generated, or a given text.

    ids: as generated; reading `text` again can give others, so that a generated response is its ids. text: what they
    decode to after the prompt, or the given text. finish: why it ends: "eos" (the model ended it), "length"
    (max_new_tokens or the model's context), "empty" (ended at once), "given". source: "generated" or "given".
    """

    ids: tuple[int, ...]
    text: str
    finish: Finish
    source: ResponseSource

    def as_json(self) -> dict[str, Any]:
        """Return plain values that `from_json` reads back."""
        return {"ids": list(self.ids), "text": self.text, "finish": self.finish, "source": self.source}

    @classmethod
    def from_json(cls, kept: Any) -> Response:
        """Read what `as_json` returned. Raises StoreError for anything else."""
        if isinstance(kept, Mapping):
            ids, text = kept.get("ids"), kept.get("text")
            finish: Any = kept.get("finish")
            source: Any = kept.get("source")
            known = finish in get_args(Finish) and source in get_args(ResponseSource)
            if known and isinstance(text, str) and isinstance(ids, list) and all(map(_is_id, ids)):
                return cls(tuple(ids), text, finish, source)
        raise StoreError(f"{str(kept)[:60]!r} is no response; expected the fields ids, text, finish and source.")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@dataclass(frozen=True)
class _Tokens:
    ids: list[int]
    texts: list[str]
    ranges: list[tuple[int, int]]

    def __getitem__(self, part: slice) -> _Tokens:
        return _Tokens(self.ids[part], self.texts[part], self.ranges[part])


def encode(
    tokenizer: Tokenizer, prompt_text: str, response_text: str | None = None, *, prepend_bos: bool | None = None
) -> Encoded:
    """Tokenise a prompt and, after it, a response as one text.

    prepend_bos: None leaves special tokens in front to the tokenizer's own rule, True puts BOS in front, False leaves
    it out. Raises PromptError for a prompt without tokens of its own, ModelError for a tokenizer that cannot do it.
    """
    response = response_text or ""
    front, tokens = _read(tokenizer, prompt_text + response, prepend_bos)
    boundary = len(prompt_text)
    count = next((i for i, (_, stop) in enumerate(tokens.ranges) if stop > boundary), len(tokens.ids))
    if not response:
        count = len(tokens.ids)
    if count == 0:
        raise PromptError(
            f"The prompt {prompt_text[:40]!r} has no token of its own; expected text with at least one token before "
            "the response."
        )
    return _encoded(front, tokens[:count], tokens[count:], prompt_text, response, boundary)


def encode_ids(
    tokenizer: Tokenizer, prompt_text: str, response_ids: Sequence[int], *, prepend_bos: bool | None = None
) -> Encoded:
    """Tokenise a prompt; its response is given as the ids that a model generated, which are kept as they are.

    The response's text is what the ids add to the decoded prompt, and its ranges count in that text.
    """
    prompt = encode(tokenizer, prompt_text, prepend_bos=prepend_bos)
    ids = [int(number) for number in response_ids]
    before = [*prompt.front, *prompt.prompt_ids]
    text, ranges = _by_decoding(tokenizer, before, ids)
    tokens = _Tokens(ids, _token_texts(tokenizer, ids, text, ranges, generated=True), ranges)
    shown = _Tokens(
        list(prompt.prompt_ids),
        list(prompt.prompt_tokens),
        list(zip(prompt.prompt_start, prompt.prompt_stop, strict=True)),
    )
    return _encoded(prompt.front, shown, tokens, prompt_text, text, 0)


def refuse_beyond(encoded: Encoded, tokenizer: Tokenizer, size: int, name: str, model: str) -> None:
    """Raise PromptError for a token that the model has no embedding of: its tokenizer was given it later.

    size: number of the model's embeddings. name: what to call the prompt; model: what to call the model.
    """
    beyond = dict.fromkeys(number for number in encoded.ids if number >= size)
    if beyond:
        named = [f"{tokenizer.convert_ids_to_tokens(number)!r} (id {number})" for number in beyond]
        raise PromptError(
            f"{name} holds the token{'s' if len(named) > 1 else ''} {', '.join(named[:_NAMED])}, and {model} has "
            f"embeddings of ids up to {size - 1} only; write the prompt without, or give a tokenizer that fits the "
            "model."
        )


def front_tokens(tokenizer: Tokenizer) -> list[int]:
    """Return the ids of the special tokens that the tokenizer puts in front of a text by its own rule (often BOS, or
    none)."""
    with_special = tokenizer("a", add_special_tokens=True)["input_ids"]
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    for position in range(len(with_special) - len(plain) + 1):
        if with_special[position : position + len(plain)] == plain:
            return list(with_special[:position])
    return []


def _encoded(
    front: Sequence[int], prompt: _Tokens, response: _Tokens, prompt_text: str, response_text: str, shift: int
) -> Encoded:
    return Encoded(
        front=tuple(front),
        prompt_ids=tuple(prompt.ids),
        prompt_tokens=tuple(prompt.texts),
        prompt_start=tuple(start for start, _ in prompt.ranges),
        prompt_stop=tuple(stop for _, stop in prompt.ranges),
        response_ids=tuple(response.ids),
        response_tokens=tuple(response.texts),
        response_start=tuple(max(start - shift, 0) for start, _ in response.ranges),
        response_stop=tuple(stop - shift for _, stop in response.ranges),
        prompt_text=prompt_text,
        response_text=response_text,
    )


def _read(tokenizer: Tokenizer, text: str, prepend_bos: bool | None) -> tuple[tuple[int, ...], _Tokens]:
    """Return the special tokens in front, and the tokens of the text without them."""
    tokens = _tokens(tokenizer, text)
    front = _front(tokenizer, prepend_bos)
    bos = tokenizer.bos_token_id
    if front and tuple(tokens.ids[: len(front)]) == front:
        return front, tokens[len(front) :]
    if bos is not None and tokens.ids[:1] == [bos]:
        return tuple(tokens.ids[:1]), tokens[1:]
    return front, tokens


def _front(tokenizer: Tokenizer, prepend_bos: bool | None) -> tuple[int, ...]:
    front, bos = tuple(front_tokens(tokenizer)), tokenizer.bos_token_id
    if prepend_bos is None:
        return front
    if not prepend_bos:
        return tuple(number for number in front if number != bos)
    if bos is None:
        raise ModelError("prepend_bos=True, but this tokenizer has no BOS token; leave prepend_bos out.")
    return front if bos in front else (bos, *front)


def _tokens(tokenizer: Tokenizer, text: str) -> _Tokens:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(f"The text {text[:40]!r} holds half a character (a lone surrogate); remove it.") from error
    if not getattr(tokenizer, "is_fast", False):
        return _tokens_of_slow(tokenizer, text)
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = list(read["input_ids"])
    ranges = _claim_spaces(text, [(int(start), int(stop)) for start, stop in read["offset_mapping"]])
    ranges = _without_prefix(text, tokenizer.convert_ids_to_tokens(ids), ranges)
    return _Tokens(ids, _token_texts(tokenizer, ids, text, ranges), ranges)


def _tokens_of_slow(tokenizer: Tokenizer, text: str) -> _Tokens:
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    decoded, ranges = _by_decoding(tokenizer, [], ids)
    if decoded != text:
        raise ModelError(
            f"{type(tokenizer).__name__} is a slow tokenizer that does not decode to the text it read, so its tokens "
            "have no characters; use the fast tokenizer of this model (tokenizer.json)."
        )
    return _Tokens(ids, _token_texts(tokenizer, ids, text, ranges), ranges)


def _claim_spaces(text: str, offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges in order; white space before a token that no token claims (some tokenizers trim it) is that
    token's."""
    ranges: list[tuple[int, int]] = []
    last = 0  # the end of what is claimed
    for start, stop in offsets:
        start, stop = (start, stop) if ranges == [] or start >= ranges[-1][0] else (last, max(last, stop))
        if start > last and text[last:start].isspace() and stop > start:
            start = last
        ranges.append((start, stop))
        last = max(last, stop)
    return ranges


def _without_prefix(text: str, pieces: list[str], ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return an empty range for a lone "▁" that the tokenizer itself put in front: its offsets claim the next
    character."""
    freed = []
    for number, (start, stop) in enumerate(ranges):
        following = ranges[number + 1] if number + 1 < len(ranges) else (stop, stop)
        written = text[start : start + 1]
        borrowed = stop - start == 1 and (not (written.isspace() or written == "▁") or following[0] == start)
        freed.append((start, start) if pieces[number] == "▁" and borrowed else (start, stop))
    return freed


def token_text(tokenizer: Tokenizer, number: int) -> str:
    """Return what a token decodes to by itself; bytes that make no character are written as such: "<0xF0>"."""
    decoded = tokenizer.decode([number], **_PLAIN)
    return _written_bytes(tokenizer, number, decoded) if BROKEN in decoded else decoded


def _token_texts(
    tokenizer: Tokenizer, ids: list[int], text: str, ranges: list[tuple[int, int]], *, generated: bool = False
) -> list[str]:
    """Return the decoded strings; the text's own white space where a decoder drops or adds it.

    A character of several tokens is the text of the first one, and the others have none (`results.characters`). Bytes
    of a generated text that make no character are written as such: "<0xF0>".
    """
    shown = []
    for number, (start, stop), own in zip(ids, ranges, own_characters(text, ranges), strict=True):
        decoded = tokenizer.decode([number], **_PLAIN)
        part = text[start:stop]
        if BROKEN in decoded:
            shown.append(_written_bytes(tokenizer, number, decoded) if generated and BROKEN in part else own)
        else:
            shown.append(part if part and decoded.strip() == part.strip() else decoded)
    return shown


def _written_bytes(tokenizer: Tokenizer, number: int, decoded: str) -> str:
    """Return a token with the bytes that are no character written out; as decoded where its bytes are not known."""
    data = _bytes_of(tokenizer.convert_ids_to_tokens([number])[0])
    if data is None or data.decode("utf-8", errors="replace") != decoded:
        return decoded
    text = data.decode("utf-8", errors="surrogateescape")
    return "".join(f"<0x{ord(c) - 0xDC00:02X}>" if "\udc80" <= c <= "\udcff" else c for c in text)


def _bytes_of(piece: Any) -> bytes | None:
    """Return the bytes of a vocabulary entry: "<0xF0>", or GPT-2's letters for bytes; None for another form."""
    if isinstance(piece, bytes):
        return piece
    if _BYTE.fullmatch(piece):
        return bytes([int(piece[3:5], 16)])
    letters = _letters_of_bytes()
    return bytes(letters[letter] for letter in piece) if all(letter in letters for letter in piece) else None


@cache
def _letters_of_bytes() -> dict[str, int]:
    """Return the byte of each letter in a byte-level vocabulary: printable Latin-1 is itself, the rest follows from
    U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _by_decoding(tokenizer: Tokenizer, before: list[int], ids: list[int]) -> tuple[str, list[tuple[int, int]]]:
    """Return the text that `ids` add after `before`, and each id's range in it, from decoding ever longer beginnings.

    A beginning that ends inside a character decodes to a replacement character; its last token waits for the token
    that completes the character, and shares the character's range.
    """
    known = tokenizer.decode(before, **_PLAIN) if before else ""
    full = tokenizer.decode([*before, *ids], **_PLAIN)
    start = _common(known, full)
    text = full[start:]
    ends, end = [], 0
    for count in range(1, len(ids) + 1):
        part = tokenizer.decode([*before, *ids[:count]], **_PLAIN)
        end = max(end, _common(part, full) - start)
        ends.append(end)
    ranges: list[tuple[int, int]] = []
    for begin, end in zip([0, *ends], ends, strict=False):
        begin = min(begin, max(len(text) - 1, 0)) if end == begin else begin
        ranges.append((begin, max(end, min(begin + 1, len(text)))))
    return text, ranges


def _common(part: str, whole: str) -> int:
    """Return the number of leading characters that two strings share."""
    if whole.startswith(part):
        return len(part)
    shorter = min(len(part), len(whole))
    return next((i for i in range(shorter) if part[i] != whole[i]), shorter)
