"""What a model reads around a prompt: nothing, a chat template, or a text of one's own; spans move with the text.

Where a chat template puts the prompt is found by rendering it twice: once around a sentinel, which gives what stands
in front and behind, and once around the prompt, which must have the same front and back. The prompt is never searched
for in the rendered text, so a template that happens to hold the prompt's words cannot catch the spans.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from itlens.errors import PromptError
from itlens.prompts.prompt import KINDS, Prompt
from itlens.prompts.spans import Span, quote
from itlens.prompts.templates import render_chat

if TYPE_CHECKING:
    from itlens.tokenization import Tokenizer

PLACE = "{prompt}"
# what to do, wherever a response is empty
EMPTY_FORM = (
    'a chat model often ends at once on a prompt that is not in its chat template: use format="chat" (--prompt-format '
    "chat), or give a response"
)
EMPTY_RESPONSE = f"The response is empty, so that every score is 0; {EMPTY_FORM}"
_SENTINEL = "ItlensSentinelQx7Zv"
# of strftime, on the systems that have them: the padded ones, and those without their zero
_DIRECTIVES = [f"%{mark}{letter}" for mark in ("-", "") for letter in "aAbBcCdDeFfGghHIjklmMnpPrRsStTuUVwWxXyYzZ"]
_OTHER_TIME = timedelta(days=401, hours=3, minutes=7, seconds=11, microseconds=13)


class Framed(NamedTuple):
    """A prompt as a model reads it, and where the characters of the prompt itself stand in that text.

    body: (start, stop) in the text of `prompt`; what lies outside was written by the format. cut: how many characters
    of white space the format took off the front, so that character c of the original stands at body[0] + c - cut.
    """

    prompt: Prompt
    body: Span
    cut: int


class TemplateClock:
    """The time that chat templates write (`strftime_now`): one moment, for all prompts of a study.

    moment: default now. read: whether a template has written it.
    """

    def __init__(self, moment: datetime | None = None) -> None:
        self.moment = datetime.now() if moment is None else moment
        self.read = False

    def in_template(self, template: str) -> str:
        """Return a template in which `strftime_now` is a macro that writes the moment, in whatever format it is asked
        for."""
        written = {directive: self.moment.strftime(directive) for directive in _DIRECTIVES}
        steps = [("%%", "\0")] + [(key, text) for key, text in written.items() if text != key] + [("\0", "%")]
        pairs = f"[{', '.join(f'({json.dumps(key)}, {json.dumps(text)})' for key, text in steps)}]"
        macro = (
            "{% macro strftime_now(format) %}{% set now = namespace(text=format) %}"
            f"{{% for key, text in {pairs} %}}{{% set now.text = now.text | replace(key, text) %}}{{% endfor %}}"
            "{{ now.text }}{% endmacro %}"
        )
        # the line ends after the macro: the template's first line must still be the first of a line
        return f"{macro}\n{template}"


def format_prompts(prompts: Iterable[Prompt], format: str = "raw", tokenizer: Tokenizer | None = None) -> list[Prompt]:
    """Return the prompts with their texts wrapped and their spans moved along; every other field stays.

    format: "raw" changes nothing (as in the paper). "chat" renders the tokenizer's chat template with the prompt as
    the one user message and the generation prompt behind it; special tokens that the template writes (a BOS among
    them) are part of the new text. Any other text must hold `{prompt}` exactly once, which the prompt replaces; other
    braces stay as they are. Raises PromptError for another format, and for a tokenizer without a chat template or
    with one that changes the prompt's text by more than cutting white space off its ends.
    """
    return [framed.prompt for framed in frame_prompts(prompts, format, tokenizer)]


def frame_prompts(
    prompts: Iterable[Prompt],
    format: str = "raw",
    tokenizer: Tokenizer | None = None,
    clock: TemplateClock | None = None,
) -> list[Framed]:
    """Format prompts as `format_prompts` does, with the place of each prompt's own text; raises PromptError for the
    same reasons. clock: what a chat template reads as the time; default one that stands at this moment."""
    if not isinstance(format, str):
        raise PromptError(f'The format must be "raw", "chat" or a text that holds {PLACE}, not {format!r}.')
    given = _checked(prompts)
    if format == "raw":
        return [Framed(prompt, (0, len(prompt.text)), 0) for prompt in given]
    if format == "chat":
        clock = TemplateClock() if clock is None else clock
        writer = _with_template(tokenizer)
        front, back = _chat_frame(writer, clock)
        return [_in_chat(prompt, writer, clock, front, back) for prompt in given]
    if format.count(PLACE) != 1:
        raise PromptError(
            f'The format {quote(format)} holds {PLACE} {format.count(PLACE)} times; use "raw", "chat", or a text that '
            f"holds {PLACE} exactly once."
        )
    front, _, back = format.partition(PLACE)
    return [_wrapped(prompt, front, prompt.text, back, cut=0) for prompt in given]


def _checked(prompts: Iterable[Prompt]) -> list[Prompt]:
    if not isinstance(prompts, Iterable):
        raise PromptError(f"format_prompts takes a list of prompts, not a {type(prompts).__name__}.")
    given = list(prompts)
    for prompt in given:
        if not isinstance(prompt, Prompt):
            raise PromptError(f"format_prompts takes Prompt objects, not a {type(prompt).__name__}; use load_prompts.")
    return given


def _wrapped(prompt: Prompt, front: str, body: str, back: str, cut: int) -> Framed:
    """Note that `body` is the prompt's text without its first `cut` characters, perhaps without some at its end."""
    shift = len(front) - cut
    first, last = len(front), len(front) + len(body)

    def moved(span: Span) -> Span:
        # White space that a template trims off the prompt's ends is trimmed off the spans as well.
        return max(span[0] + shift, first), min(span[1] + shift, last)

    spans = {kind: [moved(span) for span in prompt.spans(kind)] for kind in KINDS}
    return Framed(prompt.replace(text=front + body + back, **spans), (first, last), cut)


