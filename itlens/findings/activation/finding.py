"""The finding "activation": where the tuned model's activations differ while both models read the same tokens.

Three results, one file each over all prompts: the summaries of each model (`itlens.activations`), and how far the tuned
model's activations are from the base's (`itlens.activation_shift`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.activation.columns import (
    PATTERN_PROMPTS,
    SETTINGS,
    SHIFTED,
    STATISTICS,
    activation_cards,
    activation_settings,
    statistic_rows,
)
from itlens.findings.activation.diff import activation_scores, compare_activations
from itlens.findings.activation.diff_shift import shift_summary, shift_tests, shifted_heads
from itlens.findings.activation.diff_verdict import activations_answer, activations_verdict
from itlens.findings.activation.view import activations_figure as draw_activations
from itlens.findings.activation.view_patterns import changed_patterns
from itlens.findings.activation.view_places import activation_places, pattern_places
from itlens.findings.activation.view_shift import shift as draw_shift
from itlens.findings.base import SIDES, Finding, Plan, Reads, Saved, Tables, Verdict
from itlens.prompts.formats import EMPTY_FORM
from itlens.report.blocks import Block, Figure, Panel, Table, Text
from itlens.report.explorer_places import Place

if TYPE_CHECKING:
    from itlens.findings.detector import Detector
    from itlens.hooked.tokens import Forced
    from itlens.models import ModelPair

SHIFT = "shift"
PATTERNS = "patterns"
_HEADS = 15  # rows of the table of heads
_MAPS = (("attention_mass", "instruction"), ("resid_rms", ""), ("lens_logprob", ""))  # statistic, class of tokens
_INTRO = (
    "Both models read the same prompts with the same responses, token by token, so no difference comes from different "
    "words. A cell is a head (layers down, heads across), a line goes down the layers. The largest change need not be "
    "the most important one: a head can write something else without any effect on the response."
)
_STATISTICS = (
    "for each statistic the place where the models differ most, relative to its spread over prompts (largest |d_z|); "
    "the largest of many is large by chance alone, so read it with its corrected p"
)
_ATTENTION = (
    "The heads whose attention differs most between the models (mean divergence of their patterns over all prompts), "
    "on one prompt and its response. A row is the token that looks, a column the token that is looked at."
)
_ATTENTION_PROMPTS = "their patterns are with the prompt"
_SHIFTED = "how far what a head writes changed, on all tokens but the first; click a heading to sort"


@dataclass(frozen=True)
class ActivationResults:
    """What a `Comparison` offers as `activation`: both models on the same tokens.

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
        """The answer in one or two sentences."""
        return activations_verdict(self.diff)


class PairOnTokens(NamedTuple):
    """A pair, and the prompts that both models read."""

    pair: ModelPair
    prompts: list[Forced]


