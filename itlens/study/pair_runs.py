"""The parts of a study that need both models on the same tokens: activations with their shift, and patching.

Each of their results is one file over all prompts, written when it is finished.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import xarray as xr

from itlens.models import ModelPair
from itlens.probes.activation import GROUPS, activations
from itlens.probes.patching import patch
from itlens.probes.running.pair_inputs import refuse_foreign_tokens
from itlens.probes.shift import activation_shift
from itlens.probes.shifting.record import KINDS
from itlens.progress import Reporter
from itlens.study.folder import RunFolder
from itlens.study.parts import WHICH
from itlens.study.read_prompts import ReadPrompts
from itlens.study.same_tokens import SameTokens

SHIFT, HEADS = "shift", "heads"


class ActivationRuns:
    """Summaries of each model's run, and how far the tuned model's activations are from the base's."""

    part = "activation"
    names = ("tuned", "base", SHIFT)  # the tuned model first: it may have to write the responses

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.identity = {"activation_summaries": ", ".join((*GROUPS, *(f"shift of {kind}" for kind in KINDS)))}
        self.settings = dict(self.identity)

    def made(self, name: str, pair: ModelPair, tokens: SameTokens, tell: Callable[[int, int], None]) -> xr.Dataset:
        """One result of this part. tell: called with (done, all)."""
        asked = tokens.of()
        if name not in WHICH:
            # "base" is which model runs first (the responses are there): it is in memory from the summaries before
            return activation_shift(pair, asked, responses="base", seed=self._seed, progress=tell)
        model = getattr(pair, name)
        refuse_foreign_tokens(asked, model)
        return activations(model, asked, progress=tell)


class PatchRuns:
    """What each head of the tuned model does in the base model, on some of the prompts."""

    part = "patching"
    names = (HEADS,)

    def __init__(self, read: ReadPrompts, count: int, controls: int, seed: int) -> None:
        self._numbers, self._controls, self._seed = read.sample(count, seed), controls, seed
        own = {"patched_prompts": len(self._numbers), "patch_controls": controls}
        self.identity, self.settings = {**own, "patch_seed": seed}, own

    def made(self, name: str, pair: ModelPair, tokens: SameTokens, tell: Callable[[int, int], None]) -> xr.Dataset:
        """One result of this part. tell: called with (done, all)."""
        asked = tokens.of(self._numbers)
        return patch(pair, asked, what="head", controls=self._controls, seed=self._seed, progress=tell)


def unfinished(run: Any, folder: RunFolder) -> list[str]:
    """The names of a part's results that are not in the folder."""
    return [name for name in run.names if folder.files.read(folder.of_pair(run.part, name)) is None]


def finish(run: Any, names: list[str], pair: ModelPair, tokens: SameTokens, folder: RunFolder, tell: Reporter) -> None:
    """Make these results of a part, each on disk when it is there."""
    for name in names:
        said = f"{run.part}: {name}"
        tell.start(said, 0, None)
        folder.files.write(run.made(name, pair, tokens, partial(tell.reach, said)), folder.of_pair(run.part, name))
