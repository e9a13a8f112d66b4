"""The sections of a report, each a function of its content that returns HTML (empty when there is nothing to show)."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from itlens.views import text
from itlens.views.curve_charts import profile, sensitivity
from itlens.views.numbers import interval, is_number, number, p_value, whole
from itlens.views.prompt_charts import groups, scores
from itlens.views.report_content import Example, ReportContent
from itlens.views.report_tables import GROUPS, PROMPTS, REGRESSION, any_table, facts, table
from itlens.views.token_view import token_pair

_SECTIONS = {
    "prompts": "Prompts and groups",
    "response": "Along the response",
    "robustness": "Does it hold?",
    "examples": "Examples",
    "methods": "What the words mean",
    "run": "What was run",
}


def settings(content: ReportContent) -> tuple[int, int, float]:
    """Levels, threshold and power of the run (METHODS: L, b, p), the paper's where the parameters do not say."""
    given = content.parameters
    return int(given.get("levels", 10)), int(given.get("threshold", 7)), float(given.get("p", 4))


def hero(content: ReportContent) -> str:
    """Title, the verdict, three figures, and the way to the sections."""
    links = "".join(f'<a href="#{anchor}">{words}</a>' for anchor, words in _SECTIONS.items())
    return (
        f'<section class="hero"><h1>{text.html(content.title)}</h1>'
        f'<p class="verdict">{text.html(content.verdict)}</p>{_figures(content)}'
        f'<nav aria-label="Sections">{links}</nav></section>'
    )


def _figures(content: ReportContent) -> str:
    row = _all_row(content.diff)
    if row is None:
        return '<div class="card">No prompt was scored, so there is nothing to compare.</div>'
    cards = [
        (role, f"{role}: {name}", number(row.get(f"{role}_mean")), f"± {number(row.get(f'{role}_std'))} over prompts")
        for role, name in (("base", content.base), ("tuned", content.tuned))
    ]
    cards.append(
        (
            "",
            "paired difference, tuned − base",
            number(row.get("difference"), sign=True),
            _difference(content.diff, row),
        )
    )
    html = "".join(
        f'<div class="card {role}"><div class="label"><span class="chip {role}">{text.html(label)}</span></div>'
        f'<div class="value">{value}</div><div class="more">{text.html(more)}</div></div>'
        if role
        else f'<div class="card"><div class="label">{label}</div><div class="value">{value}</div>'
        f'<div class="more">{text.html(more)}</div></div>'
        for role, label, value, more in cards
    )
    return f'<div class="figures">{html}</div>'


def _difference(diff: Any, row: dict[str, Any]) -> str:
    parts = [f"95 % interval {interval(row.get('ci_low'), row.get('ci_high'))}", f"n = {whole(row.get('n'))} prompts"]
    if is_number(row.get("p_paired")):
        p = p_value(row["p_paired"])
        parts.append(f"paired t test p {p}" if p.startswith("<") else f"paired t test p = {p}")
        parts.append(f"effect size d_z = {number(row.get('effect_size'), 2, sign=True)}")
    else:
        parts.append(str(row.get("note") or "no test was possible"))
    equal = _table(diff, "equal_length")
    if equal is not None and is_number(equal.iloc[0].get("difference")):
        parts.append(f"at equal response length {number(equal.iloc[0]['difference'], sign=True)}")
    return " · ".join(parts)


def notes(content: ReportContent) -> str:
    """What the reader must know before believing the figures."""
    items = "".join(f"<li>{text.html(note)}</li>" for note in content.notes)
    return f'<div class="notes"><b>Please note</b><ul>{items}</ul></div>' if items else ""


def results(content: ReportContent) -> str:
    """Every prompt, every group, and along the response."""
    diff, parts = content.diff, []
    prompts, by_group = _table(diff, "prompts"), _table(diff, "groups")
    figures = [draw(data) for draw, data in ((scores, prompts), (groups, by_group)) if data is not None]
    charts = [_figure(fig, max(f.layout.height for f in figures)) for fig in figures]
    parts.append(
        section(
            "prompts",
            "The instruction score says how much of what drives a response lies on the instruction. Both models are "
            "scored on the same prompts, so the difference is taken prompt by prompt.",
        )
    )
    parts.append(f'<div class="{"two" if len(charts) == 2 else ""}">{"".join(charts)}</div>' if charts else _nothing())
    if by_group is not None:
        parts.append(_card("Scores and tests per group", "", _scroll(table(by_group, GROUPS))))
    if (ratings := _table(diff, "ratings")) is not None:
        sub = "prompts that were rated: do responses that follow the instruction score higher?"
        parts.append(_card("Followed or not", sub, _scroll(any_table(ratings))))
    parts.append(
        section(
            "response",
            "Of all that a response token takes from the prompt, how much does it take from the instruction? A model "
            "that is constantly conditioned on its instruction keeps that share up to the end.",
        )
    )
    curves = getattr(diff, "profile", None)
    parts.append(_figure(profile(curves)) if curves is not None and curves.sizes.get("position") else _nothing())
    return "".join(parts)


