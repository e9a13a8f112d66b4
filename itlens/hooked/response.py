"""The response that a model reads: a given text, or the model's own greedy continuation.

A generated response is kept as the ids that were generated, since reading its text again can give other tokens. It can
be handed back later, or to another model (`itlens.tokenization.Response`): the same ids are read then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import torch

from itlens.errors import ProbeError, PromptError
from itlens.hooked.hooks import only_at
from itlens.models import HookedModel, ModelSource, refuse_no_model, source_of
from itlens.models.memory import room_for
from itlens.models.running import undisturbed
from itlens.tokenization import Encoded, Finish, Response, ResponseSource, encode, encode_ids, refuse_beyond

GIVEN: ResponseSource = "given"
GENERATED: ResponseSource = "generated"
_CHARACTERS = 16  # for each token that a model reads: what is tokenised first of a longer text

ResponseLike: TypeAlias = str | Sequence[int] | Response  # a text, ids that a model generated, or a `Response`


def respond(
    model: HookedModel, prompt_text: str, *, max_new_tokens: int, prepend_bos: bool | None, name: str
) -> Response:
    """Generate the model's own greedy response. Raises PromptError as `with_response` does."""
    encoded, how = with_response(
        model, prompt_text, None, max_new_tokens=max_new_tokens, prepend_bos=prepend_bos, name=name
    )
    return response_of(encoded, how)


def response_of(encoded: Encoded, how: dict[str, str]) -> Response:
    """Return the response of what `with_response` returned, to be kept and handed back."""
    finish, source = cast(Finish, how["finish"]), cast(ResponseSource, how["response_source"])
    return Response(encoded.response_ids, encoded.response_text, finish, source)


def with_response(
    model: HookedModel,
    prompt_text: str,
    response: ResponseLike | None,
    *,
    max_new_tokens: int,
    prepend_bos: bool | None,
    name: str,
) -> tuple[Encoded, dict[str, str]]:
    """Return the prompt with its response as tokens, and how it came about (response_source, finish).

    response: a text, ids that a model generated before, a `Response`, or None for the model's own greedy continuation.
    finish: "given", "eos" (the model ended it), "length" (max_new_tokens or the model's context) or "empty".
    Raises PromptError for a text longer than the model's context, or that leaves no room for a response to generate,
    and for tokens that the model does not have; ProbeError for such ids in a response that was given as ids, and where
    the memory does not hold the pass. `name` is what it calls the prompt.
    """
    refuse_no_model(model, "with_response")
    source = source_of(model)
    if source.tokenizer is None:
        raise ProbeError(f"{source.name} has no tokenizer; load it with load_model(..., tokenizer=...).")
    _refuse_endless(prompt_text, source, name)
    if response is None:
        return _with_own(model, source, prompt_text, max_new_tokens, prepend_bos, name)
    finish: Finish | None = None
    if isinstance(response, Response):
        finish = response.finish
        response = response.ids if response.source == GENERATED else response.text
    if isinstance(response, str):
        _refuse_endless(prompt_text + response, source, name)
        encoded, how = encode(source.tokenizer, prompt_text, response, prepend_bos=prepend_bos), GIVEN
    else:
        _refuse_foreign(response, model, source, name)
        encoded, how = encode_ids(source.tokenizer, prompt_text, response, prepend_bos=prepend_bos), GENERATED
    refuse_beyond(encoded, source.tokenizer, model.cfg.d_vocab, name, source.name)
    _refuse_long(encoded, source, name)
    return encoded, {"response_source": how, "finish": finish or ("given" if encoded.response_ids else "empty")}


def _with_own(
    model: HookedModel,
    source: ModelSource,
    prompt_text: str,
    max_new_tokens: int,
    prepend_bos: bool | None,
    name: str,
) -> tuple[Encoded, dict[str, str]]:
    encoded = encode(source.tokenizer, prompt_text, prepend_bos=prepend_bos)
    refuse_beyond(encoded, source.tokenizer, model.cfg.d_vocab, name, source.name)
    _refuse_long(encoded, source, name)
    if len(encoded.ids) == source.context:
        raise PromptError(
            f"{name} is {len(encoded.ids)} tokens long, all that {source.name} reads: there is no room for a response; "
            "shorten it."
        )
    count = min(max_new_tokens, source.context - len(encoded.ids))
    with undisturbed(model), room_for(model, name, len(encoded.ids)):
        ids, finish = _greedy(model, encoded.ids, count, stop_ids(source))
    encoded = encode_ids(source.tokenizer, prompt_text, ids, prepend_bos=prepend_bos)
    return encoded, {"response_source": GENERATED, "finish": "empty" if finish == "eos" and not ids else finish}


def stop_ids(source: ModelSource, size: int | None = None) -> list[int]:
    """Return the ids that end a response: the tokenizer's EOS, and those of the checkpoint's generation settings.

    size: only ids below it."""
    eos = getattr(source.tokenizer, "eos_token_id", None)
    ids = sorted({*source.stop, *([] if eos is None else [int(eos)])})
    return [id for id in ids if size is None or id < size]


def _greedy(model: HookedModel, ids: list[int], count: int, stops: list[int]) -> tuple[list[int], str]:
    tokens = torch.tensor([ids], device=next(model.parameters()).device)
    # logits of all positions would take a gigabyte at 1,000 tokens and a vocabulary of 262,144
    with model.hooks(fwd_hooks=[only_at(slice(-1, None))]):
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


def _refuse_endless(text: str, source: ModelSource, name: str) -> None:
    """Raise PromptError for a text that is far too long, from its beginning: tokenising 100 MB takes 16 GB."""
    size = source.context * _CHARACTERS
    while size < len(text):
        count = len(encode(source.tokenizer, text[:size]).prompt_ids)
        if count > 2 * source.context + _CHARACTERS:  # far enough beyond it that the cut does not matter
            raise PromptError(
                f"{name} has {len(text):,} characters, and the first {size:,} alone are {count:,} tokens; "
                f"{source.name} reads at most {source.context:,}: shorten it."
            )
        size *= 4


def _refuse_foreign(ids: Sequence[int], model: HookedModel, source: ModelSource, name: str) -> None:
    highest = max(ids, default=0)
    if highest >= model.cfg.d_vocab:
        raise ProbeError(
            f"The response to {name} holds token {highest}, which {source.name} does not have (its vocabulary ends at "
            f"{model.cfg.d_vocab - 1}); give the response as text, or let the model generate its own."
        )


def _refuse_long(encoded: Encoded, source: ModelSource, name: str) -> None:
    length = len(encoded.ids)
    room = source.context + (1 if encoded.response_ids else 0)  # the last response token is predicted, not read
    if length > room:
        raise PromptError(
            f"{name} is {length} tokens long with its response; {source.name} reads at most {source.context}: "
            "shorten it."
        )
