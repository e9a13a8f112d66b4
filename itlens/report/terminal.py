"""A page in the terminal: each finding with its tables and caveats, then the table of findings and the answer.

Numbers are never cut: where a table is wider than the terminal, its columns are printed in several parts, each with
the row names; names fold. All text is made visible, and none of it is read as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from itlens.files import visible
from itlens.report.blocks import Column, Table, leaves
from itlens.report.cells import CellRow, Grid, lay_out
from itlens.report.page_data import Page, Row, Section

_LEAST_NAME, _MOST_NAME = 12, 40  # characters of a column of names
_GAP = 2  # between columns
_ASCII = str.maketrans(
    {"−": "-", "–": "-", "±": "~", "\u202f": " ", "→": ">", "▲": "^", "▼": "v", "◆": "*", "○": "o", "…": ".", "·": "|",
     "“": '"', "”": '"', "’": "'", "×": "x", "≤": "<", "²": "2"}
    | dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
)  # fmt: skip
_STYLES = {"higher": "bold", "lower": "bold", "changed": "bold", "not tested": "dim"}


def print_page(page: Page, console: Console | None = None, report_path: str | Path = "") -> None:
    """Print each finding's tables and caveats, and at the end the table of findings, the answer and the report's
    path."""
    console = console or Console()
    for section in page.sections:
        _print_section(section, console)
    for note in page.notes:
        _say(console, f"Note: {note}", style="dim")
    console.print()
    if page.rows:
        console.print(_summary(page.rows, console))
        console.print()
    if page.answer:
        _say(console, page.answer, style="bold")
    for label, path in page.links:
        _say(console, f"{label}: {path}", style="dim")
    if str(report_path):
        console.print(printable(f"Report: {report_path}", console), soft_wrap=True)


def page_text(page: Page, width: int = 100) -> str:
    """Return what `print_page` prints, without colours: the text form of a comparison."""
    console = Console(width=width, file=StringIO(), color_system=None)
    print_page(page, console)
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined]  # the buffer from above


def print_table(table: Table, console: Console | None = None, *, legend: bool = True) -> None:
    """Print a table: its columns with `terminal`, its first `terminal_rows` rows, and what the columns mean."""
    console = console or Console()
    columns = [column for column in table.columns if column.terminal]
    rows = table.data if table.terminal_rows is None else table.data.head(table.terminal_rows)
    grid = lay_out(replace(table, data=rows), columns)
    if table.title:
        _say(console, table.title, style="italic")
    if not grid.rows:
        _say(console, "Nothing to show: the table has no rows.", style="dim")
        return
    for part in _parts(grid, console.width):
        console.print(_rich_table(grid, part, console))
        console.print()
    for line in _reasons(grid):
        _say(console, line, style="dim")
    if (more := len(table.data) - len(rows)) > 0:
        _say(console, f"{more:,} more rows: in the report.", style="dim")
    if legend and (words := _legend(columns)):
        _say(console, words, style="dim italic")


def _print_section(section: Section, console: Console) -> None:
    tables = [block for block in leaves(section.blocks) if isinstance(block, Table) and block.terminal]
    console.print()
    _say(console, section.question, style="bold underline")
    if section.verdict_sentence:
        _say(console, section.verdict_sentence)
    known: set[Sequence[Column]] = set()
    for table in tables:
        console.print()
        key = tuple(replace(column, format="text") for column in table.columns)
        print_table(table, console, legend=key not in known)
        known.add(key)
    for note in [*([section.caveat] if section.caveat else []), *section.notes]:
        _say(console, f"Note: {note}", style="dim")


def _summary(rows: Sequence[Row], console: Console) -> RichTable:
    numbers = [visible(row.number or "–") for row in rows]
    answers = [f"{row.icon} {row.word}" for row in rows]
    room = console.width - max(map(cell_len, answers)) - _LEAST_NAME - 2 * _GAP
    table = _empty_table()
    table.add_column("question", overflow="fold", min_width=_LEAST_NAME)
    table.add_column("answer", no_wrap=True)
    table.add_column("number, with its 95 % interval", overflow="fold", no_wrap=max(map(cell_len, numbers)) <= room)
    for row, answer, number in zip(rows, answers, numbers, strict=True):
        shown = printable(answer, console, style=_STYLES.get(row.code, ""))
        table.add_row(printable(row.question, console), shown, printable(number, console))
    return table


def _empty_table() -> RichTable:
    return RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))


def _rich_table(grid: Grid, part: Sequence[int], console: Console) -> RichTable:
    table = _empty_table()
    widths = [_width(grid, place) for place in part]
    roomy = [max(width, cell_len(grid.heads[place].heading)) for width, place in zip(widths, part, strict=True)]
    if sum(roomy) + _GAP * (len(part) - 1) <= console.width:  # headings fold only where they must
        widths = roomy
    for place, width in zip(part, widths, strict=True):
        numeric = grid.heads[place].numeric
        table.add_column(
            printable(grid.heads[place].heading, console), justify="right" if numeric else "left", overflow="fold",
            min_width=width, max_width=width if numeric else max(_MOST_NAME, width),
        )  # fmt: skip
    for row, below in zip(grid.rows, [*grid.rows[1:], None], strict=True):
        cells = _spread(row, len(grid.heads))
        table.add_row(
            *(printable(cells[place], console, style="bold" if row.total else "") for place in part),
            end_section=row.total and below is not None and not below.total,
        )
    return table


def _spread(row: CellRow, columns: int) -> list[str]:
    """A text for each column; the reason of a row that was not tested is printed below the table."""
    texts: list[str] = []
    for cell in row.cells:
        texts += ["–"] * cell.span if cell.reason else [cell.text]
    return texts[:columns]


def _parts(grid: Grid, width: int) -> list[list[int]]:
    """The columns that fit side by side; the first one, with the names of rows, is in every part."""
    first, *others = range(len(grid.heads))
    parts, used = [[first]], _width(grid, first)
    for place in others:
        wanted = _GAP + _width(grid, place)
        if used + wanted > width and len(parts[-1]) > 1:
            parts.append([first])
            used = _width(grid, first)
        parts[-1].append(place)
        used += wanted
    return parts


def _width(grid: Grid, place: int) -> int:
    """The least width of a column: numbers are never cut, names and headings fold."""
    head = grid.heads[place]
    texts = [_spread(row, len(grid.heads))[place] for row in grid.rows]
    longest = max((cell_len(visible(text)) for text in texts), default=0)
    heading = max((cell_len(word) for word in head.heading.split()), default=0)
    return max(heading, longest if head.numeric else min(longest, _LEAST_NAME))


def _reasons(grid: Grid) -> list[str]:
    """Which rows were not tested and why, a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for row in grid.rows:
        for cell in row.cells:
            if cell.reason:
                by_reason.setdefault(cell.text, []).append(row.cells[0].text)
    return [f"Not tested: {', '.join(names)} ({reason})" for reason, names in by_reason.items()]


def _legend(columns: Iterable[Column]) -> str:
    return "; ".join(f"{column.heading}: {column.help}" for column in columns if column.help)


def _say(console: Console, words: str, style: str = "") -> None:
    console.print(printable(words, console, style=style))


def printable(words: str, console: Console, style: str = "") -> Text:
    """Return a text that steers no terminal, in the signs that this one can print."""
    shown = visible(words)
    if not (console.encoding or "utf-8").lower().startswith("utf"):
        shown = shown.translate(_ASCII).encode(console.encoding, errors="backslashreplace").decode(console.encoding)
    return Text(shown, style=style)
