"""Prompt: a text, and the character ranges of its instruction and of its context.

Spans are given as substrings or as (start, stop) and kept as (start, stop): characters are the axis that all
tokenizers share. Spans of one kind never share a character (see `spans`); an instruction and a context may.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

from itlens.errors import PromptError
from itlens.prompts.spans import Span, SpansLike, quote, resolve_spans

KINDS = ("instruction", "context")


@dataclass(frozen=True, init=False, repr=False)
class Prompt:
    """One prompt, immutable; make a changed one with `replace`.

    text: what the model reads (before any format). instruction, context: substrings of the text (the first
    occurrence) or (start, stop) pairs in characters, one or several; kept as sorted (start, stop) pairs, those of one
    kind that overlap merged. response: a given response, None to let the model generate one. id: names the prompt.
    group: its task family. rating: how well the response follows the instruction. answer: a reference answer; never
    used as a response. Raises PromptError, naming the id, for a span that does not fit and for values of other types.
    """

    text: str
    instruction: tuple[Span, ...]
    context: tuple[Span, ...]
    response: str | None
    id: str
    group: str
    rating: float | None
    answer: str | None

    def __init__(
        self,
        text: str,
        instruction: SpansLike = (),
        context: SpansLike = (),
        response: str | None = None,
        id: str = "",
        group: str = "",
        rating: float | None = None,
        answer: str | None = None,
    ) -> None:
        name = _name(id, text)
        for field, value, optional in (
            ("id", id, False),
            ("text", text, False),
            ("group", group, False),
            ("response", response, True),
            ("answer", answer, True),
        ):
            _check_text(name, field, value, optional)
        if not text.strip():
            raise PromptError(f"{name}: its text is empty; a prompt needs words.")
        values: dict[str, Any] = {
            "text": text,
            "instruction": resolve_spans(instruction, text, f"{name}: its instruction"),
            "context": resolve_spans(context, text, f"{name}: its context"),
            "response": response,
            "id": id,
            "group": group,
            "rating": _rating(name, rating),
            "answer": answer,
        }
        for field, value in values.items():
            object.__setattr__(self, field, value)  # the dataclass is frozen for everyone else

    def spans(self, kind: str) -> tuple[Span, ...]:
        """Return the (start, stop) pairs of "instruction" or "context", in characters of `text`; may be empty."""
        if kind not in KINDS:
            raise PromptError(f'{kind!r} is no kind of span; a prompt has "instruction" and "context".')
        return self.instruction if kind == "instruction" else self.context

    def span_text(self, kind: str) -> list[str]:
        """Return what the spans of "instruction" or "context" hold, in the order of the text."""
        return [self.text[start:stop] for start, stop in self.spans(kind)]

    def replace(self, **changes: Any) -> Prompt:
        """Return a copy with some fields changed. A new text needs new spans of every kind that the prompt has."""
        names = [field.name for field in fields(self)]
        for name in changes:
            if name not in names:
                raise PromptError(f"{name!r} is no field of a prompt; the fields are {', '.join(names)}.")
        if changes.get("text", self.text) != self.text:
            for kind in KINDS:
                if self.spans(kind) and kind not in changes:
                    raise PromptError(f"{_name(self.id, self.text)}: a new text moves its {kind}; give `{kind}` too.")
        return Prompt(**({name: getattr(self, name) for name in names} | changes))

    def __repr__(self) -> str:
        parts = [quote(self.text, 60)]
        parts += [f"{kind}={len(self.spans(kind))} span(s)" for kind in KINDS if self.spans(kind)]
        parts += [f"{name}={getattr(self, name)!r}" for name in ("id", "group") if getattr(self, name)]
        parts += [f"{name}=..." for name in ("response", "answer") if getattr(self, name) is not None]
        parts += [f"rating={self.rating:g}"] if self.rating is not None else []
        return f"Prompt({', '.join(parts)})"

    def _repr_html_(self) -> str:
        from itlens.report.environment import prompt_html

        return prompt_html(self)


def _name(id: Any, text: Any) -> str:
    if isinstance(id, str) and id:
        return f"Prompt {quote(id)}"
    return f"Prompt {quote(text, 40)} (without an id)" if isinstance(text, str) else "Prompt without an id"


def _check_text(name: str, field: str, value: Any, optional: bool) -> None:
    if value is None and optional:
        return
    if not isinstance(value, str):
        raise PromptError(f"{name}: its {field} must be text{' or None' if optional else ''}, not {_kind(value)}.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"{name}: its {field} holds half of a surrogate pair at character {error.start}, which no tokenizer can "
            "read; decode the text as UTF-8 (or UTF-16) first."
        ) from None


def _rating(name: str, rating: Any) -> float | None:
    if rating is None:
        return None
    if isinstance(rating, bool) or not isinstance(rating, Real):
        raise PromptError(f"{name}: its rating must be a number or None, not {_kind(rating)}.")
    try:
        value = float(rating)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise PromptError(f"{name}: its rating is not a finite number; leave it out where there is none.")
    return value


def _kind(value: Any) -> str:
    return "None" if value is None else f"{quote(repr(value), 40)} ({type(value).__name__})"
