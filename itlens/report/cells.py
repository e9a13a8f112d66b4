"""A table as cells of text: one layout for the page, the terminal and the notebook.

A column that the data do not have is left out. A row that was not tested (all of its test columns are NaN, and its
reason is given) shows the reason once, in place of the columns of the test. A reason on any other row is a remark: it
gets a column of its own at the end. Where there are other groups, a row of the group "all" sums them up, and is set
apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np

from itlens.report.blocks import Column, Row, Table, rows_of
from itlens.report.numbers import interval, is_number, number, p_value, percent, whole

_LONG = 40  # characters of a text that wants a wide column


@dataclass(frozen=True)
class Cell:
    """One cell. sort: the number that its column is sorted by. span: columns that it covers. reason: why no test. link:
    a fragment of the page."""

    text: str
    sort: float | None = None
    span: int = 1
    reason: bool = False
    link: str = ""


@dataclass(frozen=True)
class Head:
    """A column that is shown. numeric: its cells are numbers, and sort as such. long: its texts need room."""

    heading: str
    help: str
    numeric: bool
    long: bool


@dataclass(frozen=True)
class CellRow:
    """A row of cells. total: sums up the other rows."""

    cells: tuple[Cell, ...]
    total: bool


@dataclass(frozen=True)
class Grid:
    """A table that is ready to be drawn."""

    heads: tuple[Head, ...]
    rows: tuple[CellRow, ...]


def lay_out(table: Table, columns: Sequence[Column] | None = None) -> Grid:
    """Return a table's cells. columns: those to show (default: all that it declares)."""
    rows = rows_of(table.data)
    chosen = [column for column in columns or table.columns if _is_there(column, table, rows)]
    tests = _tests(chosen)
    untested = [_untested(row, [chosen[place] for place in tests], table.reason) for row in rows]
    remarks = [
        "" if without or table.reason in {column.name for column in chosen} else as_text(row.get(table.reason))
        for row, without in zip(rows, untested, strict=True)
    ]
    heads = [_head(column, table, rows) for column in chosen]
    if any(remarks):
        heads.append(Head(table.reason, "", numeric=False, long=any(len(remark) > _LONG for remark in remarks)))
    sums = any(row.get("group", "all") != "all" for row in rows)
    laid = []
    for row, without, remark in zip(rows, untested, remarks, strict=True):
        cells = _cells(row, chosen, tests if without else range(0), as_text(row.get(table.reason)))
        cells += [Cell(remark)] if any(remarks) else []
        laid.append(CellRow(tuple(cells), total=sums and row.get("group") == "all"))
    return Grid(tuple(heads), tuple(laid))


def cell_text(column: Column, row: Row) -> str:
    """Return the text of one column for one row."""
    value = row.get(column.name)
    if callable(column.format):
        return column.format(row)
    if column.format == "text":
        return as_text(value)
    if column.format in ("number", "signed"):
        return number(value, column.decimals, sign=column.format == "signed")
    if column.format == "interval":
        low, high = _ends(column)
        return interval(row.get(low), row.get(high), column.decimals)
    if column.format == "mean":
        mean, spread = row.get(f"{column.name}_mean"), row.get(f"{column.name}_std")
        shown = number(mean, column.decimals)
        return f"{shown} ± {number(spread, column.decimals)}" if is_number(spread) else shown
    return {"count": whole, "p": p_value, "percent": percent, "points": _points}[column.format](value)


def as_text(value: object) -> str:
    """Return a value as a reader's text: nothing for None and NaN, yes and no for booleans."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    return str(value)


def _link(column: Column, row: Row) -> str:
    """Return where a cell leads to: the fragment that assets/prompts.js makes of the same text."""
    value = row.get(column.name)
    if not column.link or value is None:
        return ""
    return f"#/{column.link}/{quote(str(value).encode('utf-8', 'replace'), safe='')}"


def _points(value: object) -> str:
    return percent(value, sign=True)


def _ends(column: Column) -> tuple[str, str]:
    return f"{column.name}_low", f"{column.name}_high"


def _sort_name(column: Column) -> str:
    """The variable of the data that a column sorts by."""
    if column.format == "interval":
        return _ends(column)[0]
    return f"{column.name}_mean" if column.format == "mean" else column.name


def _is_there(column: Column, table: Table, rows: list[Row]) -> bool:
    if _sort_name(column) in table.data.columns:
        return True
    return callable(column.format) and any(cell_text(column, row) for row in rows)


def _is_numeric(column: Column, rows: list[Row]) -> bool:
    if column.format == "text":
        return False
    if callable(column.format):
        values = [row.get(column.name) for row in rows]
        return any(map(is_number, values)) and not any(isinstance(value, (str, bool, np.bool_)) for value in values)
    return True


def _head(column: Column, table: Table, rows: list[Row]) -> Head:
    numeric = _is_numeric(column, rows)
    long = not numeric and any(len(cell_text(column, row)) > _LONG for row in rows)
    return Head(column.heading, column.help, numeric, long)


def _tests(columns: Sequence[Column]) -> range:
    """The first run of columns that belong to a test: a reason covers columns that are side by side."""
    places = [place for place, column in enumerate(columns) if column.test]
    if not places:
        return range(0)
    stop = places[0]
    while stop < len(columns) and columns[stop].test:
        stop += 1
    return range(places[0], stop)


def _untested(row: Row, tests: Sequence[Column], reason: str) -> bool:
    return bool(tests and as_text(row.get(reason))) and not any(is_number(row.get(_sort_name(one))) for one in tests)


def _cells(row: Row, columns: Sequence[Column], covered: range, reason: str) -> list[Cell]:
    cells = []
    for place, column in enumerate(columns):
        if place in covered:
            if place == covered.start:
                cells.append(Cell(reason, span=len(covered), reason=True))
            continue
        value = row.get(_sort_name(column))
        sort = float(value) if is_number(value) else None  # type: ignore[arg-type]
        cells.append(Cell(cell_text(column, row), sort, link=_link(column, row)))
    return cells
