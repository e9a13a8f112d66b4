"""The tables of a report's attention sections: groups of layers, and heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itlens.views.head_map import head_name, whole_sign
from itlens.views.numbers import is_number, number, p_value, percent, percent_range, rounded_range, whole
from itlens.views.report_tables import Column


def _percent(name: str, heading: str, *, sign: bool = False, tip: str = "") -> Column:
    return Column(heading, lambda row: percent(row.get(name), sign=sign), name, tip)


def _spread(kind: str) -> Column:
    return Column(
        f"{kind} (%)",
        lambda row: _mean(row.get(f"{kind}_share"), row.get(f"{kind}_std")),
        f"{kind}_share",
        "share of changed heads whose count rose: mean ± standard deviation over verbs",
    )


def _mean(mean: Any, std: Any) -> str:
    return f"{percent(mean)} ± {percent(std)}" if is_number(mean) and is_number(std) else percent(mean)


def _range(low: str, high: str, heading: str, tip: str = "", *, test: bool = False) -> Column:
    return Column(heading, lambda row: percent_range(row.get(low), row.get(high)), low, tip, test)


def _count(name: str, heading: str, tip: str = "") -> Column:
    return Column(heading, lambda row: whole(row.get(name)), name, tip)


def _of(name: str, other: str, heading: str, tip: str, between: str = " of ") -> Column:
    return Column(heading, lambda row: f"{whole(row.get(name))}{between}{whole(row.get(other))}", name, tip)


def _number(name: str, heading: str, tip: str = "", *, sign: bool = True, test: bool = False) -> Column:
    return Column(heading, lambda row: number(row.get(name), 2, sign=sign), name, tip, test)


def _p(name: str, heading: str, tip: str, *, test: bool = True) -> Column:
    return Column(heading, lambda row: p_value(row.get(name)), name, tip, test)


VERB_GROUPS = (
    Column("layers", lambda row: str(row.get("group", "")).removeprefix("layers ").removeprefix("layer ")),
    _of("changed_heads", "heads", "heads changed", "heads in which the count of a verb changed, of those probed"),
    _of("instruction_verbs", "general_verbs", "verbs", "instruction and general verbs that changed anywhere", " + "),
    _spread("instruction"),
    _spread("general"),
    _percent("difference", "difference (points)", sign=True, tip="instruction verbs − general verbs"),
    _range("ci_low", "ci_high", "95 % interval", "bootstrap over verbs"),
    _number("effect_size", "d", "Cohen's d over verbs", test=True),
    _p("p_welch", "p Welch", "the paper's test, two-sided; takes verbs for independent"),
    _range("null_low", "null_high", "random sets (points)", "95 % of the differences of random verb sets", test=True),
    _p("p_null", "p perm.", "permutation: the larger p of random verb sets and of base and tuned swapped at random"),
)


def _head(row: Mapping[str, Any]) -> str:
    return head_name(row["layer"], row["head"])


MOVED_HEADS = (
    Column("head", _head, "layer", "layer and head, counted from 0"),
    _number("overlap", "overlap", "pairs in both, divided by pairs in either", sign=False),
    _count("kept", "kept", "pairs in both"),
    _count("gained", "gained", "pairs only in tuned"),
    _count("lost", "lost", "pairs only in base"),
    Column("instr. verbs", lambda row: whole_sign(row.get("instruction_change")), "instruction_change",
           "count of instruction verbs in repeated pairs, tuned − base"),
    Column("random verbs", lambda row: rounded_range(row.get("instruction_low"), row.get("instruction_high")),
           "instruction_low", "95 % range of the change of random verb sets"),
    _p("instruction_p_bh", "p BH", "Benjamini-Hochberg over all heads", test=False),
    _number("copying", "copying", "copying score of the head, in [−1, 1]"),
    _number("base_copying", "copying, base", "copying score of the head, in [−1, 1]"),
    _number("tuned_copying", "copying, tuned", "copying score of the head, in [−1, 1]"),
    Column("gained first", lambda row: str(row.get("first_gained") or "")),
    Column("lost first", lambda row: str(row.get("first_lost") or "")),
)  # fmt: skip
