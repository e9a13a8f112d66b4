"""What a comparison holds of the running models, read from the run folder: activations, patching, faithfulness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import xarray as xr

from itlens.diff import (
    activations,
    activations_verdict,
    faithfulness,
    faithfulness_curves,
    faithfulness_verdict,
    head_agreement,
    patching_verdict,
    shift_summary,
    shift_tests,
    shifted_heads,
)
from itlens.prompts import Prompt
from itlens.study.folder import RunFolder
from itlens.study.parts import WHICH, parts_of


@dataclass(frozen=True)
class ActivationResults:
    """Both models on the same tokens.

    diff: of `itlens.diff.activations`. base, tuned: of `itlens.activations`. shift: of `itlens.activation_shift`.
    summary: of `itlens.diff.shift_summary`. tests: of `itlens.diff.shift_tests`. heads: of `itlens.diff.shifted_heads`.
    """

    diff: xr.Dataset
    base: xr.Dataset
    tuned: xr.Dataset
    shift: xr.Dataset
    summary: xr.Dataset
    tests: xr.Dataset
    heads: pd.DataFrame

    @property
    def verdict(self) -> str:
        """What came out, in a few sentences."""
        return activations_verdict(self.diff)


@dataclass(frozen=True)
class PatchResults:
    """What heads carry. patched: of `itlens.patch`. agreement: of `itlens.diff.head_agreement`, or None."""

    patched: xr.Dataset
    agreement: xr.Dataset | None

    @property
    def verdict(self) -> str:
        """What came out, in a few sentences."""
        return patching_verdict(self.patched)


@dataclass(frozen=True)
class FaithfulResults:
    """Whether attributions are faithful. table: of `itlens.diff.faithfulness`; curves: of its `faithfulness_curves`."""

    table: pd.DataFrame
    curves: xr.Dataset

    @property
    def verdict(self) -> str:
        """What came out, in a few sentences."""
        return faithfulness_verdict(self.table)


def activation_results(folder: RunFolder, study: Mapping[str, Any]) -> ActivationResults | None:
    """Where both models' activations and the shift between them are finished."""
    if "activation" not in parts_of(study["identity"]):
        return None
    base, tuned, shift = (folder.files.read(folder.of_pair("activation", name)) for name in (*WHICH, "shift"))
    if base is None or tuned is None or shift is None:
        return None
    seed = int(study["settings"]["seed"])
    made = (shift_summary(shift, seed=seed), shift_tests(shift, seed=seed), shifted_heads(shift, seed=seed))
    return ActivationResults(activations(base, tuned, seed=seed), base, tuned, shift, *made)


def patch_results(
    folder: RunFolder, study: Mapping[str, Any], words: xr.Dataset | None, found: ActivationResults | None
) -> PatchResults | None:
    """Where patching is finished; beside it, the other rankings of heads that there are."""
    if "patching" not in parts_of(study["identity"]):
        return None
    patched = folder.files.read(folder.of_pair("patching", "heads"))
    if patched is None:
        return None
    rankings = {"word pairs": words, "shift": None if found is None else found.shift, "patching": patched}
    there = {name: result for name, result in rankings.items() if result is not None}
    told = "recovered" in patched and bool(patched["recovered"].notnull().any())
    agreement = head_agreement(there, seed=int(study["settings"]["seed"])) if len(there) > 1 and told else None
    return PatchResults(patched, agreement)


def faithful_results(folder: RunFolder, study: Mapping[str, Any], prompts: Sequence[Prompt]) -> FaithfulResults | None:
    """Of the drawn prompts that are finished with both models."""
    if "faithfulness" not in parts_of(study["identity"]):
        return None
    sides = {which: folder.finished(which, prompts, "faithfulness") for which in WHICH}
    shared = {*sides["base"]} & {*sides["tuned"]}
    both = {which: [side[id] for id in side if id in shared] for which, side in sides.items()}
    if not both["base"]:
        return None
    seed = int(study["settings"]["seed"])
    return FaithfulResults(faithfulness(both["base"], both["tuned"], seed=seed), faithfulness_curves(both, seed=seed))
