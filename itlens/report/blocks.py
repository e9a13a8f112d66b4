"""Blocks: what a finding shows, as data. The page, the terminal and the notebook each draw them in their own way.

A finding's `show` returns a list of blocks, in the order of the page: `Card` (a number at the top of its section),
`Figure`, `Table` (rows and the declaration of its columns), `Text` (a paragraph, or a heading with one), a `Panel`
(something with a template of its own, such as coloured tokens), or a `Choice` between sets of these. Blocks hold no
HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import pandas as pd

from itlens.errors import ResultError

if TYPE_CHECKING:
    import plotly.graph_objects as go


Role: TypeAlias = Literal["", "base", "tuned"]
Format: TypeAlias = Literal["text", "number", "signed", "count", "p", "percent", "points", "interval", "mean"]
Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a table, declared once for the page, the terminal and the notebook.

    name: of the data; headings and formats refer to it. format: how a row's value is written. "number" and "signed"
    (with its sign) have `decimals`; "percent" and "points" show a share times 100; "p" is a p-value; "interval" is
    `[<name>_low, <name>_high]`, or `[ci_low, ci_high]` for the name "ci"; "mean" is `<name>_mean` with `<name>_std`; or
    a function of the row that returns a text (the column then sorts by `name`). help: what the column means, one
    sentence. test: belongs to a test, so that a row's note stands in its place where nothing was tested. terminal: also
    printed by the command line. link: of a column of texts: the page's route that each leads to ("prompt": its values
    are ids of prompts).
    """

    name: str
    heading: str
    format: Format | Callable[[Row], str] = "text"
    help: str = ""
    decimals: int = 3
    test: bool = False
    terminal: bool = True
    link: Literal["", "prompt"] = ""


@dataclass(frozen=True)
class Card:
    """A number at the top of a section: what it is, its value as text, and a line below it."""

    label: str
    value: str
    detail: str = ""
    role: Role = ""


@dataclass(frozen=True)
class Text:
    """A paragraph in plain words, or a heading within a section with its first paragraph."""

    text: str
    heading: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure. text: a line below its title. wide: takes the whole width. height: pixels; None: the figure's own."""

    figure: go.Figure
    text: str = ""
    wide: bool = False
    height: int | None = None


@dataclass(frozen=True)
class Table:
    """Rows with declared columns.

    text: a line below the title. sortable: by a click on a heading. folded: closed until it is opened. terminal: also
    printed by the command line, its first `terminal_rows` rows (None: all). reason: the column that says why a row was
    not tested, shown in place of the columns that belong to the test.
    """

    data: pd.DataFrame
    columns: Sequence[Column]
    title: str = ""
    text: str = ""
    sortable: bool = False
    folded: bool = False
    terminal: bool = True
    terminal_rows: int | None = None
    reason: str = "note"


@dataclass(frozen=True)
class Panel:
    """A block with a template of its own (`report/templates/<template>`), which reads the fields of the subclass.

    styles, scripts: assets (`report/assets`) that it needs in a page. Jupyter displays it; `.html` is a page of its own
    for a file, without network.
    """

    template: ClassVar[str]
    styles: ClassVar[tuple[str, ...]] = ()
    scripts: ClassVar[tuple[str, ...]] = ()

    title: str

    @property
    def html(self) -> str:
        """A complete page: no network, for a file."""
        from itlens.report.render import panel_page

        return panel_page(self)

    def _repr_html_(self) -> str:
        from itlens.report.render import panel_in_notebook

        return panel_in_notebook(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title!r})"

    def __str__(self) -> str:
        return self.html


@dataclass(frozen=True)
class Choice:
    """Blocks of which one set is shown at a time, by a switch: value | key. label: what is chosen. options: by name.

    On paper, without script and in the terminal all sets follow one another.
    """

    label: str
    options: Mapping[str, Sequence[Block]]


Block: TypeAlias = Card | Text | Figure | Table | Panel | Choice
BLOCKS = (Card, Text, Figure, Table, Panel, Choice)


def leaves(blocks: Iterable[Block]) -> list[Block]:
    """Return all blocks in order, those of choices included, without the choices themselves."""
    found: list[Block] = []
    for block in blocks:
        found += (
            leaves(each for inside in block.options.values() for each in inside)
            if isinstance(block, Choice)
            else [block]
        )
    return found


def rows_of(data: pd.DataFrame) -> list[Row]:
    """Return the rows of a table, by column."""
    return [{str(name): value for name, value in row.items()} for row in data.to_dict("records")]


def card(label: str, value: str, detail: str = "", role: Role = "") -> Card:
    """Return a card: a number at the top of a finding's section, with a label and a line below it."""
    return Card(label, value, detail, role)


def text(words: str, heading: str = "") -> Text:
    """Return a paragraph, or a heading within a section with its first paragraph."""
    return Text(words, heading)


def figure_block(fig: go.Figure, text: str = "", *, wide: bool = False, height: int | None = None) -> Figure:
    """Return a plotly figure as a block. Raises ResultError for anything else."""
    from plotly.graph_objects import Figure as PlotlyFigure  # heavy, and only needed here

    if not isinstance(fig, PlotlyFigure):
        raise ResultError(f"views.figure got a {type(fig).__name__}; expected a plotly Figure.")
    return Figure(fig, text, wide, height)


def table(
    data: pd.DataFrame,
    columns: Sequence[Column] | None = None,
    title: str = "",
    text: str = "",
    *,
    sortable: bool = False,
    folded: bool = False,
    terminal: bool = True,
    terminal_rows: int | None = None,
    reason: str = "note",
) -> Table:
    """Return a table as a block; without `columns`, all columns of the data by their names and types.

    The further arguments are the fields of `Table`. Raises ResultError for anything but a DataFrame.
    """
    if not isinstance(data, pd.DataFrame):
        raise ResultError(f"views.table got a {type(data).__name__}; expected a pandas DataFrame.")
    shown = guessed_columns(data) if columns is None else columns
    return Table(data, shown, title, text, sortable, folded, terminal, terminal_rows, reason)


def guessed_columns(data: pd.DataFrame) -> list[Column]:
    """Return columns for all of a table's, by name and type; `ci_low` and `ci_high` become one interval."""
    names = [str(name) for name in data.columns]
    both = {"ci_low", "ci_high"} <= set(names)
    columns = []
    for name in names:
        if name == "note" or (both and name == "ci_high"):
            continue
        if both and name == "ci_low":
            columns.append(Column("ci", "95 % interval", "interval"))
        else:
            columns.append(Column(name, name.replace("_", " "), _guessed_format(name, data[name])))
    return columns


def _guessed_format(name: str, values: pd.Series) -> Format:
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return "text"
    if name == "p" or name.startswith("p_"):
        return "p"
    return "count" if pd.api.types.is_integer_dtype(values) else "number"


@dataclass(frozen=True, repr=False)
class FoldablePanel(Panel):
    """A panel with a choice for pages. folded: None: a card with its title; True or False: closed or open at first."""

    folded: bool | None = field(default=None, kw_only=True)
