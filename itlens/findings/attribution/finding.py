"""Attribution: how strongly the instruction drives a response, in both models.

Each model is attributed on every prompt (`itlens.hooked.attribution`), a file per prompt. The instruction scores are
compared prompt by prompt (`diff`), and the verdict knows on whose responses the models were read (`diff_verdict`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.attribution.columns import GROUPS, PROMPTS
from itlens.findings.attribution.diff import AttributionDiff, attributions
from itlens.findings.attribution.diff_template import prompt_scores, within_body
from itlens.findings.attribution.diff_verdict import Conclusion, Writer, conclusion
from itlens.findings.attribution.robustness import robustness
from itlens.findings.attribution.view import groups, profile, scores
from itlens.findings.attribution.view_tokens import TokenView, token_pair
from itlens.findings.base import SIDES, Finding, Plan, Saved, Tables, Verdict
from itlens.findings.options import option
from itlens.findings.shared import BATCH_SIZE, METHOD, OBJECTIVE, attributed
from itlens.prompts.formats import EMPTY_FORM
from itlens.report.blocks import Block, Card, Figure, Panel, Role, Row, Table, Text, guessed_columns, rows_of
from itlens.report.numbers import interval, is_number, number, p_equals, whole
from itlens.stats.groups import rows_as_said

if TYPE_CHECKING:
    from itlens.findings.benchmark import Benchmark
    from itlens.findings.detector import Detector
    from itlens.models.hooked_model import HookedModel
    from itlens.prompts import Prompt

_EXAMPLES = 4  # prompts whose tokens are shown
_NAMED = 5  # prompts that a note names
_TRUST = "faithfulness"  # the finding that tests whether attributions can be relied on
_LEGEND = (
    "difference: tuned − base, paired, with its 95 % interval; d_z: effect size; p: paired t-test; Holm p: over the "
    "groups"
)
_PER_PROMPT = ("instruction_score", "response_tokens")
_TOKEN_TITLE = "What the response takes from each prompt token"
_TOKENS = (
    "The colour of a prompt token says how much it drives the response (its importance density; each model has its own "
    "scale). Point at a response token to see its levels: what that one token read, above the cut-off b = {threshold}."
)


@dataclass(frozen=True)
class AttributionOptions:
    """method, objective, batch_size: of the attribution. levels, threshold, p: of the importance density."""

    method: str = METHOD
    objective: str = OBJECTIVE
    batch_size: int | None = BATCH_SIZE
    levels: int = option(10, help="Levels of an attribution (L).", at_least=1, identity=False)
    threshold: int = option(7, help="Levels up to this one count as 0 (b).", at_least=0, identity=False)
    p: float = option(4, help="Power of the importance density's norm (p).", at_least=1, identity=False)


class Attribution(Finding):
    """The importance density of the instruction: input x gradient of every response token on every prompt token,
    compared prompt by prompt (paired t and Wilcoxon, bootstrap interval, Holm over groups)."""

    name = "attribution"
    question = "Does tuning make the model lean on the instruction?"
    topic = "the instruction score"
    reads = "prompts"
    order = 10
    shortcut_names = ("diff", "base", "tuned")
    unit = "prompts"
    by_prompt = True
    Options = AttributionOptions

    def units(self, plan: Plan) -> Sequence[str]:
        """Return a name for each prompt."""
        return plan.prompt_units()

    def check(self, plan: Plan) -> None:
        """Raise ProbeError for a cut-off above the highest level."""
        if plan.options.threshold > plan.options.levels:
            raise ProbeError(f"threshold={plan.options.threshold} is higher than levels={plan.options.levels}.")

    def run(self, source: HookedModel, unit: str, plan: Plan) -> xr.Dataset:
        """Return the attribution of one prompt; attrs["response_of"] says whose response was read."""
        assert plan.reading is not None  # every study with prompts has one
        prompt = plan.prompts[plan.number_of(unit)]
        result = attributed(source, unit, plan, plan.tell)
        writer = plan.side if plan.reading.responses == "own" else plan.reading.responses
        writer = writer if prompt.response is None else "given"
        kept = result.assign(score=result["score"].astype("float32"))  # enough to rank and level scores
        return kept.assign_attrs(response_of=writer)

    def compare(self, saved: Saved, plan: Plan) -> Tables:
        """Return the tables of `itlens.diff.attributions`; in memory, the attributions and examples of them."""
        units = list(saved["base"])
        prompts = [plan.prompts[plan.number_of(unit)] for unit in units]
        ids = [prompt.id for prompt in prompts]
        base, tuned = (dict(zip(ids, (saved[side][unit] for unit in units), strict=True)) for side in SIDES)
        options = plan.options
        diff = attributions(
            base, tuned, prompts, levels=options.levels, threshold=options.threshold, p=options.p, seed=plan.seed
        )
        tables = {name: table for name, table in diff._asdict().items() if table is not None}
        labels = [getattr(plan.models[side], "label", "") or plan.models[side].name for side in SIDES]
        return tables | {
            "_base": base,
            "_tuned": tuned,
            "_names": tuple(labels),
            "_responses": _writer(base, tuned),
            "_prompts": {prompt.id: prompt for prompt in prompts},
            "_examples": _examples(prompts, base, tuned),
        }

    def verdict(self, tables: Tables) -> Verdict:
        """Return what the paired comparison over all prompts comes to."""
        return conclusion(tables)

    def reconsider(self, verdict: Verdict, others: Mapping[str, Verdict]) -> Verdict:
        """Return the verdict with the doubt of the faithfulness test, where that does not support the attributions."""
        trust = others.get(_TRUST)
        if isinstance(verdict, Conclusion) and verdict.tested and trust is not None and trust.tested and trust.caveat:
            return verdict.doubted(trust.caveat)
        return verdict

    def show(self, tables: Tables) -> Sequence[Block]:
        """Return the cards, every prompt and group, the profile along the response, other settings, and examples."""
        return [
            *_cards(tables),
            *_results(tables),
            *robustness(tables, _settings(tables)),
            *_tokens(tables),
            *_details(tables),
        ]

    def notes(self, tables: Tables, plan: Plan) -> Sequence[str]:
        """Return which responses were empty or cut, and whose were read."""
        writer: Writer = tables["_responses"]
        sides = {"own": SIDES, "given": SIDES, "base": ("base",), "tuned": ("tuned",)}[writer]
        notes = [note for side in sides for note in (_empty(tables, side), _cut(tables, side, plan)) if note]
        if writer in SIDES:
            notes.append(
                f"Both models were read on the {writer} model's responses; what they would write themselves is not "
                "compared."
            )
        return notes

    def terms(self, tables: Tables) -> Mapping[str, str]:
        """Define what was measured, with the settings of the method."""
        levels, threshold, p = _settings(tables)
        return {
            "Attribution": "How much a prompt token pushes the model to write a response token: the gradient of the "
            "response token's objective (its probability, unless the parameters say otherwise) with respect to the "
            "prompt token's embedding, times that embedding (input × gradient, unless the parameters say otherwise). "
            "It says what a small change of an input would do to the output; it is evidence about the model, not its "
            "reasons.",
            "Level": "Per response token, attributions below zero become zero, the rest are divided by the largest "
            f"and rounded up to levels 0 to {levels}. Levels up to b = {threshold} then count as zero, so that only "
            "the strongest prompt tokens stay.",
            "Importance density": "For each prompt token: the sum of its levels over the response, divided by their "
            f"{p:g}-norm. High when the token matters all along the response, not only once.",
            "Instruction score": "The densities, divided by the prompt's largest, summed over the instruction's tokens "
            "and divided by log₂(2 + their number); several important tokens can take it above 1. An empty response "
            "scores 0.",
            "Difference, interval, p": "Tuned minus base on the same prompt, averaged over prompts. The interval is a "
            "bootstrap over prompts. p is a paired t-test, two-sided; Wilcoxon's test is next to it, and Holm's "
            "correction allows for the number of groups. d_z is the mean of the differences over their standard "
            "deviation. With fewer than 30 prompts the verdict gives the interval of the t-test.",
            "Welch p": "The test of the original paper: unpaired, one-sided (tuned above base). It ignores that both "
            "models saw the same prompts, and is shown for comparison only.",
        }

    def per_prompt(self, tables: Tables, plan: Plan) -> pd.DataFrame:
        """Return instruction_score and response_tokens by model and prompt.

        With plan.frames, the score is of the tokens of the prompt's own text, and template_share is how much of the
        importance lies on the others.
        """
        options = plan.options
        if plan.frames is None:
            known = tables["prompts"]
            parts = [
                known[["id", "group"]].assign(
                    model=side, instruction_score=known[side], response_tokens=known[f"{side}_targets"]
                )
                for side in SIDES
            ]
            return pd.concat(parts, ignore_index=True)[["model", "id", "group", *_PER_PROMPT]]
        framed = [within_body(frame) for frame in plan.frames]
        parts = []
        for side in SIDES:
            table = prompt_scores(
                tables[f"_{side}"],
                [prompt for _, prompt in framed],
                [frame for frame, _ in framed],
                levels=options.levels,
                threshold=options.threshold,
                p=options.p,
            )
            parts.append(table.assign(model=side))
        both = pd.concat(parts, ignore_index=True)
        return both[["model", "id", "group", *_PER_PROMPT, "template_share"]]

    def changes(self, tables: Tables, plan: Plan) -> pd.DataFrame | None:
        """Return the changes of `per_prompt` but response_tokens: the length of an answer is no number of its
        attribution."""
        own = super().changes(tables, plan)
        return None if own is None else own.drop(columns="response_tokens")

    def prompt_panels(self, tables: Tables, prompt_id: str) -> Sequence[Panel]:
        """Return the tokens of one prompt under both models."""
        prompt = tables["_prompts"].get(prompt_id)
        if prompt is None:
            return []
        base, tuned = tables["_base"][prompt_id], tables["_tuned"][prompt_id]
        return [replace(_token_pair(tables, prompt, base, tuned), title=_TOKEN_TITLE)]

    def detectors(self) -> Sequence[type[Detector]]:
        """Return the detector of moved embeddings."""
        from itlens.findings.attribution.detectors import TokenAttribution

        return (TokenAttribution,)

    def benchmarks(self) -> Sequence[type[Benchmark]]:
        """Return the benchmarks of speed and of half precision."""
        from itlens.findings.attribution.benchmarks import AttributionSpeed, HalfPrecision

        return (AttributionSpeed, HalfPrecision)

    def shortcuts(self, tables: Tables) -> Mapping[str, object]:
        """Return `Comparison.diff`, `Comparison.base` and `Comparison.tuned`."""
        diff = AttributionDiff._make(tables.get(name) for name in AttributionDiff._fields)
        return {"diff": diff, "base": tables["_base"], "tuned": tables["_tuned"]}


def _writer(base: Mapping[str, xr.Dataset], tuned: Mapping[str, xr.Dataset]) -> Writer:
    """Return whose responses both models were read on; "own" where each was read on its own."""
    written = {
        str(result.attrs.get("response_of", side))
        for side, results in (("base", base), ("tuned", tuned))
        for result in results.values()
    }
    if written == {"given"}:
        return "given"
    written -= {"given"}
    if len(written) > 1:
        return "own"
    return "tuned" if written == {"tuned"} else "base"


def _examples(
    prompts: Sequence[Prompt], base: Mapping[str, xr.Dataset], tuned: Mapping[str, xr.Dataset]
) -> list[tuple[Prompt, xr.Dataset, xr.Dataset]]:
    """Return the first prompts to which neither response is empty, with both attributions."""
    both = [(prompt, base[prompt.id], tuned[prompt.id]) for prompt in prompts]
    return [example for example in both if example[1].sizes["target"] and example[2].sizes["target"]][:_EXAMPLES]


def _settings(tables: Tables) -> tuple[int, int, float]:
    """Return levels, threshold and power of the tables."""
    attrs = tables["groups"].attrs
    return int(attrs["levels"]), int(attrs["threshold"]), float(attrs["power"])


# ---- blocks


def _cards(tables: Tables) -> list[Block]:
    """Return base, tuned, and their paired difference over all prompts."""
    row = rows_of(rows_as_said(tables["groups"].head(1)))[0]
    roles: tuple[Role, Role] = ("base", "tuned")
    base, tuned = (
        Card(f"{side}: {name}", number(row[f"{side}_mean"]), f"± {number(row[f'{side}_std'])} over prompts", side)
        for side, name in zip(roles, tables["_names"], strict=True)
    )
    value = number(row["difference"], sign=True)
    return [base, tuned, Card("paired difference, tuned − base", value, _difference(tables, row))]


def _difference(tables: Tables, row: Row) -> str:
    parts = [f"95 % interval {interval(row['ci_low'], row['ci_high'])}", f"n = {whole(row['n'])} prompts"]
    if is_number(row["p_paired"]):
        parts.append(f"paired t-test p {p_equals(row['p_paired'])}")
        parts.append(f"effect size d_z = {number(row['effect_size'], 2, sign=True)}")
    else:
        parts.append(str(row["note"]))
    equal = tables["equal_length"].iloc[0]["difference"]
    if tables["_responses"] == "own" and is_number(equal):
        parts.append(f"at equal response length {number(equal, sign=True)}")
    return " · ".join(parts)


def _results(tables: Tables) -> list[Block]:
    """Return every prompt, every group, and the profile along the response."""
    texts = {name: prompt.text for name, prompt in tables["_prompts"].items()}
    said = rows_as_said(tables["groups"])
    figures = [scores(tables["prompts"], texts), groups(said)]
    height = max(int(figure.layout.height) for figure in figures)
    blocks: list[Block] = [
        Text(
            "The instruction score says how strongly the instruction drives the response: the importance of its "
            "tokens, relative to the prompt's most important token, summed and divided by the logarithm of their "
            "number. An instruction of several important tokens can score above 1. Both models are scored on the same "
            "prompts, so the difference is taken prompt by prompt.",
            "Prompts and groups",
        ),
        *(Figure(figure, height=height) for figure in figures),
        Table(said, GROUPS, "Instruction score, per group", _LEGEND),
    ]
    if (ratings := tables.get("ratings")) is not None and len(ratings):
        text = "prompts that were rated: do responses that follow the instruction score higher?"
        blocks.append(Table(ratings, guessed_columns(ratings), "Followed or not", text, terminal=False))
    blocks.append(
        Text(
            "Of all that a response token takes from the prompt, how much does it take from the instruction? A model "
            "that is constantly conditioned on its instruction keeps that share up to the end.",
            "Along the response",
        )
    )
    if tables["profile"].sizes["position"]:
        blocks.append(Figure(profile(tables["profile"])))
    return blocks


def _tokens(tables: Tables) -> list[Block]:
    """Return a few prompts under both models, side by side."""
    _, threshold, _ = _settings(tables)
    if not tables["_examples"]:
        return [Text("No prompt has a response of both models that is not empty.", "Examples")]
    blocks: list[Block] = [Text(_TOKENS.format(threshold=threshold), "Examples")]
    for prompt, base, tuned in tables["_examples"]:
        view = _token_pair(tables, prompt, base, tuned)
        title = " · ".join(filter(None, (prompt.id, prompt.group)))
        blocks.append(replace(view, title=title))
    return blocks


def _token_pair(tables: Tables, prompt: Prompt, base: xr.Dataset, tuned: xr.Dataset) -> TokenView:
    levels, threshold, p = _settings(tables)
    return token_pair(
        base, tuned, prompt, values="levels", levels=levels, threshold=threshold, p=p, names=tables["_names"]
    )


def _details(tables: Tables) -> list[Block]:
    prompts = tables["prompts"]
    title = f"All {whole(len(prompts))} prompts (click a heading to sort)"
    return [Table(prompts, PROMPTS, title, sortable=True, folded=True, terminal=False)]


# ---- notes


def _empty(tables: Tables, side: str) -> str:
    results: Mapping[str, xr.Dataset] = tables[f"_{side}"]
    empty = [id for id, result in results.items() if not result.sizes["target"]]
    if not empty:
        return ""
    shown = ", ".join(empty[:_NAMED]) + (" ..." if len(empty) > _NAMED else "")
    return (
        f"The {side} model gave an empty response to {len(empty)} of {len(results)} prompts (scored 0): {shown}. "
        f"Advice: {EMPTY_FORM}."
    )


def _cut(tables: Tables, side: str, plan: Plan) -> str:
    results: Mapping[str, xr.Dataset] = tables[f"_{side}"]
    cut = sum(result.attrs.get("finish") == "length" for result in results.values())
    if not cut:
        return ""
    return (
        f"{cut} of {len(results)} responses of the {side} model did not end by themselves and were cut at "
        f"{plan.settings['max_new_tokens']} tokens (or at the model's context)."
    )


FINDING = Attribution()
