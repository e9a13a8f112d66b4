"""The page over several comparisons: template x weights, or a series, with links to the page of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from itlens.study.comparison import Comparison
from itlens.study.outcome import write_outcome
from itlens.study.parts import WHICH
from itlens.study.series_comparison import SeriesComparison, open_series
from itlens.study.several import SeveralFolder
from itlens.study.template_comparison import STATES, TemplateComparison, open_templates
from itlens.views import OverviewContent, OverviewSection, effects, overview
from itlens.views import series as series_chart

_TWO_BY_TWO = (
    "Both models read every prompt twice, as it is and in the tuned model's chat template; only the tokens of the "
    "prompt's own text count. Weights: tuned less base. Template: with it less without. Interaction: how much more the "
    "template does to the tuned model. Total: tuned with its template less base without."
)
_TEMPLATE_SHARE = "With the template on: which share of the importance lies on tokens that the template wrote."
_ALONG = "The same numbers of every prompt, model by model in the order given."
_PAIRED = "Paired over prompts; Holm over the pairs of models."
_SLOPES = "Each prompt's slope along the models, tested over prompts; Holm over the statistics."
_APART = (
    "Overlap of word pairs is the mean over heads, of concepts the mean over layers: 1 is no change. residual_change: "
    "relative change of the residual stream on the same tokens, mean over layers and prompts: 0 is no change. gap: how "
    "much more log-probability a model gives its own responses than the first model gives them, in nats per token. "
    "heads_recover: the share of this gap that all heads together carry. What needs both models (activations, "
    "patching) is compared with the first model only, so it is blank between neighbours. The page of each "
    "pair has the noise floors beside the overlaps."
)
_LEFT_OUT = " Groups with too few prompts for a test are in the CSV tables only."
_TOO_FEW = "too few"  # how the note of a row without a test begins
_STATES = {"off": "without the template", "on": "with the template"}
_EFFECTS = ("statistic", "group", "effect", "n", "mean", "ci_low", "ci_high", "effect_size", "p_holm", "note")
_SHARE = ("group", "n", "base_mean", "tuned_mean", "difference", "ci_low", "ci_high", "p_paired", "note")
_DIFFERENCES = (
    *("statistic", "group", "reference", "model", "n", "base_mean", "tuned_mean", "difference", "ci_low", "ci_high"),
    *("effect_size", "p_holm", "note"),
)
_TREND = (
    *("statistic", "group", "n", "slope", "ci_low", "ci_high", "effect_size", "p_slope_holm", "rising", "falling"),
    "note",
)


def write_several(path: str | Path, kind: str) -> TemplateComparison | SeriesComparison:
    """Read a folder of several comparisons, and write the tables and pages of it and of each comparison again."""
    folder = SeveralFolder(path, kind)
    if kind == "template":
        both = open_templates(path)
        for one in (both.off, both.on):
            write_outcome(one)
        folder.write(both.tables, template_page(both))
        return both
    found = open_series(path)
    for label in found.labels[1:]:
        write_outcome(found.comparison(label))
    folder.write(found.tables, series_page(found))
    return found


def template_page(found: TemplateComparison) -> str:
    """HTML of the page over the comparisons without and with the template."""
    made, models = found.effects, found.off.study["models"]
    content = OverviewContent(
        title="Weights or chat template?",
        verdict=found.answers,
        notes=found.notes,
        facts={which: models[which]["label"] for which in WHICH} | _facts(found.off),
        sections=[
            _section("Weights or template?", _TWO_BY_TWO, made.effects, _EFFECTS, effects(made.effects)),
            _section("Importance on the template itself", _TEMPLATE_SHARE, made.template_share, _SHARE),
        ],
        links=[(_STATES[state], f"{state}/report.html") for state in STATES],
        parameters=found.on.study["settings"],
        versions=found.on.study["versions"],
        created=str(found.on.study["created"]),
    )
    return overview(content).html


def series_page(found: SeriesComparison) -> str:
    """HTML of the page over a series."""
    one = found.comparison(found.labels[1])
    content = OverviewContent(
        title="What changed from model to model?",
        verdict=found.answers,
        notes=found.notes,
        facts={"models": ", ".join(found.labels), **_facts(one)},
        sections=series_sections(found),
        links=[
            (f"{found.labels[0]} and {label}", f"{run.name}/report.html")
            for label, run in zip(found.labels[1:], found.folders, strict=True)
        ],
        parameters=one.study["settings"],
        versions=one.study["versions"],
        created=str(one.study["created"]),
    )
    return overview(content).html


def series_sections(found: SeriesComparison) -> list[OverviewSection]:
    """The parts of the page over a series."""
    sections = []
    if found.first is not None and found.neighbours is not None:
        first, neighbours, trend = found.first.differences, found.neighbours.differences, found.first.trend
        sections += [
            OverviewSection("From model to model", _ALONG, series_chart(found.first)),
            _section("Against the first model", _PAIRED, first, _DIFFERENCES),
            _section("Between neighbours", _PAIRED, neighbours, _DIFFERENCES),
            _section("Trend along the series", _SLOPES, trend, _TREND),
        ]
    if "distances" in found.tables:
        sections.append(OverviewSection("How far apart", _APART, table=found.distances))
    return sections


def _section(
    heading: str, words: str, table: pd.DataFrame, wanted: Sequence[str], figure: Any = None
) -> OverviewSection:
    """The table without the groups that are too small for a test, which the text then says."""
    shown = _columns(table, wanted)
    left_out = _LEFT_OUT if len(shown) < len(table) else ""
    return OverviewSection(heading, words + left_out, figure, shown)


def _columns(table: pd.DataFrame, wanted: Sequence[str]) -> pd.DataFrame:
    few = (table["group"] != "all") & table["note"].astype(str).str.startswith(_TOO_FEW)
    return table.loc[~few, [name for name in wanted if name in table]]


def _facts(comparison: Comparison) -> dict[str, Any]:
    return {"prompts": len(comparison.base)} if comparison.base else {}
