"""Faithfulness: do attributions point at the tokens that each model's responses hang on?

Each drawn prompt is measured with each model on the response that was attributed (`probe`: deletion and insertion
against random orders), and the advantage over random orders is tested over prompts (`diff`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import xarray as xr

from itlens.findings.base import SIDES, Finding, Headline, Plan, Saved, Tables, Verdict
from itlens.findings.faithfulness.diff import compare_faithfulness, faithfulness_curves
from itlens.findings.faithfulness.diff_verdict import faithfulness_verdict, judge_methods
from itlens.findings.faithfulness.view import faithfulness_figure as draw
from itlens.findings.shared import BATCH_SIZE, METHOD, OBJECTIVE, SAMPLE, attributed
from itlens.prompts.formats import EMPTY_FORM
from itlens.report.blocks import Block, Card, Column, Figure, Role, Row, Table, Text
from itlens.report.numbers import number, p_value, percent_range
from itlens.results.provenance import provenance

if TYPE_CHECKING:
    from itlens.models.hooked_model import HookedModel

STEPS, DRAWS = 5, 10  # of a deletion curve, and random orders next to it

_INTRO = (
    "The prompt's tokens are taken away, the most important first (deletion), or put back into an emptied prompt "
    "(insertion), and the response's log-probability is measured each time. If an attribution is right, the response "
    "falls faster, and rises faster, than in a random order. No model was trained on a prompt with tokens replaced; "
    "that is why only the distance from random orders counts."
)

_CARDS: tuple[tuple[str, str, Role], ...] = (  # label, name of the headline, role
    ("base: deletion, advantage over random orders", "advantage over random orders in the base model", "base"),
    ("tuned: deletion, advantage over random orders", "advantage over random orders in the tuned model", "tuned"),
    ("difference, tuned − base: deletion", "difference of the advantage over random orders", ""),
)


@dataclass(frozen=True)
class FaithfulnessOptions:
    """sample: prompts that are drawn. The others are the attribution's, which is computed where there is none."""

    sample: int = SAMPLE
    method: str = METHOD
    objective: str = OBJECTIVE
    batch_size: int | None = BATCH_SIZE


@dataclass(frozen=True)
class FaithfulResults:
    """Whether attributions are faithful. table: of `itlens.diff.faithfulness`; curves: of its `faithfulness_curves`."""

    table: pd.DataFrame
    curves: xr.Dataset

    @property
    def verdict(self) -> str:
        """What the table says, in a few sentences."""
        return faithfulness_verdict(self.table)


class Faithfulness(Finding):
    """Deletion and insertion of the tokens that attributions call important, against random orders, in both models."""

    name = "faithfulness"
    question = "Are the attributions faithful to the models?"
    topic = "the faithfulness of the attributions"
    reads = "prompts"
    order = 60
    shortcut_names = ("faithfulness",)
    unit = "prompts"
    by_prompt = True
    uses = ("attribution",)
    Options = FaithfulnessOptions

    def units(self, plan: Plan) -> Sequence[str]:
        """Return a name for each drawn prompt."""
        return plan.prompt_units(plan.sample(plan.options.sample))

    def describe(self, plan: Plan) -> Mapping[str, object]:
        """Return the settings of the curves, and what is ordered by them."""
        return {
            "deletion_scores": f"{plan.options.method} of {plan.options.objective}",
            "deletion_prompts": len(self.units(plan)),
            "deletion_steps": STEPS,
            "deletion_draws": DRAWS,
            "deletion_seed": plan.seed,
        }

    def run(self, source: HookedModel, unit: str, plan: Plan) -> xr.Dataset:
        """Return the curves of one prompt; an empty response has nothing to measure."""
        from itlens.findings.faithfulness.probe import faithfulness as measure

        assert plan.reading is not None  # every study with prompts has one
        prompt = plan.prompts[plan.number_of(unit)]
        saved = plan.saved(self.uses[0], unit)
        scores = attributed(source, unit, plan) if saved is None else saved
        if not scores.sizes.get("target", 0):
            return xr.Dataset(attrs=provenance(self.name, prompt_id=prompt.id, empty=1))
        return measure(
            source, prompt, scores, steps=STEPS, draws=DRAWS, seed=plan.seed, prepend_bos=plan.reading.prepend_bos,
            progress=plan.tell,
        )  # fmt: skip

    def compare(self, saved: Saved, plan: Plan) -> Tables:
        """Return the test over prompts, and the mean curves; nothing where every response is empty."""
        pairs = [[saved[side][unit] for side in SIDES] for unit in saved["base"]]
        measured = [pair for pair in pairs if not any(result.attrs.get("empty") for result in pair)]
        if not measured:
            return {}
        base, tuned = (list(side) for side in zip(*measured, strict=True))
        return {
            "faithfulness": compare_faithfulness(base, tuned),
            "faithfulness_curves": faithfulness_curves({"base": base, "tuned": tuned}, seed=plan.seed),
            "_prompts": pd.concat([_by_prompt("base", base, plan), _by_prompt("tuned", tuned, plan)]),
        }

    def prompt_numbers(self, tables: Tables, plan: Plan) -> pd.DataFrame | None:
        """Return the advantage over random orders of both models on each prompt that was drawn, in nats."""
        return tables.get("_prompts")

    def verdict(self, tables: Tables) -> Verdict:
        """Return what deletion says of both models. The caveat is "" only where attributions can be relied on."""
        if "faithfulness" not in tables:
            why = "a response of each prompt drawn is empty"
            return Verdict(f"Not tested: {why}; {EMPTY_FORM}.", tested=False, short=f"not tested: {why}")
        return next(iter(judge_methods(tables["faithfulness"]).values()))

    def show(self, tables: Tables) -> Sequence[Block]:
        """Return the cards, the advantage over random orders as a figure and as a table, and the curves behind it."""
        if "faithfulness" not in tables:
            return []
        table = tables["faithfulness"]
        return [
            *_cards(self.verdict(tables).numbers),
            Text(_INTRO),
            Figure(draw(table), wide=True),
            Figure(draw(tables["faithfulness_curves"]), wide=True),
            Table(table, _COLUMNS, "Advantage over random orders", _measured(table)),
        ]

    def notes(self, tables: Tables, plan: Plan) -> Sequence[str]:
        """Say how many of the drawn prompts count."""
        if "faithfulness" not in tables:
            return []
        used, drawn = int(tables["faithfulness"]["n"].min()), len(self.units(plan))
        if used == drawn:
            return []
        return [
            f"Faithfulness is measured on {used} of the {drawn} prompts drawn for it: in the others a response is "
            "empty or not finished."
        ]

    def terms(self, tables: Tables) -> Mapping[str, str]:
        """Define what the figures measure."""
        return {
            "Deletion, insertion": "Embeddings of prompt tokens are replaced by a baseline, in the order of "
            "importance, or put back into a prompt that is all baseline. The response stays, and its log-probability "
            "is measured.",
            "Advantage": "The area between the curve and that of random orders of the same tokens, in the good "
            "direction: 0 is no better than random, above 0 is better. It is a share of means: the mean advantage in "
            "nats, divided by the mean of what the whole prompt does; a point is a hundredth of that.",
        }

    def shortcuts(self, tables: Tables) -> Mapping[str, object]:
        """Return `Comparison.faithfulness`."""
        if "faithfulness" not in tables:
            return {"faithfulness": None}
        return {"faithfulness": FaithfulResults(tables["faithfulness"], tables["faithfulness_curves"])}


