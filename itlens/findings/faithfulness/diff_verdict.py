"""What deletion and insertion say about the attributions of both models: a verdict for each method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from itlens.errors import ResultError
from itlens.findings.base import Direction, Headline, Verdict
from itlens.stats.paired import p_text, t_interval

_DOING = {"deletion": "removing the first tokens", "insertion": "keeping only the first tokens"}
_LEVEL = 0.05
_TESTED = (
    *("method", "direction", "n", "base_advantage", "tuned_advantage", "base_p", "tuned_p", "p_paired"),
    *("base_p_holm", "tuned_p_holm", "p_holm", "difference", "note"),
)
_Judgement: TypeAlias = Literal["better", "worse", "chance", "untested"]


def faithfulness_verdict(table: pd.DataFrame) -> str:
    """Return what the table of `itlens.diff.faithfulness` says, in a few sentences for each method.

    Raises ResultError for another table.
    """
    verdicts = judge_methods(table)
    several = len(verdicts) > 1
    return " ".join(
        " ".join(filter(None, (f"By {method}:" if several else "", verdict.sentence, verdict.caveat)))
        for method, verdict in verdicts.items()
    )


def judge_methods(table: pd.DataFrame) -> dict[str, Verdict]:
    """Return a `Verdict` for each method of a table of `itlens.diff.faithfulness`.

    Its `caveat` is "" where deletion finds the attributions of both models better than random orders, and insertion
    agrees; otherwise it says whose attributions should not be believed. Raises ResultError for another table.
    """
    if not isinstance(table, pd.DataFrame) or not set(_TESTED) <= set(table.columns):
        raise ResultError("faithfulness_verdict takes the table of itlens.diff.faithfulness; got something else.")
    nats = str(table.attrs.get("unit", "share")) == "nats"
    verdicts = {}
    for method, of_method in table.groupby("method", sort=False):
        rows = {str(row["direction"]): _Row.of(row, nats) for _, row in of_method.iterrows()}
        verdicts[str(method)] = _judge(rows)
    return verdicts


@dataclass(frozen=True)
class _Estimate:
    """A mean with the interval of its t-test, and the p-value corrected over the rows of the table."""

    value: float
    low: float
    high: float
    p: float

    @property
    def judgement(self) -> _Judgement:
        if not np.isfinite(self.p):
            return "untested"
        if self.p >= _LEVEL:
            return "chance"
        return "better" if self.value > 0 else "worse"


@dataclass(frozen=True)
class _Row:
    """The row of one direction: points (hundredths of what the whole prompt does), or nats."""

    base: _Estimate
    tuned: _Estimate
    difference: _Estimate
    n: int
    note: str
    nats: bool

    @classmethod
    def of(cls, row: pd.Series, nats: bool) -> _Row:
        n, times = int(row["n"]), 1 if nats else 100

        def estimate(value: str, p: str, corrected: str) -> _Estimate:
            at = float(row[value])
            low, high = t_interval(at, float(row[p]), n)
            return _Estimate(times * at, times * low, times * high, float(row[corrected]))

        return cls(
            estimate("base_advantage", "base_p", "base_p_holm"),
            estimate("tuned_advantage", "tuned_p", "tuned_p_holm"),
            estimate("difference", "p_paired", "p_holm"),
            n,
            str(row["note"]),
            nats,
        )

    @property
    def sides(self) -> dict[str, _Estimate]:
        return {"base": self.base, "tuned": self.tuned}

    def of_side(self, name: str) -> str:
        """Return "+30.1 points in the base model (95 % interval +20.0 to +40.2, Holm p = 0.001)"."""
        return f"{self.value(self.sides[name])} in the {name} model ({self.certainty(self.sides[name])})"

    def value(self, estimate: _Estimate) -> str:
        return f"{self._number(estimate.value)} {'nats' if self.nats else 'points'}"

    def certainty(self, estimate: _Estimate) -> str:
        if estimate.judgement == "untested":
            return "not tested"
        span = f"{self._number(estimate.low)} to {self._number(estimate.high)}"
        return f"95 % interval {span}, Holm {p_text(estimate.p)}"

    def headlines(self, direction: str) -> list[Headline]:
        named = {
            f"difference of the advantage over random orders, {direction}": self.difference,
            f"advantage over random orders in the base model, {direction}": self.base,
            f"advantage over random orders in the tuned model, {direction}": self.tuned,
        }
        unit = "nats" if self.nats else "points"
        return [Headline(name, of.value, of.low, of.high, of.p, self.n, unit) for name, of in named.items()]

    def _number(self, value: float) -> str:
        decimals = 2 if self.nats else 1
        return f"{round(value, decimals) + 0.0:+.{decimals}f}"


def _judge(rows: Mapping[str, _Row]) -> Verdict:
    row = rows["deletion"]
    first = sorted(rows, key=lambda direction: rows[direction].difference.judgement not in ("better", "worse"))
    headlines = [headline for direction in first for headline in rows[direction].headlines(direction)]
    numbers = tuple(headline for headline in headlines if headline.value is not None and np.isfinite(headline.value))
    judged = {name: side.judgement for name, side in row.sides.items()}
    if set(judged.values()) == {"untested"}:
        why = row.note or "the advantage is the same in every prompt"
        return Verdict(f"Not tested: {why}.", tested=False, numbers=numbers, short=f"not tested: {why}")
    faithful = [name for name, judgement in judged.items() if judgement == "better"]
    opening = {
        2: "The attributions are faithful to both models",
        1: f"The attributions are faithful to the {' '.join(faithful)} model only",
        0: "The attributions are not shown to be faithful to either model",
    }[len(faithful)]
    sides = " and ".join(row.of_side(name) for name, side in row.sides.items() if np.isfinite(side.value))
    direction = _direction(rows.values())
    return Verdict(
        f"{opening}: removing the tokens that they rank first has an advantage over random orders of {sides}. "
        f"{_change(rows)}",
        direction=direction,
        caveat=" ".join(filter(None, (_doubt(judged), _disagreement(row, rows.get("insertion"))))),
        numbers=numbers,
        short=_short(rows, direction, opening),
        word=_word(rows, faithful),
    )


def _direction(rows: Iterable[_Row]) -> Direction:
    """Return the direction of the change by tuning, over both ways of measuring it."""
    judged = {row.difference.judgement for row in rows} & {"better", "worse"}
    if len(judged) == 2:
        return "changed"
    return "none" if not judged else "higher" if judged == {"better"} else "lower"


def _word(rows: Mapping[str, _Row], faithful: Sequence[str]) -> str:
    """Return whose attributions are shown to be faithful; "" where tuning changed how faithful they are, or where
    those of both models are faithful and do not differ significantly."""
    judged = {row.difference.judgement for row in rows.values()}
    if judged & {"better", "worse"}:
        return ""
    if len(faithful) == 2:
        return "both models" if judged == {"untested"} else ""
    return f"{faithful[0]} model only" if faithful else "not shown"


def _change(rows: Mapping[str, _Row]) -> str:
    """Return a sentence on the change by tuning: what is significant, else the change of deletion."""
    changes = [
        f"the advantage of {_DOING[direction]} by {row.value(row.difference)} ({row.certainty(row.difference)})"
        for direction, row in rows.items()
        if row.difference.judgement in ("better", "worse")
    ]
    if changes:
        return f"Tuning changed {' and '.join(changes)}."
    row = rows["deletion"]
    if row.difference.judgement == "untested":
        return f"The change by tuning was not tested: {row.note or 'the same advantage in every prompt'}."
    return f"No significant change by tuning: {row.value(row.difference)} ({row.certainty(row.difference)})."


def _short(rows: Mapping[str, _Row], direction: Direction, opening: str) -> str:
    if direction == "none":
        row = rows["deletion"]
        sides = [f"{row.value(side)} {name}" for name, side in row.sides.items() if np.isfinite(side.value)]
        return f"{opening[0].lower()}{opening[1:]} ({', '.join(sides)})"
    changes = [
        f"{row.value(row.difference)} when {_DOING[way]}"
        for way, row in rows.items()
        if row.difference.judgement in ("better", "worse")
    ]
    verb = {"higher": "rose", "lower": "fell"}.get(direction, "changed")
    return f"the faithfulness of the attributions {verb} ({', '.join(changes)})"


def _doubt(judged: Mapping[str, _Judgement]) -> str:
    """Return whose attributions should not be believed; "" where deletion supports both models'."""
    words = {
        "worse": "are worse than random orders",
        "chance": "are no better than random orders",
        "untested": "were not tested",
    }
    doubtful = {name: words[judgement] for name, judgement in judged.items() if judgement != "better"}
    if not doubtful:
        return ""
    if len(doubtful) == 2 and len({*doubtful.values()}) == 1:
        clauses = [f"those of both models {doubtful['base']}"]
    else:
        clauses = [f"those of the {name} model {said}" for name, said in doubtful.items()]
    return f"Do not rely on attributions without another check: {' and '.join(clauses)} when tokens are removed."


def _disagreement(row: _Row, insertion: _Row | None) -> str:
    """Return where keeping only the tokens that are ranked first gives another answer than removing them."""
    if insertion is None:
        return ""
    other = [
        insertion.of_side(name)
        for name, side in insertion.sides.items()
        if side.judgement not in (row.sides[name].judgement, "untested")
    ]
    return f"Keeping only the tokens ranked first gives another answer: {' and '.join(other)}." if other else ""
