"""Texts as both models of a pair read them: tokens by their common tokenizer, cut where they are too long.

Special tokens that the tokenizer puts in front (BOS) are read and are no position of a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from itlens.errors import PromptError
from itlens.hooked.tokens import Forced, left_out_attrs
from itlens.models import ModelPair
from itlens.models.compatibility import PairReport
from itlens.prompts.texts import Passage, as_passages
from itlens.tokenization import Tokenizer, encode

_NAMED = 5  # texts that a note or an error names


@dataclass(frozen=True)
class CorpusText:
    """A text as tokens. read: all ids that are fed; front: how many of them are special tokens in front."""

    id: str
    group: str
    text: str
    read: tuple[int, ...]
    front: int

    @property
    def count(self) -> int:
        """The number of its positions: tokens of its own."""
        return len(self.read) - self.front


class Corpus(list[CorpusText]):
    """Texts that are read. note: which were left out or cut, "" for none; left_out: the ids of the first."""

    def __init__(self, texts: Sequence[CorpusText], note: str = "", left_out: Sequence[str] = ()) -> None:
        super().__init__(texts)
        self.note, self.left_out = note, tuple(left_out)


def corpus_of(
    pair: ModelPair,
    report: PairReport,
    given: Any,
    *,
    least: int = 1,
    most: int | None = None,
    exact: bool = False,
    prepend_bos: bool | None = None,
) -> Corpus:
    """Return texts (`as_passages`), or prompts that a study reads (`Forced`), as the models of a pair read them.

    least: tokens of its own that a text needs; shorter ones are left out and the note counts them. most: tokens of its
    own that are read, longer texts are cut; None: as many as the context holds. exact: whether being cut is what is
    wanted, so that the note is silent about it.

    Raises PromptError: no texts, only texts that are too short, a token that one of the two models does not have.
    """
    context = int(min(report.base["context"], report.tuned["context"]))
    notes: list[str] = []
    if isinstance(given, Sequence) and given and all(isinstance(one, Forced) for one in given):
        read = [_of_prompt(one) for one in given]
        notes += filter(None, [left_out_attrs(given)["note"]])
    else:
        tokenizer = pair.side("tuned").tokenizer
        if tokenizer is None:
            raise PromptError("Texts need a tokenizer; load the models with load_model(..., tokenizer=...).")
        read = [_of_passage(one, tokenizer, prepend_bos) for one in as_passages(given)]
    size = int(min(report.base["vocabulary"], report.tuned["vocabulary"]))
    kept, cut = [], 0
    for text in read:
        if text.count < least:
            continue
        length = min(len(text.read), context, len(text.read) if most is None else text.front + most)
        cut += length < len(text.read)
        kept.append(CorpusText(text.id, text.group, text.text, text.read[:length], text.front))
        _refuse_beyond(kept[-1], size)
    short = [text for text in read if text.count < least]
    if not kept:
        longest = max(text.count for text in read)
        raise PromptError(
            f"None of {len(read)} texts has the {least} tokens that are requested (the longest has {longest}); give "
            "longer texts, or positions= at most that."
        )
    notes += [_left_out(short, len(read), least)] if short else []
    if cut and not exact:
        notes.append(f"{cut} of {len(read)} texts are cut, to {'the context' if most is None else f'{most} tokens'}")
    return Corpus(kept, "; ".join(notes), [text.id for text in short])


def batches_of(texts: Sequence[CorpusText], rows: int, device: torch.device) -> Iterator[torch.Tensor]:
    """Yield the ids of texts of one length as tensors (text, position), `rows` at a time."""
    for start in range(0, len(texts), rows):
        yield torch.tensor([text.read for text in texts[start : start + rows]], device=device)


def _of_passage(passage: Passage, tokenizer: Tokenizer, prepend_bos: bool | None) -> CorpusText:
    encoded = encode(tokenizer, passage.text, prepend_bos=prepend_bos)
    return CorpusText(passage.id, passage.group, passage.text, tuple(encoded.ids), len(encoded.front))


def _of_prompt(prompt: Forced) -> CorpusText:
    known = prompt.encoded
    ids = (*prompt.read, prompt.targets[-1]) if not prompt.is_ended else prompt.read
    return CorpusText(prompt.id, prompt.group, known.prompt_text + known.response_text, ids, len(known.front))


def _left_out(short: Sequence[CorpusText], everything: int, least: int) -> str:
    named = ", ".join(text.id for text in short[:_NAMED])
    more = f" and {len(short) - _NAMED} more" if len(short) > _NAMED else ""
    return f"{len(short)} of {everything} texts are left out, since they have fewer than {least} tokens: {named}{more}"


def _refuse_beyond(text: CorpusText, size: int) -> None:
    beyond = next((id for id in text.read if id >= size), None)
    if beyond is not None:
        raise PromptError(
            f"The text {text.id!r} holds token {beyond}, but one of the two models has only {size} tokens; leave this "
            "text out."
        )
