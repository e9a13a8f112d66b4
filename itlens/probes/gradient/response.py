"""The response whose tokens are attributed: a given text, or the model's own greedy continuation.

A generated response is kept as the ids that were generated, since reading its text again can give other tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from itlens.errors import ProbeError, PromptError
from itlens.models import ModelSource, source_of
from itlens.probes.gradient.jacobian import before_unembed
from itlens.tokenization import Encoded, encode, encode_ids

GIVEN, GENERATED = "given", "generated"


def with_response(
    model: Any,
    prompt_text: str,
    response: str | Sequence[int] | None,
    *,
    max_new_tokens: int,
    prepend_bos: bool | None,
    name: str,
) -> tuple[Encoded, dict[str, str]]:
    """The prompt with its response as tokens, and how it came about (response_source, finish).

    response: a text, ids that a model generated before, or None for the model's own greedy continuation.
    finish: "given", "eos" (the model ended it), "length" (max_new_tokens or the model's context) or "empty".
    Raises PromptError for a text longer than the model's context, or that leaves no room for a response to generate;
    `name` is what it calls the prompt.
    """
    source = source_of(model)
    if source.tokenizer is None:
        raise ProbeError(f"{source.name} has no tokenizer; load it with load_model(..., tokenizer=...).")
    if response is not None and not isinstance(response, str):
        encoded = encode_ids(source.tokenizer, prompt_text, response, prepend_bos=prepend_bos)
        _refuse_long(encoded, source, name)
        return encoded, {"response_source": GENERATED, "finish": "given" if encoded.response_ids else "empty"}
    if response is not None:
        encoded = encode(source.tokenizer, prompt_text, response, prepend_bos=prepend_bos)
        _refuse_long(encoded, source, name)
        return encoded, {"response_source": GIVEN, "finish": "given" if encoded.response_ids else "empty"}
    encoded = encode(source.tokenizer, prompt_text, prepend_bos=prepend_bos)
    _refuse_long(encoded, source, name)
    if len(encoded.ids) == source.context:
        raise PromptError(
            f"{name} is {len(encoded.ids)} tokens long, all that {source.name} reads: there is no room for a response; "
            "shorten it."
        )
    ids, finish = _greedy(model, encoded.ids, min(max_new_tokens, source.context - len(encoded.ids)), stop_ids(source))
    encoded = encode_ids(source.tokenizer, prompt_text, ids, prepend_bos=prepend_bos)
    return encoded, {"response_source": GENERATED, "finish": "empty" if finish == "eos" and not ids else finish}


def stop_ids(source: ModelSource) -> list[int]:
    """The ids that end a response: the tokenizer's EOS, and those that the checkpoint's generation settings name."""
    eos = getattr(source.tokenizer, "eos_token_id", None)
    return sorted({*source.stop, *([] if eos is None else [int(eos)])})


def _greedy(model: Any, ids: list[int], count: int, stops: list[int]) -> tuple[list[int], str]:
    tokens = torch.tensor([ids], device=next(model.parameters()).device)
    with model.hooks(fwd_hooks=[(before_unembed(model), _last_position)]):
        out = model.generate(
            tokens,
            max_new_tokens=count,
            do_sample=False,
            stop_at_eos=bool(stops),
            eos_token_id=stops or None,
            use_past_kv_cache=True,
            return_type="tokens",
            verbose=False,
        )
    new = [int(token) for token in out[0, len(ids) :]]
    end = next((place for place, token in enumerate(new) if token in stops), None)
    return (new, "length") if end is None else (new[:end], "eos")


def _last_position(value: torch.Tensor, hook: Any) -> torch.Tensor:
    """Logits of a whole prompt would take a gigabyte at 1,000 tokens and a vocabulary of 262,144."""
    return value[:, -1:]


def _refuse_long(encoded: Encoded, source: Any, name: str) -> None:
    length = len(encoded.ids)
    room = source.context + (1 if encoded.response_ids else 0)  # the last response token is predicted, not read
    if length > room:
        raise PromptError(
            f"{name} is {length} tokens long with its response; {source.name} reads at most {source.context}: "
            "shorten it."
        )
