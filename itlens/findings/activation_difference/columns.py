"""The numbers that the activation difference shows next to its figures: cards, and the columns of its tables."""

from __future__ import annotations

import pandas as pd

from itlens.report.blocks import Card, Column, Row
from itlens.report.numbers import interval, number, p_value, percent, whole
from itlens.report.text import short, with_signs
from itlens.stats.paired import interval_words


def _words(row: Row) -> str:
    return short(with_signs(row["words"]), 160)


def random_range(row: Row | pd.Series) -> str:
    """Return the changes of the random directions, from the lowest to the highest: "−0.031 to +0.012"."""
    low, high = (number(row[f"random_change_{end}"], sign=True) for end in ("low", "high"))
    return low if low == high else f"{low} to {high}"


def place_p(row: Row) -> str:
    """Return the p of a place: corrected over positions, of the mean over positions its own."""
    return p_value(row["p_paired"] if row["place"] == "mean" else row["p_holm"])


PLACE_COLUMNS = (
    Column("place", "position", "text", "of a text, from 0; mean: over the positions"),
    Column("constant", "constant part (%)", "percent",
           "length of what two halves of the texts have in common, share of the base's mean stream"),
    Column("relative", "size (%)", "percent", "length of the mean difference, share of the base's mean stream; noise "
           "lengthens it", terminal=False),
    Column("norm", "length", "number", "of the mean difference", decimals=2, terminal=False),
    Column("half_high", "halves within the base", "number",
           "97.5 % of the differences between halves of the texts within the base are shorter", decimals=2),
    Column("half_cosine", "cosine of halves", "number", "of the mean differences of two halves of the texts",
           decimals=2),
    Column("n", "texts", "count", "that did not choose the direction", terminal=False),
    Column("difference", "projection", "signed", "tuned − base, on the direction of the other half", decimals=2,
           test=True),
    Column("ci_low", "95 % interval", lambda row: interval(row["ci_low"], row["ci_high"], 2),
           interval_words("texts"),
           test=True),
    Column("effect_size", "d", "number", "Cohen's d of the paired differences", decimals=2, test=True,
           terminal=False),
    Column("p_holm", "p", place_p, "paired t test over texts; of positions: Holm over positions", test=True),
)  # fmt: skip
WORD_COLUMNS = (
    Column("lens", "read by", "text", "logit lens of the base or the tuned model, or the patchscope of the tuned"),
    Column("direction", "direction", "text", "mean difference, at a position, or without its mean over positions"),
    Column("words", "words", _words, "from the strongest"),
    Column("share", "instruction words (%)", "percent", "among the words of the direction", terminal=False),
    Column("random_share", "random (%)", "percent", "the same of random directions, mean", terminal=False),
    Column("percentile", "percentile", "percent", "of instruction words among all tokens; 50 by chance", test=True),
    Column("random_percentile", "random", "percent", "the same of random directions, mean", terminal=False),
    Column("half_percentile", "halves", "percent", "the same of halves of the texts within the base, mean",
           terminal=False),
    Column("p_percentile", "p", "p", "share of random directions, or of halves of the texts within the base, with as "
           "high a percentile, whichever is larger; not corrected", test=True),
    Column("p_bh", "p BH", "p", "the same, Benjamini-Hochberg over all directions and readings", test=True),
)  # fmt: skip
SPECTRUM_COLUMNS = (
    Column("component", "direction", "count"),
    Column("share", "of all differences (%)", "percent", "squared singular value, share of the sum"),
    Column("within", "texts within the base (%)", "percent", "the same of differences between texts in one model"),
)
DIAL_COLUMNS = (
    Column("model", "model", "text", "base: the difference is added; tuned: it is subtracted"),
    Column("strength", "strength", "number", "factor on the difference", decimals=1),
    Column("n", "prompts", "count", terminal=False),
    Column("plain", "plain", "signed", "without", decimals=2, terminal=False),
    Column("change", "change", "signed", "with the difference − plain", decimals=3, test=True),
    Column("change_low", "95 % interval", lambda row: interval(row["change_low"], row["change_high"]),
           interval_words(), test=True),
    Column("change_p_holm", "Holm p", "p", "paired t test over prompts, corrected over models and strengths",
           test=True),
    Column("random_change", "random directions", random_range,
           "of the same length − plain: the lowest and the highest mean over prompts; not tested"),
)  # fmt: skip


def difference_cards(
    mean: pd.Series, spectrum: pd.DataFrame, lens: pd.Series, patched: pd.Series, added: pd.Series | None
) -> list[Card]:
    """Return size and test, how much is one direction, its words, and what the dial does."""
    test = f"{number(mean['difference'], 2, sign=True)} {interval(mean['ci_low'], mean['ci_high'], 2)}"
    cards = [
        Card(
            "constant part of the difference, share of the base's stream", f"{percent(mean['constant'])} %",
            f"projection {test}, p {p_value(mean['p_paired'])} · n = {whole(mean['n'])} texts · length "
            f"{number(mean['norm'], 2)}, between halves of the texts within the base, 97.5 %: "
            f"{number(mean['half_high'], 2)}",
        ),
        Card(
            "of all differences in one direction", f"{percent(spectrum['share'].iloc[0])} %",
            f"within the base {percent(spectrum['within'].iloc[0])} % · the energy of "
            f"{number(spectrum.attrs['directions'], 1)} directions, within the base "
            f"{number(spectrum.attrs['directions_within'], 1)}",
        ),
        Card(
            "percentile of instruction words", f"{percent(lens['percentile'])} %",
            f"tuned logit lens; random {percent(lens['random_percentile'])} %, halves within the base "
            f"{percent(lens['half_percentile'])} %, uncorrected p {p_value(lens['p_percentile'])} · "
            f"patchscope {percent(patched['percentile'])} %, random {percent(patched['random_percentile'])} %, "
            f"uncorrected p {p_value(patched['p_percentile'])}",
        ),
    ]  # fmt: skip
    if added is None:
        return cards
    span = interval(added["change_low"], added["change_high"])
    dial = Card(
        "log-probability of the response, difference added to the base",
        f"{number(added['change'], sign=True)} nats a token",
        f"{span}, p {p_value(added['change_p_holm'])} · n = {whole(added['n'])} prompts · random directions of the "
        f"same length {random_range(added)}, not tested",
    )
    return [*cards, dial]
