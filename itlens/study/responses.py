"""The responses of a study: each model's greedy continuation of each prompt, generated once and kept in the run folder.

Whose response a model is read on: with responses="own" each model's own (the paper's way); with "tuned" or "base" both
models are read on that one model's responses, so that length and content of the answers do not differ. What needs both
models on the same tokens reads the tuned model's responses (with "base": the base's). A prompt that brings its response
is always read on that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from itlens.errors import PromptError
from itlens.files import json_bytes, read_json
from itlens.findings.base import unit_of_prompt
from itlens.hooked.response import respond
from itlens.hooked.tokens import Forced, forced
from itlens.models import ModelPair
from itlens.prompts.formats import EMPTY_FORM
from itlens.study.folder import RunFolder
from itlens.study.index import State
from itlens.study.prompts import StudyPrompts
from itlens.study.record import Study, response_digest
from itlens.tokenization import Response


class ResponseStore(Protocol):
    """Where responses are kept, by the model that wrote them and the number of the prompt (from 0)."""

    def expect(self, writer: str, numbers: Sequence[int]) -> None:
        """Called before all of these are read."""

    def read(self, writer: str, number: int) -> Response | None:
        """Return a response; None where there is none."""

    def write(self, writer: str, number: int, response: Response) -> None:
        """Keep a response."""


class FolderResponses:
    """The responses in the run folder of a study, each stamped with the model and the prompt that it depends on."""

    def __init__(self, read: StudyPrompts, folder: RunFolder, study: Study) -> None:
        self._read, self._folder, self._study = read, folder, study

    def expect(self, writer: str, numbers: Sequence[int]) -> None:
        """Each is read when its turn comes."""

    def read(self, writer: str, number: int) -> Response | None:
        """Return a response; None where there is none, a damaged one, or another study's."""
        file = self._file(writer, number)
        self._folder.put_aside(file)
        if self._folder.index.state(file, self._digest(writer, number)) is not State.GOOD:
            return None
        return Response.from_json(read_json(file))

    def write(self, writer: str, number: int, response: Response) -> None:
        """Write a response."""
        file = self._file(writer, number)
        self._folder.index.write(file, json_bytes(file, response.as_json()), self._digest(writer, number))

    def _file(self, writer: str, number: int) -> Path:
        return self._folder.responses / writer / f"{unit_of_prompt(number, self._read.prompts[number])}.json"

    def _digest(self, writer: str, number: int) -> str:
        """What a model's response depends on: the model and the prompt, not who reads it."""
        return response_digest(self._study, writer, number)


class StudyResponses:
    """How the study's models read its prompts: `itlens.findings.base.Tokens`."""

    def __init__(self, read: StudyPrompts, store: ResponseStore) -> None:
        self._read, self._store = read, store
        self._known: dict[tuple[str, int], Response] = {}
        self._forced: dict[str, Forced] | None = None
        self.format, self.max_new_tokens, self.prepend_bos = read.format, read.max_new_tokens, read.prepend_bos
        self.responses = read.responses

    def writer(self, side: str) -> str:
        """Whose responses a side is read on; "pair": what needs both models on the same tokens."""
        return side if self.responses == "own" and side != "pair" else self.pair_writer

    def response(self, model: Any, side: str, number: int) -> Response | None:
        """Return the response of prompt `number` (from 0) that this side is read on; None: the prompt brings its own.

        It is read where it is kept, or else generated, where `model` is its writer. Raises PromptError where it is not.
        """
        if self._read.prompts[number].response is not None:
            return None
        writer = self.writer(side)
        known = self.stored(writer, number)
        if known is None and side not in (writer, "pair"):
            raise PromptError(
                f"The {writer} model has no response to prompt {self._read.prompts[number].id!r} yet; run the same "
                "comparison again."
            )
        if known is None:
            known = self.generated(model, number)
            self.keep(writer, number, known)
        return known

    def write_all(self, model: Any, side: str, tell: Callable[[int, int], None]) -> None:
        """Generate every response of this model that is missing: the other model will be read on them.

        tell: called with (done, all) after each.
        """
        missing = self.missing(side)
        for done, number in enumerate(missing, start=1):
            self.response(model, side, number)
            tell(done, len(missing))

    def missing(self, writer: str) -> list[int]:
        """Return the numbers (from 0) of the prompts that bring no response and that a model has none to yet."""
        return [number for number in self._own if self.stored(writer, number) is None]

    @property
    def _own(self) -> list[int]:
        """The numbers of the prompts that a model writes the response to."""
        return [number for number, prompt in enumerate(self._read.prompts) if prompt.response is None]

    @property
    def pair_writer(self) -> Literal["base", "tuned"]:
        """Whose responses both models read, where a finding needs them on the same tokens."""
        return "base" if self.responses == "base" else "tuned"

    def forced(self, pair: ModelPair, numbers: Sequence[int] | None = None) -> list[Forced]:
        """Return the prompts with these numbers (from 0; None: all) as both models read them, on the same tokens.

        They are read once, by the model that wrote them: special tokens in front may differ between the two. A prompt
        whose response is empty predicts nothing and is left out. Raises PromptError where all of them are.
        """
        if self._forced is None:
            self._forced = {tokens.id: tokens for tokens in self._all_forced(pair)}
        wanted = range(len(self._read.given)) if numbers is None else numbers
        kept = [self._forced[id] for number in wanted if (id := self._read.given[number].id) in self._forced]
        if not kept:
            raise PromptError(
                f"The response (of the {self.pair_writer} model, unless it was given) is empty on all of "
                f"{len(wanted)} prompts, so there is nothing that both models could read; {EMPTY_FORM}."
            )
        return kept

    def _all_forced(self, pair: ModelPair) -> list[Forced]:
        self._store.expect(self.pair_writer, self._own)
        model = pair.base if self.pair_writer == "base" else pair.tuned
        known = {
            prompt.id: response
            for number, prompt in enumerate(self._read.given)
            if (response := self.response(model, "pair", number)) is not None
        }
        prompts = [
            prompt
            for prompt in self._read.given
            if (known[prompt.id].ids if prompt.id in known else prompt.response != "")
        ]
        if not prompts:
            return []
        return forced(
            model,
            prompts,
            responses={id: response for id, response in known.items() if response.ids},
            format=self._read.format,
            tokenizer=self._read.tokenizer,
            max_new_tokens=self.max_new_tokens,
            prepend_bos=self.prepend_bos,
        )

    def generated(self, model: Any, number: int) -> Response:
        """Return a model's response to prompt `number`, newly generated and not kept."""
        prompt = self._read.prompts[number]
        return respond(
            model,
            prompt.text,
            max_new_tokens=self.max_new_tokens,
            prepend_bos=self.prepend_bos,
            name=f"prompt {prompt.id!r}",
        )

    def keep(self, writer: str, number: int, response: Response) -> None:
        """Keep a response that was generated."""
        self._store.write(writer, number, response)
        self._known[writer, number] = response

    def stored(self, writer: str, number: int) -> Response | None:
        """Return a response that is kept; None where there is none: it is then generated."""
        if (writer, number) not in self._known:
            kept = self._store.read(writer, number)
            if kept is None:
                return None
            self._known[writer, number] = kept
        return self._known[writer, number]
