"""The top of a report: the answer in words and in a few figures, and the way to the sections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from itlens.views import text
from itlens.views.numbers import interval, is_number, number, p_value, percent, percent_range, whole
from itlens.views.report_concept_hero import concept_figures
from itlens.views.report_content import ReportContent
from itlens.views.report_layout import (
    ACTIVATION,
    ALWAYS,
    ATTENTION,
    ATTRIBUTION,
    CONCEPTS,
    FAITHFULNESS,
    PATCHING,
    SIDES,
    Card,
)
from itlens.views.report_running_hero import activation_cards, faithful_cards, patch_cards
from itlens.views.report_tables import filled


def hero(content: ReportContent) -> str:
    """Title, the verdict, the figures of each finding, and the way to the sections."""
    sections = (ATTRIBUTION if content.diff is not None else {}) | (ATTENTION if content.words is not None else {})
    sections |= CONCEPTS if content.concepts else {}
    for part, headings in zip(_running(content), (ACTIVATION, PATCHING, FAITHFULNESS), strict=True):
        sections |= headings if part is not None else {}
    links = "".join(f'<a href="#{anchor}">{words}</a>' for anchor, words in (sections | ALWAYS).items())
    return (
        f'<section class="hero"><h1>{text.html(content.title)}</h1>'
        f"{_findings(content)}"
        f'<nav aria-label="Sections">{links}</nav></section>'
    )


def _answers(content: ReportContent) -> tuple[str, list[str]]:
    """The verdict without the answers of parts that it ends with, and these: "" for a part that it does not quote."""
    parts = [("", content.words), *(("", part) for part in content.concepts)]
    parts += zip(("Activations: ", "Patching: ", "Faithfulness: "), _running(content), strict=True)
    rest, last = content.verdict, list[str]()
    for name, part in reversed(parts):
        own, said = "" if part is None else part.verdict, ""
        for answer in (name + own, own):  # a study says before an answer what it is about
            if own and rest.endswith(answer):
                rest, said = rest.removesuffix(answer).strip(), answer
                break
        last = [said, *last] if part is not None else last
    return rest, last


def _running(content: ReportContent) -> tuple[Any, Any, Any]:
    return content.activation, content.patching, content.faithfulness


def _findings(content: ReportContent) -> str:
    """The answer of each part beside its figures; of a report of one part, above them."""
    rest, answers = _answers(content)
    rows = []
    if content.diff is not None:
        cards = attribution_cards(content)
        none = '<div class="card">No prompt was scored, so there is nothing to compare.</div>'
        rows.append(("Attribution: the instruction score", _cards(cards) if cards else none))
        rest, answers = "", [rest, *answers]
    if content.words is not None:
        cards = attention_cards(content.words.diff)
        rows.append(("Attention: changed heads in which a verb’s count rose", _cards(cards)))
    for part in content.concepts:
        heading = text.html(SIDES.get(part.side, part.side))
        rows.append((f"Feed-forward. {heading}", _cards(concept_figures(part))))
    if content.activation is not None:
        rows.append(("Activations, on the same words", _cards(activation_cards(content.activation))))
    if content.patching is not None:
        rows.append(("Patching: what carries it", _cards(patch_cards(content.patching))))
    if content.faithfulness is not None:
        rows.append(("Faithfulness of the attributions", _cards(faithful_cards(content.faithfulness))))
    said = [f'<p class="verdict">{text.html(answer)}</p>' if answer else "" for answer in answers]
    top = f'<p class="verdict">{text.html(rest)}</p>' if rest else ""
    if len(rows) == 1:
        return top + said[0] + rows[0][1]
    both = [
        f'<div class="finding">{words}{row[1]}</div>' if words else row[1]
        for row, words in zip(rows, said, strict=True)
    ]
    return top + "".join(f'<p class="which">{row[0]}</p>{block}' for row, block in zip(rows, both, strict=True))


def _cards(cards: Sequence[Card]) -> str:
    html = []
    for role, label, value, more in cards:
        words = f'<span class="chip {role}">{text.html(label)}</span>' if role else text.html(label)
        html.append(
            f'<div class="{f"card {role}".strip()}"><div class="label">{words}</div><div class="value">{value}</div>'
            f'<div class="more">{text.html(more)}</div></div>'
        )
    return f'<div class="figures">{"".join(html)}</div>'


def attribution_cards(content: ReportContent) -> list[Card]:
    """Base, tuned, and their paired difference over all prompts; none when no prompt was scored."""
    row = _all_prompts(content.diff)
    if row is None:
        return []
    cards: list[Card] = [
        (role, f"{role}: {name}", number(row.get(f"{role}_mean")), f"± {number(row.get(f'{role}_std'))} over prompts")
        for role, name in (("base", content.base), ("tuned", content.tuned))
    ]
    value = number(row.get("difference"), sign=True)
    return [*cards, ("", "paired difference, tuned − base", value, _difference(content.diff, row))]


def _difference(diff: Any, row: dict[str, Any]) -> str:
    parts = [f"95 % interval {interval(row.get('ci_low'), row.get('ci_high'))}", f"n = {whole(row.get('n'))} prompts"]
    if is_number(row.get("p_paired")):
        parts.append(f"paired t test {_equals(row['p_paired'])}")
        parts.append(f"effect size d_z = {number(row.get('effect_size'), 2, sign=True)}")
    else:
        parts.append(str(row.get("note") or "no test was possible"))
    equal = filled(diff, "equal_length")
    if equal is not None and is_number(equal.iloc[0].get("difference")):
        parts.append(f"at equal response length {number(equal.iloc[0]['difference'], sign=True)}")
    return " · ".join(parts)


def attention_cards(ds: Any) -> list[Card]:
    """Instruction verbs, general verbs, and their difference over all layers."""
    row = group_rows(ds).iloc[0].to_dict()
    cards: list[Card] = []
    for kind in ("instruction", "general"):
        spread = f"± {percent(row.get(f'{kind}_std'))} over {whole(row.get(f'{kind}_verbs'))} verbs that changed"
        spread = spread if is_number(row.get(f"{kind}_share")) else "no verb’s count changed in any head"
        cards.append(("", f"{kind} verbs: share that rose", _with_unit(row.get(f"{kind}_share"), " %"), spread))
    if is_number(row.get("p_null")):
        more = [
            f"95 % interval {percent_range(row.get('ci_low'), row.get('ci_high'))}",
            f"permutation {_equals(row['p_null'])}", f"Welch {_equals(row.get('p_welch'))}",
            f"{whole(row.get('changed_heads'))} of {whole(row.get('heads'))} heads changed",
        ]  # fmt: skip
    else:
        more = [str(row.get("note") or "no test was possible")]
    value = _with_unit(row.get("difference"), " points", sign=True)
    cards.append(("", "difference, instruction − general", value, " · ".join(more)))
    return cards


def group_rows(ds: Any) -> pd.DataFrame:
    """The variables of a word-pair diff on (group), a row per group of layers, "all" first."""
    names = [name for name in ds.data_vars if ds[name].dims == ("group",)]
    table = pd.DataFrame(
        {"group": [str(name) for name in ds["group"].values]} | {str(name): ds[name].values for name in names}
    )
    return table.sort_values("group", key=lambda group: group != "all", kind="stable").reset_index(drop=True)


def _all_prompts(diff: Any) -> dict[str, Any] | None:
    by_group = filled(diff, "groups")
    if by_group is None or not (rows := by_group[by_group["group"] == "all"].to_dict("records")):
        return None
    return {str(name): value for name, value in rows[0].items()} if rows[0].get("n") else None


def _equals(p: object) -> str:
    words = p_value(p)
    return f"p {words}" if words.startswith("<") else f"p = {words}"


def _with_unit(share: object, unit: str, *, sign: bool = False) -> str:
    shown = percent(share, sign=sign)
    return shown + unit if is_number(share) else shown
