"""The attention sections of a report: the verbs of finding 2, all heads, and the heads that moved most."""

from __future__ import annotations

import pandas as pd

from itlens.views import text
from itlens.views.head_map import LEVEL, head_name, heads, top_pairs
from itlens.views.numbers import whole
from itlens.views.pair_table import pair_table
from itlens.views.report_content import ReportContent, WordContent
from itlens.views.report_hero import group_rows
from itlens.views.report_layout import card, figure, nothing, scroll, section
from itlens.views.report_tables import facts, table
from itlens.views.verb_bars import verbs
from itlens.views.word_columns import MOVED_HEADS, VERB_GROUPS

_SHOWN_HEADS = 5  # of the moved heads, with all their pairs
_PAIRS = 30
_ROWS = 30
_NARROW = 9  # heads that fit side by side on a telephone
_NAMED = 3  # gained and lost pairs named in the table of moved heads
_FACTS = (
    "vocabulary_name", "vocabulary_size", "unknown_to_tokenizer", "unknown_to_vectors", "vectors_name", "top_k",
    "deviations", "baseline", "signed", "min_dims", "lemmas", "draws", "seed",
)  # fmt: skip


def attention(content: ReportContent) -> str:
    """The three sections; empty when the report has no word pairs."""
    words = content.words
    if words is None:
        return ""
    return (
        _verbs(words, words.verdict if words.verdict != content.verdict else "")
        + _heads(words)
        + _moved(words, (content.base, content.tuned))
    )


def _verbs(words: WordContent, answer: str) -> str:
    lead = f"<strong>{text.html(answer)}</strong><br>" if answer else ""
    intro = (
        f"{lead}For each verb: among the heads where tuning changed how many repeated word pairs hold it, the share "
        "where that number rose. Tuning moves all words a little; the question is whether the verbs of instructions "
        "rise more often than other verbs do."
    )
    rows = group_rows(words.diff)
    sub = (
        "shares in per cent, mean ± standard deviation over verbs; d and p compare the two kinds of verbs; random "
        "verb sets are as large as the instruction verbs, as frequent and as often in pairs"
    )
    return (
        section("verbs", intro)
        + card("Instruction verbs against general verbs, per group of layers", sub, scroll(table(rows, VERB_GROUPS)))
        + figure(verbs(words.diff), wide=True)
    )


def _heads(words: WordContent) -> str:
    intro = (
        "Each cell is a head: which pairs of related words do its query and key dimensions bring together, before and "
        "after tuning? Point at a cell for its counts, and for the pairs gained and lost first."
    )
    wide = words.diff.sizes["head"] > _NARROW
    return section("heads", intro) + figure(heads(words.diff, changes=words.changes), wide=wide)


def _moved(words: WordContent, names: tuple[str, str]) -> str:
    moved = words.moved[words.moved["gained"] + words.moved["lost"] > 0].head(_ROWS)
    if not len(moved):
        return section("moved") + nothing("No head moved: all have the same word pairs under both models.")
    intro = (
        "Heads with the least overlap of their word pairs come first. A head with few pairs moves easily: read the "
        f"counts beside the overlap. p BH is the test of instruction verbs, corrected for all heads (below {LEVEL:g}: "
        "more than chance would move them)."
    )
    shown = moved.head(_SHOWN_HEADS)
    tables = "".join(
        _head(words, names, int(row.layer), int(row.head), opened=i == 0) for i, row in enumerate(shown.itertuples())
    )
    listed = table(_with_pairs(words, moved), MOVED_HEADS, sortable=True)
    return (
        section("moved", intro)
        + card("Moved heads", "click a heading to sort", f'<div class="scroll moved">{listed}</div>')
        + tables
    )


def _with_pairs(words: WordContent, moved: pd.DataFrame) -> pd.DataFrame:
    """The moved heads with their copying scores, and with the first pairs that they gained and lost."""
    if words.copying is not None:
        moved = moved.merge(words.copying, on=["layer", "head"], how="left")
    places = list(zip(moved["layer"].astype(int), moved["head"].astype(int), strict=True))
    for change in ("gained", "lost"):
        pairs = top_pairs(words.changes, change, _NAMED)
        named = [", ".join(f"{query} → {key}" for query, key in pairs.get(place, [])) for place in places]
        moved = moved.assign(**{f"first_{change}": named})
    return moved


def _head(words: WordContent, names: tuple[str, str], layer: int, head: int, *, opened: bool) -> str:
    pairs = pair_table(words.base, words.tuned, layer=layer, head=head, top=_PAIRS, names=names)
    return (
        f'<details class="card"{" open" if opened else ""}><summary>{head_name(layer, head)}: what it relates, '
        f"base and tuned</summary>{pairs.panels}</details>"
    )


def word_facts(words: WordContent) -> str:
    """Vocabulary, vectors and settings of the word pairs."""
    known = {name: words.diff.attrs[name] for name in _FACTS if words.diff.attrs.get(name, "") != ""}
    if not known:
        return ""
    count = whole(words.diff.sizes["layer"] * words.diff.sizes["head"])
    shown = {"heads compared": count, **known}
    return f'<details class="card"><summary>Word pairs</summary>{facts(shown)}</details>'
