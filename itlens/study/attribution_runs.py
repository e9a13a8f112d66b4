"""The attribution part of a study: every prompt through one model, a file per prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import xarray as xr

from itlens.probes.attribution import attribute
from itlens.study.folder import RunFolder
from itlens.study.read_prompts import ReadPrompts


class AttributionRuns:
    """What `compare` does for each prompt and model.

    read: the prompts. options: of `attribute`. scoring: what only the comparison depends on. found: the results by
    model and prompt id, those of earlier runs included.
    """

    def __init__(self, read: ReadPrompts, options: dict[str, Any], scoring: dict[str, Any]) -> None:
        self.prompts = read.prompts
        self.found: dict[str, dict[str, xr.Dataset]] = {}
        self.identity = {name: value for name, value in options.items() if name != "batch_size"}
        self.settings = {**self.identity, **scoring}
        self._options = options | {"max_new_tokens": read.max_new_tokens, "prepend_bos": read.prepend_bos}

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
            kept = result.assign(score=result.score.astype("float32"))  # enough to rank and level scores
            self.found[which][prompt.id] = folder.files.write(kept, folder.result(which, number, prompt))
            yield number
        self.found[which] = {prompt.id: self.found[which][prompt.id] for prompt in self.prompts}
