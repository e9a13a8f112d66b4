"""The numbers that divergence shows next to its figure: cards, and the columns of its tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from itlens.report.blocks import Card, Column, Row
from itlens.report.numbers import NOTHING, interval, is_number, number, p_value, percent, percent_range, rounded, whole
from itlens.report.text import short, with_signs
from itlens.stats.paired import interval_words


def _of(name: str, heading: str, help: str) -> tuple[Column, Column]:
    def span(row: Row) -> str:
        return interval(row[f"{name}_low"], row[f"{name}_high"], 2)

    return (
        Column(name, heading, "signed", help, decimals=2),
        Column(
            f"{name}_low",
            "95 % interval",
            span,
            f"{heading}: {interval_words()}",
            terminal=False,
        ),
    )


DEPTH_COLUMNS = (
    Column("boundary", "boundary", "count", "the stream before this block; the last: behind all blocks"),
    Column("share", "made (%)", "percent", "share of the decision that is upstream of it"),
    Column(
        "share_low", "95 % interval", lambda row: percent_range(row["share_low"], row["share_high"]),
        "bootstrap over prompts",
    ),
    *_of("upstream", "upstream", "what the tuned stream that enters adds (logits)"),
    *_of("late", "late", "what the tuned blocks from here on add (logits)"),
    *_of("interaction", "interaction", "what they add only together (logits)"),
    Column(
        "interaction_p_bh", "p BH", "p", "interaction: paired t over prompts, Benjamini-Hochberg over boundaries",
        terminal=False,
    ),
)  # fmt: skip


def _step_span(row: Row) -> str:
    return interval(row["step_low"], row["step_high"], 2)


BLOCK_COLUMNS = (
    Column("block", "block", "count", "counted from 0"),
    Column("step", "adds", "signed", "upstream effect behind it − before it (logits)", decimals=2),
    Column("step_low", "95 % interval", _step_span, interval_words()),
    Column("share_of_total", "of the decision (%)", "percent", "its share of the whole"),
    Column("p_bh", "p BH", "p", "paired t over prompts, Benjamini-Hochberg over blocks", test=True),
)


def _token(name: str, heading: str) -> Column:
    def words(row: Row) -> str:
        return f"“{short(with_signs(row[name]), 30)}”" if row[name] else NOTHING

    return Column(name, heading, words, "at the first token that differs")


def _place(row: Row) -> str:
    return whole(row["position"] + 1) if is_number(row["position"]) else f"none of {whole(row['compared'])}"


PROMPT_COLUMNS = (
    Column("id", "prompt", link="prompt"),
    Column("position", "token", _place, "of the response, from 1: the first that differs"),
    _token("token_base", "base writes"),
    _token("token_tuned", "tuned writes"),
    Column("gap_base", "base", "signed", "logit(tuned's token) − logit(base's token) in the base", decimals=2),
    Column("gap_tuned", "tuned", "signed", "the same in the tuned model, through the base's unembedding", decimals=2),
    Column("share", "made at half depth (%)", "percent", "share of the difference that is upstream of the middle"),
)


def divergence_cards(rows: dict[str, pd.Series], depth: pd.DataFrame, prompts: pd.DataFrame) -> list[Card]:
    """Return where the answers part, the decision, the half depth, and what the two halves contribute."""
    position = prompts["position"].to_numpy(float)
    parted = np.isfinite(position)
    first = 1 + position[parted]
    cards = [
        Card(
            "prompts whose answers part", f"{whole(parted.sum())} of {whole(parted.size)}",
            f"at token {rounded(np.median(first), 0)} of the response (median; last {whole(first.max())})" if first.size
            else "the same greedy answer on every prompt",
        )
    ]  # fmt: skip
    if not first.size:
        return cards
    decision, halves = rows["decision"], rows["halves"]
    half, low, high = (depth[f"half_depth{end}"].iloc[0] for end in ("", "_low", "_high"))
    blocks = int(depth["boundary"].iloc[-1])
    means = f"base {number(decision['base_mean'], 2, sign=True)}, tuned {number(decision['tuned_mean'], 2, sign=True)}"
    contrast = (
        f"difference {number(halves['difference'], 2, sign=True)} {_span(halves)}, p {p_value(halves['p_paired'])}"
    )
    return [
        *cards,
        Card(
            "the decision: tuned's token over the base's", f"{number(decision['difference'], 2, sign=True)} logits",
            f"{means} · {_span(decision)} · n = {whole(decision['n'])} prompts",
        ),
        Card(
            "blocks that make half of it", f"the first {rounded(half)} of {whole(blocks)}",
            f"95 % interval {interval(low, high, 1, sign=False)} · {percent(_middle(depth), 0)} % at half the depth",
        ),
        Card(
            "first and second half of the blocks",
            f"{number(halves['tuned_mean'], 2, sign=True)} and {number(halves['base_mean'], 2, sign=True)}", contrast,
        ),
    ]  # fmt: skip


def _middle(depth: pd.DataFrame) -> float:
    boundaries = depth["boundary"].to_numpy(float)
    return float(np.interp(boundaries[-1] / 2, boundaries, depth["share"].to_numpy(float)))


def _span(row: pd.Series) -> str:
    return interval(row["ci_low"], row["ci_high"], 2)
