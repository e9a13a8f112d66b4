"""The prompts of a study, as they were written and as the models read them, checked against both models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from itlens.errors import PromptError
from itlens.prompts import Prompt, as_prompts, load_prompts
from itlens.prompts.formats import TemplateClock, frame_prompts
from itlens.results.density import overlaps
from itlens.tokenization import encode, refuse_beyond

if TYPE_CHECKING:
    from itlens.models.compatibility import Side

Responses: TypeAlias = Literal["own", "tuned", "base"]
RESPONSES: tuple[Responses, ...] = ("own", "tuned", "base")


@dataclass(frozen=True)
class StudyPrompts:
    """given: the prompts as they were written. prompts: the same in the study's format. tokenizer: the tuned model's.

    format, max_new_tokens, prepend_bos, responses: how every finding that needs prompts reads them. clock: what the
    chat template read as the time, for all prompts alike.
    """

    given: Sequence[Prompt]
    prompts: Sequence[Prompt]
    tokenizer: Any  # a `Tokenizer`, or None
    format: str
    max_new_tokens: int
    prepend_bos: bool | None
    responses: Responses
    clock: TemplateClock = field(default_factory=TemplateClock)

    @property
    def rendered(self) -> str:
        """When the chat template's clock stood, as ISO 8601; "" where the template does not look at it."""
        return self.clock.moment.isoformat() if self.clock.read else ""

    @property
    def notices(self) -> list[str]:
        """What a reader must know of how the prompts were read."""
        if not self.clock.read:
            return []
        return [
            f"The chat template writes the date or the time: {self.clock.moment:%Y-%m-%d %H:%M} in all prompts, also "
            "when this study is resumed."
        ]

    @property
    def settings(self) -> dict[str, Any]:
        """How prompts are read, for people and as the identity."""
        front = "" if self.prepend_bos is None else self.prepend_bos
        return {
            "format": self.format,
            "max_new_tokens": self.max_new_tokens,
            "prepend_bos": front,
            "responses": self.responses,
        }

    @property
    def digests(self) -> list[list[str]]:
        """What results depend on: each prompt's id and a digest of its content, as the models read it."""
        return [[prompt.id, prompt_digest(prompt)] for prompt in self.prompts]


def prompt_digest(prompt: Prompt) -> str:
    """Return a digest of everything that a prompt holds."""
    content = json.dumps(asdict(prompt), sort_keys=True, default=str)
    return hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def study_prompts(
    prompts: str | Path | Prompt | Iterable[Prompt],
    limit: int | None,
    format: str,
    models: Mapping[str, Side],
    max_new_tokens: int,
    prepend_bos: bool | None,
    responses: Responses,
    *,
    held: Sequence[str] = (),
    rendered: datetime | None = None,
) -> StudyPrompts:
    """Load the prompts and check them against both models. Raises PromptError.

    held: ids of the prompts that the study has already, which come first, in that order. rendered: the time that a
    chat template writes; default now.
    """
    by_id = {prompt.id: prompt for prompt in listed_prompts(prompts, limit)}
    given = [by_id[name] for name in dict.fromkeys([*held, *by_id]) if name in by_id]
    tokenizer, clock = models["tuned"].tokenizer, TemplateClock(rendered)
    framed = [each.prompt for each in frame_prompts(given, format, tokenizer, clock)]
    for side, model in models.items():
        if model.tokenizer is not None:
            for prompt in framed:
                _refuse_unreadable(prompt, side, model, prepend_bos)
    return StudyPrompts(given, framed, tokenizer, format, max_new_tokens, prepend_bos, responses, clock)


def listed_prompts(prompts: str | Path | Prompt | Iterable[Prompt], limit: int | None) -> list[Prompt]:
    """Return the prompts as they were written, each with an id and an instruction. Raises PromptError."""
    if isinstance(prompts, (str, Path)):
        return as_prompts(load_prompts(prompts, limit=limit), instruction_required=True)
    if isinstance(prompts, Prompt):
        prompts = [prompts]
    if not isinstance(prompts, Iterable) or isinstance(prompts, Mapping):
        raise PromptError(
            f"prompts is a {type(prompts).__name__}; expected a file, a name, or a list of itlens.Prompt."
        )
    return as_prompts(list(prompts)[:limit], instruction_required=True)


def _refuse_unreadable(prompt: Prompt, side: str, model: Side, prepend_bos: bool | None) -> None:
    """Raise PromptError for a prompt (with its given response) that one of the models cannot read, or whose instruction
    it reads nothing of."""
    encoded = encode(model.tokenizer, prompt.text, prompt.response, prepend_bos=prepend_bos)
    name = f"Prompt {prompt.id!r}"
    if size := model.facts.get("vocabulary"):
        refuse_beyond(encoded, model.tokenizer, size, name, f"the {side} model")
    start, stop = np.array(encoded.prompt_start), np.array(encoded.prompt_stop)
    if not overlaps(encoded.prompt_text, start, stop, prompt.instruction).any():
        raise PromptError(
            f"{name}: no token of the {side} model's tokenizer lies in its instruction "
            f"{' '.join(prompt.span_text('instruction'))!r}; mark words of the text as its instruction."
        )
    context = int(model.facts.get("context") or 0)
    length = len(encoded.ids) - bool(encoded.response_ids)
    room = context - (prompt.response is None)  # for the first token of the model's own response
    if context and length > room:
        raise PromptError(
            f"{name} is {length} tokens long; the {side} model reads at most {context}"
            f"{'' if length > context else ', so there is no room for a response'}: shorten it or leave it out."
        )


def refuse_unshared(
    prompts: Sequence[Prompt], models: Mapping[str, Side], responses: str, prepend_bos: bool | None
) -> None:
    """Raise PromptError for a prompt that one of the models cannot read as the other one's tokens."""
    writer = "tuned" if responses == "own" else responses  # whose tokens both models read
    other = "base" if writer == "tuned" else "tuned"
    tokenizer, size = models[writer].tokenizer, models[other].facts.get("vocabulary")
    if tokenizer is None or not size:
        return
    for prompt in prompts:
        encoded = encode(tokenizer, prompt.text, prompt.response, prepend_bos=prepend_bos)
        name = f"Prompt {prompt.id!r}, as the {writer} model reads it,"
        refuse_beyond(encoded, tokenizer, size, name, f"the {other} model")
