"""The parts of a study that read prompts, as far as they were asked for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

from itlens.study.attention_runs import AttentionRuns
from itlens.study.attribution_runs import AttributionRuns
from itlens.study.faithful_runs import FaithfulRuns
from itlens.study.mlp_runs import MlpRuns
from itlens.study.pair_runs import ActivationRuns, PatchRuns
from itlens.study.read_prompts import ReadPrompts

STEPS, DRAWS = 5, 10  # of a deletion curve, and random orders beside it
CONTROLS = 10  # random orders of heads beside those patched together

Runs: TypeAlias = AttributionRuns | AttentionRuns | MlpRuns | FaithfulRuns
PairRuns: TypeAlias = ActivationRuns | PatchRuns


def reading_runs(
    named: Collection[str],
    read: ReadPrompts | None,
    options: dict[str, Any],
    scoring: dict[str, Any],
    sample: int,
    seed: int,
) -> tuple[list[Runs], list[PairRuns]]:
    """What runs on one model at a time, and what on both. read: None where no part needs prompts.

    options: of the attribution. scoring: of its comparison. sample: prompts for what takes many passes.
    """
    runs: list[Runs] = []
    of_pair: list[PairRuns] = []
    if read is None:
        return runs, of_pair
    if "attribution" in named:
        runs.append(AttributionRuns(read, options, scoring))
    if "faithfulness" in named:
        runs.append(FaithfulRuns(read, sample, STEPS, DRAWS, seed, options))
    if "activation" in named:
        of_pair.append(ActivationRuns(seed))
    if "patching" in named:
        of_pair.append(PatchRuns(read, sample, CONTROLS, seed))
    return runs, of_pair
