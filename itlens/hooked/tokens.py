"""Prompts with their responses as the tokens that a model is made to read (teacher forcing), and what each token is.

A response is given as text, or is a model's own greedy continuation, kept as the ids it generated. What is read is the
front (BOS), the prompt, and the response without its last token; the TARGETS are the response's tokens, each predicted
at the position before it, so the last prompt token is the first place that predicts.

Every token that is read has one CLASS, the first that applies:
1. first     position 0, whatever stands there: heads rest on it
2. template  special tokens in front, and characters that a format or chat template wrote around the prompt
3. instruction, 4. context: the prompt's spans
5. prompt    the rest of the prompt
6. response  tokens of the response
Tokens and spans meet by characters (`itlens.results.density.overlaps`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from itlens.errors import ProbeError, PromptError
from itlens.hooked.response import GENERATED, ResponseLike, response_of, with_response
from itlens.models import HookedModel, refuse_no_model, source_of
from itlens.progress import late_bar
from itlens.prompts import PromptsLike, as_prompts
from itlens.prompts.formats import EMPTY_FORM, Framed, frame_prompts
from itlens.results.density import overlaps
from itlens.selection import whole_number
from itlens.tokenization import Encoded, Response, Tokenizer

CLASSES = ("first", "template", "instruction", "context", "prompt", "response")
_NAMED = 5  # prompts that a note names


@dataclass(frozen=True)
class Forced:
    """One prompt and response as a model reads them.

    id, group: the prompt's. read: the ids that are fed. classes: for each of them its place in CLASSES, int8.
    targets: the response's ids; positions: for each target the place in `read` that predicts it, ascending. encoded:
    the same with characters. source: "given" or "generated"; finish: see `itlens.hooked.response`.
    """

    id: str
    group: str
    read: tuple[int, ...]
    classes: np.ndarray
    targets: tuple[int, ...]
    positions: tuple[int, ...]
    encoded: Encoded
    source: str
    finish: str

    @property
    def response(self) -> Response:
        """Its response, to be kept and handed back to `forced` or `attribute`."""
        how = {"response_source": self.source, "finish": self.finish}
        return response_of(self.encoded, how)

    @property
    def digest(self) -> str:
        """16 hex digits over the ids that are read and predicted: the same for results on the same tokens."""
        ids = ",".join(map(str, (*self.read, -1, *self.targets)))
        return hashlib.sha256(ids.encode()).hexdigest()[:16]

    def ended_by(self, stop: int) -> Forced:
        """Return it with one target more: the token that ended the response, predicted where its last token is read."""
        read = (*self.read, self.targets[-1])
        classes = np.append(self.classes, np.int8(CLASSES.index("response")))
        targets, positions = (*self.targets, stop), (*self.positions, len(self.read))
        return replace(self, read=read, classes=classes, targets=targets, positions=positions)

    @property
    def is_ended(self) -> bool:
        """Whether the token that ended the response is its last target (`ended_by`)."""
        return len(self.targets) > len(self.encoded.response_ids)

    def with_end(self, stops: Sequence[int], logits: Any) -> Forced:
        """Return it with the end that its writer prefers, of several ids that end a text; logits: its, at the last
        target. As it is where it was not ended, or where there is one such id only."""
        if not self.is_ended or len(stops) < 2:
            return self
        stop = max(stops, key=lambda id: float(logits[id]))
        return replace(self, targets=(*self.targets[:-1], stop))

    def beyond(self, vocabulary: int) -> str | None:
        """Return the id and text of the first token that a model with so many embeddings does not have, or None."""
        known = self.encoded
        texts = dict(zip(known.prompt_ids, known.prompt_tokens, strict=True))
        texts |= dict(zip(known.response_ids, known.response_tokens, strict=True))
        token = next((id for id in (*self.read, *self.targets) if id >= vocabulary), None)
        return f"{token} ({texts[token]!r})" if token in texts else None if token is None else str(token)

    def of_class(self, *names: str) -> np.ndarray:
        """Return the positions of these classes, ascending. Raises ProbeError for a class that there is not."""
        unknown = [name for name in names if name not in CLASSES]
        if unknown:
            raise ProbeError(f"Unknown token class {unknown[0]!r}; known are {', '.join(CLASSES)}.")
        return np.flatnonzero(np.isin(self.classes, [CLASSES.index(name) for name in names]))


class ForcedPrompts(list[Forced]):
    """What `forced` read, and the ids of prompts that it left out (the model's own response to them is empty)."""

    def __init__(self, read: Iterable[Forced], left_out: Iterable[str] = ()) -> None:
        super().__init__(read)
        self.left_out = tuple(left_out)


def with_ends(prompts: Sequence[Forced], stops: Sequence[int], context: int) -> list[Forced]:
    """Return the prompts, those that their model ended with that end as one target more, where it fits the context.

    stops: ids that end a text and that both models have; the first stands for all until `Forced.with_end`."""
    return [
        prompt.ended_by(stops[0]) if prompt.finish == "eos" and stops and len(prompt.read) < context else prompt
        for prompt in prompts
    ]


def left_out_attrs(read: Iterable[Forced]) -> dict[str, str]:
    """Return for a result's attrs: left_out, the ids of prompts that were left out, and a note that says why, or ""."""
    ids: tuple[str, ...] = getattr(read, "left_out", ())
    if not ids:
        return {"left_out": "", "note": ""}
    everything = len(ids) + len(list(read))
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    named = ", ".join(ids[:_NAMED]) + more
    why = f"because the model's own response is empty ({EMPTY_FORM})"
    said = f"{len(ids)} of {everything} prompts left out, {why}: {named}"
    return {"left_out": ", ".join(ids), "note": said}


def forced(
    model: HookedModel,
    prompts: PromptsLike,
    *,
    responses: Mapping[str, ResponseLike] | None = None,
    format: str = "raw",
    tokenizer: Tokenizer | None = None,
    max_new_tokens: int = 64,
    prepend_bos: bool | None = None,
    progress: bool = False,
) -> ForcedPrompts:
    """Return the prompts (a `Prompt`, a text, or several of them) as `model` reads them, in order.

    responses: by prompt id, a text, ids that were generated, or a `Response`; else a prompt's own `response`, else the
    model's greedy continuation of at most `max_new_tokens` tokens. format: as in `format_prompts`; tokenizer: whose
    chat template (default: the model's). progress: a bar when responses take long. Where a generated response is empty
    there is nothing to predict: such prompts are not in the result, their ids are in its `left_out`. The result may be
    fed to another model whose tokenizer has the same ids (`ModelPair.check`).

    Raises PromptError: no prompts, an id twice, a text longer than the context, an empty response that was given, or no
    response that is not empty; ProbeError for a model without a tokenizer.
    """
    refuse_no_model(model, "forced")
    listed = as_prompts(prompts)
    given = _given(responses, {prompt.id for prompt in listed})
    count = whole_number("max_new_tokens", max_new_tokens, 1)
    framed = frame_prompts(listed, format, tokenizer or source_of(model).tokenizer)
    read: dict[str, Forced | None] = {}
    with late_bar("responses", show=progress) as tell:
        for one in framed:
            response = given.get(one.prompt.id, one.prompt.response)
            read[one.prompt.id] = _forced(model, one, response, count, prepend_bos)
            tell(len(read), len(framed))
    left_out = [id for id, one in read.items() if one is None]
    if len(left_out) == len(read):
        raise PromptError(
            f"{source_of(model).name} ends its own response at once on {_counted(len(read))}, so nothing is predicted; "
            f"{EMPTY_FORM}."
        )
    return ForcedPrompts([one for one in read.values() if one is not None], left_out)


def _given(responses: Any, known: set[str]) -> dict[str, ResponseLike]:
    if responses is None:
        return {}
    if not isinstance(responses, Mapping):
        raise PromptError(f"responses is a {type(responses).__name__}; expected texts by prompt id.")
    if unknown := [id for id in responses if id not in known]:
        raise PromptError(
            f"responses holds {unknown[0]!r}, which is no prompt's id; the ids are {_few(sorted(known))}."
        )
    return dict(responses)


def _few(ids: list[str]) -> str:
    return ", ".join(ids[:_NAMED]) + (" ..." if len(ids) > _NAMED else "")


def _counted(prompts: int) -> str:
    return "the prompt" if prompts == 1 else f"all of {prompts} prompts"


def _forced(
    model: HookedModel, framed: Framed, response: ResponseLike | None, count: int, prepend_bos: bool | None
) -> Forced | None:
    """Return a `Forced`; None where the model's own response is empty."""
    prompt = framed.prompt
    encoded, how = with_response(
        model,
        prompt.text,
        response,
        max_new_tokens=count,
        prepend_bos=prepend_bos,
        name=f"prompt {prompt.id!r}",
    )
    if not encoded.response_ids and how["response_source"] == GENERATED:
        return None
    if not encoded.response_ids:
        raise PromptError(f"Prompt {prompt.id!r} has an empty response, so nothing is predicted; give it a response.")
    read = encoded.ids[:-1]
    start = len(encoded.front) + len(encoded.prompt_ids) - 1
    return Forced(
        id=prompt.id,
        group=prompt.group,
        read=tuple(read),
        classes=_classes(framed, encoded)[: len(read)],
        targets=encoded.response_ids,
        positions=tuple(range(start, start + len(encoded.response_ids))),
        encoded=encoded,
        source=how["response_source"],
        finish=how["finish"],
    )


def _classes(framed: Framed, encoded: Encoded) -> np.ndarray:
    text, (first, last) = encoded.prompt_text, framed.body
    start, stop = np.array(encoded.prompt_start), np.array(encoded.prompt_stop)
    of_prompt = np.full(start.size, CLASSES.index("template"))
    of_prompt[(start >= first) & (stop <= last)] = CLASSES.index("prompt")  # white space within it as well
    ranges = {"prompt": [(first, last)], "context": framed.prompt.context, "instruction": framed.prompt.instruction}
    for name, spans in ranges.items():  # the later ones win
        of_prompt[overlaps(text, start, stop, list(spans))] = CLASSES.index(name)
    classes = np.concatenate(
        [
            np.full(len(encoded.front), CLASSES.index("template")),
            of_prompt,
            np.full(len(encoded.response_ids), CLASSES.index("response")),
        ]
    ).astype(np.int8)
    classes[0] = CLASSES.index("first")
    return classes
