"""Patching: which attention heads carry what tuning did?

While both models read the tuned model's responses, each head of the tuned model is put into the base model
(`itlens.patch`). Where word pairs or activations were compared as well, their rankings of heads are put next to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from itlens.findings.base import Finding, Plan, Saved, Tables, Verdict
from itlens.findings.patching.columns import AGREEMENT, MOVED, PATCHED, agreement_rows, patched_rows, top_rows
from itlens.findings.patching.diff import is_fewest, judge_heads, patching_verdict
from itlens.findings.patching.diff_agreement import head_agreement, top_heads
from itlens.findings.patching.view import estimates, patching, units
from itlens.findings.patching.view_places import patching_places
from itlens.findings.shared import SAMPLE
from itlens.report.blocks import Block, Card, Figure, Table, Text
from itlens.report.explorer_places import Place
from itlens.report.head_grid import LEVEL, floats, head_name
from itlens.report.numbers import interval, is_number, number, percent, percent_range, whole

if TYPE_CHECKING:
    from itlens.findings.detector import Detector
    from itlens.models import ModelPair

CONTROLS = 10  # random orders of heads next to those patched together
HEADS = "heads"  # the one result
_SHOWN, _IN_TERMINAL = 15, 8


@dataclass(frozen=True)
class PatchingOptions:
    """sample: prompts that are drawn."""

    sample: int = SAMPLE


@dataclass(frozen=True)
class PatchResults:
    """What heads carry. patched: of `itlens.patch`. agreement: of `itlens.diff.head_agreement`, or None."""

    patched: xr.Dataset
    agreement: xr.Dataset | None

    @property
    def verdict(self) -> str:
        """What patching says, in a few sentences."""
        return patching_verdict(self.patched)


class Patching(Finding):
    """The share of the tuned model's behaviour that each of its heads carries when it is put into the base, alone and
    all together, compared with random heads."""

    name = "patching"
    question = "Which heads carry what tuning did?"
    topic = "the heads that carry the tuned behaviour"
    reads = "pair"
    order = 50
    shortcut_names = ("patching",)
    uses = ("attention", "activation")
    Options = PatchingOptions

    def units(self, plan: Plan) -> Sequence[str]:
        """Return the name of the one result."""
        return (HEADS,)

    def describe(self, plan: Plan) -> Mapping[str, object]:
        """Return how many prompts and random orders there are."""
        return {
            "patched_prompts": len(plan.sample(plan.options.sample)),
            "patch_controls": CONTROLS,
            "patch_seed": plan.seed,
        }

    def run(self, source: ModelPair, unit: str, plan: Plan) -> xr.Dataset:
        """Patch each head on the drawn prompts, whose responses both models read."""
        from itlens.findings.patching.probe import patch

        assert plan.reading is not None  # every study with prompts has one
        drawn = plan.sample(plan.options.sample)
        prompts = plan.reading.forced(source, drawn)
        return patch(
            source, prompts, what="head", responses=plan.reading.pair_writer, controls=CONTROLS, seed=plan.seed,
            progress=plan.tell,
        )  # fmt: skip

    def compare(self, saved: Saved, plan: Plan) -> Tables:
        """Return the effects of heads, and whether the other rankings of heads that there are agree with them."""
        patched = saved["pair"][HEADS]
        words, activations = (plan.tables(name) or {} for name in self.uses)
        tables = {"patching": patched}
        rankings = {"word pairs": words.get("word_pairs"), "shift": activations.get("_shift"), "patching": patched}
        rankings = {name: result for name, result in rankings.items() if result is not None}
        exact = "recovered" in patched and bool(patched["recovered"].notnull().any())
        if len(rankings) > 1 and exact:
            tables["head_agreement"] = head_agreement(rankings, seed=plan.seed)
            tables["top_heads"] = top_heads(tables["head_agreement"])
        if (moved := activations.get("shifted_heads")) is not None:
            tables["_moved"] = moved
        return tables

    def verdict(self, tables: Tables) -> Verdict:
        """Return how much heads carry together, how few it takes, and which have an effect by themselves."""
        return judge_heads(tables["patching"])

    def show(self, tables: Tables) -> Sequence[Block]:
        """Return the cards, the map of heads with the curve, the estimates, and the tables of heads and rankings."""
        patched, agreement = tables["patching"], tables.get("head_agreement")
        blocks: list[Block] = [*_cards(patched), Text(_intro(patched))]
        note = str(patched.attrs.get("note", ""))
        if not any(bool(np.isfinite(patched[name]).any()) for name in ("recovered", "estimated") if name in patched):
            return [*blocks, Text(f"Nothing to show: {note or 'no effect is a number'}.")]
        blocks += [Text(f"Note: {note}.")] if note else []
        blocks.append(Figure(patching(patched), wide=True))
        blocks += [Figure(estimates(patched))] if {"recovered", "estimated"} <= {*patched.data_vars} else []
        blocks += _head_tables(patched, tables.get("_moved"))
        return blocks + ([] if agreement is None else _agreement_tables(agreement))

    def notes(self, tables: Tables, plan: Plan) -> Sequence[str]:
        """Repeat what the probe notes: prompts left out, a gap that is none."""
        note = str(tables["patching"].attrs.get("note", ""))
        return [f"Patching: {note}."] if note else []

    def terms(self, tables: Tables) -> Mapping[str, str]:
        """Define what the figures measure."""
        return {
            "Recovered": "How far the response's log-probability (or the measure named among the settings) moves from "
            "the one model's value to the other's when a part is exchanged, as a share of the gap over all prompts. "
            "Below 0 it moves away.",
            "Best parts, random parts": "The parts ranked on one half of the prompts are exchanged together and judged "
            "on the other half. Random parts are as many, drawn repeatedly: where the best are no better, no part is "
            "special.",
            "Estimate": "What a first-order expansion (gradient times difference) says of every part from one backward "
            "pass. Its rank correlation with the exact effects says how far it may be used in their place.",
        }

    def places(self, tables: Tables) -> Sequence[Place]:
        """Return the effect of every head by itself, and its place in each ranking of heads."""
        return list(patching_places(tables["patching"], tables.get("head_agreement")))

    def prompt_numbers(self, tables: Tables, plan: Plan) -> pd.DataFrame:
        """Return what the measure is in either model on each prompt that was drawn, before anything is exchanged."""
        patched = tables["patching"]
        ids, groups = (patched[name].values.astype(str) for name in ("prompt", "group"))
        measure = str(patched.attrs.get("metric", "measure"))
        name = "log_probability_of_the_response,_nats_a_token" if measure == "logprob" else measure
        sides = {"base": patched["receiver"], "tuned": patched["donor"]}  # heads of tuned are put into base
        parts = [
            pd.DataFrame({"model": side, "id": ids, "group": groups, name: values.to_numpy().astype(float)})
            for side, values in sides.items()
        ]
        return pd.concat(parts, ignore_index=True)

    def changes(self, tables: Tables, plan: Plan) -> pd.DataFrame | None:
        """Return the gap between the models on each prompt, in the metric's unit, tuned less base."""
        patched = tables["patching"]
        if not {"donor", "receiver"} <= set(patched.data_vars):
            return None
        sign = 1 if str(patched.attrs.get("direction", "")).startswith("tuned") else -1
        gap = sign * (patched["donor"].values - patched["receiver"].values)
        return pd.DataFrame({"id": patched["prompt"].values.astype(str), "gap": gap})

    def distances(self, tables: Tables) -> Mapping[str, float]:
        """gap: nats by which a model gives its responses more log-probability than the first model does.

        heads_recover: the share of it that all heads carry together.
        """
        patched = tables["patching"]
        joint = float(patched["joint"][-1]) if "joint" in patched else float("nan")
        return {"gap": float(patched.attrs["gap"]), "heads_recover": joint}

    def detectors(self) -> Sequence[type[Detector]]:
        """Return the detector of heads whose weights change the response."""
        from itlens.findings.patching.detectors import HeadPatching

        return (HeadPatching,)

    def shortcuts(self, tables: Tables) -> Mapping[str, object]:
        """Return `Comparison.patching`."""
        return {"patching": PatchResults(tables["patching"], tables.get("head_agreement"))}