def _in_chat(prompt: Prompt, tokenizer: Tokenizer, clock: TemplateClock, front: str, back: str) -> Framed:
    rendered = _render(tokenizer, prompt.text, clock)
    body = rendered[len(front) : len(rendered) - len(back)]
    cut = _cut(prompt.text, body) if rendered == front + body + back else None
    if cut is None:
        raise PromptError(
            f"The chat template changes the text of prompt {quote(prompt.id)}, so its spans cannot be followed; use "
            f'format="raw" or a text that holds {PLACE}.'
        )
    return _wrapped(prompt, front, body, back, cut)


def _cut(text: str, body: str) -> int | None:
    """Return how many characters of white space a template cut off the front of `text` to make `body`; None: it did
    more."""
    leading = len(text) - len(text.lstrip())
    trimmed = {text: 0, text.rstrip(): 0, text.lstrip(): leading, text.strip(): leading}
    return trimmed.get(body)


def _with_template(tokenizer: Tokenizer | None) -> Tokenizer:
    """Return the tokenizer; raises PromptError where there is none, or none with a chat template."""
    if tokenizer is None:
        raise PromptError('format="chat" needs a tokenizer: the chat template is the tokenizer\'s.')
    if not getattr(tokenizer, "chat_template", None):
        raise PromptError(
            f"The tokenizer {quote(str(getattr(tokenizer, 'name_or_path', '') or type(tokenizer).__name__))} has no "
            f'chat template; use format="raw" or a text that holds {PLACE}, or set `tokenizer.chat_template`.'
        )
    return tokenizer


def _chat_frame(tokenizer: Tokenizer, clock: TemplateClock) -> tuple[str, str]:
    rendered = _render(tokenizer, _SENTINEL, clock)
    if rendered.count(_SENTINEL) != 1:
        raise PromptError(
            f"The chat template writes the user's message {rendered.count(_SENTINEL)} times where once is needed to "
            f'follow the spans; use format="raw" or a text that holds {PLACE}.'
        )
    clock.read |= rendered != _render(tokenizer, _SENTINEL, TemplateClock(clock.moment - _OTHER_TIME))
    front, _, back = rendered.partition(_SENTINEL)
    return front, back


def _render(tokenizer: Tokenizer, text: str, clock: TemplateClock) -> str:
    template = tokenizer.chat_template
    template = template.get("default") if isinstance(template, dict) else template
    timed = clock.in_template(template) if isinstance(template, str) and "strftime_now" in template else None
    return render_chat(tokenizer, [{"role": "user", "content": text}], template=timed)