def _by_prompt(side: str, results: Sequence[xr.Dataset], plan: Plan) -> pd.DataFrame:
    groups = {prompt.id: prompt.group for prompt in plan.prompts}
    ids = [str(result.attrs["prompt_id"]) for result in results]
    numbers = {
        f"advantage_over_random_orders,_{way},_nats": [
            float(result["advantage_nats"].sel(direction=way)) for result in results
        ]
        for way in ("deletion", "insertion")
    }
    return pd.DataFrame({"model": side, "id": ids, "group": [groups.get(id, "") for id in ids], **numbers})


def _cards(numbers: Sequence[Headline]) -> list[Card]:
    """Base, tuned and their difference: deletion large, insertion below."""
    named = {headline.name: headline for headline in numbers}
    cards = []
    for label, name, role in _CARDS:
        deletion, insertion = (named.get(f"{name}, {way}") for way in ("deletion", "insertion"))
        if deletion is None:
            continue
        details = [_certainty(deletion)]
        if insertion is not None:
            details.append(f"insertion {number(insertion.value, 1, sign=True)} {_certainty(insertion)}")
        details += [] if role else [f"n = {deletion.n} prompts"]
        cards.append(Card(label, f"{number(deletion.value, 1, sign=True)} points", " · ".join(details), role))
    return cards


def _certainty(headline: Headline) -> str:
    low, high = (number(end, 1, sign=True) for end in (headline.low, headline.high))
    return f"[{low}, {high}], Holm p {p_value(headline.p)}"


def _measured(table: pd.DataFrame) -> str:
    attrs = table.attrs
    return (
        "in points, hundredths of what the whole prompt does to the log-probability of the response; "
        f"removed tokens are replaced by the {attrs['baseline']} embedding in {attrs['steps']} steps, next to "
        f"{attrs['draws']} random orders"
    )


def _method(row: Row) -> str:
    by = f" ({row['by']})" if row["by"] else ""
    return f"{str(row['method']).replace('_', ' ')}{by}"


def _of_side(name: str) -> tuple[Column, ...]:
    def show_interval(row: Row) -> str:
        return percent_range(row[f"{name}_low"], row[f"{name}_high"])

    about = "mean advantage over random orders per mean of what the whole prompt does, in points"
    whole = f"{name}: mean of what the whole prompt does to the log-probability of a response token, in nats"
    return (
        Column(f"{name}_prompt", "prompt, nats", "number", whole, decimals=2, terminal=False),
        Column(f"{name}_advantage", name, "points", about, decimals=1),
        Column(f"{name}_low", "95 % interval", show_interval, f"{name}: of the t test over prompts", terminal=False),
        Column(
            f"{name}_p_holm", "Holm p", "p", f"{name} against random orders: t test over prompts, Holm", test=True,
            terminal=False,
        ),
    )  # fmt: skip


_COLUMNS = (
    Column("method", "method", _method, "of the attribution, and what its tokens are ordered by", terminal=False),
    Column("direction", "direction", help="deletion: the first tokens are removed; insertion: only they are kept"),
    Column("n", "n", "count", "prompts"),
    *_of_side("base"),
    *_of_side("tuned"),
    Column("difference", "difference", "points", "tuned − base, paired over prompts", decimals=1),
    Column(
        "ci_low", "95 % interval", lambda row: percent_range(row["ci_low"], row["ci_high"]),
        "of the difference: of the paired t test over prompts",
    ),
    Column("p_holm", "Holm p", "p", "tuned − base: paired t test over prompts, Holm", test=True),
)  # fmt: skip

FINDING = Faithfulness()
