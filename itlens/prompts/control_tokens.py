"""Control tokens that are written out in a prompt: "</s>" or "<|im_end|>" in a text is read as the token, not as its
characters, as a chat template needs it. In a raw prompt that may not be meant, and the two models of a pair may differ
in it, so it is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from itlens.prompts.prompt import Prompt

if TYPE_CHECKING:
    from itlens.tokenization import Tokenizer

_NAMED = 5  # prompts that a notice names


def control_token_notices(prompts: Iterable[Prompt], tokenizers: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each control token in prompts or given responses as they were written.

    tokenizers: by what their model is called in a sentence, such as "the base model".
    """
    readers: dict[str, list[str]] = {}
    for name, tokenizer in tokenizers.items():
        for token in _control_tokens(tokenizer):
            readers.setdefault(token, []).append(name)
    written = [(prompt.id, f"{prompt.text}\n{prompt.response or ''}") for prompt in prompts]
    notices = []
    for token, names in readers.items():
        if ids := [id for id, text in written if token in text]:
            more = f" and {len(ids) - _NAMED} more" if ids[_NAMED:] else ""
            listed = f"prompt{'s' if ids[1:] else ''} {', '.join(map(repr, ids[:_NAMED]))}{more}"
            place = listed if ids[0] else "the prompt"
            others = [name for name in tokenizers if name not in names]
            text = f"; {' and '.join(others)} read{'s' if len(others) == 1 else ''} its characters" if others else ""
            notices.append(
                f"{token!r} in the text of {place} is read as a control token by {' and '.join(names)}{text}; where "
                "that is not meant, write it in another way."
            )
    return notices


def _control_tokens(tokenizer: Tokenizer) -> list[str]:
    """Return the texts that a tokenizer reads as control tokens."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = [str(token) for token in added if getattr(token, "special", False)]
    return list(dict.fromkeys([*map(str, getattr(tokenizer, "all_special_tokens", [])), *special]))
