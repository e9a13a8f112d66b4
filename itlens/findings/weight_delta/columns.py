"""Tables of changed weights: matrices, heads, directions in words, agreement; and the words of the section."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from itlens.report.blocks import Column, Row
from itlens.report.head_grid import head_name
from itlens.report.numbers import NOTHING, interval, is_number, number

_DIGITS = 8
_SEEN = 0.0005  # a smaller share is printed as 0.0 %
_STAYED = {"unchanged": "entry moved by less than 1e-5", "equal": "entry is the same number in both models"}


def span(low: float, high: float) -> str:
    """Return an interval of shares in per cent, with as many digits as tell its ends apart; sizes have no sign."""
    if not (is_number(low) and is_number(high)):
        return NOTHING
    width = 100 * (high - low)
    decimals = min(_DIGITS, max(1, -math.floor(math.log10(width)))) if width > 0 else 1
    return interval(100 * low, 100 * high, decimals, sign=False)


def near_one(row: Row) -> str:
    """Return a cosine with two digits of its distance from 1, so that what moved little is not 1.0000."""
    gap = 1 - float(row["cosine"])
    decimals = min(_DIGITS, max(4, 1 - math.floor(math.log10(gap)))) if 0 < gap < 1 else 4
    return number(row["cosine"], decimals)


MATRICES = (
    Column("matrix", "matrix"),
    Column("relative", "change (%)", "percent", "|tuned - base| / |base|, mean over layers", decimals=2),
    Column("ci_low", "95 % interval", lambda row: span(row["ci_low"], row["ci_high"]), "bootstrap over layers"),
    Column("cosine", "cosine", near_one, "of both models' matrices, as long vectors", terminal=False),
    Column("unchanged", "unchanged (%)", "percent", "entries that moved by at most 1e-5"),
    Column("equal", "equal (%)", "percent", "entries that are the same number", terminal=False),
    Column("effective_rank", "effective rank", "number", "in how many directions the change spreads", decimals=1),
    Column("effective_rank_random", "of noise", "number", "of independent normal entries of this shape", decimals=1),
    Column(
        "intruders", "intruders", "number", "of 10 tuned directions, those that no base direction is near", decimals=1
    ),
    Column(
        "intruders_null", "of resampled base", "number", "the same of the base with its inputs drawn again", decimals=1
    ),
    Column("p_intruders", "p Holm", "p", "Wilcoxon over layers: intruders against resampled base", terminal=False),
)


def shown_matrices(rows: pd.DataFrame) -> tuple[Sequence[Column], str]:
    """Return the columns to show, and in words what is left out: shares of entries that stayed, where none did."""
    none = [name for name in _STAYED if not (rows[name].to_numpy(float) >= _SEEN).any()]
    said = f"hardly an {_STAYED[none[0]]}" if none else ""
    return [column for column in MATRICES if column.name not in none], said


HEADS = (
    Column("layer", "head", lambda row: head_name(row["layer"], row["head"]), "layer and head, counted from 0"),
    Column("QK", "W_QK (%)", "percent", "relative change of what the head matches", decimals=1),
    Column("OV", "W_OV (%)", "percent", "relative change of what the head moves", decimals=1),
    Column("rank_QK", "rank QK", "number", "effective rank of the change of W_QK", decimals=1, terminal=False),
    Column("rank_OV", "rank OV", "number", "effective rank of the change of W_OV", decimals=1, terminal=False),
    Column("query_words", "as a query", help="words of the first direction of the change of W_QK; ~: the other end"),
    Column("key_words", "as a key", help="the same on the side of the key"),
)
WRITTEN = (
    Column("layer", "layer", "count"),
    Column("matrix", "matrix"),
    Column("direction", "direction", "count", "of the change, the strongest first"),
    Column("words", "words", help="nearest by |cosine| with output vectors; ~: at the other end"),
    Column("score", "first |cosine|", "number", decimals=3),
    Column("p", "p", "p", "share of random directions of the base's leading span whose first word is as near"),
    Column("p_bh", "p BH", "p", "Benjamini-Hochberg over all rows"),
)
AGREEMENT = (
    Column("product", "weights", lambda row: f"W_{row['product']}"),
    Column("other", "other ranking"),
    Column("heads", "heads", "count"),
    Column("spearman", "rank correlation", "signed", "Spearman, over heads", decimals=2),
    Column("ci_low", "95 % interval", lambda row: interval(row["ci_low"], row["ci_high"], 2), "bootstrap over heads"),
    Column("p_holm", "p Holm", "p", "random pairings; heads of one layer are not independent, so it is optimistic"),
)
TERMS = {
    "Relative change": "The size of the difference of two matrices (root of the sum of its squared entries) as a share "
    "of the size of the base's matrix. Of a head, W_QK = W_Q W_K^T says which words attend to which, and W_OV = W_V "
    "W_O what is moved; gains of norms are folded in there.",
    "Effective rank": "In how many directions a change spreads: exp of the entropy of its singular values. A LoRA "
    "adapter of rank r has at most r; independent noise nearly as many as the matrix has rows.",
    "Intruders": "Of the ten strongest directions that the tuned matrix writes, those with |cosine| below 0.5 to every "
    "direction that the base's matrix writes (Shuttleworth et al. 2024). The null is the base with its inputs "
    "resampled, which moves directions that are not well determined.",
    "Directions in words": "The first directions that a change writes into the residual stream, read as the nearest "
    "words of the output embedding. Random directions in the span that the base writes most show how near words are "
    "without any tuning.",
}
