"""The page over several comparisons: template x weights, or a series, with links to the page of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from itlens.files import read_json, write_json
from itlens.findings.base import SIDES
from itlens.report.blocks import Block, Column, Figure, Table, Text, guessed_columns
from itlens.report.page_data import Page, Section
from itlens.report.render import render_page
from itlens.study.comparison import Comparison, open_comparison
from itlens.study.folder import RunFolder
from itlens.study.lock import locked
from itlens.study.outcome import VERSION, rewrite_outcome
from itlens.study.series import SeriesComparison, open_series
from itlens.study.several import SeveralFolder
from itlens.study.templates import STATES, TemplateComparison, open_templates
from itlens.study.view import draw_series, effects

_TWO_BY_TWO = (
    "Both models read every prompt twice, as it is and in the tuned model's chat template; only the tokens of the "
    "prompt's own text count. Weights: tuned minus base. Template: with minus without. Interaction: how much more the "
    "template does to the tuned model. Total: tuned with its template minus base without."
)
_TEMPLATE_SHARE = "With the template on: the share of the importance that lies on tokens which the template wrote."
_ALONG = "The same numbers of every prompt, model by model in the order given."
_PAIRED = "Paired over prompts; Holm over the pairs of models."
_SLOPES = "Each prompt's slope along the models, tested over prompts; Holm over the statistics."
_APART = (
    "Overlap of word pairs is the mean over heads, of concepts the mean over layers: 1 is no change. residual change: "
    "relative change of the residual stream on the same tokens, mean over layers and prompts: 0 is no change. gap: how "
    "much more log-probability a model gives its own responses than the first model gives them, in nats per token. "
    "heads recover: the share of this gap that all heads together carry. What needs both models is compared with the "
    "first model only, so it is blank between neighbours. The page of each pair has the noise floors of the overlaps."
)
_LEFT_OUT = " Groups with too few prompts for a test are in the CSV tables only."
_NO_INTERVAL = " Groups without an interval (a single prompt, a constant curve) are in the CSV tables only."
_STATES = {"off": "without the template", "on": "with the template"}
_INTERVAL = Column("ci", "95 % interval", "interval", "bootstrap over prompts")
_STATISTIC = Column("statistic", "statistic", lambda row: str(row["statistic"]).replace("_", " "))
_HOLM = Column("p_holm", "p Holm", "p", "corrected by Holm", test=True)
_EFFECT_SIZE = Column("effect_size", "d_z", "signed", "paired effect size: mean / standard deviation", 2, test=True)
_N = Column("n", "n", "count", "prompts")
_GROUP = Column("group", "group")
_EFFECTS = (
    _STATISTIC,
    _GROUP,
    Column("effect", "effect"),
    _N,
    Column("mean", "mean", "signed"),
    _INTERVAL,
    _EFFECT_SIZE,
    _HOLM,
)
_SHARE = (
    _GROUP,
    _N,
    Column("base_mean", "base", "number"),
    Column("tuned_mean", "tuned", "number"),
    Column("difference", "difference", "signed"),
    _INTERVAL,
    Column("p_paired", "p", "p", "paired t test", test=True),
)
_DIFFERENCES = (
    _STATISTIC,
    _GROUP,
    Column("model", "models", lambda row: f"{row['reference']} → {row['model']}"),
    _N,
    Column("base_mean", "reference mean", "number"),
    Column("tuned_mean", "model mean", "number"),
    Column("difference", "difference", "signed"),
    _INTERVAL,
    _EFFECT_SIZE,
    _HOLM,
)
_TREND = (
    _STATISTIC,
    _GROUP,
    _N,
    Column("slope", "slope", "signed", "per step along the models, mean over prompts"),
    _INTERVAL,
    _EFFECT_SIZE,
    Column("p_slope_holm", "p Holm", "p", "of the slopes over prompts, corrected by Holm", test=True),
    Column("rising", "rising", "count", "prompts whose numbers rise along the models"),
    Column("falling", "falling", "count", "prompts whose numbers fall along the models"),
)
_LINEAR = (
    "Models W_base + alpha (W_tuned - W_base). Linearity: 1 less the squared distance from the line through alpha 0 "
    "and 1 as a share of the curve's variance. It is 1 where a number follows the weights, 0 or below where the line "
    "says no more than the mean does, and not defined for a constant curve, or without an alpha other than 0 and 1."
)
_LINEARITY = (
    _STATISTIC,
    _GROUP,
    _N,
    Column("base", "at alpha 0", "number", "mean over prompts"),
    Column("tuned", "at alpha 1", "number", "mean over prompts"),
    Column("linearity", "linearity", "signed", "of the mean curve", decimals=2),
    _INTERVAL,
    Column("median", "median of prompts", "signed", "of the prompts' own curves that are not constant", decimals=2),
    Column("defined", "not constant", "count", "prompts whose curve is not constant", terminal=False),
    Column("note", "note", help="why there is no linearity"),
)


def write_several(folder: SeveralFolder, comparison: TemplateComparison | SeriesComparison) -> None:
    """Write the tables, findings.json and the page over several comparisons."""
    folder.write(comparison.tables, render_page(comparison.page))
    write_json(folder.findings_file, several_json(comparison))


def several_json(comparison: TemplateComparison | SeriesComparison) -> dict[str, Any]:
    """Return findings.json over several comparisons.

    {"version": 1, "kind": "template" or "series", "answers": [...], "notes": [...], "tables": {table: [paths]},
    "comparisons": {folder: that comparison's findings.json}}
    """
    is_template = isinstance(comparison, TemplateComparison)
    folders = (
        [comparison.out / state for state in STATES]
        if isinstance(comparison, TemplateComparison)
        else list(comparison.folders)
    )
    return {
        "version": VERSION,
        "kind": "template" if is_template else "series",
        "answers": list(comparison.answers),
        "notes": list(comparison.notes),
        "tables": {name: [f"tables/{name}.parquet", f"tables/{name}.csv"] for name in comparison.tables},
        "comparisons": {path.name: read_json(RunFolder(path).findings_file) for path in folders},
    }


def write_again(path: str | Path, kind: str) -> TemplateComparison | SeriesComparison:
    """Read a folder of several comparisons, and write the tables and pages of it and of each comparison again.

    One comparison at a time is in memory, so that those before one with nothing finished are written when it raises.
    """
    folder = SeveralFolder(path, kind)
    folder.read()  # a folder of another kind is refused before it is locked
    comparison: TemplateComparison | SeriesComparison
    with locked(folder.path):
        comparison = open_templates(path, _rewritten) if kind == "template" else open_series(path, _rewritten)
        write_several(folder, comparison)
    return comparison


def _rewritten(run: Path) -> Comparison:
    comparison = open_comparison(run)
    rewrite_outcome(comparison)
    return comparison


def template_page(comparison: TemplateComparison) -> Page:
    """Return the page over the comparisons without and with the template."""
    made, models = comparison.effects, comparison.off.study["models"]
    sections = [_section("effects", "Weights or template?", _TWO_BY_TWO, made.effects, _EFFECTS, effects(made.effects))]
    if len(made.template_share):
        heading = "Importance on the template itself"
        sections.append(_section("template-share", heading, _TEMPLATE_SHARE, made.template_share, _SHARE))
    return _page(
        "Weights or chat template?",
        comparison.answers,
        comparison.notes,
        {side: models[side]["label"] for side in SIDES},
        sections,
        [(_STATES[state], f"{state}/report.html") for state in STATES],
        comparison.on.study,
    )


def series_page(comparison: SeriesComparison) -> Page:
    """Return the page over a series."""
    links = [
        (f"{comparison.labels[0]} and {label}", f"{run.name}/report.html")
        for label, run in zip(comparison.labels[1:], comparison.folders, strict=True)
    ]
    return _page(
        "What changed from model to model?",
        comparison.answers,
        comparison.notes,
        {"models": ", ".join(comparison.labels)},
        _series_sections(comparison),
        links,
        RunFolder(comparison.folders[0]).read_study(),
    )


def _series_sections(comparison: SeriesComparison) -> list[Section]:
    sections = []
    if comparison.first is not None and comparison.neighbours is not None:
        first, neighbours = comparison.first.differences, comparison.neighbours.differences
        chart: list[Block] = [Text(_ALONG), Figure(draw_series(comparison.first), wide=True)]
        sections += [
            _plain_section("along", "From model to model", chart),
            _section("first", "Compared with the first model", _PAIRED, first, _DIFFERENCES),
            _section("neighbours", "Between neighbours", _PAIRED, neighbours, _DIFFERENCES),
            _section("trend", "Trend along the series", _SLOPES, comparison.first.trend, _TREND),
        ]
    if comparison.linearity is not None:
        rows = comparison.linearity
        bare = (rows["group"] != "all") & rows["ci_low"].isna()
        words = _LINEAR + (_NO_INTERVAL if bare.any() else "")
        lines: list[Block] = [Text(words), Table(rows[~bare], _LINEARITY, sortable=True)]
        sections.append(_plain_section("linearity", "Linear in the weights?", lines))
    if "distances" in comparison.tables:
        columns = guessed_columns(comparison.distances)
        blocks: list[Block] = [Text(_APART), Table(comparison.distances, columns, sortable=True)]
        sections.append(_plain_section("distances", "How far apart", blocks))
    return sections


def _section(
    name: str, heading: str, words: str, table: pd.DataFrame, columns: Sequence[Column], figure: go.Figure | None = None
) -> Section:
    """Return a section with the table without the groups that are too small for a test, which the text then says."""
    untested = table["effect_size"].isna() if "effect_size" in table else table["p_paired"].isna()
    small = (table["group"] != "all") & untested
    left_out = _LEFT_OUT if small.any() else ""
    figures: list[Block] = [] if figure is None else [Figure(figure, wide=True)]
    terminal = table[~small]
    shown = Table(terminal, columns, sortable=True)
    return _plain_section(name, heading, [Text(words + left_out), *figures, shown])


def _plain_section(name: str, heading: str, blocks: Sequence[Block]) -> Section:
    return Section(name=name, question=heading, label=heading, blocks=list(blocks))


def _page(
    title: str,
    answers: Sequence[str],
    notes: Sequence[str],
    facts: Mapping[str, Any],
    sections: Sequence[Section],
    links: Sequence[tuple[str, str]],
    study: Mapping[str, Any],
) -> Page:
    return Page(
        title=title,
        kind="overview",
        answer="\n".join(answers),
        rows=[],
        sections=list(sections),
        notes=list(notes),
        facts={**facts, "prompts": study["prompts"]},
        parameters={**study["settings"], **study["reading"].get("settings", {})},
        versions=study["versions"],
        created=str(study["created"]),
        links=list(links),
    )
