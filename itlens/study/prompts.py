"""The prompts of a study, as they were written and as the models read them, checked against both models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from itlens.errors import PromptError
from itlens.prompts import Prompt, as_prompts, format_prompts, load_prompts
from itlens.tokenization import encode

if TYPE_CHECKING:
    from itlens.models.compatibility import Side

Responses: TypeAlias = Literal["own", "tuned", "base"]
RESPONSES: tuple[Responses, ...] = ("own", "tuned", "base")


@dataclass(frozen=True)
class StudyPrompts:
    """given: the prompts as they were written. prompts: the same in the study's format. tokenizer: the tuned model's.

    format, max_new_tokens, prepend_bos, responses: how every finding that needs prompts reads them.
    """

    given: Sequence[Prompt]
    prompts: Sequence[Prompt]
    tokenizer: Any
    format: str
    max_new_tokens: int
    prepend_bos: bool | None
    responses: Responses

    @property
    def settings(self) -> dict[str, Any]:
        """How prompts are read, for people and for the identity."""
        front = "" if self.prepend_bos is None else self.prepend_bos
        return {
            "format": self.format,
            "max_new_tokens": self.max_new_tokens,
            "prepend_bos": front,
            "responses": self.responses,
        }

    @property
    def identity(self) -> dict[str, Any]:
        """What results depend on: the prompts by their content."""
        content = json.dumps([asdict(prompt) for prompt in self.prompts], sort_keys=True, default=str)
        digest = hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()[:16]
        return {"prompts": f"{len(self.prompts)} (sha256 {digest})", **self.settings}


def study_prompts(
    prompts: str | Path | Prompt | Iterable[Prompt],
    limit: int | None,
    format: str,
    models: Mapping[str, Side],
    max_new_tokens: int,
    prepend_bos: bool | None,
    responses: Responses,
) -> StudyPrompts:
    """Load the prompts and check them against both models. Raises PromptError."""
    given = listed_prompts(prompts, limit)
    tokenizer = models["tuned"].tokenizer
    framed = format_prompts(given, format, tokenizer)
    _refuse_long(framed, models, prepend_bos)
    return StudyPrompts(given, framed, tokenizer, format, max_new_tokens, prepend_bos, responses)


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


def _refuse_long(prompts: Sequence[Prompt], models: Mapping[str, Side], prepend_bos: bool | None) -> None:
    """Raise PromptError for a prompt (with its given response) that one of the models cannot read."""
    for side, model in models.items():
        context = model.facts.get("context")
        if model.tokenizer is None or not context:
            continue
        for prompt in prompts:
            encoded = encode(model.tokenizer, prompt.text, prompt.response, prepend_bos=prepend_bos)
            length = len(encoded.ids) - bool(encoded.response_ids)
            room = context - (prompt.response is None)  # for the first token of the model's own response
            if length > room:
                raise PromptError(
                    f"Prompt {prompt.id!r} is {length} tokens long; the {side} model reads at most {context}"
                    f"{'' if length > context else ', so there is no room for a response'}: shorten it or leave it out."
                )
