"""The numbers that token shift shows next to its figure: cards, tables and their columns."""

from __future__ import annotations

import numpy as np
import pandas as pd

from itlens.report.blocks import Card, Column, Row
from itlens.report.numbers import NOTHING, is_number, number, p_value, percent, percent_range, whole
from itlens.report.text import short, with_signs
from itlens.stats.paired import interval_words


def _quoted(name: str, heading: str, help: str = "") -> Column:
    def words(row: Row) -> str:
        return f"“{short(with_signs(row[name]), 30)}”" if row[name] else NOTHING

    return Column(name, heading, words, help)


_HEADINGS = {"p_holm": "Holm p", "p_bh": "p BH"}


def _tested(p: str, over: str) -> tuple[Column, ...]:
    return (
        Column("n", "prompts", "count", "that have it and other tokens", terminal=False),
        Column("observed", "shifted (%)", "percent", "beyond the base's third choice, mean over these prompts"),
        Column("expected", "others (%)", "percent", "the same of the other tokens of these prompts"),
        Column("difference", "difference", "points", "shifted − others", test=True),
        Column(
            "ci_low", "95 % interval", lambda row: percent_range(row["ci_low"], row["ci_high"]),
            interval_words(), test=True,
        ),
        Column(p, _HEADINGS[p], "p", f"paired t test over prompts, over the {over}", test=True),
    )  # fmt: skip


KIND_COLUMNS = (
    Column("kind", "kind of token"),
    Column("count", "tokens", "count", "of all responses"),
    Column(
        "unshifted", "first choice (%)", "percent", "of all these tokens: the base's first choice too", terminal=False
    ),
    Column("kl", "KL", "number", "KL (tuned || base), nats, mean over these tokens", decimals=2, terminal=False),
    *_tested("p_holm", "kinds"),
)
TOKEN_COLUMNS = (
    _quoted("token", "token"),
    Column("count", "times", "count", "that it occurs"),
    *_tested("p_bh", "tokens"),
    _quoted("instead", "base would write", "its first choice, most often, where the token is shifted"),
)
GROUP_COLUMNS = (
    Column("group", "group"),
    Column("n", "prompts", "count"),
    Column("base_mean", "base (%)", "percent", "share of response tokens that are the base's first choice"),
    Column("tuned_mean", "tuned (%)", "percent", "share of response tokens that are the tuned model's first choice"),
    Column("difference", "difference", "points", "tuned − base", test=True),
    Column(
        "ci_low", "95 % interval", lambda row: percent_range(row["ci_low"], row["ci_high"]),
        interval_words(),
        test=True,
    ),
    Column("p_holm", "Holm p", "p", "paired t test over prompts, corrected over the groups", test=True),
)  # fmt: skip


def shift_cards(tests: dict[str, pd.Series], depth: pd.Series, shares: pd.DataFrame, first: int) -> list[Card]:
    """Return first choices, shifted tokens, the divergence, and what the first tokens carry of it."""
    unshifted, shifted = tests["unshifted"], tests["shifted"]
    test = f"difference {percent(unshifted['difference'], sign=True)} points {_range(unshifted)}, p {_p(unshifted)}"
    kl = shares["kl"].to_numpy(float)
    known = kl[np.isfinite(kl)]
    low, high = np.quantile(known, [0.25, 0.75]) if known.size else (None, None)
    quartiles = f"{number(low, 2)} to {number(high, 2)}"
    prompts = f"n = {whole(unshifted['n'])} prompts"
    return [
        Card(
            "response tokens that are the base's first choice too", f"{percent(unshifted['base_mean'])} %",
            f"tuned {percent(unshifted['tuned_mean'])} % · {test} · {prompts}",
        ),
        Card(
            "tokens beyond the base's third choice", f"{percent(shifted['base_mean'])} %",
            f"tuned {percent(shifted['tuned_mean'])} % · difference {percent(shifted['difference'], sign=True)} points "
            f"{_range(shifted)}",
        ),
        Card(
            "divergence, KL(tuned || base)", f"{number(known.mean() if known.size else None, 2)} nats a token",
            f"middle half of the prompts: {quartiles}",
        ),
        Card(
            f"share of it in the first {first} tokens", f"{percent(depth['share'])} %",
            f"an even spread: {percent(depth['even'])} % · difference {percent(depth['difference'], sign=True)} points "
            f"{_range(depth)}, p {_p(depth)} · n = {whole(depth['n'])} longer responses",
        ),
    ]  # fmt: skip


def _range(row: pd.Series) -> str:
    return percent_range(row["ci_low"], row["ci_high"]) if is_number(row["ci_low"]) else ""


def _p(row: pd.Series) -> str:
    return p_value(row["p_paired"])