def _intro(patched: xr.Dataset) -> str:
    donor, _, receiver = str(patched.attrs.get("direction", "tuned->base")).partition("->")
    exchanged = f"What a part computes in the {donor} model is"
    if patched.attrs.get("what") == "weights":
        exchanged = f"The weights of a part of the {donor} model are"
    return (
        f"{exchanged} put into the {receiver} model, while both read the same tokens. Recovered is the share of the "
        f"gap between them that this closes: 0 is the {receiver} model as it is, 1 is as if all of it were the {donor} "
        "model. This is a causal effect, on these responses to these prompts; parts can stand in for one another, so "
        "single shares need not add up to 1."
    )


def _cards(patched: xr.Dataset) -> list[Card]:
    """Return the gap, how many heads it takes, and how many have an effect by themselves."""
    attrs, count = patched.attrs, patched["recovered"].size if "recovered" in patched else 0
    gap = f"{number(attrs.get('gap'), 2, sign=True)} {attrs.get('unit_of_effect', '')}".strip()
    span = interval(attrs.get("gap_low"), attrs.get("gap_high"), 2)
    prompts = f"95 % interval {span} · n = {whole(patched.sizes['prompt'])} prompts"
    cards = [Card("gap between the models", gap, prompts)]
    if "joint" in patched and count and is_number(patched["joint"][-1].item()):
        cards.append(_together(patched, count))
    if "p_bh" in patched and np.isfinite(floats(patched["p_bh"])).any():
        cards.append(_single(patched, count))
    return cards


