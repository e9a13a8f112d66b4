"""The attribution sections of a report, and what was run: functions of its content that return HTML."""

from __future__ import annotations

from itlens.views import text
from itlens.views.concept_columns import LAYERS, layer_rows, usual_size
from itlens.views.curve_charts import profile, sensitivity
from itlens.views.numbers import whole
from itlens.views.prompt_charts import groups, scores
from itlens.views.report_concepts import concept_facts
from itlens.views.report_content import Example, ReportContent, settings
from itlens.views.report_hero import group_rows
from itlens.views.report_layout import card, figure, nothing, scroll, section, side_heading
from itlens.views.report_running_terms import running_facts, running_summary
from itlens.views.report_tables import GROUPS, PROMPTS, REGRESSION, any_table, facts, filled, table
from itlens.views.report_words import word_facts
from itlens.views.token_view import token_pair
from itlens.views.word_columns import VERB_GROUPS


def attribution(content: ReportContent) -> str:
    """All sections of the attribution part; empty when the report has none."""
    if content.diff is None:
        return ""
    levels, threshold, p = settings(content)
    return results(content) + robustness(content, threshold, p) + examples(content, levels, threshold, p)


def notes(content: ReportContent) -> str:
    """What the reader must know before believing the figures."""
    items = "".join(f"<li>{text.html(note)}</li>" for note in content.notes)
    return f'<div class="notes"><b>Please note</b><ul>{items}</ul></div>' if items else ""


def results(content: ReportContent) -> str:
    """Every prompt, every group, and along the response."""
    diff, parts = content.diff, []
    prompts, by_group = filled(diff, "prompts"), filled(diff, "groups")
    figures = [draw(data) for draw, data in ((scores, prompts), (groups, by_group)) if data is not None]
    charts = [figure(fig, max(f.layout.height for f in figures)) for fig in figures]
    parts.append(
        section(
            "prompts",
            "The instruction score says how much of what drives a response lies on the instruction. Both models are "
            "scored on the same prompts, so the difference is taken prompt by prompt.",
        )
    )
    parts.append(f'<div class="{"two" if len(charts) == 2 else ""}">{"".join(charts)}</div>' if charts else nothing())
    if by_group is not None:
        parts.append(card("Scores and tests per group", "", scroll(table(by_group, GROUPS))))
    if (ratings := filled(diff, "ratings")) is not None:
        sub = "prompts that were rated: do responses that follow the instruction score higher?"
        parts.append(card("Followed or not", sub, scroll(any_table(ratings))))
    parts.append(
        section(
            "response",
            "Of all that a response token takes from the prompt, how much does it take from the instruction? A model "
            "that is constantly conditioned on its instruction keeps that share up to the end.",
        )
    )
    curves = getattr(diff, "profile", None)
    parts.append(figure(profile(curves)) if curves is not None and curves.sizes.get("position") else nothing())
    return "".join(parts)


def robustness(content: ReportContent, threshold: int, p: float) -> str:
    """The same comparison under other choices."""
    diff, parts = content.diff, []
    swept = getattr(diff, "sensitivity", None)
    if swept is not None and swept.sizes.get("threshold"):
        parts.append(figure(sensitivity(swept, threshold=threshold, p=p), wide=True))
    if (equal := filled(diff, "equal_length")) is not None:
        sub = "the longer of the two responses to a prompt is cut to the shorter one, then scored again"
        parts.append(card("At equal response length", sub, scroll(table(equal, GROUPS))))
    if (terms := filled(diff, "regression")) is not None:
        note = str(terms.attrs.get("note", ""))
        sub = "the difference regressed on the response lengths" + (f". Note: {text.html(note)}" if note else "")
        parts.append(card("With length as a control", sub, scroll(table(terms, REGRESSION))))
    words = (
        "The score has two knobs, and models differ in how much they write. A difference worth believing does not hang "
        "on either."
    )
    return section("robustness", words) + ("".join(parts) or nothing())


def examples(content: ReportContent, levels: int, threshold: int, p: float) -> str:
    """A few prompts under both models, side by side."""
    if not content.examples:
        return section("examples") + nothing("No examples were kept.")
    names = (content.base, content.tuned)
    cards = "".join(_example(example, names, levels, threshold, p) for example in content.examples)
    words = (
        "The colour of a prompt token says how much it drives the response (its importance density; each side has its "
        "own scale). Point at a response token to see its levels: what that one token read, above the cut-off b = "
        f"{threshold}."
    )
    return section("examples", words) + cards


def _example(example: Example, names: tuple[str, str], levels: int, threshold: int, p: float) -> str:
    pair = token_pair(
        example.base,
        example.tuned,
        example.prompt,
        values="levels",
        levels=levels,
        threshold=threshold,
        p=p,
        names=names,
    )
    group = f" <span>· {text.html(example.prompt.group)}</span>" if example.prompt.group else ""
    name = text.html(example.prompt.id or text.short(example.prompt.text))
    return f'<div class="card example"><h3>{name}{group}</h3>{pair.panels}</div>'


def run(content: ReportContent) -> str:
    """What was compared, with which parameters and versions, and every prompt."""
    compared = {"base": content.base, "tuned": content.tuned, **content.compared}
    parts = [section("run"), f'<div class="card">{facts(compared)}</div>']
    for heading, entries in (("Parameters", content.parameters), ("Versions", content.versions)):
        if entries:
            parts.append(f'<details class="card"><summary>{heading}</summary>{facts(entries)}</details>')
    if content.words is not None:
        parts.append(word_facts(content.words))
    parts += [concept_facts(part) for part in content.concepts]
    parts.append(running_facts(content))
    if (prompts := filled(content.diff, "prompts")) is not None:
        parts.append(
            f'<details class="card"><summary>All {whole(len(prompts))} prompts (click a heading to sort)</summary>'
            f'<div class="scroll tall">{table(prompts, PROMPTS, sortable=True)}</div></details>'
        )
    return "".join(parts)


def summary(content: ReportContent) -> str:
    """The verdict and the groups' tables, for a notebook's output; no script, no style sheet."""
    rows = ""
    if content.diff is not None:
        by_group = filled(content.diff, "groups")
        rows += table(by_group, GROUPS) if by_group is not None else "<p>No prompt was scored.</p>"
    if content.words is not None:
        rows += table(group_rows(content.words.diff), VERB_GROUPS)
    for part in content.concepts:
        rows += side_heading(part.side) + table(layer_rows(part.turned, usual_size(part.turned)), LAYERS)
    rows += running_summary(content)
    return (
        f"<div><h3>{text.html(content.title)}</h3><p>{text.html(content.verdict)}</p>{rows}"
        "<p><i>Summary. The whole page, with figures and tables, is in <code>.html</code>.</i></p></div>"
    )
