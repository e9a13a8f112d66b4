"""The feed-forward sections of a report: how far concepts turned, and what they are about."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from itlens.views import text
from itlens.views.angle_chart import angles
from itlens.views.concept_columns import LAYERS, SHARES, has_floor, layer_rows, usual_size
from itlens.views.report_concept_words import cards, changed
from itlens.views.report_content import ConceptContent, ReportContent
from itlens.views.report_layout import answer, card, figure, nothing, scroll, section, side_heading
from itlens.views.report_tables import facts, table
from itlens.views.share_bars import shares

_WIDE = 12  # layers that fit side by side on a telephone
_FACTS = (
    "vocabulary_name", "vocabulary_size", "top_k", "d_model", "d_mlp", "ks", "draws", "seed", "resamples_base",
    "resamples_tuned", "note",
)  # fmt: skip


def concept_sections(content: ReportContent) -> str:
    """The four sections; empty when the report has no concepts."""
    if not content.concepts:
        return ""
    parts = content.concepts
    return _turned(content) + _topics(parts) + changed(parts) + cards(parts)


def _turned(content: ReportContent) -> str:
    intro = (
        "The leading concepts of a layer span a space. An overlap of 1 means that base and tuned have the same space; "
        "the dashed line is where two unrelated models would be. The shaded band is the noise: each model against "
        "itself, with its neurons drawn anew. Only where a mark lies below the band (filled) did tuning turn a layer "
        "by more than that; hollow marks are within the noise."
    )
    body = "".join(
        side_heading(part.side) + answer(part.verdict, content.verdict) + _angles(part) for part in content.concepts
    )
    return section("turned", intro) + body


def _angles(part: ConceptContent) -> str:
    k = usual_size(part.turned)
    rows = layer_rows(part.turned, k)
    sub = "" if has_floor(rows) else "no noise floor: the probe ran without resamples. "
    sub += (
        f"Spaces of the first {k} {text.html(part.side)} concepts. Turned is not yet changed: “variance kept” says how "
        "much of the tuned model's variance the base's concepts still explain"
    )
    wide = part.turned.sizes["layer"] > _WIDE
    listed = card(f"Layer by layer, k = {k}", sub, scroll(table(rows, LAYERS)))
    return figure(angles(part.turned), wide=wide) + listed


def _topics(parts: Sequence[ConceptContent]) -> str:
    intro = (
        "A labeller read the 15 top words of each concept and said what they have in common: a linguistic level and "
        "the user tasks that it serves, or “cannot tell”. Each pair of bars is base above tuned; a star marks shares "
        "that changed by more than chance. Labels are judgements of word lists, not of what the model does."
    )
    return section("topics", intro) + "".join(side_heading(part.side) + _shares(part) for part in parts)


def _shares(part: ConceptContent) -> str:
    if part.shares is None or not len(part.shares):
        return nothing("Nothing to show: the concepts of this side were not labelled.")
    listed = (
        f'<details class="card"><summary>All shares with their tests</summary>{_seed_note(part.shares)}'
        f"{scroll(table(_ordered(part.shares), SHARES))}</details>"
    )
    return figure(shares(part.shares), wide=True) + _tasks(part.shares) + listed


def _tasks(table: pd.DataFrame) -> str:
    rows = table[(table["kind"] == "task") & (table["category"] == "any")]
    if (rows[["base", "tuned"]].fillna(0) > 0).any(axis=None):
        return figure(shares(table, kind="task"), wide=True)
    return card(
        "Which user tasks do the concepts serve?", "", "No labelled concept of either model serves a user task."
    )


def _seed_note(table: pd.DataFrame) -> str:
    said = str(table.attrs.get("seed_note", ""))
    return f'<p class="sub">{text.html(said)}</p>' if said else ""


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Tasks and levels that occur somewhere, in the table's order."""
    there = (table["base"].fillna(0) > 0) | (table["tuned"].fillna(0) > 0)
    return table[there | table["category"].isin(["any", "known"])]


def concept_facts(part: ConceptContent) -> str:
    """Vocabulary and settings of one side's concepts, and who labelled them."""
    attrs = part.turned.attrs
    known = {name: attrs[name] for name in _FACTS if attrs.get(name, "") not in ("", None)}
    shown = {"layers compared": part.turned.sizes["layer"], "components": part.turned.sizes["component"], **known}
    labels = part.tuned_labels
    if len(labels):
        shown["labelled by"] = ", ".join(sorted({str(name) for name in labels["labeller"]}))
        shown["labels of each model"] = len(labels)
    return f'<details class="card"><summary>Concepts: {text.html(part.side)} vectors</summary>{facts(shown)}</details>'
