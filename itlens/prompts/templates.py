"""Chat templates: programs of strangers, rendered within limits.

jinja2's sandbox keeps a template from the system, and not from running on: nested loops over `range(100000)` do not
end. While one is rendered, a trace function of this thread looks at the clock at every line, and numbers that could
fill the memory in one step (powers, factors of millions) are refused before. Whatever is raised becomes one sentence.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any

from itlens.errors import PromptError
from itlens.foreign import foreign

if TYPE_CHECKING:
    from itlens.tokenization import Tokenizer

SECONDS = 5.0  # for one rendering; templates of released models take some milliseconds
_LARGEST = 1_000_000  # factor in a template
_ANSWER = "ItlensSentinelAnswerQx7Zv"
_GROWS = re.compile(r"\*|\d{4}")
_WIDTH = re.compile(r"(?:%[-+ #0]*|\{[^{}]*:[^{}]*?)(\d{4,18})")  # of a format: "%9999d", "{:>9999}"
_WORDS = re.compile(r"[^\W\d_]{3,}")  # a role's name, and not a space or a sign


def render_chat(
    tokenizer: Tokenizer, messages: list[dict[str, str]], *, generation_prompt: bool = True, template: str | None = None
) -> str:
    """Return the messages as the tokenizer's chat template writes them; `template`: another one in its place.

    Raises PromptError for a template that fails, takes longer than `SECONDS`, or does not give a text.
    """
    what, remedy = "The chat template cannot be rendered", 'use format="raw" or a text that holds {prompt}.'
    own = {} if template is None else {"chat_template": template}
    with foreign(PromptError, what, f"U{remedy[1:]}"):
        _refuse_large_numbers(getattr(tokenizer, "chat_template", None) if template is None else template)
        try:
            with _time_limit():
                rendered = tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=generation_prompt, **own
                )
        except MemoryError as error:
            raise PromptError(f"The chat template asks for more memory than there is; {remedy}") from error
    if not isinstance(rendered, str):
        raise PromptError(f"The chat template rendered to a {type(rendered).__name__} where text was expected.")
    return rendered


def unannounced_turn(tokenizer: Tokenizer) -> str:
    """Return the header that a chat template writes before the model's answer in a finished chat, but not for one that
    is to be generated: the model has to write it first. "" where there is none, or no template that can be rendered.
    """
    if not getattr(tokenizer, "chat_template", None):
        return ""
    user = [{"role": "user", "content": "ItlensSentinelQx7Zv"}]
    try:
        asked, bare = (render_chat(tokenizer, user, generation_prompt=wanted) for wanted in (True, False))
        finished = render_chat(tokenizer, [*user, {"role": "assistant", "content": _ANSWER}], generation_prompt=False)
    except PromptError:  # is said where the template is used
        return ""
    header, found, _ = finished.removeprefix(bare).partition(_ANSWER)
    missing = asked == bare and finished.startswith(bare) and found and _WORDS.search(header)
    return header if missing else ""


def _refuse_large_numbers(template: Any) -> None:
    """Raise PromptError for a template of which one step could fill the memory: a power, a number or the width of a
    format above a million, or factors and widths that make a million together."""
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if not isinstance(template, str) or not _GROWS.search(template):  # the rest cannot, and is not parsed
        return
    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    # transformers' own tag for the model's words, which this environment does not know
    tree = environment.parse(re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", template))
    if next(tree.find_all(nodes.Pow), None) is not None:
        raise PromptError("The chat template computes a power; no template of a released model does.")
    for constant in tree.find_all(nodes.Const):
        for number in _numbers(constant.value):
            if number > _LARGEST:
                raise PromptError(f"The chat template computes with {number}; expected numbers up to {_LARGEST:,}.")
    methods = [call for call in tree.find_all(nodes.Call) if isinstance(call.node, nodes.Getattr)]
    multiplying = [*methods, *tree.find_all(nodes.Mul), *tree.find_all(nodes.Mod), *tree.find_all(nodes.Filter)]
    factors = {constant for node in multiplying for constant in node.find_all(nodes.Const)}
    together = prod(max(number, 1) for constant in factors for number in _numbers(constant.value))
    if together > _LARGEST:
        raise PromptError(
            f"The chat template multiplies by {together:.3g} in all; expected factors and widths up to {_LARGEST:,}."
        )


def _numbers(value: Any) -> list[float]:
    """Return a number, or the widths that a text asks for where it is used as a format."""
    if isinstance(value, (int, float)):
        return [value]
    return [int(width) for width in _WIDTH.findall(value)] if isinstance(value, str) else []


@contextmanager
def _time_limit() -> Iterator[None]:
    """Raise PromptError at the first line of Python that this thread runs after `SECONDS`."""
    end, before = monotonic() + SECONDS, sys.gettrace()

    def look(frame: FrameType, event: str, argument: Any) -> Any:
        if monotonic() > end:
            raise PromptError(f"The chat template takes longer than {SECONDS:g} seconds to render; it may have no end.")
        return look

    sys.settrace(look)
    try:
        yield
    finally:
        sys.settrace(before)