def _together(patched: xr.Dataset, count: int) -> Card:
    needed = float(patched["needed_80_of_all"]) if "needed_80_of_all" in patched else np.nan
    joint = patched.isel(count=-1)
    span = f"95 % interval {percent_range(joint['joint_low'], joint['joint_high'])}"
    at_most = ""
    details = [f"all together recover {percent(joint['joint'], 0)} % ({span})"]
    if is_number(needed):
        best = patched.sel(count=int(needed))
        details.append(f"these recover {percent(best['joint'], 0)} %")
        random = best["joint_random"]
        details += [f"as many random ones {percent(random, 0)} %"] if is_number(random) else []
        if not is_fewest(patched, int(needed)):
            fewer = patched.sel(count=patched["count"][patched["count"] < needed].max())
            at_most = "at most "
            details.append(
                f"the best {whole(fewer['count'])} recover {percent(fewer['joint'], 0)} %, no number between was tried"
            )
    value = f"{at_most}{whole(needed)} of {whole(count)}" if is_number(needed) else f"none of {whole(count)}"
    return Card(f"{units(patched)[1]} that carry four fifths of what all carry", value, " · ".join(details))


def _single(patched: xr.Dataset, count: int) -> Card:
    significant = floats(patched["p_bh"]) < LEVEL
    away = int((significant & (floats(patched["recovered"]) < 0)).sum())
    rows = patched_rows(patched, count)
    first = rows[rows["p_bh"] < LEVEL].head(3).to_dict("records") if len(rows) else []
    named = [f"{head_name(row['layer'], row['head'])} {percent(row['recovered'], 0)} %" for row in first]
    details = [f"p < {LEVEL:g} after Benjamini-Hochberg"]
    details += [f"{whole(away)} of them widen the gap"] if away else []
    details += [f"most: {', '.join(named)}"] if named else []
    label = f"{units(patched)[1]} with an effect by themselves"
    return Card(label, f"{whole(significant.sum())} of {whole(count)}", " · ".join(details))


def _head_tables(patched: xr.Dataset, moved: pd.DataFrame | None) -> list[Block]:
    rows = patched_rows(patched, _SHOWN)
    if not len(rows):
        return []
    columns = list(PATCHED)
    if moved is not None:
        change = moved[["layer", "head", "mean"]].rename(columns={"mean": MOVED.name})
        rows = rows.merge(change, on=["layer", "head"], how="left")
        columns.append(MOVED)
    count = patched.sizes["layer"] * patched.sizes["head"]
    tables: list[Block] = [
        Table(
            rows,
            columns,
            f"The heads that carry most: {len(rows)} of {count}",
            "each head patched by itself: how much of the difference in log-probability it recovers",
            sortable=True,
            terminal_rows=_IN_TERMINAL,
        )
    ]
    against = patched_rows(patched, count, against=True)
    if len(against):
        title = f"Heads that work against it: {min(len(against), _SHOWN)} of {len(against)}"
        text = "patched by themselves they widen the gap significantly (p BH below 0.05); the most first"
        tables.append(Table(against.head(_SHOWN), PATCHED, title, text, sortable=True, terminal=False))
    return tables


def _agreement_tables(agreement: xr.Dataset) -> list[Block]:
    text = (
        "each ranks all heads by how much they changed, or carry; top heads are the first "
        f"{whole(agreement.attrs.get('top'))} of each"
    )
    heads, columns = top_rows(agreement)
    below = "the heads that each puts first; ● is in more than one of these lists"
    return [
        Table(
            agreement_rows(agreement), AGREEMENT, "Do other ways of asking point at the same heads?", text,
            terminal=False,
        ),
        Table(heads, columns, "The first heads of each, side by side", below, terminal=False),
    ]  # fmt: skip


FINDING = Patching()
