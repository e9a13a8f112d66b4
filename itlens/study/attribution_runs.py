"""The attribution part of a study: every prompt through one model, a file per prompt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import xarray as xr

from itlens.models.compatibility import Side
from itlens.probes.attribution import attribute
from itlens.prompts import Prompt
from itlens.study.asked import asked_prompts, refuse_long
from itlens.study.folder import RunFolder, save_result


class AttributionRuns:
    """What `compare` does for each prompt and model.

    prompts: as the models read them. options: of `attribute`. scoring: what only the comparison depends on. found: the
    results by model and prompt id, those of earlier runs included.
    """

    def __init__(
        self, prompts: Sequence[Prompt], format: str, options: dict[str, Any], scoring: dict[str, Any]
    ) -> None:
        self.prompts = prompts
        self.found: dict[str, dict[str, xr.Dataset]] = {}
        shown = {name: "" if value is None else value for name, value in options.items() if name != "batch_size"}
        content = json.dumps([asdict(prompt) for prompt in prompts], sort_keys=True, default=str)
        digest = hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()[:16]
        self.identity = {"prompts": f"{len(prompts)} (sha256 {digest})", "format": format, **shown}
        self.settings = {"format": format, **shown, **scoring}
        self._options = options

    @classmethod
    def of(
        cls,
        prompts: str | Path | Iterable[Prompt],
        limit: int | None,
        format: str,
        sides: Mapping[str, Side],
        options: dict[str, Any],
        scoring: dict[str, Any],
    ) -> AttributionRuns:
        """Load the prompts and check them against both models. Raises PromptError."""
        asked = asked_prompts(prompts, limit, format, sides["tuned"].tokenizer)
        refuse_long(asked, sides, options["prepend_bos"])
        return cls(asked, format, options, scoring)

    def units(self, which: str) -> int:
        """How many results a finished model has."""
        return len(self.prompts)

    def unfinished(self, folder: RunFolder, which: str) -> list[int]:
        """The prompts, counted from 1, without a result."""
        self.found[which] = folder.finished(which, self.prompts)
        return [number for number, prompt in enumerate(self.prompts, start=1) if prompt.id not in self.found[which]]

    def run(self, model: Any, folder: RunFolder, which: str, numbers: list[int]) -> Iterator[int]:
        """Attribute these prompts; each is on disk when its number comes back."""
        for number in numbers:
            prompt = self.prompts[number - 1]
            result = attribute(model, prompt, progress=False, **self._options)
            self.found[which][prompt.id] = save_result(result, folder.result(which, number, prompt))
            yield number
        self.found[which] = {prompt.id: self.found[which][prompt.id] for prompt in self.prompts}
