"""The finding "divergence": at the first token where the greedy answers part, which blocks make the difference?

One result over the drawn prompts (`itlens.divergence`); effects by boundary and by block, and their tests, follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.base import Finding, Plan, Saved, Tables, Verdict
from itlens.findings.divergence.columns import BLOCK_COLUMNS, DEPTH_COLUMNS, PROMPT_COLUMNS, divergence_cards
from itlens.findings.divergence.diff import divergence_blocks, divergence_depth, divergence_tests, partings
from itlens.findings.divergence.diff_verdict import decision_rows, divergence_verdict
from itlens.findings.divergence.view import divergence_figure
from itlens.findings.shared import SAMPLE
from itlens.report.blocks import Block, Figure, Table, Text
from itlens.report.explorer_places import Place, PlaceNumber
from itlens.stats.groups import rows_as_said

if TYPE_CHECKING:
    from itlens.findings.detector import Detector
    from itlens.models import ModelPair

CELLS = "cells"  # the one result
_INTRO = (
    "Both models read the prompt and the answer as far as it is the same. There they would write different tokens: the "
    "decision is how far the tuned model's token is above the base's, in the tuned model, compared with the base. One "
    "model's stream is put into the other model before every block in turn, at all positions: what the stream that "
    "enters adds is upstream, what the blocks from there on add is late. The two make up the whole decision."
)
_DEPTH = (
    "read through the base's final norm and unembedding; upstream and late add up to the decision at every boundary"
)
_BLOCKS = "how much more of the decision is upstream behind a block than before it; the blocks add up to the decision"


@dataclass(frozen=True)
class DivergenceOptions:
    """sample: prompts that are drawn."""

    sample: int = SAMPLE


class Divergence(Finding):
    """Which blocks decide where the answers of two models part."""

    name = "divergence"
    question = "Where in depth do the two models part?"
    topic = "the depth at which the answers part"
    reads = "pair"
    order = 57
    shortcut_names = ("divergence",)
    Options = DivergenceOptions

    def units(self, plan: Plan) -> Sequence[str]:
        """Return the name of the one result."""
        return (CELLS,)

    def describe(self, plan: Plan) -> Mapping[str, object]:
        """Return how many prompts are drawn, and by which seed."""
        return {"divergence_prompts": len(plan.sample(plan.options.sample)), "divergence_seed": plan.seed}

    def run(self, source: ModelPair, unit: str, plan: Plan) -> xr.Dataset:
        """Exchange early and late blocks on the drawn prompts."""
        from itlens.findings.divergence.probe import divergence

        if plan.reading is None:
            raise ProbeError("The finding 'divergence' needs prompts that both models read; plan.reading is None.")
        drawn = plan.sample(plan.options.sample)
        prompts = plan.reading.forced(source, drawn)
        return divergence(
            source, prompts, plan.reading.max_new_tokens, responses=plan.reading.pair_writer, progress=plan.tell
        )

    def compare(self, saved: Saved, plan: Plan) -> Tables:
        """Return effects by boundary and block, the tests, and where each prompt's answers part."""
        cells, seed = saved["pair"][CELLS], plan.seed
        return {
            "divergence": cells,
            "divergence_tests": divergence_tests(cells, seed=seed),
            "divergence_depth": divergence_depth(cells, seed=seed),
            "divergence_blocks": divergence_blocks(cells, seed=seed),
            "partings": partings(cells),
        }

    def verdict(self, tables: Tables) -> Verdict:
        """Say where the answers part, and which half of the blocks decides it."""
        return divergence_verdict(tables)

    def show(self, tables: Tables) -> Sequence[Block]:
        """Return cards, the figure over depth, and tables of boundaries, blocks and prompts."""
        depth, prompts = _depth_as_said(tables["divergence_depth"]), tables["partings"]
        names = {"p": "step_p", "difference": "step", "low": "step_low", "high": "step_high"}
        blocks = rows_as_said(tables["divergence_blocks"], **names)
        shown: list[Block] = [
            *divergence_cards(decision_rows(tables["divergence_tests"]), depth, prompts),
            Text(_INTRO),
        ]
        if np.isfinite(prompts["position"].to_numpy(float)).any():
            shown += [
                Figure(divergence_figure(depth, blocks), wide=True),
                Table(blocks, BLOCK_COLUMNS, "What each block adds", _BLOCKS, terminal=False),
                Table(depth, DEPTH_COLUMNS, "The decision along the depth", _DEPTH),
            ]
        text = "the first token that differs, and how far the tuned model's token is above the base's (logits)"
        title = "Where the answers part, prompt by prompt"
        return [*shown, Table(prompts, PROMPT_COLUMNS, title, text, folded=True, sortable=True, terminal=False)]

    def notes(self, tables: Tables, plan: Plan) -> Sequence[str]:
        """Say what the tuned unembedding says, which prompts did not part, and which were left out."""
        cells, prompts = tables["divergence"], tables["partings"]
        parted = int(np.isfinite(prompts["position"].to_numpy(float)).sum())
        notes = []
        if parted > 0:
            other = divergence_depth(cells, readout="tuned", seed=plan.seed, resamples=200)
            half = float(other["half_depth"].iloc[0])
            own = float(tables["divergence_depth"]["half_depth"].iloc[0])
            if np.isfinite(half) and np.isfinite(own):
                notes.append(
                    f"Through the tuned model's final norm and unembedding, half of the decision is made in the "
                    f"first {half:.1f} blocks (through the base's: {own:.1f})."
                )
        if 0 < parted < len(prompts):
            notes.append(
                f"On {len(prompts) - parted} of {len(prompts)} prompts the greedy answers are the same as far as they "
                "were compared; these count nowhere else."
            )
        note = str(cells.attrs.get("note", ""))
        return [*notes, *([f"Divergence: {note}."] if note else [])]

    def terms(self, tables: Tables) -> Mapping[str, str]:
        """Define the four cells."""
        return {
            "Decision": "logit(tuned's token) − logit(base's token) where the answers part, in the tuned model minus "
            "in the base, both read through the base's final norm and unembedding.",
            "Boundary": "Between two blocks: boundary l is the stream before block l, 0 the embeddings, the last one "
            "the stream behind all blocks.",
            "Upstream, late": "Upstream: what exchanging the stream that enters adds, on average over whose blocks "
            "follow. Late: what exchanging the blocks that follow adds, on average over whose stream enters. They add "
            "up to the decision. Interaction: how much more the one adds with the other.",
        }

    def per_prompt(self, tables: Tables, plan: Plan) -> pd.DataFrame | None:
        """Return nothing: a number of both models together belongs to neither."""
        return None

    def changes(self, tables: Tables, plan: Plan) -> pd.DataFrame | None:
        """Return the position at which the answers part; NaN where they do not."""
        prompts = tables["partings"]
        return prompts[["id", "position"]].rename(columns={"position": "parting_position"})

    def places(self, tables: Tables) -> Sequence[Place]:
        """Return what the block of each layer adds to the decision."""
        return [
            Place(
                int(row["block"]),
                what="What this block adds to the decision where the answers part (p: Benjamini-Hochberg)",
                numbers=[
                    PlaceNumber(
                        "step, mean over prompts", row["step"], low=row["step_low"], high=row["step_high"],
                        p=row["p_bh"], unit="logits",
                    ),
                    PlaceNumber("share of all blocks' steps", 100 * row["share_of_total"], unit="%"),
                ],
            )
            for row in tables["divergence_blocks"].to_dict("records")
        ]  # fmt: skip

    def distances(self, tables: Tables) -> Mapping[str, float]:
        """parted: share of prompts whose answers part; half_depth: as a share of the depth."""
        prompts, depth = tables["partings"], tables["divergence_depth"]
        blocks = max(1, int(depth["boundary"].iloc[-1]))
        parted = float(np.isfinite(prompts["position"].to_numpy(float)).mean()) if len(prompts) else float("nan")
        return {"parted": parted, "half_depth": float(depth["half_depth"].iloc[0]) / blocks}

    def detectors(self) -> Sequence[type[Detector]]:
        """Return the detector of blocks that change the next token."""
        from itlens.findings.divergence.detectors import BlockDecision

        return (BlockDecision,)

    def shortcuts(self, tables: Tables) -> Mapping[str, object]:
        """Return `Comparison.divergence`: the four cells."""
        return {"divergence": tables["divergence"]}


def _depth_as_said(depth: pd.DataFrame) -> pd.DataFrame:
    """Return the effects by boundary with the intervals that go with their p-values."""
    for name in ("upstream", "late", "interaction"):
        depth = rows_as_said(depth, p=f"{name}_p", difference=name, low=f"{name}_low", high=f"{name}_high")
    return depth


FINDING = Divergence()
