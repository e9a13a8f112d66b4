"""The faithfulness part of a study: deletion and insertion curves of some prompts' attributions, a file per prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import xarray as xr

from itlens.probes.attribution import attribute
from itlens.probes.faithfulness import faithfulness
from itlens.study.folder import RunFolder
from itlens.study.read_prompts import ReadPrompts

PART = "faithfulness"


class FaithfulRuns:
    """What `compare` does for each drawn prompt and model: each on its own response, as it was attributed.

    options: method, objective and batch_size of the attribution, which is computed here where the study has none.
    """

    def __init__(
        self, read: ReadPrompts, count: int, steps: int, draws: int, seed: int, options: dict[str, Any]
    ) -> None:
        self._read, self._numbers, self._options = read, read.sample(count, seed), options
        self._curves: dict[str, Any] = {"steps": steps, "draws": draws, "seed": seed}
        scores = f"{options['method']} of {options['objective']}"
        own = {"deletion_scores": scores, "deletion_prompts": len(self._numbers), "deletion_steps": steps}
        self.settings: dict[str, Any] = {**own, "deletion_draws": draws}
        self.identity = {**self.settings, "deletion_seed": seed}

    def units(self, which: str) -> int:
        """How many results a finished model has."""
        return len(self._numbers)

    def unfinished(self, folder: RunFolder, which: str) -> list[int]:
        """The drawn prompts, counted from 1, without a result; a response known to be empty has none to come."""
        done = folder.finished(which, self._read.prompts, PART)
        scores = folder.finished(which, self._read.prompts)
        empty = {id for id, result in scores.items() if not result.sizes["target"]}
        return [number for number in self._numbers if self._read.prompts[number - 1].id not in {*done, *empty}]

    def run(self, model: Any, folder: RunFolder, which: str, numbers: list[int]) -> Iterator[int]:
        """Curves of these prompts; each is on disk when its number comes back."""
        held = folder.finished(which, self._read.prompts)
        for number in numbers:
            prompt = self._read.prompts[number - 1]
            scores = held[prompt.id] if prompt.id in held else self._scores(model, number)
            if scores.sizes["target"]:  # an empty response has nothing that could be deleted
                found = faithfulness(
                    model, prompt, scores, prepend_bos=self._read.prepend_bos, progress=False, **self._curves
                )
                folder.files.write(found, folder.result(which, number, prompt, PART))
            yield number

    def _scores(self, model: Any, number: int) -> xr.Dataset:
        read, options = self._read, dict(self._options)
        options |= {"max_new_tokens": read.max_new_tokens, "prepend_bos": read.prepend_bos}
        return attribute(model, read.prompts[number - 1], progress=False, **options)