def robustness(content: ReportContent, threshold: int, p: float) -> str:
    """The same comparison under other choices."""
    diff, parts = content.diff, []
    swept = getattr(diff, "sensitivity", None)
    if swept is not None and swept.sizes.get("threshold"):
        parts.append(_figure(sensitivity(swept, threshold=threshold, p=p), wide=True))
    if (equal := _table(diff, "equal_length")) is not None:
        sub = "the longer of the two responses to a prompt is cut to the shorter one, then scored again"
        parts.append(_card("At equal response length", sub, _scroll(table(equal, GROUPS))))
    if (terms := _table(diff, "regression")) is not None:
        note = str(terms.attrs.get("note", ""))
        sub = "the difference regressed on the response lengths" + (f". Note: {text.html(note)}" if note else "")
        parts.append(_card("With length as a control", sub, _scroll(table(terms, REGRESSION))))
    words = (
        "The score has two knobs, and models differ in how much they write. A difference worth believing does not hang "
        "on either."
    )
    return section("robustness", words) + ("".join(parts) or _nothing())


def examples(content: ReportContent, levels: int, threshold: int, p: float) -> str:
    """A few prompts under both models, side by side."""
    if not content.examples:
        return section("examples") + _nothing("No examples were kept.")
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
    if (prompts := _table(content.diff, "prompts")) is not None:
        parts.append(
            f'<details class="card"><summary>All {whole(len(prompts))} prompts (click a heading to sort)</summary>'
            f'<div class="scroll tall">{table(prompts, PROMPTS, sortable=True)}</div></details>'
        )
    return "".join(parts)


def summary(content: ReportContent) -> str:
    """The verdict and the groups' table, for a notebook's output; no script, no style sheet."""
    by_group = _table(content.diff, "groups")
    rows = table(by_group, GROUPS) if by_group is not None else "<p>No prompt was scored.</p>"
    return (
        f"<div><h3>{text.html(content.title)}</h3><p>{text.html(content.verdict)}</p>{rows}"
        "<p><i>Summary. The whole page, with figures and token views, is in <code>.html</code>.</i></p></div>"
    )


def _all_row(diff: Any) -> dict[str, Any] | None:
    by_group = _table(diff, "groups")
    if by_group is None or not (rows := by_group[by_group["group"] == "all"].to_dict("records")):
        return None
    return {str(name): value for name, value in rows[0].items()} if rows[0].get("n") else None


def _table(diff: Any, name: str) -> pd.DataFrame | None:
    data = getattr(diff, name, None)
    return None if data is None or not len(data) else data


def _figure(fig: go.Figure, height: int | None = None, *, wide: bool = False) -> str:
    """A figure with its title as a heading of the page: plotly does not wrap titles, and narrow screens cut them."""
    title, subtitle = fig.layout.title.text or "", fig.layout.title.subtitle.text or ""
    bare = go.Figure(fig).update_layout(title={"text": "", "subtitle": {"text": ""}})
    bare.update_layout(margin={"t": 34, "l": 50, "b": 50}, height=height or fig.layout.height)
    data = text.json_in_script(bare.to_json())
    kind, tall = "itlens-figure wide" if wide else "itlens-figure", f"height:{bare.layout.height}px"
    drawing = (
        f'<div class="{kind}" role="img" aria-label="{title}" style="{tall}">'
        f'<script type="application/json">{data}</script></div>'
    )
    return f'<div class="card"><h3>{title}</h3><p class="sub">{subtitle}</p>{_scroll(drawing)}</div>'


def section(anchor: str, words: str = "") -> str:
    """The heading of a section, where the links at the top lead to, and its first sentence (HTML)."""
    intro = f'<p class="intro">{words}</p>' if words else ""
    return f'<h2 id="{anchor}">{_SECTIONS[anchor]}</h2>{intro}'


def _card(heading: str, sub: str, body: str) -> str:
    return f'<div class="card"><h3>{heading}</h3>{f"<p class=sub>{sub}</p>" if sub else ""}{body}</div>'


def _scroll(body: str) -> str:
    return f'<div class="scroll">{body}</div>'


def _nothing(words: str = "Nothing to show: no prompt was scored.") -> str:
    return f'<div class="card">{words}</div>'
