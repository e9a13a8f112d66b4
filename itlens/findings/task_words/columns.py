"""Tables of task words: gains, the change, the words; and the words of the section."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from itlens.report.blocks import Column, Row
from itlens.report.numbers import interval, number, whole

KIND_NAMES = {"value": "values (written)", "key": "keys (read)"}
_PLURAL = {"value": "values", "key": "keys"}
_SAME = {"k": "k = {}", "layers": "layers: {}"}  # columns that are the same in every row: said once


def _points(row: Row, low: str, high: str) -> str:
    return interval(100 * row[low], 100 * row[high], 2)


def _range(row: Row, low: str, high: str) -> str:
    return interval(100 * row[low], 100 * row[high], 1, sign=False)


_TESTED = (
    Column(
        "excess",
        "more than controls (points)",
        lambda row: number(100 * row["excess"], 2, sign=True),
        "less the mean of matched control sets",
    ),
    Column(
        "ci_low",
        "95 % over layers",
        lambda row: _points(row, "ci_low", "ci_high"),
        "bootstrap over layers: how uniform they are; p Holm is over control sets",
    ),
    Column("p_layers", "p over layers", "p", "Wilcoxon over layers, against matched controls", terminal=False),
    Column("p_matched", "p matched", "p", "words matched in frequency, part of speech and number of tokens"),
    Column("p_topic", "p topic", "p", "random topics whose vectors are as near to one another as the set's"),
    Column(
        "p_holm",
        "p Holm",
        "p",
        "the larger of the two (1 between both kinds of controls), corrected over all rows",
    ),
)
_FIRST = (
    Column("vectors", "vectors", lambda row: _PLURAL.get(str(row["vectors"]), str(row["vectors"])),
           "values: what a layer writes; keys: what it reads"),
    Column("task", "task"),
)  # fmt: skip
GAINS = (
    *_FIRST,
    Column("base", "base (%)", "percent", "energy in the first k directions, mean over layers", decimals=1),
    Column("tuned", "tuned (%)", "percent", "the same of the tuned model", decimals=1),
    Column("gain", "gain (points)", lambda row: number(100 * row["gain"], 2, sign=True), "tuned less base"),
    *_TESTED,
    Column(
        "matched_low", "matched controls", lambda row: _points(row, "matched_low", "matched_high"),
        "95 % of the gains of matched control sets", terminal=False,
    ),
    Column(
        "topic_low", "topics", lambda row: _points(row, "topic_low", "topic_high"), "95 % of the gains of topics",
        terminal=False,
    ),
)  # fmt: skip
CHANGES = (
    *_FIRST,
    Column("change", "in the change (%)", "percent", "energy in its first k directions, changed layers", decimals=1),
    *_TESTED,
    Column(
        "matched_low", "matched controls (%)", lambda row: _range(row, "matched_low", "matched_high"),
        "95 % of matched control sets", terminal=False,
    ),
    Column(
        "topic_low", "topics (%)", lambda row: _range(row, "topic_low", "topic_high"), "95 % of topics", terminal=False
    ),
)  # fmt: skip
WORDS = (
    Column("task", "task"),
    Column("words", "words", "count", "in the vocabulary and known to the tokenizer"),
    Column("listed", "which", help="from frequent to rare"),
)
TERMS = {
    "Energy of a set": "The share of a set's word vectors (unit length, less the mean of all words; squared, summed) "
    "that lies in the span of a layer's first k directions. A random span of k of d dimensions holds k / d.",
    "Matched controls": "Sets of as many words, drawn word by word from those of the same band of frequency, part of "
    "speech and number of tokens.",
    "Topics as controls": "Words of one topic have similar vectors and move together, so that their mean gain varies "
    "more from chance. Random topics, as coherent as the set, show how much.",
}


def shown_columns(table: pd.DataFrame, columns: Sequence[Column]) -> tuple[tuple[Column, ...], str]:
    """Return the columns to show, and what all rows have in common ("layers: 6, k = 48").

    A number of layers or dimensions that differs from row to row becomes a column, behind the task.
    """
    different = [name for name in _SAME if table[name].nunique(dropna=False) > 1]
    said = [_SAME[name].format(whole(table[name].iloc[0])) for name in _SAME if name not in different and len(table)]
    extra = [Column(name, name, "count", terminal=False) for name in different]
    place = len(_FIRST)
    return (*columns[:place], *extra, *columns[place:]), ", ".join(reversed(said))
