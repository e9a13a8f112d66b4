"""Reads the table of itlens.diff.concept_shares for the figures: groups, what shares are out of, and tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from itlens.errors import ResultError
from itlens.views import text
from itlens.views.numbers import is_number, p_value, percent, percent_range, rounded, whole
from itlens.views.prompt_charts import require

NEEDED = (
    "group", "kind", "category", "base", "tuned", "difference", "ci_low", "ci_high", "p", "p_holm", "base_concepts",
    "tuned_concepts", "note",
)  # fmt: skip
ALPHA = 0.05  # of Holm's correction over the categories of a group
NONE, ANY, KNOWN = "none", "any", "known"
STAR = "★"
SOURCE = "the table of itlens.diff.concept_shares"


@dataclass(frozen=True)
class Group:
    """One group of layers. rows: of the asked kind by category, in the table's order; known: the row of that kind."""

    name: str
    rows: Mapping[str, Mapping[str, Any]]
    known: Mapping[str, Any]

    @property
    def title(self) -> str:
        """As a figure writes it."""
        return "all layers" if self.name == "all" else text.plotly(text.short(self.name, 24))

    @property
    def note(self) -> str:
        """Why there is no test, or nothing."""
        return next((str(row["note"]) for row in self.rows.values() if row["note"]), "")

    @property
    def out_of_known(self) -> bool:
        """Whether shares are out of the concepts that could be labelled, and not out of all."""
        few = [(row[f"{side}_concepts"], self.known[f"{side}_concepts"]) for row in self.rows.values()
               for side in ("base", "tuned")]  # fmt: skip
        return any(one != other for one, other in few)

    def labelled(self, side: str) -> float:
        """The share of one model's concepts that could be labelled; 0 where there are none."""
        value = self.known[side]
        return float(value) if is_number(value) else 0.0


def read_groups(table: pd.DataFrame, kind: str, call: str) -> Iterator[Group]:
    """The groups of a table in its order. Raises ResultError for another table."""
    require(table, NEEDED, call, SOURCE)
    for name, part in table.groupby("group", sort=False):
        known = part[part["kind"] == KNOWN].to_dict("records")
        rows = part[part["kind"] == kind].to_dict("records")
        if len(known) != 1 or not rows:
            raise ResultError(f"{call} found no {kind} or known shares of the group {name!r}: pass {SOURCE}.")
        yield Group(str(name), {str(row["category"]): _named(row) for row in rows}, _named(known[0]))


def _named(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in row.items()}


def stands_out(row: Mapping[str, Any]) -> bool:
    """Whether a share changed by more than chance, after Holm's correction."""
    return is_number(row["p_holm"]) and float(row["p_holm"]) < ALPHA


def tested(row: Mapping[str, Any], *, sign: int = 1) -> str:
    """The difference of a share with its interval and p-values; `sign` -1 for the share of the others."""
    difference = sign * float(row["difference"]) if is_number(row["difference"]) else None
    if not is_number(row["p"]):
        return f"tuned − base {_points(difference)}; {row['note'] or 'no test'}"
    ends = (row["ci_low"], row["ci_high"]) if sign > 0 else (-row["ci_high"], -row["ci_low"])
    corrected = "" if _alone(row) else f", Holm p {p_value(row['p_holm'])}"
    return (
        f"tuned − base {_points(difference)} points, 95 % {percent_range(*ends)}<br>permutation p {p_value(row['p'])}"
        f"{corrected}{_seeds(row)}"
    )


def _seeds(row: Mapping[str, Any]) -> str:
    return f"; over seeds p {p_value(row['p_seeds'])}" if is_number(row.get("p_seeds")) else ""


def found(name: str, row: Mapping[str, Any], out_of: str = "", *, sign: int = 1) -> str:
    """One line that says what changed: ★ syntax +12.1 points of the labelled [+3.0, +20.4], Holm p 0.012."""
    ends = (row["ci_low"], row["ci_high"]) if sign > 0 else (-row["ci_high"], -row["ci_low"])
    return (
        f"<b>{STAR} {text.plotly(name)}</b> {_points(sign * row['difference'])} points{f' {out_of}' if out_of else ''} "
        f"{percent_range(*ends)}, "
        f"{'' if _alone(row) else 'Holm '}p {p_value(row['p_holm'])}"
    )


def _alone(row: Mapping[str, Any]) -> bool:
    """Whether a share is a question of its own, which Holm's correction leaves as it is."""
    return row["category"] in (NONE, ANY, KNOWN)


def labelled(group: Group) -> str:
    """How many concepts could be labelled: labelled: 76 (base) and 67 (tuned) of 300."""
    counts = [
        f"{whole(group.labelled(side) * float(group.known[f'{side}_concepts']))} ({side})" for side in ("base", "tuned")
    ]
    totals = {whole(group.known[f"{side}_concepts"]) for side in ("base", "tuned")}
    return f"labelled: {' and '.join(counts)} of {' and '.join(sorted(totals))}"


def _points(value: object) -> str:
    return percent(value, sign=True) if is_number(value) else rounded(value)
