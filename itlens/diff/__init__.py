"""Diffs: functions of two results that align by label and test the differences. Names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.lazy import lazy_names

_HOME = {
    "attributions": "itlens.diff.attribution_diff",
    "AttributionDiff": "itlens.diff.attribution_diff",
    "verdict": "itlens.diff.conclusion",
    "word_pairs": "itlens.diff.word_pair_diff",
    "pair_changes": "itlens.diff.pair_listing",
    "moved_heads": "itlens.diff.pair_listing",
    "verb_changes": "itlens.diff.verb_groups",
    "pairs_verdict": "itlens.diff.pair_conclusion",
    "concepts": "itlens.diff.concept_diff",
    "concept_changes": "itlens.diff.concept_listing",
    "concept_shares": "itlens.diff.label_shares",
    "concepts_verdict": "itlens.diff.concept_conclusion",
}

__all__ = [
    "AttributionDiff",
    "attributions",
    "concept_changes",
    "concept_shares",
    "concepts",
    "concepts_verdict",
    "moved_heads",
    "pair_changes",
    "pairs_verdict",
    "verb_changes",
    "verdict",
    "word_pairs",
]


__getattr__, __dir__ = lazy_names(__name__, _HOME)

if TYPE_CHECKING:
    from itlens.diff.attribution_diff import AttributionDiff, attributions
    from itlens.diff.concept_conclusion import concepts_verdict
    from itlens.diff.concept_diff import concepts
    from itlens.diff.concept_listing import concept_changes
    from itlens.diff.conclusion import verdict
    from itlens.diff.label_shares import concept_shares
    from itlens.diff.pair_conclusion import pairs_verdict
    from itlens.diff.pair_listing import moved_heads, pair_changes
    from itlens.diff.verb_groups import verb_changes
    from itlens.diff.word_pair_diff import word_pairs
