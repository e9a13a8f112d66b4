"""The numbers that the logit difference shows next to its figure: cards, and the columns of its tables."""

from __future__ import annotations

import pandas as pd

from itlens.report.blocks import Card, Column, Row
from itlens.report.numbers import NOTHING, interval, number, p_value, percent, whole
from itlens.report.text import short, with_signs


def _quoted(row: Row) -> str:
    return f"“{short(with_signs(row['word']), 30)}”"


def _listed(name: str, heading: str, help: str) -> Column:
    def words(row: Row) -> str:
        return short(with_signs(row[name]), 160) or NOTHING

    return Column(name, heading, words, help)


def _token_columns(change: str) -> tuple[Column, ...]:
    return (
        Column("word", "token", _quoted),
        Column(change, f"{change} (%)", "percent", f"positions at which it is among the 100 that have most {change}"),
        Column("text_mean", "logit, tuned − base", "signed", "less its median over the vocabulary, mean over texts",
               decimals=2),
        Column("text_low", "95 % interval", lambda row: interval(row["text_low"], row["text_high"], 2),
               "t interval over texts"),
        Column("share_texts", "texts above 0 (%)", "percent", "in which its mean is above 0", test=True),
        Column("share_below", "below 0 (%)", "percent", "in which its mean is below 0", test=True, terminal=False),
        Column("p_bh", "p BH", "p",
               "sign test over texts, Benjamini-Hochberg over the tokens that differ in 6 texts or more", test=True),
        Column("likely_base", "likely, base (%)", "percent", "positions where it is among the base's first ten",
               terminal=False),
        Column("likely_tuned", "likely, tuned (%)", "percent", "the same of the tuned model", terminal=False),
    )  # fmt: skip


RISEN_COLUMNS, FALLEN_COLUMNS = _token_columns("risen"), _token_columns("fallen")
THEME_COLUMNS = (
    Column("theme", "theme", "count"),
    Column("share", "of what rises (%)", "percent"),
    _listed("words", "tokens", "from the strongest"),
    Column("where", "most in", lambda row: str(row["where"]) or NOTHING, "group in which it is the largest share"),
    Column("where_share", "there (%)", "percent", "of what rises in that group", terminal=False),
)
GROUP_COLUMNS = (
    Column("group", "group"),
    Column("texts", "texts", "count"),
    Column("rose", "tokens that rose", "count", "of those that the tuned model would say; sign test over the group's "
           "texts, Benjamini-Hochberg over tokens that differ in 6 of them or more"),
    _listed("risen", "most risen", "by the mean of the group's texts"),
    _listed("own", "more than elsewhere", "beyond the mean of the other groups; chosen, not tested"),
)  # fmt: skip


def logit_cards(changes: pd.DataFrame, risen: pd.DataFrame, fallen: pd.DataFrame) -> list[Card]:
    """Return how many tokens moved, and the one that rose and the one that fell most often."""
    attrs = changes.attrs
    moved = int(attrs["rose"]) + int(attrs["fell"])
    share = percent(moved / attrs["tokens"] if attrs["tokens"] else None)
    cards = [
        Card(
            "likely tokens that moved consistently", f"{share} %",
            f"{whole(attrs['rose'])} rose, {whole(attrs['fell'])} fell, of {whole(attrs['tokens'])} · vocabulary: "
            f"{whole(attrs['rose_all'])} and {whole(attrs['fell_all'])} of {whole(attrs['tokens_all'])} · sign test "
            f"over {whole(attrs['texts'])} texts",
        )
    ]  # fmt: skip
    for name, rows in (("risen", risen), ("fallen", fallen)):
        if len(rows):
            row = rows.iloc[0]
            cards.append(
                Card(
                    f"most often among the {name}", _quoted({"word": row["word"]}),
                    f"at {percent(row[name])} % of {whole(attrs['positions'])} positions · "
                    f"{number(row['text_mean'], 2, sign=True)} logits "
                    f"{interval(row['text_low'], row['text_high'], 2)}, p {p_value(row['p_bh'])}",
                )
            )  # fmt: skip
    return cards
