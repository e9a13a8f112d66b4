"""Columns of any table that a page over several comparisons shows, by names and types (`guessed`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from itlens.views.numbers import interval, number, p_value, whole
from itlens.views.report_tables import Column

_HEADINGS = {
    "effect_size": "d_z",
    "base_mean": "reference mean",
    "tuned_mean": "model mean",
    "p_paired": "p",
    "p_holm": "p Holm",
    "p_slope_holm": "p Holm",
}
_TIPS = {
    "effect_size": "paired effect size: mean / standard deviation over prompts",
    "p_holm": "corrected by Holm",
    "p_slope_holm": "of the slopes over prompts, corrected by Holm",
    "slope": "per step along the models, mean over prompts",
    "rising": "prompts whose numbers rise along the models",
    "falling": "prompts whose numbers fall along the models",
    "n": "prompts",
}
_SIGNED = ("difference", "slope", "effect_size")
_FEW = ("effect_size", "t", "t_paired")


def guessed(data: pd.DataFrame) -> list[Column]:
    """Columns for every column of `data`; ci_low and ci_high become one, and a note stands where tests are missing."""
    own = _of_pair if "reference" not in data and "base_mean" in data else _heading
    signed = (*_SIGNED, "mean") if "effect" in data else _SIGNED
    names = [str(name) for name in data.columns if name != "note"]
    both = {"ci_low", "ci_high"} <= set(names)
    if {"reference", "model"} <= set(names):
        names = [name for name in names if name != "reference"]
    columns = [
        _interval() if name == "ci_low" and both else _column(name, own(name), data[name], name in signed)
        for name in names
        if not (both and name == "ci_high")
    ]
    tests = [place for place, column in enumerate(columns) if column.test]
    if tests and tests[-1] - tests[0] + 1 > len(tests):  # a note spans the tests, so they must stand side by side
        columns = [replace(column, test=False) for column in columns]
    return columns


def _heading(name: str) -> str:
    return _HEADINGS.get(name, name.replace("_", " "))


def _of_pair(name: str) -> str:
    return {"base_mean": "base", "tuned_mean": "tuned"}.get(name, _heading(name))


def _interval() -> Column:
    return Column("95 % interval", lambda row: interval(row.get("ci_low"), row.get("ci_high")), "ci_low", "bootstrap")


def _column(name: str, heading: str, values: pd.Series, sign: bool) -> Column:
    tip = _TIPS.get(name, "")
    if name == "model":
        return Column("models", _models)
    if not pd.api.types.is_numeric_dtype(values):
        return Column(heading, lambda row: _text(row, name), "", tip)
    if name == "p" or name.startswith("p_"):
        return Column(heading, lambda row: p_value(row.get(name)), name, tip, True)
    if pd.api.types.is_integer_dtype(values):
        return Column(heading, lambda row: whole(row.get(name)), name, tip)
    decimals = 2 if name in _FEW else 3
    return Column(heading, lambda row: number(row.get(name), decimals, sign=sign), name, tip, name in _FEW)


def _models(row: Mapping[str, Any]) -> str:
    return f"{row['reference']} → {row['model']}" if row.get("reference") else str(row["model"])


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    words = "" if value is None or value != value else str(value)
    return words.replace("_", " ") if name in ("statistic", "effect") else words
