"""The page of several comparisons: what came out over all of them, and the way to each report (`overview`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import plotly.graph_objects as go

from itlens.views import page, text
from itlens.views.overview_columns import guessed
from itlens.views.overview_content import OverviewContent, OverviewSection, address, checked_overview
from itlens.views.report_layout import figure, nothing
from itlens.views.report_tables import facts, table

_TALL = 24  # rows, from which a table scrolls by itself
_REPORTS, _RUN = ("reports", "The reports"), ("run", "What was run")


@dataclass(frozen=True)
class Overview:
    """The page of several comparisons. Jupyter shows its summary; `.html` is the page for a file."""

    content: OverviewContent

    @cached_property
    def html(self) -> str:
        """The complete page: no network, light and dark, for screen and paper."""
        content = self.content
        made = f" on {text.html(content.created)}" if content.created else ""
        body = "".join(
            (
                '<div class="bar"><b>itlens</b> overview<button type="button" class="theme">Dark</button></div><main>',
                _hero(content),
                notes(content.notes),
                *(_section(number, one) for number, one in enumerate(content.sections, 1)),
                _links(content),
                _run(content),
                f"</main><footer>Made by itlens{made}. This page works offline and asks no network for anything."
                "</footer>",
            )
        )
        scripts = [page.plotly(), page.asset("report.js")]
        return page.page(content.title, body, styles=("page.css",), scripts=scripts)

    def _repr_html_(self) -> str:
        content = self.content
        tables = "".join(_rows(one) for one in content.sections if one.table is not None)
        return (
            f"<div><h3>{text.html(content.title)}</h3>{_verdict(content)}{tables}"
            "<p><i>Summary. The whole page, with figures and links, is in <code>.html</code>.</i></p></div>"
        )

    def __str__(self) -> str:
        return self.html


def overview(content: OverviewContent) -> Overview:
    """The page of several comparisons, from an OverviewContent. Nothing is computed or written here.

    Raises ResultError for anything else, and for a link that is not relative to the page.
    """
    return Overview(checked_overview(content))


def notes(items: object) -> str:
    """What the reader must know before believing the figures."""
    listed = "".join(f"<li>{text.html(note)}</li>" for note in items)  # type: ignore[attr-defined]
    return f'<div class="notes"><b>Please note</b><ul>{listed}</ul></div>' if listed else ""


def _verdict(content: OverviewContent) -> str:
    return "".join(f'<p class="verdict">{text.html(sentence)}</p>' for sentence in content.answers if sentence)


def _hero(content: OverviewContent) -> str:
    headings = [(f"part-{number}", one.heading) for number, one in enumerate(content.sections, 1)]
    headings += [_REPORTS] if content.links else []
    links = "".join(f'<a href="#{anchor}">{text.html(words)}</a>' for anchor, words in [*headings, _RUN])
    return (
        f'<section class="hero"><h1>{text.html(content.title)}</h1>{_verdict(content)}'
        f'<nav aria-label="Sections">{links}</nav></section>'
    )


def _section(number: int, one: OverviewSection) -> str:
    intro = f'<p class="intro">{text.html(one.text)}</p>' if one.text else ""
    drawn = "" if one.figure is None else figure(_named_once(one.figure, one.heading), wide=True)
    listed = "" if one.table is None else _table(one)
    return f'<h2 id="part-{number}">{text.html(one.heading)}</h2>{intro}{drawn}{listed}'


def _named_once(fig: go.Figure, heading: str) -> go.Figure:
    """The figure without its title where that stands above it already."""
    return go.Figure(fig).update_layout(title={"text": ""}) if fig.layout.title.text == text.plotly(heading) else fig


def _table(one: OverviewSection) -> str:
    if one.table is None or not len(one.table):
        return nothing("Nothing to show: the table has no rows.")
    kind = "scroll tall" if len(one.table) > _TALL else "scroll"
    return f'<div class="card"><div class="{kind}">{_rows(one)}</div></div>'


def _rows(one: OverviewSection) -> str:
    data = pd.DataFrame() if one.table is None else one.table
    return table(data, one.columns or guessed(data), sortable=True)


def _links(content: OverviewContent) -> str:
    if not content.links:
        return ""
    items = "".join(
        f'<li><a href="{text.html(address(label, path))}">{text.html(label)}</a></li>' for label, path in content.links
    )
    intro = "Each comparison of two models has a page of its own, with all figures, tables and settings."
    return f'<h2 id="{_REPORTS[0]}">{_REPORTS[1]}</h2><p class="intro">{intro}</p><ul class="card links">{items}</ul>'


def _run(content: OverviewContent) -> str:
    shown = f'<h2 id="{_RUN[0]}">{_RUN[1]}</h2>'
    shown += f'<div class="card">{facts(content.facts)}</div>' if content.facts else ""
    for heading, entries in (("Parameters", content.parameters), ("Versions", content.versions)):
        if entries:
            shown += f'<details class="card"><summary>{heading}</summary>{facts(entries)}</details>'
    return shown