class Activation(Finding):
    """Activations on the same tokens: what attention reads, sparseness of neurons, norms, where the answer appears in
    the logit lens, and the relative change of every layer and head."""

    name: ClassVar[str] = "activation"
    question: ClassVar[str] = "Where do the tuned model's activations differ?"
    label: ClassVar[str] = "Activations"
    topic: ClassVar[str] = "activations on the same tokens"
    reads: ClassVar[Reads] = "pair"
    order = 40
    shortcut_names = ("activation",)

    def units(self, plan: Plan) -> Sequence[str]:
        """The tuned model first: it may have to write the responses."""
        return ("tuned", "base", SHIFT, PATTERNS)

    def describe(self, plan: Plan) -> Mapping[str, object]:
        """Which summaries are computed: results depend on it."""
        from itlens.findings.activation.probe import GROUPS
        from itlens.findings.activation.probe_shift_record import KINDS

        return {"activation_summaries": ", ".join((*GROUPS, *(f"shift of {kind}" for kind in KINDS)))}

    def open(self, source: ModelPair, plan: Plan) -> PairOnTokens:
        """Read the prompts once for all units, as the model reads them that wrote the responses."""
        if plan.reading is None:
            raise ProbeError("The finding 'activation' needs prompts that both models read; plan.reading is None.")
        return PairOnTokens(source, plan.reading.forced(source))

    def run(self, source: PairOnTokens | ModelPair, unit: str, plan: Plan) -> xr.Dataset:
        """Compute the summaries of one model, the shift between the two, or the patterns that the report shows."""
        from itlens.findings.activation.probe import activations as summarise
        from itlens.findings.activation.probe_shift import activation_shift
        from itlens.hooked.pair_inputs import refuse_foreign_tokens

        pair, prompts = source if isinstance(source, PairOnTokens) else self.open(source, plan)
        if unit == SHIFT:
            # "base" is which model runs first (the responses are there): it is in memory from its summaries
            return activation_shift(pair, prompts, responses="base", seed=plan.seed, progress=plan.tell)
        if unit == PATTERNS:
            return _patterns(pair, prompts, plan)
        model = pair.tuned if unit == "tuned" else pair.base
        refuse_foreign_tokens(prompts, model)
        return summarise(model, prompts, progress=plan.tell)

    def compare(self, saved: Saved, plan: Plan) -> Tables:
        """Compare the two models' summaries, and reduce the shift over prompts; nothing until all three are there."""
        units = saved["pair"]
        if not all(name in units for name in (*SIDES, SHIFT)):
            return {}
        base, tuned, shift = (units[name] for name in (*SIDES, SHIFT))
        return {
            "activations": compare_activations(base, tuned, seed=plan.seed),
            "shift": shift_summary(shift, seed=plan.seed),
            "shift_tests": shift_tests(shift, seed=plan.seed),
            "shifted_heads": shifted_heads(shift, seed=plan.seed),
            "_base": base,
            "_tuned": tuned,
            "_shift": shift,
            "_patterns": units.get(PATTERNS),  # a run folder of an earlier version has none
        }

    def verdict(self, tables: Tables) -> Verdict:
        """Say how many statistics differ, and which differs most."""
        if "activations" not in tables:
            return Verdict(
                "Not tested: the results of both models are not finished.",
                tested=False,
                short="activations were not compared (not finished)",
            )
        return activations_answer(tables["activations"])

    def show(self, tables: Tables) -> Sequence[Block]:
        """Cards; maps of heads and lines over layers; statistic by statistic; the heads that changed most."""
        if "activations" not in tables:
            return []
        diff, shift, heads = tables["activations"], tables["shift"], tables["shifted_heads"]
        return [
            *activation_cards(diff, shift, heads),
            Text(_INTRO, "While reading the same words"),
            *(Figure(figure, wide=True) for figure in _figures(diff, shift)),
            _statistics(diff),
            *_shifted(heads),
            *_shown_patterns(tables.get("_patterns")),
            Table(activation_settings(diff), SETTINGS, "Activations: settings", folded=True, terminal=False),
        ]

    def notes(self, tables: Tables, plan: Plan) -> Sequence[str]:
        """Prompts that were left out, positions that were not kept, and whose responses were read."""
        if "_base" not in tables:
            return []
        return [*_left_out(tables["_base"], plan), *_sampled(tables["_shift"]), *_favoured(plan)]

    def terms(self, tables: Tables) -> Mapping[str, str]:
        """Attention mass, relative change, logit lens, p BH."""
        return _TERMS

    def places(self, tables: Tables) -> Sequence[Place]:
        """Statistics of both models and the shift, of every head and every layer; patterns of the heads that have
        some."""
        if "activations" not in tables:
            return []
        known = activation_places(tables["activations"], tables["shift"], tables["shift_tests"])
        return [*known, *pattern_places(tables.get("_patterns"))]

    def per_prompt(self, tables: Tables, plan: Plan) -> pd.DataFrame | None:
        """Means over layers and heads, by model and prompt; tokens: the digest of what was read."""
        if "_base" not in tables:
            return None
        sides = []
        for side in SIDES:
            summaries = tables[f"_{side}"]
            scores = activation_scores(summaries)
            scores.insert(0, "model", side)
            sides.append(scores.assign(tokens=summaries["tokens_digest"].values.astype(str)))
        return pd.concat(sides, ignore_index=True)

    def prompt_panels(self, tables: Tables, prompt_id: str) -> Sequence[Panel]:
        """Return the attention patterns of one prompt, where they were kept."""
        patterns = tables.get("_patterns")
        if patterns is None or prompt_id not in patterns["prompt"].values:
            return []
        return [changed_patterns(patterns, prompt_id)]

    def distances(self, tables: Tables) -> Mapping[str, float]:
        """residual_change: relative change of the residual stream, mean over layers and prompts, no first tokens."""
        if "_shift" not in tables:
            return {}
        change = tables["_shift"]["resid_relative_change"].sel(token_class="rest")
        return {"residual_change": float(change.mean())}

    def detectors(self) -> Sequence[type[Detector]]:
        """Shift of heads, of patterns, of feed-forward layers."""
        from itlens.findings.activation.detectors import HeadShift, LayerShift, PatternShift

        return (HeadShift, PatternShift, LayerShift)

    def shortcuts(self, tables: Tables) -> Mapping[str, object]:
        """`Comparison.activation`: an `ActivationResults`, or None where it is not finished."""
        if "activations" not in tables:
            return {"activation": None}
        names = ("activations", "_base", "_tuned", "_shift", "shift", "shift_tests", "shifted_heads")
        return {"activation": ActivationResults(*(tables[name] for name in names))}


