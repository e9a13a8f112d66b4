"""Pages and notebook outputs: blocks are drawn by their templates, one for each type of block.

`render_page` returns the whole page of a `Page`; `panel_page` and `panel_in_notebook` show one panel by itself,
`comparison_in_notebook` the first screen of a page. A page is a row of chapters: the summary, one per section, and
what was run; assets/router.js shows one of them at a time. A page holds the scripts it needs, and no others: plotly.js
only where there is a figure, circuitsvis only where a panel asks for it. A figure's title is a heading of the page,
since plotly does not wrap titles and narrow screens cut them; its data are JSON for assets/figures.js.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from itlens.errors import ResultError
from itlens.report import page
from itlens.report.blocks import Block, Card, Choice, Figure, FoldablePanel, Panel, Table, Text, leaves
from itlens.report.cells import lay_out
from itlens.report.drawing import draw, drawn_height
from itlens.report.environment import anchor, in_words, render
from itlens.report.page_data import Page, Row, Section, address
from itlens.report.prompts import draw_prompts

_TALL = 24  # rows, from which a table scrolls by itself
_STYLES = ("page.css",)
_SCRIPTS = ("core.js", "controls.js", "router.js", "figures.js")
# The kinds of traces that the cartesian bundle draws.
CARTESIAN = ("bar", "box", "contour", "heatmap", "histogram", "histogram2d", "histogram2dcontour", "image", "pie",
             "scatter", "scatterternary", "violin")  # fmt: skip


@dataclass(frozen=True)
class _DrawnSection:
    """A section of a page, and its blocks as HTML."""

    section: Section
    body: Sequence[Markup]


@dataclass(frozen=True)
class _Chapter:
    """A chapter of a page. label: in the menu; title: the question in full. drawn: its section, row: its finding's."""

    anchor: str
    label: str
    title: str = ""
    drawn: _DrawnSection | None = None
    row: Row | None = None


def render_page(content: Page) -> str:
    """Return the complete page: no network, light and dark, for screen and paper.

    Raises ResultError for a block of an unknown type, and for a link that is not relative to the page.
    """
    chapters = _chapters(content)
    every_prompt = None if content.prompts is None else draw_prompts(content.prompts, panel_card)
    body = render(
        "page_body.html",
        page=content,
        chapters=chapters,
        anchors={chapter.drawn.section.name: chapter.anchor for chapter in chapters if chapter.drawn},
        links=[(label, address(label, path)) for label, path in content.links],
        prompts=None if content.prompts_table is None else _prompts(content.prompts_table),
        every_prompt=every_prompt,
        tools=[_panel_body(panel) for panel in content.tools],
    )
    blocks = [block for section in content.sections for block in leaves(section.blocks)]
    panels = [*content.tools, *(block for block in blocks if isinstance(block, Panel))]
    of_prompts = every_prompt.scripts if every_prompt else ()
    assets = _unique([*(name for panel in panels for name in panel.scripts), *of_prompts])
    bundles = [name for name in assets if name in page.BUNDLES]
    kinds = {trace.type for block in blocks if isinstance(block, Figure) for trace in block.figure.data}
    bundles += [] if not any(isinstance(block, Figure) for block in blocks) else [plotly_for(kinds)]
    scripts = [*_SCRIPTS, *(name for name in assets if name not in page.BUNDLES)]
    styles = _unique([*_STYLES, *(name for panel in panels for name in panel.styles)])
    if every_prompt:
        scripts, styles = [*scripts, "prompts.js"], _unique([*styles, *every_prompt.styles, "prompts.css"])
    return page.page(
        content.title, body, styles=styles, scripts=[page.script(name) for name in scripts], bundles=bundles
    )


def plotly_for(kinds: Collection[str]) -> str:
    """Return the name of the bundle that draws these kinds of traces."""
    return "plotly" if set(kinds) <= set(CARTESIAN) else "plotly-whole"


def _chapters(content: Page) -> list[_Chapter]:
    """The chapters in order: the summary, a chapter per section, the reports of several, prompts, what was run."""
    rows = {row.name: row for row in content.rows}
    taken = {"summary", "reports", "prompts", "run", "all-prompts"}
    chapters = [_Chapter("summary", "Summary")]
    for section in content.sections:
        name = anchor(section.name)
        while name in taken:
            name += "-finding"
        taken.add(name)
        label = section.label or in_words(section.name).capitalize()
        drawn = _DrawnSection(section, _draw_blocks(section.blocks, section.question, name, set()))
        chapters.append(_Chapter(name, label, section.question, drawn, rows.get(section.name)))
    chapters += [_Chapter("reports", "The reports")] if content.links else []
    chapters += [_Chapter("prompts", "Prompts")] if content.prompts else []
    return [*chapters, _Chapter("run", "What was run")]


def render_block(block: Block) -> str:
    """Return one block as HTML. Raises ResultError for a type that there is no template for."""
    return str(_draw_block(block))


def panel_body(panel: Panel) -> str:
    """Return a panel's own HTML, without styles and scripts."""
    return str(_panel_body(panel))


def panel_card(panel: Panel) -> str:
    """Return a panel with its title, as on a page, without styles and scripts."""
    return str(_panel(panel))


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


def _draw_blocks(blocks: Sequence[Block], heading: str, prefix: str, parts: set[str]) -> list[Markup]:
    """Blocks in order; cards that follow one another stand in one row, two narrow figures side by side.

    heading: above them, which no figure repeats. prefix: of the anchors of headings within them. parts: anchors that
    are taken.
    """
    drawn: list[Markup] = []
    for group in group_blocks(blocks):
        first = group[0]
        if isinstance(first, Card):
            drawn.append(render("blocks/cards.html", cards=group))
        elif isinstance(first, Text):
            drawn.append(render("blocks/text.html", text=first, anchor=_part(prefix, first.heading, parts)))
        elif isinstance(first, Choice):
            options = {
                name: _draw_blocks(inside, heading, _part(prefix, name, parts), parts)
                for name, inside in first.options.items()
            }
            drawn.append(render("blocks/choice.html", label=first.label, options=options))
        elif len(group) == 2:
            height = max(drawn_height(block) for block in group if isinstance(block, Figure))
            figures = [_figure(block, heading, height) for block in group if isinstance(block, Figure)]
            drawn.append(render("blocks/pair.html", figures=figures))
        else:
            drawn.append(_figure(first, heading) if isinstance(first, Figure) else _draw_block(first))
    return drawn


def _part(prefix: str, heading: str, parts: set[str]) -> str:
    """An anchor within a chapter that is not taken yet; "" for a paragraph without a heading."""
    if not heading:
        return ""
    part = f"{prefix}--{anchor(heading).lower()}"
    while part in parts:
        part += "-"
    parts.add(part)
    return part


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
    Text: lambda block: render("blocks/text.html", text=block, anchor=""),
    Figure: _figure,
    Table: _table,
    Panel: _panel,
}


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
