"""Columns of the attribution's tables: groups of prompts, the regression on lengths, and single prompts."""

from __future__ import annotations

from itlens.report.blocks import Column, Row
from itlens.stats.paired import interval_words

_TERMS = {
    "intercept": "intercept: difference at equal, average length",
    "log_length_ratio": "log of tuned / base response length",
    "log_mean_length": "log of the mean response length (centred)",
}


def _term(row: Row) -> str:
    return _TERMS.get(str(row["term"]), str(row["term"]))


_SCORE = "mean ± standard deviation of the instruction score"
GROUPS = (
    Column("group", "group"),
    Column("n", "n", "count", help="prompts"),
    Column("base", "base", "mean", help=_SCORE),
    Column("tuned", "tuned", "mean", help=_SCORE),
    Column("difference", "difference", "signed", help="tuned − base, mean over prompts"),
    Column(
        "ci",
        "95 % interval",
        "interval",
        help=f"of the mean difference: {interval_words()}",
    ),
    Column("effect_size", "d_z", "signed", decimals=2, help="paired effect size: mean / standard deviation", test=True),
    Column("t_paired", "t", "signed", decimals=2, help="paired t", test=True, terminal=False),
    Column("p_paired", "p", "p", help="paired t-test, two-sided", test=True),
    Column("p_holm", "Holm p", "p", help="corrected for the number of groups", test=True),
    Column("p_wilcoxon", "Wilcoxon p", "p", help="Wilcoxon's signed ranks, two-sided", test=True, terminal=False),
)
WELCH = (
    Column("group", "group"),
    Column("n", "n", "count", help="prompts"),
    Column("base", "base", "mean", help=_SCORE),
    Column("tuned", "tuned", "mean", help=_SCORE),
    Column("t_welch", "Welch t", "signed", decimals=2, help="unpaired", test=True),
    Column("p_welch", "Welch p", "p", help="one-sided, tuned > base", test=True),
)
REGRESSION = (
    Column("term", "term", _term),
    Column("coefficient", "coefficient", "signed"),
    Column("ci", "95 % interval", "interval"),
    Column("std_error", "standard error", "number"),
    Column("t", "t", "signed", decimals=2),
    Column("p", "p", "p"),
)
PROMPTS = (
    Column("id", "prompt", link="prompt"),
    Column("group", "group"),
    Column("base", "base", "number", help="instruction score"),
    Column("tuned", "tuned", "number", help="instruction score"),
    Column("difference", "difference", "signed", help="tuned − base"),
    Column("base_targets", "base tokens", "count", help="length of the response"),
    Column("tuned_targets", "tuned tokens", "count", help="length of the response"),
    Column("base_finish", "base ended", help="eos: by itself; length: cut; given; empty"),
    Column("tuned_finish", "tuned ended", help="eos: by itself; length: cut; given; empty"),
    Column("instruction_tokens", "instruction tokens", "count"),
    Column("rating", "rating", "count"),
)
