"""The tables of a report as HTML: headings in words, numbers rounded, and a sentence where there was no test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from itlens.views import text
from itlens.views.numbers import interval, is_number, number, p_value, whole


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, its text for a row (a mapping), and the number it sorts by, when it has one."""

    heading: str
    show: Callable[[Mapping[str, Any]], str]
    sort: str = ""
    tip: str = ""
    test: bool = False  # belongs to a test: replaced by the row's note when there was none


def _number(
    name: str, heading: str, *, sign: bool = False, decimals: int = 3, tip: str = "", test: bool = False
) -> Column:
    return Column(heading, lambda row: number(row.get(name), decimals, sign=sign), name, tip, test)


def _p(name: str, heading: str, tip: str = "") -> Column:
    return Column(heading, lambda row: p_value(row.get(name)), name, tip, True)


def _mean(model: str) -> Column:
    return Column(
        model, lambda row: f"{number(row.get(f'{model}_mean'))} ± {number(row.get(f'{model}_std'))}", f"{model}_mean",
        "mean ± standard deviation of the instruction score",
    )  # fmt: skip


def _text(name: str, heading: str) -> Column:
    return Column(heading, lambda row: _words(row.get(name)))


def _count(name: str, heading: str, tip: str = "") -> Column:
    return Column(heading, lambda row: whole(row.get(name)), name, tip)


_INTERVAL = Column("95 % interval", lambda row: interval(row.get("ci_low"), row.get("ci_high")), "ci_low")
GROUPS = (
    _text("group", "group"),
    _count("n", "n"),
    _mean("base"),
    _mean("tuned"),
    _number("difference", "difference", sign=True, tip="tuned − base, mean over prompts"),
    _INTERVAL,
    _number("effect_size", "d_z", decimals=2, sign=True, tip="paired effect size: mean / std", test=True),
    _number("t_paired", "t", decimals=2, sign=True, tip="paired t", test=True),
    _p("p_paired", "p", "paired t test, two-sided"),
    _p("p_holm", "p Holm", "corrected for the number of groups"),
    _p("p_wilcoxon", "p Wilcoxon", "Wilcoxon signed ranks, two-sided"),
    _p("p_welch", "p Welch", "the paper's test: unpaired, one-sided, tuned > base"),
)
_TERMS = {
    "intercept": "intercept: difference at equal, average length",
    "log_length_ratio": "log of tuned / base response length",
    "log_mean_length": "log of the mean response length (centred)",
}
REGRESSION = (
    Column("term", lambda row: _TERMS.get(str(row["term"]), str(row["term"]))),
    _number("coefficient", "coefficient", sign=True),
    _INTERVAL,
    _number("std_error", "standard error"),
    _number("t", "t", decimals=2, sign=True),
    _p("p", "p"),
)
PROMPTS = (
    _text("id", "prompt"),
    _text("group", "group"),
    _number("base", "base"),
    _number("tuned", "tuned"),
    _number("difference", "difference", sign=True),
    _count("base_targets", "base tokens", "length of the response"),
    _count("tuned_targets", "tuned tokens", "length of the response"),
    _text("base_finish", "base ended"),
    _text("tuned_finish", "tuned ended"),
    _count("instruction_tokens", "instruction tokens"),
    _count("rating", "rating"),
)


def filled(diff: Any, name: str) -> pd.DataFrame | None:
    """The table `name` of a diff, or None when there is none or it has no rows."""
    data = getattr(diff, name, None)
    return None if data is None or not len(data) else data


def table(data: pd.DataFrame, columns: Sequence[Column], *, sortable: bool = False) -> str:
    """`data` as a table with `columns`, without those that the data does not have."""
    rows: list[Any] = data.to_dict("records")
    if any(_words(row.get("note")) and not _untested(row, columns) for row in rows):
        columns = [*columns, Column("note", lambda row: "" if _untested(row, columns) else _words(row.get("note")))]
    present = [c for c in columns if not c.sort or c.sort in data.columns]
    present = [c for c in present if c.sort or any(c.show(row) for row in rows)]
    heads = "".join(
        f'<th scope="col"{_class(c)} title="{text.html(c.tip)}">{text.html(c.heading)}</th>' for c in present
    )
    body = "".join(_row(row, present) for row in rows)
    kind = ' class="sortable"' if sortable else ""
    return f"<table{kind}><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def any_table(data: pd.DataFrame) -> str:
    """A table whose columns are not fixed: p-values, counts, numbers and text by their names and types."""
    return table(data, [_guess(str(name), data[name]) for name in data.columns if name != "note"])


def facts(entries: Mapping[str, Any]) -> str:
    """A definition list of what was set or found."""
    lines = "".join(f"<dt>{text.html(_heading(k))}</dt><dd>{_fact(v)}</dd>" for k, v in entries.items())
    return f'<dl class="facts">{lines}</dl>'


def _row(row: Mapping[str, Any], columns: Sequence[Column]) -> str:
    tests = [c for c in columns if c.test]
    no_test = _untested(row, columns)
    cells = []
    for column in columns:
        if column.test and no_test:
            if column is tests[0]:
                cells.append(f'<td class="note" colspan="{len(tests)}">{text.html(_words(row["note"]))}</td>')
            continue
        value = row.get(column.sort) if column.sort else None
        data = f' data-v="{float(value) if is_number(value) else ""}"' if column.sort else ""  # type: ignore[arg-type]
        cells.append(f"<td{_class(column)}{data}>{text.html(column.show(row))}</td>")
    return f"<tr{' class=all' if row.get('group') == 'all' else ''}>{''.join(cells)}</tr>"


def _untested(row: Mapping[str, Any], columns: Sequence[Column]) -> bool:
    """Whether a row's note stands where its tests would be, because there is none."""
    tests = [c for c in columns if c.test]
    return bool(_words(row.get("note")) and tests) and not any(is_number(row.get(c.sort)) for c in tests)


def _class(column: Column) -> str:
    return ' class="n"' if column.sort else ' class="text"'


def _guess(name: str, values: pd.Series) -> Column:
    if name.startswith("p_") or name == "p":
        return _p(name, _heading(name))
    if not pd.api.types.is_numeric_dtype(values):
        return _text(name, _heading(name))
    if pd.api.types.is_integer_dtype(values):
        return _count(name, _heading(name))
    return _number(name, _heading(name), test=name.startswith("t_"))


def _heading(name: str) -> str:
    return name.replace("_", " ")


def _words(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and value != value) else str(value)


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return text.html(f"{value:.6g}")
    if isinstance(value, (list, tuple)):
        return text.html(", ".join(map(str, value)) or "–")
    return text.html("–" if value is None or value == "" else value)
