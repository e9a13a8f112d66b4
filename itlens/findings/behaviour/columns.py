"""Tables of behaviour: tests, openings, links; names and terms of the section."""

from __future__ import annotations

from collections.abc import Callable

from itlens.report.blocks import Column, Row
from itlens.report.numbers import interval, number
from itlens.stats.paired import interval_words

NAMES = {
    "length": "length (tokens)",
    "ended": "ended by itself (%)",
    "repetition": "repeated 4-grams (%)",
    "has_list": "with a list (%)",
    "has_code": "with code (%)",
    "has_question": "with a question (%)",
}
PLAIN = {name: label.partition(" (")[0] for name, label in NAMES.items()}
NOUNS = {
    "length": "length",
    "ended": "the share that ends by itself",
    "repetition": "the share of repeated 4-grams",
    "has_list": "the share with a list",
    "has_code": "the share with code",
    "has_question": "the share with a question",
}
SHARES = tuple(name for name in NAMES if name != "length")


def scaled(name: str, value: float) -> float:
    """Return a number as tables show it: shares as per cent."""
    return 100 * value if name in SHARES else value


def _value(field: str, *, sign: bool) -> Callable[[Row], str]:
    def write(row: Row) -> str:
        return number(scaled(str(row["statistic"]), float(row[field])), 1, sign=sign)

    return write


def _span(row: Row) -> str:
    name = str(row["statistic"])
    return interval(scaled(name, float(row["ci_low"])), scaled(name, float(row["ci_high"])), 1)


_STATISTIC = Column("statistic", "behaviour", lambda row: NAMES.get(str(row["statistic"]), str(row["statistic"])))
TESTS = (
    _STATISTIC,
    Column("n", "n", "count", "prompts"),
    Column("base_mean", "base", _value("base_mean", sign=False), "mean over prompts"),
    Column("tuned_mean", "tuned", _value("tuned_mean", sign=False), "mean over prompts"),
    Column("difference", "difference", _value("difference", sign=True), "tuned - base, paired"),
    Column("ci_low", "95 % interval", _span, interval_words(), test=True),
    Column("p", "p", "p", "Wilcoxon's signed-rank test; of numbers that are 0 or 1 McNemar's exact test", test=True),
    Column("p_holm", "p Holm", "p", "corrected over the behaviours", test=True),
)
GROUPS = (_STATISTIC, Column("group", "group"), *TESTS[1:])
OPENINGS = (
    Column("opening", "first word"),
    Column("base", "base (%)", "percent", "of the prompts"),
    Column("tuned", "tuned (%)", "percent", "of the prompts"),
    Column("only_base", "only base", "count", "prompts on which only the base begins so", terminal=False),
    Column("only_tuned", "only tuned", "count", "prompts on which only the tuned model does", terminal=False),
    Column("p", "p", "p", "exact test of these two numbers (McNemar)"),
    Column("p_bh", "p BH", "p", "Benjamini-Hochberg over the openings"),
)
LINKS = (
    Column("behaviour", "change of", lambda row: NAMES.get(str(row["behaviour"]), str(row["behaviour"]))),
    Column("number", "with the change of", lambda row: str(row["number"]).replace("_", " ")),
    Column("finding", "finding", lambda row: str(row["finding"]).replace("_", " ")),
    Column("n", "n", "count", "prompts"),
    Column("spearman", "rank correlation", "signed", "Spearman, over prompts", decimals=2),
    Column("ci_low", "95 % interval", lambda row: interval(row["ci_low"], row["ci_high"], 2), "bootstrap over prompts"),
    Column("p", "p", "p", "random pairings of prompts"),
    Column("p_bh", "p BH", "p", "Benjamini-Hochberg over all rows"),
)
TERMS = {
    "Repeated 4-grams": "Of all runs of four tokens in a response, the share that occurred in it before.",
    "List, code, question": "Marks of form, read off the text: lines that begin with bullets or numbers; fenced blocks "
    "or lines that look like code; a sentence that ends with a question mark.",
    "Rank correlation of changes": "Over prompts, between how much a behaviour changed (tuned − base) and how much a "
    "number of another finding did. It says that the two go together, not that one is the cause.",
}