def _patterns(pair: ModelPair, prompts: Sequence[Forced], plan: Plan) -> xr.Dataset:
    """Return the patterns of the heads that changed most on a few prompts; in a study the shift is on disk by then."""
    from itlens.findings.activation.probe_patterns import changed_heads, prompts_to_show, shown_patterns
    from itlens.findings.activation.probe_shift import activation_shift

    shift = plan.saved(Activation.name, SHIFT)
    if shift is None:
        shift = activation_shift(pair, prompts, hooks="pattern", responses="base", seed=plan.seed, progress=False)
    return shown_patterns(pair, prompts_to_show(prompts), changed_heads(shift), progress=plan.tell)


def _shown_patterns(patterns: xr.Dataset | None) -> list[Block]:
    """Return the patterns of the first prompt that is shown, and a list of the others."""
    if patterns is None:
        return []
    ids = [str(name) for name in patterns["prompt"].values]
    rows = pd.DataFrame({"id": ids, "group": patterns["group"].values, "tokens": patterns["whole"].values})
    blocks: list[Block] = [Text(_ATTENTION, "Where heads look"), changed_patterns(patterns, ids[0])]
    if len(ids) > 1:
        blocks.append(
            Table(rows, PATTERN_PROMPTS, "Prompts with attention patterns", _ATTENTION_PROMPTS, terminal=False)
        )
    return blocks


def _figures(diff: xr.Dataset, shift: xr.Dataset) -> list[go.Figure]:
    figures = [draw_shift(shift)] if "result_relative_change" in shift else []
    for name, tokens in _MAPS:
        if name in diff and (not tokens or tokens in diff["token_class"].values):
            figures.append(draw_activations(diff, statistic=name, token_class=tokens or "instruction"))
    return figures


def _statistics(diff: xr.Dataset) -> Block:
    rows = statistic_rows(diff)
    if not len(rows):
        return Text("Nothing to show: no statistic has a number in any prompt.")
    return Table(rows, STATISTICS, "What differs, statistic by statistic", _STATISTICS, terminal=False)


def _shifted(heads: pd.DataFrame) -> list[Block]:
    rows = heads.head(_HEADS)
    title = f"The heads that changed most: {len(rows)} of {len(heads)}"
    return [Table(rows, SHIFTED, title, _SHIFTED, sortable=True, terminal=False)] if len(rows) else []


def _left_out(base: xr.Dataset, plan: Plan) -> list[str]:
    read, every = base.sizes["prompt"], len(plan.prompts)
    if read == every:
        return []
    return [f"Activations cover {read} of {every} prompts: the response to the others is empty ({EMPTY_FORM})."]


def _sampled(shift: xr.Dataset) -> list[str]:
    kept, every = (int(shift.attrs.get(name, 0)) for name in ("positions_kept", "positions_all"))
    if kept == every:
        return []
    return [
        f"The activation shift covers a random sample of {kept:,} of {every:,} positions, by the size of its cache."
    ]


def _favoured(plan: Plan) -> list[str]:
    """Whose responses both models read, where a model wrote any."""
    if plan.reading is None or all(prompt.response for prompt in plan.prompts):
        return []
    side = "base" if plan.reading.responses == "base" else "tuned"
    return [
        f"For activations, both models read the {side} model's own responses: measures of how likely these are (logit "
        f"lens, log-probability) favour the {side} model by construction."
    ]


_TERMS = {
    "Attention mass": "The share of a head's attention, from the positions that predict the response, on one class of "
    "tokens: the instruction, its context, the template, the first token. The classes of a head add up to 1.",
    "Relative change": "The length of the difference of the two models' activations, divided by the length of the "
    "base's, on the same token: 0 for no change, 1 for a change as large as the activation. First tokens are left out, "
    "since heads rest on them.",
    "Logit lens": "The model's final norm and unembedding, applied to the residual stream after an earlier layer. Each "
    "model can read its own stream, or one model can read both: then only the streams differ.",
    "p BH": "Paired t tests over prompts, corrected (Benjamini-Hochberg) for the number of heads or layers: of the "
    "significant ones, about one in twenty at most is expected by chance.",
}

FINDING = Activation()
