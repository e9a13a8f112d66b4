"""The tokens that both models of a study read: every prompt with the response of the tuned model."""

from __future__ import annotations

from collections.abc import Sequence

from itlens.errors import PromptError
from itlens.models import ModelPair
from itlens.probes.running.forced import Forced, forced
from itlens.prompts import Prompt
from itlens.study.folder import RunFolder
from itlens.study.read_prompts import ReadPrompts


class SameTokens:
    """Made once, when the first part asks for them.

    A prompt's own response comes first, then the one of the tuned model's attribution where that is finished, then a
    greedy one that the tuned model writes now. A prompt whose response is empty predicts nothing and is left out.
    """

    def __init__(self, pair: ModelPair, read: ReadPrompts, folder: RunFolder) -> None:
        self._pair, self._read, self._folder = pair, read, folder
        self._made: dict[str, Forced] | None = None

    def of(self, numbers: Sequence[int] | None = None) -> list[Forced]:
        """The prompts with these numbers (from 1; None: all). Raises PromptError where all of them are left out."""
        if self._made is None:
            self._made = {one.id: one for one in self._all()}
        wanted = [self._read.given[number - 1].id for number in numbers or range(1, len(self._read.given) + 1)]
        found = [self._made[id] for id in wanted if id in self._made]
        if not found:
            raise PromptError(
                f"The tuned model's response is empty on all of {len(wanted)} prompts, so there is nothing that both "
                "models could read; give prompts with a response, or another format."
            )
        return found

    def _all(self) -> list[Forced]:
        written = self._folder.finished("tuned", self._read.prompts)
        ids = {id: tuple(int(token) for token in result["target_id"].values) for id, result in written.items()}
        asked = [prompt for prompt in self._read.given if prompt.response or prompt.id not in ids or ids[prompt.id]]
        return self._forced(asked, ids) if asked else []

    def _forced(self, prompts: list[Prompt], ids: dict[str, tuple[int, ...]]) -> list[Forced]:
        return forced(
            self._pair.tuned,
            prompts,
            responses={prompt.id: ids[prompt.id] for prompt in prompts if not prompt.response and prompt.id in ids},
            format=self._read.format,
            tokenizer=self._read.tokenizer,
            max_new_tokens=self._read.max_new_tokens,
            prepend_bos=self._read.prepend_bos,
        )
