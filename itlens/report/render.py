"""Pages and notebook outputs: blocks are drawn by their templates, one for each type of block.

`render_page` returns the whole page of a `Page`; `panel_page` and `panel_in_notebook` show one panel by itself,
`comparison_in_notebook` the first screen of a page. A page holds the scripts it needs, and no others: plotly.js only
where there is a figure, circuitsvis only where a panel asks for it. A figure's title is a heading of the page, since
plotly does not wrap titles and narrow screens cut them; its data are JSON for assets/report.js.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from itlens.errors import ResultError
from itlens.report import page, text
from itlens.report.blocks import Block, Card, Figure, FoldablePanel, Panel, Table, Text
from itlens.report.cells import lay_out
from itlens.report.environment import render
from itlens.report.page_data import Page, Section, address

_TALL = 24  # rows, from which a table scrolls by itself
_STYLES = ("page.css",)


@dataclass(frozen=True)
class _DrawnSection:
    """A section of a page, and its blocks as HTML."""

    section: Section
    body: Sequence[Markup]


def render_page(content: Page) -> str:
    """Return the complete page: no network, light and dark, for screen and paper.

    Raises ResultError for a block of an unknown type, and for a link that is not relative to the page.
    """
    sections = [_DrawnSection(section, _draw_blocks(section)) for section in content.sections]
    body = render(
        "page_body.html",
        page=content,
        sections=sections,
        rows_by_name={row.name: row for row in content.rows},
        links=[(label, address(label, path)) for label, path in content.links],
        prompts=None if content.prompts_table is None else _prompts(content.prompts_table),
    )
    blocks = [block for section in content.sections for block in section.blocks]
    panels = [block for block in blocks if isinstance(block, Panel)]
    bundle = ["plotly"] if any(isinstance(block, Figure) for block in blocks) else []
    scripts = _unique([*bundle, *(name for panel in panels for name in panel.scripts), "report.js"])
    styles = _unique([*_STYLES, *(name for panel in panels for name in panel.styles)])
    return page.page(content.title, body, styles=styles, scripts=[page.script(name) for name in scripts])


def render_block(block: Block) -> str:
    """Return one block as HTML. Raises ResultError for a type that there is no template for."""
    return str(_draw_block(block))


def panel_body(panel: Panel) -> str:
    """Return a panel's own HTML, without styles and scripts."""
    return str(_panel_body(panel))


def panel_page(panel: Panel) -> str:
    """Return a page of its own for a panel, for a file."""
    body = render("panel_page.html", title=panel.title, body=_panel_body(panel))
    scripts = [page.script(name) for name in panel.scripts]
    return page.page(panel.title, body, styles=_unique([*_STYLES, *panel.styles]), scripts=scripts)


def panel_in_notebook(panel: Panel) -> str:
    """Return a panel for a notebook's output: small, so without the circuitsvis bundle."""
    shown = render(
        "panel_notebook.html",
        style=Markup("\n".join(page.asset(name) for name in panel.styles)),
        body=_panel_body(panel),
        scripts=[Markup(page.inline(page.asset(name))) for name in panel.scripts if name.endswith(".js")],
    )
    return str(shown)


def comparison_in_notebook(content: Page) -> str:
    """Return the first screen of a page for a notebook's output: the answer and the table; no script, no style."""
    return str(render("page_notebook.html", page=content))


def _draw_blocks(section: Section) -> list[Markup]:
    """Blocks in order; cards that follow one another stand in one row, two narrow figures side by side."""
    drawn: list[Markup] = []
    for group in group_blocks(section.blocks):
        if isinstance(group[0], Card):
            drawn.append(render("blocks/cards.html", cards=group))
        elif len(group) == 2:
            height = max(drawn_height(block) for block in group if isinstance(block, Figure))
            figures = [_figure(block, section.question, height) for block in group if isinstance(block, Figure)]
            drawn.append(render("blocks/pair.html", figures=figures))
        else:
            (block,) = group
            drawn.append(_figure(block, section.question) if isinstance(block, Figure) else _draw_block(block))
    return drawn


def _draw_block(block: Block) -> Markup:
    for kind, drawn_by in _DRAWN_BY.items():
        if isinstance(block, kind):
            return drawn_by(block)
    known = ", ".join(kind.__name__ for kind in _DRAWN_BY)
    raise ResultError(f"The report got a block of type {type(block).__name__}; expected one of {known}.")


def group_blocks(blocks: Iterable[Block]) -> list[list[Block]]:
    """Group blocks that are drawn together: cards in a row, and two figures that are not wide."""
    groups: list[list[Block]] = []
    for block in blocks:
        last = groups[-1] if groups else []
        cards = isinstance(block, Card) and bool(last) and isinstance(last[0], Card)
        pair = _is_narrow(block) and len(last) == 1 and _is_narrow(last[0])
        if cards or pair:
            last.append(block)
        else:
            groups.append([block])
    return groups


def _is_narrow(block: Block) -> bool:
    return isinstance(block, Figure) and not block.wide


def _figure(block: Figure, above: str = "", height: int | None = None) -> Markup:
    return render("blocks/figure.html", figure=draw(block, above=above, height=height))


def _table(block: Table) -> Markup:
    grid = lay_out(block)
    return render("blocks/table.html", table=block, grid=grid, tall=block.sortable and len(grid.rows) > _TALL)


def _prompts(table: Table) -> Markup:
    return render("blocks/grid.html", grid=lay_out(table), sortable=True)


def _panel_body(panel: Panel) -> Markup:
    return render(panel.template, panel=panel)


def _panel(block: Panel) -> Markup:
    return render(
        "blocks/panel.html",
        title=block.title,
        body=_panel_body(block),
        folded=block.folded if isinstance(block, FoldablePanel) else None,
    )


_DRAWN_BY: dict[type, Callable[[Any], Markup]] = {
    Card: lambda block: render("blocks/cards.html", cards=[block]),
    Text: lambda block: render("blocks/text.html", text=block),
    Figure: _figure,
    Table: _table,
    Panel: _panel,
}


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


_PLOTLY_HEIGHT = 450
_MARGIN = {"t": 34, "l": 50, "b": 50}


@dataclass(frozen=True)
class Drawing:
    """A figure for its template. title, lines: plain text above it. size: a class of the style sheet."""

    title: str
    lines: tuple[str, ...]
    size: str
    height: int
    data: Markup


def draw(block: Figure, *, above: str = "", height: int | None = None) -> Drawing:
    """Return a figure's drawing. above: the heading over it, which it does not repeat. height: of its neighbour."""
    layout = block.figure.layout
    title, lines = plain_lines(layout.title.text), plain_lines(layout.title.subtitle.text)
    bare = go.Figure(block.figure).update_layout(title={"text": "", "subtitle": {"text": ""}})
    tall = height or drawn_height(block)
    bare.update_layout(margin=_MARGIN, height=tall)
    many = "xaxis2" in bare.layout
    size = ("panels" if many else "wide") if block.wide else ""
    heading = " ".join(title)
    lines += (block.text,) if block.text else ()
    return Drawing("" if heading == above else heading, lines, size, tall, Markup(text.json_in_script(bare.to_json())))


def drawn_height(block: Figure) -> int:
    """Return how high a figure is drawn, in pixels."""
    return int(block.height or block.figure.layout.height or _PLOTLY_HEIGHT)


def plain_lines(markup: str | None) -> tuple[str, ...]:
    """Return plotly's mark-up as lines of plain text."""
    lines = (re.sub(r"<[^>]*>", "", line) for line in re.split(r"<br\s*/?>", markup or ""))
    return tuple(html.unescape(line).strip() for line in lines if line.strip())
